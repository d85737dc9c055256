//! A notification as a message to Slack. Pure, but for the warning about a template that is of no use.
//!
//! Everything is escaped as Slack asks, and sent as `verbatim`: nothing that a query's row holds can mention anybody
//! (`<!channel>`, `@here`) or become a link.

use serde_json::{Value, json};
use sqlsentinel_common::config::{Escape, SlackConfig};
use sqlsentinel_common::outcome::RunStatus;
use sqlsentinel_common::store::outbox::Claim;

use super::words::{POSSIBLE_DUPLICATE, TRUNCATED, about, facts, news, origin, value};
use super::{Payload, custom};

/// Slack's limits, in characters as they are sent, with room for what we add.
const LONGEST_HEADER: usize = 140;
const LONGEST_FIELD: usize = 1900;
const LONGEST_SECTION: usize = 2900;

const RED: &str = "#d00000";
const GREEN: &str = "#36a64f";

/// How many sections a template's text may fill.
const MOST_SECTIONS: usize = 10;

/// The JSON for this attempt.
pub fn body(settings: &SlackConfig, claim: &Claim, payload: &Payload) -> Result<String, serde_json::Error> {
    let (own, remark) = match &settings.body {
        None => (None, None),
        Some(template) => match custom::text(template, "body", Escape::Slack, claim, payload) {
            Ok(text) => (Some(text), None),
            Err(remark) => (None, Some(remark)),
        },
    };
    let header = escaped(&headline(claim), LONGEST_HEADER);
    let mut blocks = vec![json!({"type": "header", "text": {"type": "plain_text", "text": header}})];
    let section = |text: &str| json!({"type": "section", "text": markdown(text)});
    match own {
        Some(text) => blocks.extend(sections(&text).iter().map(|text| section(text))),
        None => {
            blocks.push(json!({"type": "section", "fields": fields(claim, payload)}));
            if !payload.context.is_empty() {
                blocks.push(section(&context(payload)));
            }
        }
    }
    blocks.push(json!({"type": "context", "elements": [markdown(&remarks(claim, payload, remark))]}));
    let summary = format!("{}: {} - Status: {}", news(claim), about(claim), payload.status);
    let summary = escaped(&summary, LONGEST_FIELD);
    let mut message = json!({
        "text": summary,
        "blocks": blocks,
        "attachments": [{"color": color(payload.status), "fallback": summary}],
    });
    if let Some(username) = &settings.username {
        message["username"] = json!(username);
    }
    if let Some(channel) = &settings.slack_channel {
        message["channel"] = json!(channel);
    }
    serde_json::to_string(&message)
}

/// What it is about; another kind of news than an alert says so first.
fn headline(claim: &Claim) -> String {
    match news(claim).as_str() {
        "Alert" => about(claim),
        news => format!("{news}: {}", about(claim)),
    }
}

fn fields(claim: &Claim, payload: &Payload) -> Vec<Value> {
    let status = ("Status", format!("{} {}", emoji(payload.status), payload.status));
    let others = facts(claim, payload).into_iter().filter(|(name, _)| *name != "Status");
    let field = |(name, value): (&str, String)| {
        let value = if name == "Status" { value } else { escaped(&value, LONGEST_FIELD) };
        markdown(&format!("*{name}:*\n{value}"))
    };
    let mut fields: Vec<Value> = std::iter::once(status).chain(others).map(field).collect();
    fields.extend(payload.runbook.as_ref().map(|url| {
        // What would end the link's address, or name it, is written as URLs may write it.
        let url = escaped(&url.replace('<', "%3C").replace('>', "%3E").replace('|', "%7C"), LONGEST_FIELD);
        markdown(&format!("*Runbook:*\n<{url}>"))
    }));
    fields
}

fn context(payload: &Payload) -> String {
    let mut text = "*Additional Context:*".to_owned();
    for (name, column) in &payload.context {
        let line = format!("\n• {}: {}", escaped(name, LONGEST_HEADER), escaped(&value(column), LONGEST_FIELD));
        if text.chars().count() + line.chars().count() > LONGEST_SECTION {
            text.push_str("\n…");
            break;
        }
        text.push_str(&line);
    }
    text
}

fn remarks(claim: &Claim, payload: &Payload, template: Option<String>) -> String {
    let mut remarks = vec![origin(claim, payload)];
    remarks.extend(template.map(|remark| escaped(&remark, LONGEST_FIELD)));
    if payload.truncated {
        remarks.push(TRUNCATED.to_owned());
    }
    if claim.possible_duplicate {
        remarks.push(format!(":warning: {POSSIBLE_DUPLICATE}"));
    }
    remarks.join("\n")
}

