//! The webhook: one HTTP request for each attempt.
//!
//! Input: the route's settings, what they fall back on, what there is to tell. Output: how it ended, in terms of
//! [`Sent`]. Nothing of an answer but its status and `Retry-After` is kept.

use std::time::Duration;

use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue, RETRY_AFTER,
};
use reqwest::{Client, Method, Response, StatusCode, Url};
use sqlsentinel_common::clock::wall_now;
use sqlsentinel_common::config::{UnresolvedSetting, WebhookConfig, WebhookMethod};
use sqlsentinel_common::secret::Secret;
use sqlsentinel_common::settings::ChannelSettings;

use super::News;
use super::http::{BadTarget, beginning, target, unanswered};
use super::signature::{signature, timestamp};
use crate::render;
use crate::render::webhook::Body;
use crate::retry::{Sent, retry_after};

/// How much of an answer is read; it is thrown away.
const ANSWER_BYTES: usize = 8 * 1024;
const ANSWER_PATIENCE: Duration = Duration::from_millis(500);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const POSSIBLE_DUPLICATE: HeaderName = HeaderName::from_static("x-sqlsentinel-possible-duplicate");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-sqlsentinel-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("x-sqlsentinel-signature");

/// Why settings cannot make a request.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    /// A variable is missing: somebody can still set it.
    #[error(transparent)]
    Unresolved(#[from] UnresolvedSetting),
    /// The same, for a variable that the file need not name.
    #[error("the webhook has no `url`, and WEBHOOK_URL is not set")]
    NoUrl,
    #[error("the webhook's `url` {0}")]
    Target(#[from] BadTarget),
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
    body: Option<Body>,
}

/// Makes one attempt.
pub(super) async fn send(
    client: &Client,
    settings: &WebhookConfig,
    fallback: &ChannelSettings,
    news: News<'_>,
) -> Sent {
    let Request { method, url, headers, body } = match request(settings, fallback, news) {
        Ok(request) => request,
        Err(error @ (Unusable::Unresolved(_) | Unusable::NoUrl)) => return Sent::not_delivered(error.to_string()),
        Err(error) => return Sent::Permanent(error.to_string()),
    };
    let request = client.request(method, url).headers(headers);
    let request = match body {
        Some(body) => request.body(body.text),
        None => request,
    };
    match request.send().await {
        Ok(response) => answered(response).await,
        Err(error) => unanswered("the webhook", error),
    }
}

fn request(settings: &WebhookConfig, fallback: &ChannelSettings, news: News<'_>) -> Result<Request, Unusable> {
    let place = match &settings.url {
        Some(url) => url.resolve()?,
        None => fallback.webhook_url.clone().ok_or(Unusable::NoUrl)?,
    };
    let url = target(place.expose())?;
    let (method, body) = match settings.method {
        WebhookMethod::Get => (Method::GET, None),
        WebhookMethod::Post => (Method::POST, Some(body(settings, news)?)),
        WebhookMethod::Put => (Method::PUT, Some(body(settings, news)?)),
        WebhookMethod::Patch => (Method::PATCH, Some(body(settings, news)?)),
    };
    // A secret that is meant for one receiver is not shown to another.
    let is_theirs = fallback.webhook_url.as_ref().is_some_and(|url| url.expose().trim() == place.expose().trim());
    let login = fallback.webhook_auth_header.as_ref().filter(|_| is_theirs);
    Ok(Request { method, url, headers: headers(settings, login, news, body.as_ref())?, body })
}

fn body(settings: &WebhookConfig, news: News<'_>) -> Result<Body, serde_json::Error> {
    match news {
        News::One(claim, payload) => render::webhook::body(settings, claim, payload),
        News::Several(digest) => Ok(Body { text: digest.webhook_body()?, is_json: true }),
    }
}

/// Ours say what the outbox promises, so they stand above those of the settings.
fn headers(
    settings: &WebhookConfig,
    login: Option<&Secret>,
    news: News<'_>,
    body: Option<&Body>,
) -> Result<HeaderMap, Unusable> {
    let mut headers = HeaderMap::new();
    if let Some(body) = body {
        let of_text = if body.is_json { "application/json" } else { "text/plain; charset=utf-8" };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(of_text));
    }
    if let Some(login) = login {
        let (header, text) = login_header(login.expose());
        headers.insert(header.clone(), secret_value(header, text)?);
    }
    for (name, setting) in &settings.headers {
        let header = HeaderName::try_from(name.as_str()).map_err(|_| Unusable::HeaderName(name.clone()))?;
        headers.insert(header.clone(), secret_value(header, setting.resolve()?.expose())?);
    }
    headers.insert(IDEMPOTENCY_KEY, HeaderValue::try_from(news.key())?);
    if news.possible_duplicate() {
        headers.insert(POSSIBLE_DUPLICATE, HeaderValue::from_static("true"));
    }
    if let Some(secret) = &settings.secret {
        let now = timestamp(wall_now());
        let signature = signature(&secret.resolve()?, &now, body.map_or("", |body| &body.text));
        headers.insert(TIMESTAMP, HeaderValue::try_from(now)?);
        headers.insert(SIGNATURE, HeaderValue::try_from(signature)?);
    }
    Ok(headers)
}

