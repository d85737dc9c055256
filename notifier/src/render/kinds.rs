//! The standard texts of every kind of news on every channel, as a whole.
//!
//! What changes there is seen by people and parsed by receivers: `kinds.txt` changes with it, and is read in review.

use std::fmt::Write;

use serde_json::Value;
use sqlsentinel_common::alert::Severity;
use sqlsentinel_common::config::SlackConfig;
use sqlsentinel_common::outcome::{ErrorKind, RunError, RunStatus};
use sqlsentinel_common::store::outbox::{Claim, NoticeKind};

use super::samples::{claim, payload};
use super::{Payload, email, slack, webhook_body};

fn news(kind: NoticeKind) -> (Claim, Payload) {
    let mut claim = Claim { kind, ..claim() };
    let mut payload = payload();
    let without_row = |payload: &mut Payload| {
        (payload.actual_value, payload.threshold) = (None, None);
        payload.context.clear();
    };
    match kind {
        NoticeKind::Alert => {
            payload.severity = Some(Severity::Critical);
            payload.runbook = Some("https://wiki.example.com/revenue?a=1&b=2".to_owned());
            payload.labels = [("team", "data"), ("tier", "1")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        }
        NoticeKind::Repeat => {
            claim.instance = "shop=Berlin".to_owned();
            (claim.attempt, claim.possible_duplicate) = (2, true);
            payload.truncated = true;
        }
        NoticeKind::Resolved => payload.status = RunStatus::Ok,
        NoticeKind::Error => {
            without_row(&mut payload);
            payload.status = RunStatus::Error;
            let message = "database `default`: no answer within 5 s".to_owned();
            payload.error = Some(RunError { kind: ErrorKind::Timeout, message });
            payload.consecutive_errors = 3;
        }
        NoticeKind::ErrorResolved => {
            payload.status = RunStatus::Ok;
            claim.fallback_for = Some("pager".to_owned());
        }
        NoticeKind::NoData => {
            without_row(&mut payload);
            payload.status = RunStatus::NoData;
            payload.description.clear();
        }
    }
    (claim, payload)
}

/// The texts in a message to Slack, and its colour.
fn texts(message: &Value, found: &mut Vec<String>) {
    match message {
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "text" || key == "color" => found.push(text.clone()),
                    other => texts(other, found),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn the_standard_texts_of_all_news_are_those_that_were_reviewed() -> Result<(), Box<dyn std::error::Error>> {
    let mut all = String::new();
    for kind in NoticeKind::ALL {
        let (claim, payload) = news(kind);
        let mail = email::mail(None, None, &claim, &payload);
        let message = serde_json::from_str(&slack::body(&SlackConfig::default(), &claim, &payload)?)?;
        let mut slack_texts = Vec::new();
        texts(&message, &mut slack_texts);
        write!(
            all,
            "===== {} by mail\nSubject: {}\n\n{}\n{}===== {} to Slack\n{}\n===== {} by webhook\n{}\n",
            kind.as_str(),
            mail.subject,
            mail.text,
            mail.html,
            kind.as_str(),
            slack_texts.join("\n"),
            kind.as_str(),
            webhook_body(&claim, &payload)?
        )?;
    }
    assert!(all == include_str!("kinds.txt"), "kinds.txt would be:\n{all}");
    Ok(())
}

#[test]
fn what_an_older_notifier_has_queued_is_read_and_says_no_more_than_it_knew() -> serde_json::Result<()> {
    let stored = r#"{"description": "d", "source": "default", "status": "ALERT", "unknown": 1}"#;
    let payload: Payload = serde_json::from_str(stored)?;
    let sent: Value = serde_json::from_str(&webhook_body(&claim(), &payload)?)?;
    for key in ["labels", "severity", "runbook", "template_error"] {
        assert!(sent.get(key).is_none(), "{sent}");
    }
    assert_eq!(serde_json::from_str::<Payload>(&serde_json::to_string(&payload)?)?, payload);
    Ok(())
}
