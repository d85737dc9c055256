//! Several notifications as one message: what a channel gets when its rate has no room for one each. Pure.
//!
//! Input: the notifications that one digest tells, in their order. Output: the webhook's JSON, which has them all, and
//! lists for people, of which only the beginning is shown where there are many.

use serde::Serialize;
use serde_json::{Value, json};
use sqlsentinel_common::config::SlackConfig;
use sqlsentinel_common::ids::{DigestId, ExecutionId, NotificationId};
use sqlsentinel_common::outcome::RunStatus;
use sqlsentinel_common::store::outbox::Claim;
use sqlsentinel_common::timestamp::Timestamp;

use super::Payload;
use super::words::{POSSIBLE_DUPLICATE, news, one_line, value};

/// How many notifications are shown to people one by one.
const LINES: usize = 50;
/// How much of a line's parts is shown.
const LONGEST_TEXT: usize = 120;
/// How much of a line is shown: with every character an entity, two of them still fit into one of Slack's sections.
const LONGEST_LINE: usize = 280;
/// The longest value that the webhook's JSON has, in bytes of JSON; a longer one is left out.
const LONGEST_VALUE: usize = 1_000;
/// Slack's limit for a section, in characters as they are sent, with room for what we add.
const LONGEST_SECTION: usize = 2_900;

/// The notifications of one digest.
#[derive(Clone, Copy, Debug)]
pub struct Digest<'a> {
    /// The message's own name.
    pub id: DigestId,
    /// What it tells.
    pub notices: &'a [(Claim, Payload)],
}

/// A digest as a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestMail {
    /// One line.
    pub subject: String,
    /// For those who read text.
    pub text: String,
    /// The same as HTML.
    pub html: String,
}

#[derive(Serialize)]
struct Body<'a> {
    digest: bool,
    digest_id: DigestId,
    possible_duplicate: bool,
    notifications: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    alert_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    instance: &'a str,
    status: RunStatus,
    description: String,
    actual_value: Option<&'a Value>,
    threshold: Option<&'a Value>,
    kind: &'a str,
    notification_id: NotificationId,
    execution_id: ExecutionId,
    scheduled_for: Timestamp,
    attempt: u32,
    possible_duplicate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback_for: Option<&'a str>,
}

impl Digest<'_> {
    /// Whether an earlier attempt at one of the notifications may have arrived.
    pub fn possible_duplicate(&self) -> bool {
        self.notices.iter().any(|(claim, _)| claim.possible_duplicate)
    }

    /// The JSON that a webhook sends.
    pub fn webhook_body(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&Body {
            digest: true,
            digest_id: self.id,
            possible_duplicate: self.possible_duplicate(),
            notifications: self.notices.iter().map(entry).collect(),
        })
    }

    /// The JSON that goes to Slack.
    pub fn slack_body(&self, settings: &SlackConfig) -> Result<String, serde_json::Error> {
        let markdown = |text: &str| json!({"type": "mrkdwn", "text": text, "verbatim": true});
        let section = |text: &str| json!({"type": "section", "text": markdown(text)});
        let headline = self.headline();
        let mut blocks = vec![json!({"type": "header", "text": {"type": "plain_text", "text": headline}})];
        let mut text = String::new();
        for line in self.lines() {
            let line = format!("• {}\n", escaped(&line));
            if !text.is_empty() && text.chars().count() + line.chars().count() > LONGEST_SECTION {
                blocks.push(section(&text));
                text.clear();
            }
            text += &line;
        }
        blocks.push(section(&text));
        blocks.push(json!({"type": "context", "elements": [markdown(&self.remarks().join("\n"))]}));
        let mut message = json!({"text": headline, "blocks": blocks});
        if let Some(username) = &settings.username {
            message["username"] = json!(username);
        }
        if let Some(channel) = &settings.slack_channel {
            message["channel"] = json!(channel);
        }
        serde_json::to_string(&message)
    }

    /// The mail.
    pub fn mail(&self) -> DigestMail {
        let (headline, lines, remarks) = (self.headline(), self.lines(), self.remarks());
        let item = |line: &String| format!("<li>{}</li>\n", escaped(line));
        let paragraph = |line: &String| format!("<p>{}</p>\n", escaped(line));
        DigestMail {
            subject: format!("[SQL Sentinel] {headline}"),
            text: format!("{headline}\n\n- {}\n\n{}\n", lines.join("\n- "), remarks.join("\n")),
            html: format!(
                "<!DOCTYPE html>\n<html><body>\n<h2>{}</h2>\n<ul>\n{}</ul>\n{}</body></html>\n",
                escaped(&headline),
                lines.iter().map(item).collect::<String>(),
                remarks.iter().map(paragraph).collect::<String>(),
            ),
        }
    }

    fn headline(&self) -> String {
        format!("{} notifications", self.notices.len())
    }

    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.notices.iter().take(LINES).map(line).collect();
        if let Some(more) = self.notices.len().checked_sub(LINES).filter(|more| *more > 0) {
            lines.push(format!("and {more} more"));
        }
        lines
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = vec![format!("This channel's rate has no room for one message each. Digest {}.", self.id)];
        if self.possible_duplicate() {
            remarks.push(POSSIBLE_DUPLICATE.to_owned());
        }
        remarks
    }
}

