#!/usr/bin/env bash
# Runs the production compose file with a shop to watch and a sink for mails and webhooks, breaks it in turn, and looks into
# the state database whether a fire was missed or news were told twice. Removes everything it started; the exit code says
# how it went.
#
# Needs the images: scripts/docker-build.sh, and where no registry can be reached scripts/offline-images.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

readonly PROJECT=sqlsentinel-test
readonly PLACE="$ROOT/.docker-test"
export SECRETS_FOLDER="$PLACE/secrets" ALERTS_FOLDER="$ROOT/deploy/compose/test/alerts"
export SMTP_HOST=sink SMTP_PORT=2525 SMTP_USE_TLS=false SMTP_FROM_ADDRESS=sentinel@example.com WORKER_REPLICAS=1

stack() { compose -p "$PROJECT" -f docker-compose.yaml -f docker-compose.test.yaml "$@"; }
tell() { printf '==> %4s s  %s\n' "$SECONDS" "$*"; }
members() { stack ps -q "$1"; }

clean_up() {
    local status=$?
    trap - EXIT INT TERM
    if ((status != 0)); then
        stack logs --no-color >"$PLACE/stack.log" 2>&1 || true
        say "failed; what the containers said is in $PLACE/stack.log"
    fi
    stack --profile tools down --volumes --remove-orphans --timeout 20 >/dev/null 2>&1 || say "not everything was removed"
    rm -rf "$PLACE/secrets"
    exit "$status"
}

wait_for() {
    local awaited=$1 deadline=$((SECONDS + $2))
    shift 2
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || die "waited in vain until $awaited"
        sleep 0.5
    done
}

sql() { stack exec -T postgres psql -U postgres -d sqlsentinel -AtqX -c "$1"; }
shop() { stack exec -T shop psql -U shop -AtqX -c "$1"; }
# How many of one service's containers are healthy.
healthy() {
    local container count=0
    for container in $(members "$1"); do
        [[ $(docker inspect --format '{{.State.Health.Status}}' "$container") == healthy ]] && count=$((count + 1))
    done
    [[ $count -eq $2 ]]
}
leader() { sql "SELECT split_part(holder, '-', 1) FROM sqlsentinel_leadership"; }
leads_other_than() { local now; now="$(leader)" && [[ -n $now && $now != "$1" ]]; }
runs() { sql 'SELECT COUNT(*) FROM sqlsentinel_executions'; }
ran_more_than() { (($(runs) > $1)); }
go_on() { local before; before="$(runs)"; wait_for "alerts run $1" 60 ran_more_than "$((before + 20))"; tell "alerts run $1"; }
received() { stack logs --no-color --no-log-prefix sink | sed -n "s/^$1 //p"; }
received_exactly() { [[ $(received webhook | sort -u | wc -l) -eq $1 && $(received mail | sort -u | wc -l) -eq $1 ]]; }
workers_of_late() {
    sql "SELECT COUNT(DISTINCT worker) FROM (SELECT worker FROM sqlsentinel_executions ORDER BY executed_at DESC LIMIT 60) newest"
}
run_on_three() { [[ $(workers_of_late) -ge 3 ]]; }
is_zero() { local answer; answer="$(sql "$2")"; [[ $answer == 0 ]] || die "$1: $answer"; tell "$1: 0"; }
settled() { [[ $(sql "SELECT COUNT(*) FROM sqlsentinel_fires WHERE status IN ('WAITING', 'QUEUED') AND scheduled_for <= $through") == 0 ]]; }

need_docker
for image in sqlsentinel-{coordinator,worker,notifier,ctl}:"${SQLSENTINEL_VERSION:-0.2.0}"; do
    docker image inspect "${SQLSENTINEL_IMAGE_PREFIX:-}$image" >/dev/null 2>&1 || die "no image $image: run scripts/docker-build.sh"
done
mkdir -p "$PLACE"
rm -rf "$SECRETS_FOLDER"
# The shop's password is the one that both PostgreSQL servers are given here.
mkdir -p "$SECRETS_FOLDER"
openssl rand -hex 24 | tr -d '\n' >"$SECRETS_FOLDER/postgres-password"
DATABASE_URL="postgresql://shop:$(cat "$SECRETS_FOLDER/postgres-password")@shop:5432/shop" \
    ./scripts/compose-secrets "$SECRETS_FOLDER"
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

