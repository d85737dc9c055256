//! What the channels over HTTP share: one client, where it may go, and what a request without an answer means.
//!
//! Redirects are not followed, proxies of the environment are not used, and a connection that was never made is told
//! from one that may have carried the request.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::{Client, Response, Url, redirect, retry};

use super::SEND_TIMEOUT;
use super::addresses::{GuardedResolver, is_refused};
use crate::retry::Sent;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that was idle for longer may be one that its server is closing just now; a request that is lost on such
/// a one would have to be called a possible duplicate.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
const LONGEST_ERROR: usize = 500;

/// The client for all requests of a process.
pub(super) fn client() -> Result<Client, reqwest::Error> {
    Client::builder()
        .user_agent(concat!("sqlsentinel/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(GuardedResolver)
        // A proxy would resolve names itself, past the guard.
        .no_proxy()
        .redirect(redirect::Policy::none())
        // One retry layer, the outbox: an attempt is one request.
        .retry(retry::never())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(SEND_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build()
}

/// Why a text is no place to send to. What it was is not shown: it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadTarget {
    #[error("is not a URL")]
    NotAUrl,
    #[error("is neither http nor https")]
    Scheme,
    #[error("names a link-local or metadata address, which is refused")]
    RefusedAddress,
}

/// The URL that `text` is, if requests may go there.
pub(super) fn target(text: &str) -> Result<Url, BadTarget> {
    let url = Url::parse(text.trim()).map_err(|_| BadTarget::NotAUrl)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(BadTarget::Scheme);
    }
    // Parsing the URL has brought the address into its usual form, however it was written.
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    if host.parse::<IpAddr>().is_ok_and(is_refused) {
        return Err(BadTarget::RefusedAddress);
    }
    Ok(url)
}

/// The beginning of an answer's body: `limit` bytes at most, and no more than comes within `patience`. Reading it lets
/// the connection be used again.
pub(super) async fn beginning(mut response: Response, limit: usize, patience: Duration) -> String {
    let mut bytes = Vec::new();
    // What was read is kept, whatever becomes of the rest.
    let _ = tokio::time::timeout(patience, async {
        while let Ok(Some(chunk)) = response.chunk().await {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > limit {
                break;
            }
        }
    })
    .await;
    bytes.truncate(limit);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A connection that was never made carried nothing; anything later may have carried the request to `receiver`.
pub(super) fn unanswered(receiver: &str, error: reqwest::Error) -> Sent {
    // The URL may be a secret.
    let error = error.without_url();
    if error.is_builder() {
        Sent::Permanent(format!("the request cannot be made: {}", Causes(&error)))
    } else if error.is_connect() {
        Sent::not_delivered(format!("no connection to {receiver}: {}", Causes(&error)))
    } else if error.is_timeout() {
        Sent::Unknown(format!("no answer from {receiver} within {} s", SEND_TIMEOUT.as_secs()))
    } else {
        Sent::Unknown(format!("the connection to {receiver} broke: {}", Causes(&error)))
    }
}

/// What is below the client's own words, innermost last.
struct Causes<'a>(&'a reqwest::Error);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut causes = Vec::new();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            causes.push(error.to_string());
            cause = error.source();
        }
        let text = if causes.is_empty() { self.0.to_string() } else { causes.join(": ") };
        f.write_str(&text.chars().take(LONGEST_ERROR).collect::<String>())
    }
}