/// `text`, whose values are escaped already, in pieces of whole lines that Slack takes; the end of a line that is too
/// long for it, and of a text that is, is left out.
fn sections(text: &str) -> Vec<String> {
    let mut sections: Vec<(usize, String)> = vec![(0, String::new())];
    for line in text.trim_end().split_inclusive('\n') {
        let mut line = line.to_owned();
        let mut length = line.chars().count();
        if length > LONGEST_SECTION {
            line = cut(&line, LONGEST_SECTION);
            length = line.chars().count();
        }
        match sections.last_mut() {
            Some((filled, section)) if *filled + length <= LONGEST_SECTION => {
                *filled += length;
                section.push_str(&line);
            }
            _ => sections.push((length, line)),
        }
    }
    sections.retain(|(_, section)| !section.trim().is_empty());
    if sections.len() > MOST_SECTIONS {
        sections.truncate(MOST_SECTIONS);
        sections.push((0, "…".to_owned()));
    }
    sections.into_iter().map(|(_, section)| section).collect()
}

/// The beginning of `line`, which ends with no part of an entity.
fn cut(line: &str, longest: usize) -> String {
    let mut kept: String = line.chars().take(longest).collect();
    if let Some(at) = kept.rfind('&').filter(|at| !kept[*at..].contains(';')) {
        kept.truncate(at);
    }
    kept + "…\n"
}

/// A text with Slack's markup, in which no name is looked for.
fn markdown(text: &str) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

fn emoji(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Ok => ":large_green_circle:",
        RunStatus::Alert => ":red_circle:",
        RunStatus::Error => ":warning:",
        RunStatus::NoData => ":grey_question:",
    }
}

fn color(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Ok => GREEN,
        RunStatus::Alert | RunStatus::Error | RunStatus::NoData => RED,
    }
}

