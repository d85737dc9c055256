#!/bin/bash
# Run once, by PostgreSQL's entry point: the state database and its two roles, as docs/guides/database-roles.md has them.
set -euo pipefail

psql -v ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname=postgres \
    -v state="$(cat /run/secrets/state-password)" -v notifier="$(cat /run/secrets/notifier-password)" <<'SQL'
CREATE ROLE sqlsentinel_state LOGIN PASSWORD :'state';
CREATE ROLE sqlsentinel_notifier LOGIN PASSWORD :'notifier';
CREATE DATABASE sqlsentinel OWNER sqlsentinel_state;
REVOKE ALL ON DATABASE sqlsentinel FROM PUBLIC;
GRANT CONNECT ON DATABASE sqlsentinel TO sqlsentinel_notifier;
\connect sqlsentinel
GRANT USAGE ON SCHEMA public TO sqlsentinel_notifier;
-- The tables come later; grants.sh then gives what is for one of them alone.
ALTER DEFAULT PRIVILEGES FOR ROLE sqlsentinel_state IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE ON TABLES TO sqlsentinel_notifier;
SQL