/// `12:01:00 UTC  Alert: revenue (eu) is ALERT, 8500.10 (threshold 10000)`
fn line((claim, payload): &(Claim, Payload)) -> String {
    let shown = |value: &Value| one_line(&self::value(value), LONGEST_TEXT);
    let mut line = format!(
        "{} {}: {}",
        claim.scheduled_for.to_datetime().format("%Y-%m-%d %H:%M:%S UTC"),
        news(claim),
        one_line(&claim.alert_name, LONGEST_TEXT)
    );
    if !claim.instance.is_empty() {
        line += &format!(" ({})", one_line(&claim.instance, LONGEST_TEXT));
    }
    line += &format!(" - {}", payload.status);
    if let Some(actual) = &payload.actual_value {
        line += &format!(", {}", shown(actual));
    }
    if let Some(threshold) = &payload.threshold {
        line += &format!(" (threshold {})", shown(threshold));
    }
    if let Some(error) = &payload.error {
        line += &format!(": {}", one_line(&error.message, LONGEST_TEXT));
    }
    if let Some(route) = &claim.fallback_for {
        line += &format!(", in the place of {}", one_line(route, LONGEST_TEXT));
    }
    one_line(&line, LONGEST_LINE)
}

fn entry((claim, payload): &(Claim, Payload)) -> Entry<'_> {
    let short = |value: &Value| value.to_string().len() <= LONGEST_VALUE;
    Entry {
        alert_name: &claim.alert_name,
        instance: &claim.instance,
        status: payload.status,
        description: payload.description.chars().take(LONGEST_VALUE).collect(),
        actual_value: payload.actual_value.as_ref().filter(|value| short(value)),
        threshold: payload.threshold.as_ref().filter(|value| short(value)),
        kind: claim.kind.as_str(),
        notification_id: claim.notification_id,
        execution_id: claim.execution_id,
        scheduled_for: claim.scheduled_for,
        attempt: claim.attempt,
        possible_duplicate: claim.possible_duplicate,
        fallback_for: claim.fallback_for.as_deref(),
    }
}