/// `text` with Slack's three control characters as entities, cut to `longest` characters between entities.
fn escaped(text: &str, longest: usize) -> String {
    let mut escaped = String::new();
    let mut length = 0;
    for c in text.chars() {
        let mut plain = [0; 4];
        let piece = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            c => c.encode_utf8(&mut plain),
        };
        length += piece.chars().count();
        if length > longest {
            escaped.push('…');
            break;
        }
        escaped.push_str(piece);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use sqlsentinel_common::config::Template;

    use super::super::samples::{claim, payload};
    use super::*;

    const PLAIN: SlackConfig = SlackConfig { webhook_url: None, username: None, slack_channel: None, body: None };

    fn message(settings: &SlackConfig, claim: &Claim, payload: &Payload) -> serde_json::Result<Value> {
        serde_json::from_str(&body(settings, claim, payload)?)
    }

    #[test]
    fn a_message_has_the_blocks_that_readers_know() -> serde_json::Result<()> {
        let mrkdwn = |text: &str| json!({"type": "mrkdwn", "text": text, "verbatim": true});
        let expected = json!({
            "text": "Alert: revenue - Status: ALERT",
            "blocks": [
                {"type": "header", "text": {"type": "plain_text", "text": "revenue"}},
                {"type": "section", "fields": [
                    mrkdwn("*Status:*\n:red_circle: ALERT"),
                    mrkdwn("*Description:*\nRevenue below the floor"),
                    mrkdwn("*Actual Value:*\n8500.10"),
                    mrkdwn("*Threshold:*\n10000"),
                ]},
                {"type": "section", "text": mrkdwn(
                    "*Additional Context:*\n• region: &lt;b&gt;eu&lt;/b&gt; &amp; &lt;!channel&gt;")},
                {"type": "context", "elements": [mrkdwn("Due 2026-01-01 00:01:00 UTC on database default. \
                    Notification 04440625-1cee-569a-85fa-71b910a8a865.")]},
            ],
            "attachments": [{"color": "#d00000", "fallback": "Alert: revenue - Status: ALERT"}],
        });
        assert_eq!(message(&PLAIN, &claim(), &payload())?, expected);
        Ok(())
    }

    #[test]
    fn name_and_channel_are_said_where_they_are_set() -> serde_json::Result<()> {
        let settings =
            SlackConfig { username: Some("Watch".to_owned()), slack_channel: Some("#ops".to_owned()), ..PLAIN };
        let message = message(&settings, &claim(), &payload())?;
        assert_eq!((&message["username"], &message["channel"]), (&json!("Watch"), &json!("#ops")));
        Ok(())
    }

    #[test]
    fn nothing_of_a_row_can_mention_anybody() -> serde_json::Result<()> {
        let mut payload = payload();
        payload.description = "<!here>".to_owned();
        payload.actual_value = Some("<@U123> & <https://evil|link>".into());
        payload.context = [("<!everyone>".to_owned(), json!({"k": "<!channel>"}))].into_iter().collect();
        let claim = Claim { alert_name: "<!channel>".to_owned(), ..claim() };
        let text = body(&PLAIN, &claim, &payload)?;
        assert!(!text.contains('<') && !text.contains('>'), "{text}");
        let verbatim = message(&PLAIN, &claim, &payload)?.to_string().matches("\"verbatim\":true").count();
        assert_eq!(verbatim, text.matches("mrkdwn").count());
        Ok(())
    }

    #[test]
    fn a_good_end_is_green_and_other_news_is_named() -> serde_json::Result<()> {
        let mut payload = payload();
        payload.status = RunStatus::Ok;
        let claim = Claim {
            kind: sqlsentinel_common::store::outbox::NoticeKind::ErrorResolved,
            possible_duplicate: true,
            ..claim()
        };
        let message = message(&PLAIN, &claim, &payload)?;
        assert_eq!(message["attachments"][0]["color"], GREEN);
        assert_eq!(message["blocks"][0]["text"]["text"], "Error resolved: revenue");
        assert_eq!(message["blocks"][1]["fields"][0]["text"], "*Status:*\n:large_green_circle: OK");
        assert!(message.to_string().contains(POSSIBLE_DUPLICATE), "{message}");
        Ok(())
    }

    #[test]
    fn a_body_stands_between_the_headline_and_the_last_line() -> Result<(), Box<dyn std::error::Error>> {
        let template = Template::body("<!here> *{{ actual_value }}* in {{ context.region }}")?;
        let settings = SlackConfig { body: Some(template), ..PLAIN };
        let claim = Claim { possible_duplicate: true, ..claim() };
        let message = message(&settings, &claim, &payload())?;
        assert_eq!(message["blocks"].as_array().map(Vec::len), Some(3));
        let text = &message["blocks"][1]["text"];
        assert_eq!(text["text"], "<!here> *8500.10* in &lt;b&gt;eu&lt;/b&gt; &amp; &lt;!channel&gt;");
        assert!(message["blocks"][2].to_string().contains(POSSIBLE_DUPLICATE), "{message}");
        Ok(())
    }

    #[test]
    fn a_body_that_is_of_no_use_leaves_the_standard_message_with_a_remark() -> Result<(), Box<dyn std::error::Error>> {
        let settings = SlackConfig { body: Some(Template::body("{{ context['<!channel>'] }}")?), ..PLAIN };
        let text = body(&settings, &claim(), &payload())?;
        let (own, plain): (Value, _) = (serde_json::from_str(&text)?, message(&PLAIN, &claim(), &payload())?);
        assert_eq!((&own["blocks"][1], &own["blocks"][2]), (&plain["blocks"][1], &plain["blocks"][2]));
        let remark = own["blocks"][3].to_string();
        assert!(remark.contains("cannot be used here") && !text.contains('<'), "{remark}");
        Ok(())
    }

    #[test]
    fn a_long_body_is_cut_between_lines_and_entities() {
        let line = "&amp;".repeat(100) + "\n";
        let lines = sections(&line.repeat(20));
        assert!(lines.len() > 1 && lines.iter().all(|section| section.chars().count() <= 3_000));
        assert_eq!(lines.concat(), line.repeat(20).trim_end());
        let long = sections(&"x&amp;".repeat(1_000)).concat();
        assert!(long.chars().count() <= 3_000 && (long.ends_with(";…\n") || long.ends_with("x…\n")), "{long}");
        assert_eq!(sections(&"x\n".repeat(30_000)).len(), MOST_SECTIONS + 1);
    }

    #[test]
    fn a_runbook_is_a_link_and_the_alerts_labels_are_texts() -> serde_json::Result<()> {
        let mut payload = payload();
        payload.severity = Some(sqlsentinel_common::alert::Severity::Critical);
        payload.runbook = Some("https://wiki/a?x=<1>|@here&y".to_owned());
        payload.labels.insert("team".to_owned(), "<!here>".to_owned());
        let message = message(&PLAIN, &claim(), &payload)?;
        let fields = message["blocks"][1]["fields"].as_array().cloned().unwrap_or_default();
        let texts: Vec<_> = fields.iter().skip(4).map(|field| field["text"].as_str().unwrap_or_default()).collect();
        assert_eq!(
            texts,
            [
                "*Severity:*\ncritical",
                "*Labels:*\nteam=&lt;!here&gt;",
                "*Runbook:*\n<https://wiki/a?x=%3C1%3E%7C@here&amp;y>"
            ]
        );
        Ok(())
    }

    #[test]
    fn slacks_limits_are_kept_without_cutting_an_entity() -> serde_json::Result<()> {
        let mut payload = payload();
        payload.actual_value = Some("&".repeat(70_000).into());
        payload.context = (0..50).map(|n| (format!("c{n}"), json!("x".repeat(300)))).collect();
        let message = message(&PLAIN, &Claim { alert_name: "<".repeat(200), ..claim() }, &payload)?;
        let length = |value: &Value| value["text"].as_str().unwrap_or_default().chars().count();
        assert!(length(&message["blocks"][0]["text"]) <= 150);
        let fields = message["blocks"][1]["fields"].as_array().cloned().unwrap_or_default();
        assert!(fields.len() <= 10 && fields.iter().all(|field| length(field) <= 2000));
        assert!(length(&message["blocks"][2]["text"]) <= 3000);
        assert_eq!(escaped("&&", 9), "&amp;…");
        Ok(())
    }
}
