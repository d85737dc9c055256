//! The webhook: one HTTP request for each attempt.
//!
//! Input: the route's settings, the attempt, the payload. Output: how it ended, in terms of [`Sent`]. Redirects are not
//! followed, proxies of the environment are not used, and nothing of an answer but its status and `Retry-After` is kept.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode, Url, redirect, retry};
use sqlsentinel_common::clock::wall_now;
use sqlsentinel_common::config::{UnresolvedSetting, WebhookConfig, WebhookMethod};
use sqlsentinel_common::store::outbox::Claim;

use super::SEND_TIMEOUT;
use super::addresses::{GuardedResolver, is_refused};
use crate::render::{self, Payload};
use crate::retry::{Sent, retry_after};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that was idle for longer may be one that its server is closing just now; a request that is lost on such
/// a one would have to be called a possible duplicate.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// How much of an answer is read, so that its connection can be used again; it is thrown away.
const ANSWER_BYTES: usize = 8 * 1024;
const ANSWER_PATIENCE: Duration = Duration::from_millis(500);
const LONGEST_ERROR: usize = 500;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const POSSIBLE_DUPLICATE: HeaderName = HeaderName::from_static("x-sqlsentinel-possible-duplicate");

/// The client for all webhooks of a process.
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

/// The first variable that the settings need and the environment does not have.
pub(super) fn unresolved(settings: &WebhookConfig) -> Option<UnresolvedSetting> {
    std::iter::once(&settings.url).chain(settings.headers.values()).find_map(|setting| setting.resolve().err())
}

/// Why settings cannot make a request.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    /// A variable is missing: somebody can still set it.
    #[error(transparent)]
    Unresolved(#[from] UnresolvedSetting),
    #[error("the webhook's `url` is not a URL")]
    NotAUrl,
    #[error("the webhook's `url` is neither http nor https")]
    Scheme,
    #[error("the webhook's `url` names a link-local or metadata address, which is refused")]
    RefusedAddress,
    #[error("the webhook's header `{0}` cannot be sent: its value holds a line break or another control character")]
    Header(HeaderName),
    #[error("the webhook's header `{0}` is not a header's name")]
    HeaderName(String),
    #[error("the notification cannot be written as JSON: {0}")]
    Body(#[from] serde_json::Error),
    #[error("an id cannot be a header's value")]
    Id(#[from] InvalidHeaderValue),
}

struct Request {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<String>,
}

/// Makes one attempt.
pub(super) async fn send(client: &Client, settings: &WebhookConfig, claim: &Claim, payload: &Payload) -> Sent {
    let Request { method, url, headers, body } = match request(settings, claim, payload) {
        Ok(request) => request,
        Err(error @ Unusable::Unresolved(_)) => return Sent::not_delivered(error.to_string()),
        Err(error) => return Sent::Permanent(error.to_string()),
    };
    let request = client.request(method, url).headers(headers);
    let request = match body {
        Some(body) => request.body(body),
        None => request,
    };
    match request.send().await {
        Ok(response) => answered(response).await,
        Err(error) => unanswered(error),
    }
}

fn request(settings: &WebhookConfig, claim: &Claim, payload: &Payload) -> Result<Request, Unusable> {
    let url = Url::parse(settings.url.resolve()?.expose().trim()).map_err(|_| Unusable::NotAUrl)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Unusable::Scheme);
    }
    // Parsing the URL has brought the address into its usual form, however it was written.
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    if host.parse::<IpAddr>().is_ok_and(is_refused) {
        return Err(Unusable::RefusedAddress);
    }
    let (method, body) = match settings.method {
        WebhookMethod::Get => (Method::GET, None),
        WebhookMethod::Post => (Method::POST, Some(render::webhook_body(claim, payload)?)),
        WebhookMethod::Put => (Method::PUT, Some(render::webhook_body(claim, payload)?)),
        WebhookMethod::Patch => (Method::PATCH, Some(render::webhook_body(claim, payload)?)),
    };
    Ok(Request { method, url, headers: headers(settings, claim, body.is_some())?, body })
}

/// Ours say what the outbox promises, so they stand above those of the settings.
fn headers(settings: &WebhookConfig, claim: &Claim, has_body: bool) -> Result<HeaderMap, Unusable> {
    let mut headers = HeaderMap::new();
    if has_body {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    for (name, setting) in &settings.headers {
        let header = HeaderName::try_from(name.as_str()).map_err(|_| Unusable::HeaderName(name.clone()))?;
        let mut value =
            HeaderValue::try_from(setting.resolve()?.expose()).map_err(|_| Unusable::Header(header.clone()))?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    headers.insert(IDEMPOTENCY_KEY, HeaderValue::try_from(claim.notification_id.to_string())?);
    if claim.possible_duplicate {
        headers.insert(POSSIBLE_DUPLICATE, HeaderValue::from_static("true"));
    }
    Ok(headers)
}

async fn answered(response: Response) -> Sent {
    let sent = classify(response.status(), response.headers());
    // The status is known and stands, whatever becomes of the rest.
    let _ = tokio::time::timeout(ANSWER_PATIENCE, discard(response)).await;
    sent
}

async fn discard(mut response: Response) {
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read > ANSWER_BYTES {
            break;
        }
    }
}

fn classify(status: StatusCode, headers: &HeaderMap) -> Sent {
    let error = || format!("the webhook answered with status {}", status.as_u16());
    match status.as_u16() {
        200..=299 => Sent::Delivered,
        300..=399 => Sent::not_delivered(format!("{}; redirects are not followed", error())),
        400 | 410 | 413 | 422 => Sent::Permanent(error()),
        _ => {
            let header = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            Sent::NotDelivered { error: error(), retry_after: header.and_then(|text| retry_after(text, wall_now())) }
        }
    }
}

/// A connection that was never made carried nothing; anything later may have carried the request.
fn unanswered(error: reqwest::Error) -> Sent {
    // The URL may be a secret.
    let error = error.without_url();
    if error.is_builder() {
        Sent::Permanent(format!("the request cannot be made: {}", Causes(&error)))
    } else if error.is_connect() {
        Sent::not_delivered(format!("no connection to the webhook: {}", Causes(&error)))
    } else if error.is_timeout() {
        Sent::Unknown(format!("no answer from the webhook within {} s", SEND_TIMEOUT.as_secs()))
    } else {
        Sent::Unknown(format!("the connection to the webhook broke: {}", Causes(&error)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_class() -> Result<(), InvalidHeaderValue> {
        for status in [200, 201, 204, 299] {
            assert_eq!(class(status, None)?, Sent::Delivered, "{status}");
        }
        for status in [400, 410, 413, 422] {
            assert!(matches!(class(status, Some("5"))?, Sent::Permanent(_)), "{status}");
        }
        for status in [301, 302, 307, 308, 401, 403, 404, 405, 408, 409, 425, 429, 500, 502, 503, 504, 599] {
            assert!(matches!(class(status, None)?, Sent::NotDelivered { retry_after: None, .. }), "{status}");
        }
        for status in [429, 503] {
            let asked = Some(Duration::from_secs(7));
            assert!(
                matches!(class(status, Some("7"))?, Sent::NotDelivered { retry_after, .. } if retry_after == asked),
                "{status}"
            );
        }
        Ok(())
    }

    fn class(status: u16, retry_after: Option<&str>) -> Result<Sent, InvalidHeaderValue> {
        let mut headers = HeaderMap::new();
        if let Some(text) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::try_from(text)?);
        }
        Ok(classify(StatusCode::from_u16(status).unwrap_or_default(), &headers))
    }
}
