//! What an answer means: the query contract, decided.
//!
//! Input: an [`Answer`], and the alert's instance key, if it has one. Output: a [`Verdict`], small enough for one message.
//! Pure.

mod instances;
mod size;

use serde_json::{Map, Value};
use sqlsentinel_common::messages::MAX_OUTCOME_BYTES;
use sqlsentinel_common::outcome::{ErrorKind, RunStatus, Verdict};

use crate::answer::{Answer, Row, fit};

/// What the message around a verdict may need: names, ids and hashes.
const ENVELOPE_BYTES: usize = 8 * 1024;
/// Longest part of a value that an error quotes, in bytes.
const QUOTED_BYTES: usize = 100;

/// Judges an answer by the query contract. The columns of `instance_key` tell its rows apart; if there are none, it is
/// one row.
pub fn judge(answer: Answer, instance_key: &[String]) -> Verdict {
    let verdict = if instance_key.is_empty() { judge_one(answer) } else { instances::judge(answer, instance_key) };
    size::within(MAX_OUTCOME_BYTES - ENVELOPE_BYTES, verdict)
}

fn judge_one(answer: Answer) -> Verdict {
    let Answer { mut rows, more, truncated, .. } = answer;
    let verdict = match (rows.pop(), rows.is_empty() && !more) {
        (None, _) => Verdict::bare(RunStatus::NoData),
        (Some(row), true) => judge_row(row),
        (Some(_), false) => Verdict::error(
            ErrorKind::Contract,
            "the query returned several rows: add LIMIT 1 or aggregate, or name the columns that tell the rows apart in \
             `instance_key`",
        ),
    };
    let truncated = truncated && verdict.error.is_none();
    Verdict { truncated, ..verdict }
}

fn judge_row(row: Row) -> Verdict {
    let (mut status, mut actual_value, mut threshold) = (None, None, None);
    let mut context = Map::new();
    for (name, value) in row {
        let slot = match name.to_ascii_lowercase().as_str() {
            "status" => &mut status,
            "actual_value" => &mut actual_value,
            "threshold" => &mut threshold,
            _ => {
                context.insert(name, value);
                continue;
            }
        };
        if slot.replace(value).is_some() {
            let message = format!("the query returned two columns called `{}`", name.to_ascii_lowercase());
            return Verdict::error(ErrorKind::Contract, message);
        }
    }
    match status_of(status, &context) {
        Ok(status) => {
            let known = |value: &Value| !value.is_null();
            Verdict {
                actual_value: actual_value.filter(known),
                threshold: threshold.filter(known),
                context,
                ..Verdict::bare(status)
            }
        }
        Err(message) => Verdict::error(ErrorKind::Contract, message),
    }
}

fn status_of(status: Option<Value>, context: &Map<String, Value>) -> Result<RunStatus, String> {
    const EXPECTED: &str = "a query returns one row with a column `status` that is ALERT or OK";
    match status {
        None => {
            let names = context.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let names = if names.is_empty() { "no other column".to_owned() } else { quoted(names) };
            Err(format!("there is no column `status`, only {names}: {EXPECTED}"))
        }
        Some(Value::Null) => Err(format!("`status` is NULL: {EXPECTED}")),
        Some(Value::String(text)) if text.trim().eq_ignore_ascii_case("ALERT") => Ok(RunStatus::Alert),
        Some(Value::String(text)) if text.trim().eq_ignore_ascii_case("OK") => Ok(RunStatus::Ok),
        Some(other) => Err(format!("`status` is {}: {EXPECTED}", quoted(other.to_string()))),
    }
}

