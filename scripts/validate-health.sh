#!/usr/bin/env bash
# Says whether a deployment is well: asks every process over NATS. Exit code 1 if one of them is not.
#
#   scripts/validate-health.sh [OPTIONS OF COMPOSE]
#                                      a deployment by Compose, for example: -p staging -f docker-compose.yaml
#   scripts/validate-health.sh kubernetes RELEASE [OPTIONS OF HELM]
#                                      a release of deploy/helm, for example: sqlsentinel -n alerts --kube-context prod
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

case ${1-} in
-h | --help)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
    ;;
kubernetes)
    shift
    [[ -n ${1-} && $1 != -* ]] || die "which release? $0 kubernetes RELEASE [OPTIONS OF HELM]"
    have helm || die "helm is missing, which runs the check in the cluster: https://helm.sh/docs/intro/install"
    # A pod of the chart asks, by a user of NATS who may only look.
    helm test "$@" --logs || die "the release is not well, or could not be asked"
    ;;
*)
    cd "$ROOT"
    compose "$@" run --rm -T ctl healthcheck --cluster
    ;;
esac
