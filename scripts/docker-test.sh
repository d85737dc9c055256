#!/usr/bin/env bash
# Runs the production compose file and its monitoring with two databases to watch and a sink for what is sent, breaks it in
# turn, and looks into the state database whether a fire was missed or news were told twice. Removes everything it started;
# the exit code says how it went.
#
# Needs the images: scripts/docker-build.sh, and where no registry can be reached scripts/offline-images. Grafana, of which
# that has none, is not started.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

readonly PROJECT=sqlsentinel-test
readonly PLACE="$ROOT/.docker-test"
readonly FILES=(-f docker-compose.yaml -f docker-compose.monitoring.yaml -f docker-compose.test.yaml)
readonly CHANNELS=(webhook mail slack)
export SECRETS_FOLDER="$PLACE/secrets" ALERTS_FOLDER="$ROOT/deploy/compose/test/alerts"
export SMTP_HOST=sink SMTP_PORT=2525 SMTP_USE_TLS=false SMTP_FROM_ADDRESS=sentinel@example.com WORKER_REPLICAS=1
export PROMETHEUS_PORT=19090 ALERTMANAGER_PORT=19093

stack() { compose -p "$PROJECT" "${FILES[@]}" "$@"; }
# Dependencies follow; Grafana is nobody's.
up() { stack up -d "$@" worker notifier prometheus alertmanager >>"$PLACE/up.log" 2>&1; }
ctl() { stack run --rm -T --no-deps ctl "$@" 2>>"$PLACE/up.log"; }
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

