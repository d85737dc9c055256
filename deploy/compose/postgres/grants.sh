#!/bin/bash
# Run by Compose once the tables are there, as their owner, and again with every `up`: what a notifier may do with one table
# alone, as docs/guides/database-roles.md has it.
set -euo pipefail

PGPASSWORD="$(cat /run/secrets/state-password)"
export PGPASSWORD
exec psql -v ON_ERROR_STOP=1 --host=postgres --username=sqlsentinel_state --dbname=sqlsentinel \
    --command='GRANT DELETE ON sqlsentinel_instances TO sqlsentinel_notifier'
