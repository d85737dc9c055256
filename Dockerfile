# Every program as an image of its own, and all of them in one:  scripts/docker-build.sh
#
# A target for each: coordinator, worker, notifier, ctl, all. The programs are linked with glibc, so they are built on the
# Debian that they run on. `scripts/docker-build.sh --host-binaries` leaves out what lies between the two marks below, and
# copies programs that were built outside.

# --- build: left out with --host-binaries ---
ARG RUST_VERSION=1.95
FROM rust:${RUST_VERSION}-slim-bookworm AS build
WORKDIR /src
# The dependencies alone, with empty programs in place of ours: this layer is built again only when a manifest changes. The
# tests are a member that Cargo has to know, and does not build.
COPY Cargo.toml Cargo.lock ./
COPY common/Cargo.toml common/
COPY coordinator/Cargo.toml coordinator/
COPY worker/Cargo.toml worker/
COPY notifier/Cargo.toml notifier/
COPY ctl/Cargo.toml ctl/
COPY tests/Cargo.toml tests/
RUN for package in common coordinator worker notifier ctl tests; do \
        mkdir -p "$package/src" && touch "$package/src/lib.rs"; \
    done \
    && for package in coordinator worker notifier ctl; do echo 'fn main() {}' >"$package/src/main.rs"; done \
    && cargo build --release --locked --workspace --exclude sqlsentinel-tests
COPY common common
COPY coordinator coordinator
COPY worker worker
COPY notifier notifier
COPY ctl ctl
# Cargo goes by times: what was copied is older than the empty programs.
RUN find common coordinator worker notifier ctl -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --workspace --exclude sqlsentinel-tests \
    && mkdir /programs && cp target/release/sqlsentinel-coordinator target/release/sqlsentinel-worker \
        target/release/sqlsentinel-notifier target/release/sqlsentinel-ctl /etc/ssl/certs/ca-certificates.crt /programs/

FROM scratch AS programs
COPY --from=build /programs/ /
# --- end of build ---

FROM debian:12-slim AS base
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.vendor="SQL Sentinel" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Whom to trust on the way to mail servers, webhooks and databases.
COPY --from=programs /ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV CONFIG_PATH=/etc/sqlsentinel/alerts.yaml
WORKDIR /tmp
USER 65532:65532

FROM base AS coordinator
LABEL org.opencontainers.image.title="sqlsentinel-coordinator"
COPY --from=programs /sqlsentinel-coordinator /usr/local/bin/
ENV LISTEN=0.0.0.0:9464
EXPOSE 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["sqlsentinel-coordinator", "healthcheck"]
ENTRYPOINT ["sqlsentinel-coordinator"]

FROM base AS worker
LABEL org.opencontainers.image.title="sqlsentinel-worker"
COPY --from=programs /sqlsentinel-worker /usr/local/bin/
ENV LISTEN=0.0.0.0:9464
EXPOSE 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["sqlsentinel-worker", "healthcheck"]
ENTRYPOINT ["sqlsentinel-worker"]

FROM base AS notifier
LABEL org.opencontainers.image.title="sqlsentinel-notifier"
COPY --from=programs /sqlsentinel-notifier /usr/local/bin/
ENV LISTEN=0.0.0.0:9464
EXPOSE 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["sqlsentinel-notifier", "healthcheck"]
ENTRYPOINT ["sqlsentinel-notifier"]

FROM base AS ctl
LABEL org.opencontainers.image.title="sqlsentinel-ctl"
COPY --from=programs /sqlsentinel-ctl /usr/local/bin/
HEALTHCHECK NONE
ENTRYPOINT ["sqlsentinel-ctl"]

# For who wants one image, as the Helm chart does: the command says which program it is.
FROM base AS all
LABEL org.opencontainers.image.title="sqlsentinel"
COPY --from=programs /sqlsentinel-coordinator /usr/local/bin/
COPY --from=programs /sqlsentinel-worker /usr/local/bin/
COPY --from=programs /sqlsentinel-notifier /usr/local/bin/
COPY --from=programs /sqlsentinel-ctl /usr/local/bin/
HEALTHCHECK NONE
CMD ["sqlsentinel-ctl", "--help"]