sql() { stack exec -T postgres psql -U postgres -d sqlsentinel -AtqX -v ON_ERROR_STOP=1 <<<"$1"; }
# Makes both databases such that their alerts say so.
orders_and_deliveries_are() {
    stack exec -T shop psql -U postgres -d shop -AtqX -v ON_ERROR_STOP=1 <<<"UPDATE orders SET payment = '$1' WHERE id <= 5"
    stack exec -T warehouse mariadb --user=root --password=mariadb warehouse <<<"UPDATE deliveries SET state = '$2'"
}
# What Docker's own check says of a container.
health_is() { [[ $(docker inspect --format '{{.State.Health.Status}}' "$2") == "$1" ]]; }
# Whether that many of a service's containers are healthy.
healthy() {
    local container count=0
    for container in $(members "$1"); do
        if health_is healthy "$container"; then count=$((count + 1)); fi
    done
    [[ $count -eq $2 ]]
}
# Every process says that nothing is wrong with it, not even a little.
all_well() {
    local said
    said="$(ctl healthcheck --cluster --output json)" && ! grep -E '"(degraded|unhealthy)"' <<<"$said"
}
leader() { sql "SELECT split_part(holder, '-', 1) FROM sqlsentinel_leadership"; }
leads_other_than() { local now; now="$(leader)" && [[ -n $now && $now != "$1" ]]; }
runs() { sql 'SELECT COUNT(*) FROM sqlsentinel_executions'; }
ran_more_than() { (($(runs) > $1)); }
go_on() { local before; before="$(runs)"; wait_for "alerts run $1" 60 ran_more_than "$((before + 20))"; tell "alerts run $1"; }
# The ids of what the sink has of one kind.
received() { stack logs --no-color --no-log-prefix sink | awk -v kind="$1" '$1 == kind { print $2 }'; }
received_by_each() {
    local kind
    for kind in "${CHANNELS[@]}"; do [[ $(received "$kind" | sort -u | wc -l) -eq $1 ]] || return 1; done
}
workers_of_late() {
    sql "SELECT COUNT(DISTINCT worker) FROM (SELECT worker FROM sqlsentinel_executions ORDER BY executed_at DESC LIMIT 60) newest"
}
run_on_three() { [[ $(workers_of_late) -ge 3 ]]; }
prometheus() { stack exec -T prometheus wget -q -O - "http://127.0.0.1:9090/api/v1/$1"; }
# Prometheus finds so many of our processes, and reaches every one.
scraped() { [[ $(prometheus 'query?query=count(up==1)==count(up)') == *",\"$1\"]"* ]]; }
rules_are_well() {
    local rules
    rules="$(prometheus rules)" && [[ $rules == *'"name":"SQLSentinelWatchdog"'* ]] && ! grep -E '"health":"(err|unknown)"' <<<"$rules"
}
alertmanager_hears() { stack exec -T alertmanager wget -q -O - http://127.0.0.1:9093/api/v2/alerts | grep -q "$1"; }
settled() { [[ $(sql "SELECT COUNT(*) FROM sqlsentinel_fires WHERE status IN ('WAITING', 'QUEUED') AND scheduled_for <= $through") == 0 ]]; }
# Sees that a query counts nothing; which says something only of a query that can count: it first has to find each fault that
# is planted, and rolled back.
is_zero() {
    local what=$1 query=$2 fault found
    for fault in "${@:3}"; do
        found="$(sql "BEGIN; $fault; $query; ROLLBACK;")"
        ((found > 0)) || die "$what: blind for: $fault"
    done
    found="$(sql "$query")"
    [[ $found == 0 ]] || die "$what: $found"
    tell "$what: 0"
}

need_docker
need_compose
for image in sqlsentinel-{coordinator,worker,notifier,ctl}:"${SQLSENTINEL_VERSION:-0.2.0}"; do
    docker image inspect "${SQLSENTINEL_IMAGE_PREFIX:-}$image" >/dev/null 2>&1 || die "no image $image: run scripts/docker-build.sh"
done
rm -rf "$PLACE"
mkdir -p "$PLACE"
DATABASE_URL=postgresql://reader:reader@shop:5432/shop ./scripts/compose-secrets "$SECRETS_FOLDER"
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

tell "starting"
up || { cat "$PLACE/up.log" >&2; die "the stack did not start"; }
for service in nats-1 nats-2 nats-3 postgres prometheus alertmanager; do wait_for "$service is healthy" 60 healthy "$service" 1; done
wait_for "coordinators are healthy" 90 healthy coordinator 2
wait_for "the worker is healthy" 90 healthy worker 1
wait_for "notifiers are healthy" 90 healthy notifier 2
go_on "on one worker"
deletable="$(sql "SELECT string_agg(table_name, ' ') FROM information_schema.role_table_grants
    WHERE grantee = 'sqlsentinel_notifier' AND privilege_type = 'DELETE'")"
[[ $deletable == sqlsentinel_instances ]] || die "a notifier may delete from: $deletable"

orders_and_deliveries_are failed late
wait_for "mails, webhooks and Slack's messages arrive" 30 received_by_each 2
tell "two alerts were told by mail, webhook and Slack"

up --no-recreate --scale worker=3
wait_for "three workers are healthy" 60 healthy worker 3
wait_for "three workers run queries" 60 run_on_three
tell "three workers run queries"
./scripts/validate-health.sh -p "$PROJECT" "${FILES[@]}"
wait_for "nothing is degraded" 60 all_well
tell "nothing is degraded: workers can only read, every channel takes what it is sent"
wait_for "Prometheus scrapes all seven" 90 scraped 7
wait_for "Prometheus evaluates every rule" 90 rules_are_well
wait_for "Alertmanager hears of the watchdog" 90 alertmanager_hears SQLSentinelWatchdog
tell "Prometheus scrapes all seven processes, evaluates its rules, and reaches Alertmanager"

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
go_on "on the other workers"
wait_for "the worker that was cut off is unhealthy" 90 health_is unhealthy "$cut"
tell "the worker ${cut:0:12} has lost its network to NATS, and says so"
docker network connect --alias worker "${PROJECT}_bus" "$cut"
wait_for "it is healthy again" 90 healthy worker 3
wait_for "all three run queries again" 60 run_on_three

orders_and_deliveries_are paid "on time"
wait_for "the ends are told" 60 received_by_each 4
tell "the end of both alerts was told"

# What was planned up to here is looked at; the cluster goes on.
through="$(sql 'SELECT planned_through FROM sqlsentinel_leadership')"
wait_for "every fire has ended" 90 settled
a_fire="(SELECT execution_id FROM sqlsentinel_fires
    WHERE status = 'OK' AND scheduled_for <= $through ORDER BY scheduled_for DESC OFFSET 30 LIMIT 1)"