fn quoted(text: String) -> String {
    match fit(Value::String(text), QUOTED_BYTES) {
        (Value::String(text), _) => text,
        (other, _) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(columns: &[(&str, Value)]) -> Row {
        columns.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    fn judged(columns: &[(&str, Value)]) -> Verdict {
        judge(Answer { rows: vec![row(columns)], ..Answer::default() }, &[])
    }

    #[test]
    fn a_row_with_a_status_is_judged_by_it_in_any_case() {
        for (name, status, expected) in [
            ("status", "ALERT", RunStatus::Alert),
            ("STATUS", "alert", RunStatus::Alert),
            ("Status", " Alert\n", RunStatus::Alert),
            ("status", "OK", RunStatus::Ok),
            ("status", "  ok  ", RunStatus::Ok),
        ] {
            assert_eq!(judged(&[(name, json!(status))]), Verdict::bare(expected), "{name} {status:?}");
        }
    }

    #[test]
    fn values_keep_their_digits_and_everything_else_is_context() -> Result<(), serde_json::Error> {
        let precise: Value = serde_json::from_str("8500.000000000000000000001")?;
        let verdict = judged(&[
            ("status", json!("ALERT")),
            ("Actual_Value", precise.clone()),
            ("THRESHOLD", json!("ten")),
            ("Region", json!("eu")),
            ("since", Value::Null),
        ]);
        assert_eq!(verdict.status, RunStatus::Alert);
        assert_eq!(verdict.actual_value, Some(precise));
        assert_eq!(verdict.threshold, Some(json!("ten")));
        assert_eq!(Value::Object(verdict.context.clone()), json!({"Region": "eu", "since": null}));
        assert_eq!((verdict.truncated, verdict.error), (false, None));
        Ok(())
    }

    #[test]
    fn null_values_are_absent_values() {
        let verdict = judged(&[("status", json!("OK")), ("actual_value", Value::Null), ("threshold", Value::Null)]);
        assert_eq!(verdict, Verdict::bare(RunStatus::Ok));
    }

    #[test]
    fn no_row_is_no_data() {
        assert_eq!(judge(Answer::default(), &[]), Verdict::bare(RunStatus::NoData));
    }

    #[test]
    fn what_breaks_the_contract_is_an_error_that_says_what_was_found() {
        for (columns, said) in [
            (vec![], "no column `status`, only no other column"),
            (vec![("count", json!(1)), ("state", json!("OK"))], "no column `status`, only `count`, `state`"),
            (vec![("status", Value::Null)], "`status` is NULL"),
            (vec![("status", json!("WARN"))], "`status` is \"WARN\""),
            (vec![("status", json!(""))], "`status` is \"\""),
            (vec![("status", json!(1))], "`status` is 1:"),
            (vec![("status", json!(true))], "`status` is true"),
            (vec![("status", json!("OK")), ("STATUS", json!("ALERT"))], "two columns called `status`"),
            (
                vec![("status", json!("OK")), ("threshold", json!(1)), ("Threshold", json!(2))],
                "two columns called `threshold`",
            ),
        ] {
            let verdict = judged(&columns);
            assert_eq!(verdict.status, RunStatus::Error, "{columns:?}");
            let error =
                verdict.error.map(|error| (error.kind, error.message)).unwrap_or((ErrorKind::Query, String::new()));
            assert!(error.0 == ErrorKind::Contract && error.1.contains(said), "{columns:?}: {error:?}");
        }
    }

    #[test]
    fn an_error_quotes_only_the_beginning_of_a_value() {
        let message =
            judged(&[("status", json!("x".repeat(5_000)))]).error.map(|error| error.message).unwrap_or_default();
        assert!(message.contains("[cut]") && message.len() < 400, "{message}");
    }

    #[test]
    fn several_rows_are_refused_whether_they_were_read_or_only_seen() {
        let one = row(&[("status", json!("OK"))]);
        for answer in [
            Answer { rows: vec![one.clone()], more: true, truncated: true, ..Answer::default() },
            Answer { rows: vec![one.clone(), one.clone()], ..Answer::default() },
        ] {
            let verdict = judge(answer, &[]);
            assert_eq!(verdict.status, RunStatus::Error);
            assert!(!verdict.truncated);
            let message = verdict.error.map(|error| error.message).unwrap_or_default();
            assert!(message.contains("add LIMIT 1 or aggregate") && message.contains("`instance_key`"), "{message}");
        }
    }

    #[test]
    fn a_cut_cell_marks_the_verdict() {
        let rows = vec![row(&[("status", json!("OK"))])];
        assert!(judge(Answer { rows, truncated: true, ..Answer::default() }, &[]).truncated);
    }

    #[test]
    fn an_outcome_never_exceeds_its_size_and_keeps_its_short_values() {
        let text = |bytes: usize| json!("\u{1}".repeat(bytes));
        let names = (0..2_000).map(|n| format!("column_{n:04}")).collect::<Vec<_>>();
        let long = "n".repeat(300_000);
        for columns in [
            vec![("a", text(60_000)), ("b", text(60_000)), ("c", text(60_000)), ("short", json!(7))],
            names.iter().map(|name| (name.as_str(), text(1_000))).chain([("short", json!(7))]).collect(),
            vec![("short", json!(7)), (long.as_str(), json!(1))],
        ] {
            let mut columns = columns;
            columns.insert(0, ("status", json!("ALERT")));
            columns.push(("actual_value", text(60_000)));
            let verdict = judged(&columns);
            assert!(json!(verdict).to_string().len() <= MAX_OUTCOME_BYTES - ENVELOPE_BYTES);
            assert_eq!((verdict.status, verdict.truncated), (RunStatus::Alert, true));
        }
        let verdict = judged(&[("status", json!("OK")), ("a", text(60_000)), ("b", text(60_000)), ("short", json!(7))]);
        assert_eq!(verdict.context.get("short"), Some(&json!(7)));
    }
}
