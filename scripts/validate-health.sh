#!/usr/bin/env bash
# Says whether a deployment by Compose is well: asks every process over NATS. Exit code 1 if it is not.
#
#   scripts/validate-health.sh [OPTIONS OF COMPOSE]     for example: -p staging -f docker-compose.yaml
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

compose "$@" run --rm -T ctl healthcheck --cluster
