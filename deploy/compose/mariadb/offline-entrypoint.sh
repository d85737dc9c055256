#!/bin/bash
# The entry point of the stand-in that scripts/offline-images builds for mariadb: what our compose files use of the official
# one's. MARIADB_ROOT_PASSWORD, MARIADB_DATABASE, and the SQL of /docker-entrypoint-initdb.d, a statement a line, at the first
# start, as the user mysql.
set -euo pipefail

[[ ${1-} == mariadbd ]] || exec "$@"

if [[ ! -d /var/lib/mysql/mysql ]]; then
    mariadb-install-db --datadir=/var/lib/mysql --skip-test-db --auth-root-authentication-method=normal >/dev/null
    # Nobody reaches it over the network before it is complete.
    {
        printf '%s;\n' "FLUSH PRIVILEGES" "ALTER USER root@localhost IDENTIFIED BY '$MARIADB_ROOT_PASSWORD'" \
            "CREATE DATABASE $MARIADB_DATABASE" "USE $MARIADB_DATABASE"
        cat /docker-entrypoint-initdb.d/*.sql
    } | mariadbd --bootstrap
fi
exec "$@" --bind-address='*'