a_notification="(SELECT notification_id FROM sqlsentinel_notifications LIMIT 1)"
is_zero "alerts with a fire that is neither a row nor in a gap, or is both" "
    SELECT COUNT(*) FROM (
        SELECT alert_name, MIN(scheduled_for) AS first, MAX(scheduled_for) AS last, COUNT(*) AS fires
        FROM sqlsentinel_fires WHERE scheduled_for <= $through GROUP BY alert_name) f
    WHERE (last - first) / 1000000 + 1 <> fires + COALESCE((
        SELECT SUM(g.fires) FROM sqlsentinel_gaps g
        WHERE g.alert_name = f.alert_name AND g.first_scheduled_for > f.first AND g.last_scheduled_for < f.last), 0)" \
    "DELETE FROM sqlsentinel_fires WHERE execution_id = $a_fire" \
    "INSERT INTO sqlsentinel_gaps (alert_name, first_scheduled_for, last_scheduled_for, fires, reason, config_hash, epoch, seq)
        SELECT alert_name, scheduled_for, scheduled_for, 1, 'misfire', config_hash, epoch, seq
        FROM sqlsentinel_fires WHERE execution_id = $a_fire"
is_zero "fires that expired" "SELECT COUNT(*) FROM sqlsentinel_fires WHERE status = 'EXPIRED'" \
    "UPDATE sqlsentinel_fires SET status = 'EXPIRED', reason = 'no_worker' WHERE execution_id = $a_fire"
is_zero "fires that ended well without a record of their run" "
    SELECT COUNT(*) FROM sqlsentinel_fires WHERE status IN ('OK', 'ALERT')
    AND execution_id NOT IN (SELECT id FROM sqlsentinel_executions)" \
    "DELETE FROM sqlsentinel_executions WHERE id = $a_fire"
is_zero "notifications that were not sent" "SELECT COUNT(*) FROM sqlsentinel_notifications WHERE status <> 'SENT'" \
    "UPDATE sqlsentinel_notifications SET status = 'DEAD' WHERE notification_id = $a_notification"
is_zero "more or fewer notifications than two alerts and their ends for each channel" \
    "SELECT ABS(COUNT(*) - 4 * ${#CHANNELS[@]}) FROM sqlsentinel_notifications" \
    "DELETE FROM sqlsentinel_notifications WHERE notification_id = $a_notification" \
    "INSERT INTO sqlsentinel_notifications SELECT (jsonb_populate_record(n, '{\"notification_id\": \"again\"}')).*
        FROM sqlsentinel_notifications n WHERE notification_id = $a_notification"
for kind in "${CHANNELS[@]}"; do
    [[ $(received "$kind" | wc -l) -eq 4 ]] || die "the sink has $(received "$kind" | wc -l) of $kind instead of 4"
done
tell "the sink has four of each: ${CHANNELS[*]}"
ctl audit
wait_for "nothing is degraded any more" 120 all_well
tell "the audit finds nothing, and nothing is degraded any more"

# `SKIPPED overlap` is a fire whose alert still ran, or waited for a worker to come back, as of `overlap: skip`, the default.
sql "SELECT concat_ws(' ', 'fires:', status, reason, COUNT(*)) FROM sqlsentinel_fires GROUP BY status, reason ORDER BY status, reason"
sql "SELECT 'fires in gaps: ' || COALESCE(SUM(fires), 0) FROM sqlsentinel_gaps"
tell "passed"
