//! Asking a running process for its report or its metrics over HTTP, for commands and container probes.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::HealthReport;

/// How long a process may take to answer. Below the time-out of a container's probe, so that the message is ours.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);
/// The metrics of 100,000 alerts are a hundred megabytes; something that sends more is not one of our processes.
const MAX_BYTES: u64 = 256 << 20;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nothing listens there, or the connection broke.
    #[error(
        "no process answers at {address}: {source}. The address follows from --listen or PORT; is it the running process's?"
    )]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It accepted the connection and said nothing.
    #[error("the process at {address} did not answer within {ANSWER_TIMEOUT:?}")]
    Timeout {
        /// Where it was looked for.
        address: String,
    },
    /// Something else listens there.
    #[error("what answers at {address} is not a SQL Sentinel process. The address follows from --listen or PORT")]
    NotOurs {
        /// Where it was looked for.
        address: String,
    },
}

/// The report of the process that listens at `address` (`host:port`).
pub async fn fetch(address: &str) -> Result<HealthReport, FetchError> {
    let address = || address.to_owned();
    let answer = ask(&address(), "/health").await?;
    report_in(&answer).ok_or_else(|| FetchError::NotOurs { address: address() })
}

/// The metrics of the process that listens at `address` (`host:port`), in Prometheus' text format.
pub async fn fetch_metrics(address: &str) -> Result<String, FetchError> {
    let answer = ask(address, "/metrics").await?;
    metrics_in(&answer).ok_or_else(|| FetchError::NotOurs { address: address.to_owned() })
}

async fn ask(address: &str, path: &str) -> Result<Vec<u8>, FetchError> {
    tokio::time::timeout(ANSWER_TIMEOUT, get(address, path))
        .await
        .map_err(|_| FetchError::Timeout { address: address.to_owned() })?
        .map_err(|source| FetchError::Unreachable { address: address.to_owned(), source })
}

/// One HTTP/1.0 exchange: without keep-alive and without chunks, the answer ends where the connection does.
async fn get(address: &str, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_BYTES).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn report_in(answer: &[u8]) -> Option<HealthReport> {
    serde_json::from_slice(body_of(answer)?).ok()
}

/// Every process of ours says how long it has run.
fn metrics_in(answer: &[u8]) -> Option<String> {
    let text = String::from_utf8(body_of(answer)?.to_vec()).ok()?;
    text.contains("\nsqlsentinel_uptime_seconds ").then_some(text)
}

fn body_of(answer: &[u8]) -> Option<&[u8]> {
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    answer.get(body..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_silent_address_is_named_together_with_what_decides_it() {
        // Port 1 needs privileges to listen on and has been out of use for decades.
        let message = fetch("127.0.0.1:1").await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(message.starts_with("no process answers at 127.0.0.1:1: "), "{message}");
        assert!(message.contains("--listen or PORT"), "{message}");
    }

    #[test]
    fn a_strangers_answer_is_no_report() {
        assert_eq!(report_in(b"HTTP/1.0 200 OK\r\n\r\n<html>"), None);
        assert_eq!(report_in(b"+OK hello"), None);
        assert_eq!(metrics_in(b"HTTP/1.0 200 OK\r\n\r\n# TYPE up gauge\nup 1\n"), None);
    }
}
