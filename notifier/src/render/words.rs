//! The words that channels for people share: a notification as a list of what there is to say. Pure.

use serde_json::Value;
pub(crate) use sqlsentinel_common::config::one_line;
use sqlsentinel_common::store::outbox::Claim;

use super::Payload;

/// Said of a notification whose earlier attempt may have arrived.
pub(super) const POSSIBLE_DUPLICATE: &str =
    "This may be a duplicate: nobody knows whether an earlier attempt has arrived.";
/// Said where something was cut.
pub(super) const TRUNCATED: &str = "Some values were too long and have been cut.";

/// The news as a person names it: `Alert`, `Error resolved`, `No data`.
pub(super) fn news(claim: &Claim) -> String {
    let words = claim.kind.as_str().replace('_', " ");
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// What it is about: the alert, and which of its instances.
pub(super) fn about(claim: &Claim) -> String {
    if claim.instance.is_empty() {
        claim.alert_name.clone()
    } else {
        format!("{} ({})", claim.alert_name, claim.instance)
    }
}

/// A value of a query's row: a text as it is, everything else as JSON, digits kept.
pub(super) fn value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The facts below the headline, named as the Python system named them, without those that are not known. The runbook
/// is not among them: each channel makes a link of it.
pub(super) fn facts(claim: &Claim, payload: &Payload) -> Vec<(&'static str, String)> {
    let mut facts = vec![("Status", payload.status.as_str().to_owned())];
    if !payload.description.trim().is_empty() {
        facts.insert(0, ("Description", payload.description.trim().to_owned()));
    }
    facts.extend(payload.actual_value.as_ref().map(|actual| ("Actual Value", value(actual))));
    facts.extend(payload.threshold.as_ref().map(|threshold| ("Threshold", value(threshold))));
    if let Some(error) = &payload.error {
        facts.push(("Error", format!("{} ({})", error.message, error.kind.as_str())));
    }
    if payload.consecutive_errors > 0 {
        facts.push(("Errors in a row", payload.consecutive_errors.to_string()));
    }
    if !claim.instance.is_empty() {
        facts.push(("Instance", claim.instance.clone()));
    }
    facts.extend(payload.severity.map(|severity| ("Severity", severity.as_str().to_owned())));
    if !payload.labels.is_empty() {
        let labels: Vec<String> = payload.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        facts.push(("Labels", labels.join(", ")));
    }
    facts
}

/// Where and when it was found, for the last line; and whose place this channel takes.
pub(super) fn origin(claim: &Claim, payload: &Payload) -> String {
    let origin = format!(
        "Due {} on database {}. Notification {}.",
        claim.scheduled_for.to_datetime().format("%Y-%m-%d %H:%M:%S UTC"),
        payload.source,
        claim.notification_id
    );
    match &claim.fallback_for {
        // A route's key is a name or made of digits: nothing in it is markup.
        Some(route) => format!("{origin} Sent here because `{route}` has not taken it."),
        None => origin,
    }
}

#[cfg(test)]
mod tests {
    use sqlsentinel_common::config::SlackConfig;

    use super::*;

    #[test]
    fn a_stand_in_says_for_whom() {
        let claim = Claim { fallback_for: Some("pager".to_owned()), ..super::super::samples::claim() };
        let origin = origin(&claim, &super::super::samples::payload());
        assert!(origin.ends_with("Sent here because `pager` has not taken it."), "{origin}");
    }

    #[test]
    fn every_channel_names_the_instance_and_none_takes_it_for_markup() -> serde_json::Result<()> {
        use super::super::{email::mail, samples, slack, webhook_body};
        let claim = Claim { instance: "<b>eu</b>&<!channel>".to_owned(), ..samples::claim() };
        let payload = samples::payload();
        let sent: Value = serde_json::from_str(&webhook_body(&claim, &payload)?)?;
        assert_eq!(sent["instance"], claim.instance);
        assert!(!webhook_body(&samples::claim(), &payload)?.contains("\"instance\""));

        let mail = mail(None, None, &claim, &payload);
        assert_eq!(mail.subject, "[SQL Sentinel] Alert: revenue (<b>eu</b>&<!channel>)");
        assert!(mail.text.starts_with("Alert: revenue (<b>eu</b>&<!channel>)\n"), "{}", mail.text);
        assert!(
            mail.html.contains("<h2>Alert: revenue (&lt;b&gt;eu&lt;/b&gt;&amp;&lt;!channel&gt;)</h2>"),
            "{}",
            mail.html
        );

        let settings = SlackConfig { webhook_url: None, username: None, slack_channel: None, body: None };
        let message: Value = serde_json::from_str(&slack::body(&settings, &claim, &payload)?)?;
        let named = "revenue (&lt;b&gt;eu&lt;/b&gt;&amp;&lt;!channel&gt;)";
        assert_eq!(message["blocks"][0]["text"]["text"], named);
        assert_eq!(message["text"], format!("Alert: {named} - Status: ALERT"));
        Ok(())
    }

    #[test]
    fn one_line_is_one_line_and_no_longer_than_allowed() {
        assert_eq!(one_line("a\r\nBcc: b\u{0}c", 100), "a  Bcc: b c");
        assert_eq!(one_line("äöü", 3), "äöü");
        assert_eq!(one_line("äöüß", 3), "äöü…");
    }

    #[test]
    fn values_keep_their_digits_and_texts_have_no_quotes() {
        for (json, text) in [("8500.10", "8500.10"), ("\"8500\"", "8500"), ("[1,null]", "[1,null]"), ("true", "true")] {
            assert_eq!(serde_json::from_str::<Value>(json).map(|json| value(&json)).unwrap_or_default(), text);
        }
    }
}
