//! The words that channels for people share: a notification as a list of what there is to say. Pure.

use serde_json::Value;
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

/// A value of a query's row: a text as it is, everything else as JSON, digits kept.
pub(super) fn value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The facts below the headline, named as the Python system named them, without those that are not known.
pub(super) fn facts(payload: &Payload) -> Vec<(&'static str, String)> {
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
    facts
}

/// Where and when it was found, for the last line.
pub(super) fn origin(claim: &Claim, payload: &Payload) -> String {
    format!(
        "Due {} on database {}. Notification {}.",
        claim.scheduled_for.to_datetime().format("%Y-%m-%d %H:%M:%S UTC"),
        payload.source,
        claim.notification_id
    )
}

/// `text` without line breaks and other control characters, at most `longest` characters of it.
pub(crate) fn one_line(text: &str, longest: usize) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line: String = plain.take(longest).collect();
    if text.chars().nth(longest).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

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