/// The three characters that are markup in HTML's text and in Slack's alike, as entities.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::samples::{claim, payload};
    use super::*;

    const PLAIN: SlackConfig = SlackConfig { webhook_url: None, username: None, slack_channel: None, body: None };

    fn notices(count: usize) -> Vec<(Claim, Payload)> {
        (0..count).map(|n| (Claim { alert_name: format!("<!channel> {n}"), ..claim() }, payload())).collect()
    }

    fn digest(notices: &[(Claim, Payload)]) -> Digest<'_> {
        Digest { id: "0199e9e2-0000-7000-8000-000000000001".parse().unwrap(), notices }
    }

    #[test]
    fn a_webhook_gets_all_of_them_in_their_order() -> serde_json::Result<()> {
        let mut notices = notices(120);
        notices[1].0.fallback_for = Some("pager".to_owned());
        notices[1].1.actual_value = Some("x".repeat(2_000).into());
        notices[2].0.possible_duplicate = true;
        let body: Value = serde_json::from_str(&digest(&notices).webhook_body()?)?;
        assert_eq!((&body["digest"], &body["possible_duplicate"]), (&json!(true), &json!(true)));
        assert_eq!(body["digest_id"], "0199e9e2-0000-7000-8000-000000000001");
        let entries = body["notifications"].as_array().cloned().unwrap_or_default();
        assert_eq!(entries.len(), 120);
        assert_eq!(entries[119]["alert_name"], "<!channel> 119");
        assert_eq!(
            entries[0],
            json!({
                "alert_name": "<!channel> 0", "status": "ALERT", "description": "Revenue below the floor",
                "actual_value": payload().actual_value, "threshold": 10_000, "kind": "alert",
                "notification_id": "04440625-1cee-569a-85fa-71b910a8a865",
                "execution_id": "cd6a4c67-f502-5b84-8250-f6373da36adb",
                "scheduled_for": "2026-01-01T00:01:00.000000Z", "attempt": 1, "possible_duplicate": false,
            })
        );
        assert_eq!((&entries[1]["fallback_for"], &entries[1]["actual_value"]), (&json!("pager"), &Value::Null));
        Ok(())
    }

    #[test]
    fn people_see_the_beginning_and_how_many_more_there_are() {
        let notices = notices(53);
        let mail = digest(&notices).mail();
        assert_eq!(mail.subject, "[SQL Sentinel] 53 notifications");
        assert!(
            mail.text.contains("- 2026-01-01 00:01:00 UTC Alert: <!channel> 49 - ALERT, 8500.10 (threshold 10000)\n")
        );
        assert!(mail.text.contains("\n- and 3 more\n") && !mail.text.contains("<!channel> 50"), "{}", mail.text);
        assert!(mail.html.contains("&lt;!channel&gt; 49") && !mail.html.contains("<!channel"), "{}", mail.html);
    }

    #[test]
    fn slack_gets_sections_that_it_takes_and_nothing_that_mentions_anybody() -> serde_json::Result<()> {
        let mut notices = notices(60);
        for (claim, payload) in &mut notices {
            claim.alert_name = "<".repeat(200);
            payload.actual_value = Some("&".repeat(500).into());
        }
        let text = digest(&notices).slack_body(&PLAIN)?;
        assert!(!text.contains('<'), "{text}");
        let message: Value = serde_json::from_str(&text)?;
        let blocks = message["blocks"].as_array().cloned().unwrap_or_default();
        assert!((3..=50).contains(&blocks.len()), "{}", blocks.len());
        for block in &blocks {
            let length = block["text"]["text"].as_str().unwrap_or_default().chars().count();
            assert!(length <= 3_000, "{length}");
        }
        assert!(text.contains("and 10 more"), "{text}");
        Ok(())
    }

    #[test]
    fn a_line_says_for_whom_it_stands_in_and_what_went_wrong() {
        let (mut claim, mut payload) = (claim(), payload());
        claim.fallback_for = Some("pager".to_owned());
        claim.instance = "eu\nwest".to_owned();
        payload.actual_value = None;
        payload.threshold = None;
        payload.status = RunStatus::Error;
        let line = line(&(claim, payload));
        assert_eq!(line, "2026-01-01 00:01:00 UTC Alert: revenue (eu west) - ERROR, in the place of pager");
    }
}