/// `Name: value`, or else the value of `Authorization`.
fn login_header(text: &str) -> (HeaderName, &str) {
    let named = text.split_once(':').and_then(|(name, value)| Some((HeaderName::try_from(name).ok()?, value.trim())));
    named.unwrap_or((AUTHORIZATION, text))
}

fn secret_value(header: HeaderName, text: &str) -> Result<HeaderValue, Unusable> {
    let mut value = HeaderValue::try_from(text).map_err(|_| Unusable::Header(header))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn answered(response: Response) -> Sent {
    let sent = classify(response.status(), response.headers());
    // The status is known and stands, whatever becomes of the rest.
    beginning(response, ANSWER_BYTES, ANSWER_PATIENCE).await;
    sent
}

fn classify(status: StatusCode, headers: &HeaderMap) -> Sent {
    let error = || format!("the webhook answered with status {}", status.as_u16());
    match status.as_u16() {
        200..=299 => Sent::Delivered,
        300..=399 => Sent::not_delivered(format!("{}; redirects are not followed", error())),
        400 | 410 | 413 | 422 => Sent::Permanent(error()),
        _ => Sent::NotDelivered { error: error(), retry_after: asked_to_wait(headers) },
    }
}

/// How long the answer asks to wait.
pub(super) fn asked_to_wait(headers: &HeaderMap) -> Option<Duration> {
    let header = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    header.and_then(|text| retry_after(text, wall_now()))
}

#[cfg(test)]
mod tests {
    use sqlsentinel_common::config::{Setting, Template};

    use super::*;
    use crate::render::samples::{claim, payload};

    #[test]
    fn a_body_of_ones_own_is_signed_and_has_the_type_of_what_it_holds() -> Result<(), Box<dyn std::error::Error>> {
        let news = (claim(), payload());
        let request = |template: &str, own: Option<&str>| {
            let settings = WebhookConfig {
                url: Some(Setting::literal("https://example.com")),
                headers: own.map(|own| ("content-type".to_owned(), Setting::literal(own))).into_iter().collect(),
                secret: Some(Setting::literal("s")),
                body: Some(Template::body(template)?),
                ..WebhookConfig::default()
            };
            let request = request(&settings, &ChannelSettings::default(), News::One(&news.0, &news.1))?;
            Ok::<_, Box<dyn std::error::Error>>((request.headers, request.body.map(|body| body.text)))
        };
        for (template, own, of_text, text) in [
            ("{{ [actual_value]|tojson }}", None, "application/json", "[8500.10]"),
            ("{{ alert_name }}!", None, "text/plain; charset=utf-8", "revenue!"),
            ("<a>{{ alert_name }}</a>", Some("text/xml"), "text/xml", "<a>revenue</a>"),
        ] {
            let (headers, body) = request(template, own)?;
            assert_eq!((&headers[CONTENT_TYPE], body.as_deref()), (&HeaderValue::from_static(of_text), Some(text)));
            let time = headers[TIMESTAMP].to_str()?;
            assert_eq!(headers[SIGNATURE], signature(&Secret::new("s"), time, text));
        }
        Ok(())
    }

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

    #[test]
    fn a_login_header_has_a_name_or_is_authorization() {
        for (text, name, value) in [
            ("Bearer abc", "authorization", "Bearer abc"),
            ("Bearer a:b", "authorization", "Bearer a:b"),
            ("X-Api-Key: abc", "x-api-key", "abc"),
            ("Authorization:Basic dTpw", "authorization", "Basic dTpw"),
            ("abc", "authorization", "abc"),
        ] {
            let (header, found) = login_header(text);
            assert_eq!((header.as_str(), found), (name, value), "{text}");
        }
    }
}