tell "starting"
stack up -d >"$PLACE/up.log" 2>&1 || { cat "$PLACE/up.log" >&2; die "the stack did not start"; }
for service in nats-1 nats-2 nats-3 postgres; do wait_for "$service is healthy" 60 healthy "$service" 1; done
wait_for "coordinators are healthy" 90 healthy coordinator 2
wait_for "the worker is healthy" 90 healthy worker 1
wait_for "notifiers are healthy" 90 healthy notifier 2
go_on "on one worker"

shop "UPDATE orders SET payment = 'failed' WHERE id <= 5"
wait_for "mail and webhook arrive" 30 received_exactly 1
tell "an alert was told by mail and webhook"

stack up -d --no-recreate --scale worker=3 >>"$PLACE/up.log" 2>&1
wait_for "three workers are healthy" 60 healthy worker 3
wait_for "three workers run queries" 60 run_on_three
tell "three workers run queries"
./scripts/validate-health.sh -p "$PROJECT" -f docker-compose.yaml -f docker-compose.test.yaml

former="$(leader)"
docker kill "$former" >/dev/null
wait_for "another coordinator leads" 60 leads_other_than "$former"
tell "the leader $former was killed, $(leader) leads"
go_on "under the next leader"
docker start "$former" >/dev/null
wait_for "it is healthy again" 60 healthy coordinator 2

node="$(members nats-2)"
docker kill "$node" >/dev/null
tell "nats-2 was killed"
go_on "on two NATS servers"
docker start "$node" >/dev/null
wait_for "nats-2 is healthy" 60 healthy nats-2 1

cut="$(members worker | head -n 1)"
docker network disconnect "${PROJECT}_bus" "$cut"
tell "the worker ${cut:0:12} lost its network to NATS"
go_on "on the other workers"
docker network connect --alias worker "${PROJECT}_bus" "$cut"
wait_for "it is healthy again" 90 healthy worker 3

shop "UPDATE orders SET payment = 'paid'"
wait_for "the end is told" 60 received_exactly 2
tell "the end of the alert was told"

# What was planned up to here is looked at; the cluster goes on.
through="$(sql 'SELECT planned_through FROM sqlsentinel_leadership')"
wait_for "every fire has ended" 90 settled
is_zero "alerts with a fire that is neither a row nor in a gap, or is both" "
    SELECT COUNT(*) FROM (
        SELECT alert_name, MIN(scheduled_for) AS first, MAX(scheduled_for) AS last, COUNT(*) AS fires
        FROM sqlsentinel_fires WHERE scheduled_for <= $through GROUP BY alert_name) f
    WHERE (last - first) / 1000000 + 1 <> fires + COALESCE((
        SELECT SUM(g.fires) FROM sqlsentinel_gaps g
        WHERE g.alert_name = f.alert_name AND g.first_scheduled_for > f.first AND g.last_scheduled_for < f.last), 0)"
is_zero "fires that expired" "SELECT COUNT(*) FROM sqlsentinel_fires WHERE status = 'EXPIRED'"
is_zero "fires that ended well without a record of their run" "
    SELECT COUNT(*) FROM sqlsentinel_fires f WHERE status IN ('OK', 'ALERT')
    AND NOT EXISTS (SELECT 1 FROM sqlsentinel_executions e WHERE e.id::text = f.execution_id::text)"
is_zero "notifications that were not sent" "SELECT COUNT(*) FROM sqlsentinel_notifications WHERE status <> 'SENT'"
is_zero "more or fewer notifications than an alert and its end, for two channels" "SELECT COUNT(*) - 4 FROM sqlsentinel_notifications"
for kind in webhook mail; do
    [[ $(received "$kind" | wc -l) -eq 2 ]] || die "the sink has $(received "$kind" | wc -l) of $kind instead of 2"
done
tell "the sink has two webhooks and two mails, each once"
sql "SELECT 'fires: ' || string_agg(status || ' ' || n, ', ') FROM (SELECT status, COUNT(*) n FROM sqlsentinel_fires GROUP BY status) s"
sql "SELECT 'in gaps: ' || COALESCE(SUM(fires), 0) FROM sqlsentinel_gaps"
tell "passed"
