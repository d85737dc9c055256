//! Slack: one request to an incoming webhook for each attempt.
//!
//! Input: the route's settings, what they fall back on, what there is to tell. Output: how it ended, in terms of
//! [`Sent`]. Slack has taken a message if its answer is `ok`; what is wrong otherwise it says in one word.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, StatusCode, Url};
use sqlsentinel_common::config::{SlackConfig, UnresolvedSetting};
use sqlsentinel_common::settings::ChannelSettings;

use super::http::{BadTarget, beginning, target, unanswered};
use super::webhook::asked_to_wait;
use super::{News, SEND_TIMEOUT};
use crate::render;
use crate::retry::Sent;

/// How much of an answer is read.
const ANSWER_BYTES: usize = 1024;

/// What Slack says of messages that it will never take, at least not for this webhook.
const PERMANENT: [&str; 17] = [
    "action_prohibited",
    "channel_is_archived",
    "channel_not_found",
    "invalid_attachments",
    "invalid_blocks",
    "invalid_blocks_format",
    "invalid_payload",
    "invalid_token",
    "no_active_hooks",
    "no_service",
    "no_service_id",
    "no_team",
    "no_text",
    "posting_to_general_channel_denied",
    "team_disabled",
    "too_many_attachments",
    "user_not_found",
];

/// Why settings cannot make a request.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    /// A variable is missing: somebody can still set it.
    #[error(transparent)]
    Unresolved(#[from] UnresolvedSetting),
    /// The same, for a variable that the file need not name.
    #[error("the Slack channel has no `webhook_url`, and SLACK_WEBHOOK_URL is not set")]
    NoUrl,
    #[error("Slack's `webhook_url` {0}")]
    Target(#[from] BadTarget),
    #[error("the notification cannot be written as JSON: {0}")]
    Body(#[from] serde_json::Error),
}

/// Makes one attempt.
pub(super) async fn send(client: &Client, settings: &SlackConfig, fallback: &ChannelSettings, news: News<'_>) -> Sent {
    let (url, body) = match request(settings, fallback, news) {
        Ok(request) => request,
        Err(error @ (Unusable::Unresolved(_) | Unusable::NoUrl)) => return Sent::not_delivered(error.to_string()),
        Err(error) => return Sent::Permanent(error.to_string()),
    };
    let json = HeaderValue::from_static("application/json");
    match client.post(url).header(CONTENT_TYPE, json).body(body).send().await {
        Ok(response) => {
            let (status, wait) = (response.status(), asked_to_wait(response.headers()));
            classify(status, wait, &beginning(response, ANSWER_BYTES, SEND_TIMEOUT).await)
        }
        Err(error) => unanswered("Slack", error),
    }
}

fn request(settings: &SlackConfig, fallback: &ChannelSettings, news: News<'_>) -> Result<(Url, String), Unusable> {
    let place = match &settings.webhook_url {
        Some(url) => url.resolve()?,
        None => fallback.slack_webhook_url.clone().ok_or(Unusable::NoUrl)?,
    };
    let body = match news {
        News::One(claim, payload) => render::slack::body(settings, claim, payload)?,
        News::Several(digest) => digest.slack_body(settings)?,
    };
    Ok((target(place.expose())?, body))
}

fn classify(status: StatusCode, retry_after: Option<Duration>, answer: &str) -> Sent {
    let (code, word) = (status.as_u16(), answer.trim());
    if status.is_success() {
        return match word {
            "ok" => Sent::Delivered,
            // Cut off, most probably after Slack has taken the message.
            "" | "o" => Sent::Unknown(format!("Slack answered with status {code}, and did not say `ok`")),
            // Something that is not Slack stands there.
            _ => Sent::not_delivered(format!("Slack's answer, with status {code}, is not `ok`")),
        };
    }
    // Only words that are Slack's are repeated: whatever else stands there might repeat a secret.
    let known = PERMANENT.into_iter().find(|known| *known == word);
    let said = known.map(|word| format!(": {word}")).unwrap_or_default();
    let error = format!("Slack answered with status {code}{said}");
    match code {
        300..=399 => Sent::not_delivered(format!("{error}; redirects are not followed")),
        400 | 410 | 413 | 422 => Sent::Permanent(error),
        _ if known.is_some() => Sent::Permanent(error),
        _ => Sent::NotDelivered { error, retry_after },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(code: u16, answer: &str) -> Sent {
        classify(StatusCode::from_u16(code).unwrap_or_default(), Some(Duration::from_secs(30)), answer)
    }

    #[test]
    fn slack_has_taken_what_it_says_ok_to() {
        assert_eq!(class(200, "ok"), Sent::Delivered);
        assert_eq!(class(200, "ok\n"), Sent::Delivered);
        assert!(matches!(class(200, ""), Sent::Unknown(_)));
        assert!(matches!(class(200, "<html>log in"), Sent::NotDelivered { .. }));
    }

    #[test]
    fn what_slack_refuses_for_good_is_given_up_with_its_word() {
        for (code, word) in [
            (400, "invalid_payload"),
            (403, "action_prohibited"),
            (403, "invalid_token"),
            (404, "channel_not_found"),
            (404, "no_service"),
            (410, "channel_is_archived"),
        ] {
            let sent = class(code, word);
            assert_eq!(sent, Sent::Permanent(format!("Slack answered with status {code}: {word}")));
        }
        assert_eq!(class(400, "canary"), Sent::Permanent("Slack answered with status 400".to_owned()));
    }

    #[test]
    fn everything_else_is_tried_again_when_slack_asks_for_it() {
        for code in [302, 403, 404, 408, 429, 500, 503] {
            let sent = class(code, "canary");
            let Sent::NotDelivered { error, retry_after } = sent else { panic!("{code}: {sent:?}") };
            assert!(!error.contains("canary"), "{error}");
            assert_eq!(retry_after.is_some(), code != 302, "{code}");
        }
    }
}
