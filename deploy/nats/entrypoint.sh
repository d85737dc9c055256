#!/bin/sh
# Gives cluster.conf its environment in a container: addresses, and passwords from the files of /run/secrets. SERVER is the
# server's name. Values are quoted, since a password of digits would be a number to nats-server.
set -eu

for role in coordinator worker notifier viewer admin; do
    name="NATS_$(echo "$role" | tr '[:lower:]' '[:upper:]')_PASSWORD"
    export "$name=\"$(cat "/run/secrets/nats-$role-password")\""
done
export NATS_SERVER_NAME="\"$SERVER\""
export NATS_ROUTES='["tls://nats-1:6222", "tls://nats-2:6222", "tls://nats-3:6222"]'
export NATS_LISTEN='"0.0.0.0:4222"' NATS_CLUSTER_LISTEN='"0.0.0.0:6222"' NATS_MONITOR_LISTEN='"127.0.0.1:8222"'
export NATS_STORE_DIR='"/data"'
export NATS_TLS_CERT='"/run/secrets/nats-server.crt"' NATS_TLS_KEY='"/run/secrets/nats-server.key"'
export NATS_TLS_CA='"/run/secrets/nats-ca.crt"'
exec "$@"
