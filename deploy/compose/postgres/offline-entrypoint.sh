#!/bin/bash
# The entry point of the stand-in that scripts/offline-images builds for postgres: what our compose files use of the official
# one's. POSTGRES_USER, POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE, POSTGRES_DB, and /docker-entrypoint-initdb.d at the first
# start, as the user postgres; and any other command, as it is.
set -euo pipefail

[[ ${1-} == postgres ]] || exec "$@"

if [[ ! -s $PGDATA/PG_VERSION ]]; then
    export POSTGRES_USER="${POSTGRES_USER:-postgres}"
    export POSTGRES_DB="${POSTGRES_DB:-$POSTGRES_USER}"
    password="${POSTGRES_PASSWORD:-$(cat "${POSTGRES_PASSWORD_FILE:-/dev/null}")}"
    chmod 700 "$PGDATA"
    initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s' "$password") --auth-local=trust --auth-host=scram-sha-256
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    # Nobody reaches it over the network before it is complete.
    pg_ctl --wait --options="-c listen_addresses=''" start
    [[ $POSTGRES_DB == postgres ]] || createdb --username="$POSTGRES_USER" "$POSTGRES_DB"
    for file in /docker-entrypoint-initdb.d/*; do
        case "$file" in
            *.sh) bash "$file" ;;
            *.sql) psql -v ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" --file="$file" ;;
        esac
    done
    pg_ctl --wait --mode=fast stop
fi
exec "$@" -c listen_addresses='*'
