//! The HTTP listener of a process: `/health`, `/ready`, `/metrics`, for probes and Prometheus.
//!
//! Input: the process's [`Health`] and metrics registry. `/health` answers 200 for as long as the process can answer:
//! liveness never depends on NATS or a database, whose loss no restart would cure. `/ready` says 503 while a check is
//! unhealthy, other than that of the audit. No request's body is ever read, and every connection has an end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus::Registry;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::health::Health;
use crate::metrics;

/// How long a client may take to send its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may last, its answer included.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// How large a request's head may be, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// How many connections are answered at a time; more wait in the kernel.
const MAX_CONNECTIONS: usize = 64;
/// How long to wait when the process has no file descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}, which --listen (LISTEN) or --port (PORT) names: {source}")]
pub struct BindError {
    /// As it was given.
    address: String,
    /// What the system said.
    source: io::Error,
}

/// A bound listener, not yet answering.
#[derive(Debug)]
pub struct AdminListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl AdminListener {
    /// Binds `address` (`host:port`; port 0 for any free one).
    pub async fn bind(address: &str) -> Result<Self, BindError> {
        let failed = |source| BindError { address: address.to_owned(), source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens, with the port that was given to it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers for ever; connections end with the future that this returns.
    pub async fn serve(self, health: Health, registry: Registry) -> Infallible {
        let service = TowerToHyperService::new(router(health, registry));
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            // The semaphore is never closed, so this always waits for a permit and gets one.
            let permit = Arc::clone(&permits).acquire_owned().await.ok();
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let connection = answer(stream, service.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    }
}

async fn answer(stream: TcpStream, service: TowerToHyperService<Router>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A client that breaks off or dawdles is its own problem.
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
}

fn router(health: Health, registry: Registry) -> Router {
    let probes = Router::new()
        .route("/health", get(|State(health): State<Health>| async move { report(StatusCode::OK, &health) }))
        .route("/ready", get(|State(health): State<Health>| async move { report(readiness(&health), &health) }))
        .with_state(health);
    let metrics = Router::new()
        .route("/metrics", get(|State(registry): State<Registry>| async move { exposition(&registry) }))
        .with_state(registry);
    probes.merge(metrics).fallback(not_found)
}

fn readiness(health: &Health) -> StatusCode {
    if health.snapshot().is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn report(status: StatusCode, health: &Health) -> Response {
    match serde_json::to_string(&health.snapshot()) {
        Ok(body) => json_response(status, body),
        Err(error) => json_response(StatusCode::INTERNAL_SERVER_ERROR, json!({"error": error.to_string()}).to_string()),
    }
}

fn exposition(registry: &Registry) -> Response {
    match metrics::render(registry) {
        Ok(body) => ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], body).into_response(),
        Err(error) => json_response(StatusCode::INTERNAL_SERVER_ERROR, json!({"error": error.to_string()}).to_string()),
    }
}

async fn not_found(uri: Uri) -> Response {
    let body =
        json!({"error": format!("there is nothing at {}", uri.path()), "paths": ["/health", "/ready", "/metrics"]});
    json_response(StatusCode::NOT_FOUND, body.to_string())
}

fn json_response(status: StatusCode, body: String) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::audit;
    use crate::health::{self, Check, Status};

    /// Runs `client` against a listener of its own.
    async fn with_listener<T>(health: Health, client: impl AsyncFnOnce(SocketAddr) -> T) -> T {
        let listener = AdminListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.address();
        let registry = metrics::registry("test", "0").unwrap();
        tokio::select! {
            answer = client(address) => answer,
            never = listener.serve(health, registry) => match never {},
        }
    }

    async fn exchange(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
    }

    #[tokio::test]
    async fn a_process_without_its_database_is_alive_and_not_ready() {
        let health = Health::default();
        health.report("state_database", Check::healthy("connected"));
        let reported = health.clone();
        with_listener(health, async |address| {
            assert!(get(address, "/ready").await.starts_with("HTTP/1.1 200 "));
            reported.report("state_database", Check::unhealthy("gone"));
            let (live, ready) = (get(address, "/health").await, get(address, "/ready").await);
            assert!(live.starts_with("HTTP/1.1 200 "), "{live}");
            assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
            for answer in [live, ready] {
                assert!(answer.contains(r#""state_database":{"status":"unhealthy","message":"gone"}"#), "{answer}");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn what_the_audit_finds_is_said_and_holds_up_no_rollout() {
        let health = Health::default();
        health.report(audit::CHECK, Check::unhealthy("1 missed"));
        with_listener(health, async |address| {
            let (live, ready) = (get(address, "/health").await, get(address, "/ready").await);
            assert!(ready.starts_with("HTTP/1.1 200 "), "{ready}");
            for answer in [live, ready] {
                assert!(answer.contains(r#"{"status":"unhealthy","timestamp""#), "{answer}");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn the_healthcheck_command_reads_what_the_listener_says() {
        let health = Health::default();
        health.report("nats", Check::degraded("reconnecting"));
        let expected = health.snapshot().checks;
        let fetched = with_listener(health, async |address| health::fetch(&address.to_string()).await).await.unwrap();
        assert_eq!((fetched.status, fetched.checks), (Status::Degraded, expected));
    }

    #[tokio::test]
    async fn metrics_are_served_as_prometheus_reads_them() {
        let answer = with_listener(Health::default(), async |address| get(address, "/metrics").await).await;
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.contains("content-type: text/plain; version=0.0.4"),
            "{answer}"
        );
        assert!(answer.contains("\nsqlsentinel_uptime_seconds "), "{answer}");
    }

    #[tokio::test]
    async fn other_paths_are_told_where_to_go_and_a_huge_head_is_refused() {
        with_listener(Health::default(), async |address| {
            let answer = get(address, "/metricz").await;
            assert!(
                answer.starts_with("HTTP/1.1 404 ") && answer.contains(r#""/health","/ready","/metrics""#),
                "{answer}"
            );
            let huge = format!("GET /health HTTP/1.1\r\nX: {}\r\n", "x".repeat(2 * MAX_HEAD_BYTES));
            let answer = exchange(address, &huge).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_is_cut_off() {
        // The paused clock moves on as soon as both sides wait for each other.
        let answer = with_listener(Health::default(), async |address| exchange(address, "GET /health HT").await).await;
        assert!(!answer.contains(" 200 "), "{answer}");
    }

    #[tokio::test]
    async fn an_address_in_use_is_named_with_its_flag() {
        let taken = AdminListener::bind("127.0.0.1:0").await.unwrap().address().to_string();
        let _held = TcpListener::bind(&taken).await.unwrap();
        let message = AdminListener::bind(&taken).await.map(|_| ()).unwrap_err().to_string();
        assert!(message.contains(&taken) && message.contains("--listen (LISTEN) or --port (PORT)"), "{message}");
    }
}
