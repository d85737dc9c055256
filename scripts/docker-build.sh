#!/usr/bin/env bash
# Builds and tags the images: sqlsentinel-coordinator, -worker, -notifier, -ctl, and sqlsentinel with all four programs.
#
#   scripts/docker-build.sh                            in Docker, from the Dockerfile
#   scripts/docker-build.sh --host-binaries [FOLDER]   from programs built here, for builders without a network
#                                                      (FOLDER: target/release, which is built if none is given)
#
# SQLSENTINEL_IMAGE_PREFIX (`registry.example/team/`) stands before each name, SQLSENTINEL_VERSION is the tag.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

readonly PROGRAMS=(coordinator worker notifier ctl)
readonly PREFIX="${SQLSENTINEL_IMAGE_PREFIX:-}"
readonly VERSION="${SQLSENTINEL_VERSION:-$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)}"
REVISION="$(git rev-parse HEAD 2>/dev/null || echo unknown)"
readonly REVISION

# Builds every target of a Dockerfile in a context.
build() {
    local file=$1 context=$2 target image
    for target in "${PROGRAMS[@]}" all; do
        image="${PREFIX}sqlsentinel-$target:$VERSION"
        [[ $target != all ]] || image="${PREFIX}sqlsentinel:$VERSION"
        say "building $image"
        docker build --quiet --file "$file" --target "$target" --tag "$image" \
            --build-arg "VERSION=$VERSION" --build-arg "REVISION=$REVISION" "$context" >/dev/null
    done
}

need_docker
case "${1:-}" in
    "") build Dockerfile . ;;
    --host-binaries)
        folder="${2:-}"
        if [[ -z $folder ]]; then
            need_rust
            cargo build --release --locked -p sqlsentinel-coordinator -p sqlsentinel-worker -p sqlsentinel-notifier -p sqlsentinel-ctl
            folder="${CARGO_TARGET_DIR:-target}/release"
        fi
        context="$(mktemp -d)"
        trap 'rm -rf "$context"' EXIT
        mkdir "$context/programs"
        for program in "${PROGRAMS[@]}"; do
            install -m 755 "$folder/sqlsentinel-$program" "$context/programs/"
        done
        install -m 644 /etc/ssl/certs/ca-certificates.crt "$context/programs/"
        {
            printf 'FROM scratch AS programs\nCOPY programs/ /\n'
            sed '/^# --- build:/,/^# --- end of build ---/d' Dockerfile
        } >"$context/Dockerfile"
        build "$context/Dockerfile" "$context"
        ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
