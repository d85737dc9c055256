//! Asking a running process for its report over HTTP, for `healthcheck` commands and container probes.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::HealthReport;

/// How long a process may take to answer. Below the usual time-out of a container's probe, so that the message is ours.
const TIMEOUT: Duration = Duration::from_secs(4);
/// A report is a few hundred bytes; something that sends more than this is not one of our processes.
const MAX_BYTES: u64 = 1 << 20;

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
    #[error("the process at {address} did not answer within {TIMEOUT:?}")]
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
    let answer = tokio::time::timeout(TIMEOUT, get_health(&address()))
        .await
        .map_err(|_| FetchError::Timeout { address: address() })?
        .map_err(|source| FetchError::Unreachable { address: address(), source })?;
    report_in(&answer).ok_or_else(|| FetchError::NotOurs { address: address() })
}

/// One HTTP/1.0 exchange: without keep-alive and without chunks, the answer ends where the connection does.
async fn get_health(address: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET /health HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_BYTES).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn report_in(answer: &[u8]) -> Option<HealthReport> {
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    serde_json::from_slice(answer.get(body..)?).ok()
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
    }
}
