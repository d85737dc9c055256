//! Prometheus' text format, as our processes write it, taken apart. Pure.
//!
//! Input: lines `# HELP name text`, `# TYPE name type` and `name{label="value",…} number`. Output: [`Family`]s, in the
//! order of their `# TYPE` lines.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use serde::{Serialize, Serializer};

/// What has one name and one type.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Family {
    name: String,
    /// `counter`, `gauge` or `histogram`.
    #[serde(rename = "type")]
    kind: String,
    help: String,
    samples: Vec<Sample>,
}

/// One number.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Sample {
    /// The family's name; of a histogram, with `_bucket`, `_sum` or `_count` after it.
    name: String,
    labels: BTreeMap<String, String>,
    #[serde(serialize_with = "number_or_text")]
    value: f64,
}

/// JSON has no word for infinity: it is a text there, as Prometheus writes it.
fn number_or_text<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        value if value.is_finite() => serializer.serialize_f64(*value),
        value if value.is_nan() => serializer.serialize_str("NaN"),
        value => serializer.serialize_str(if *value > 0.0 { "+Inf" } else { "-Inf" }),
    }
}

/// Every family in `text`.
pub(super) fn families(text: &str) -> anyhow::Result<Vec<Family>> {
    let mut families: Vec<Family> = Vec::new();
    let mut help = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let unread = || format!("line {} of the metrics is none that is known", number + 1);
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
            help.insert(name, unescaped(text));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').with_context(unread)?;
            let help = help.remove(name).unwrap_or_default();
            families.push(Family { name: name.to_owned(), kind: kind.to_owned(), help, samples: Vec::new() });
        } else if !line.is_empty() && !line.starts_with('#') {
            let sample = sample(line).with_context(unread)?;
            families.last_mut().with_context(unread)?.samples.push(sample);
        }
    }
    Ok(families)
}

fn sample(line: &str) -> anyhow::Result<Sample> {
    let end = line.find(['{', ' ']).context("no value")?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").context("a label without a value")?;
            let close = closing_quote(after).context("a label's value without an end")?;
            labels.insert(label.trim_start_matches(',').trim().to_owned(), unescaped(&after[..close]));
            rest = &after[close + 1..];
        }
        rest = &rest[1..];
    }
    let Some(number) = rest.split_whitespace().next() else { bail!("no value") };
    Ok(Sample { name: name.to_owned(), labels, value: number.parse()? })
}

/// Where the first `"` stands that no backslash escapes.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(index, c)| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes.then_some(index)
    })
}

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => plain.push('\n'),
                Some(escaped) => plain.push(escaped),
                None => plain.push('\\'),
            },
            (c, false) => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_line_is_taken_apart() -> anyhow::Result<()> {
        let text = "# HELP up Since\\nwhen.\n# TYPE up gauge\nup 2.5\n\
                    # HELP took How \\\\ long.\n# TYPE took histogram\n\
                    took_bucket{alert_name=\"a \\\"b\\\", {c}\\\\\",le=\"+Inf\"} 3\ntook_sum{alert_name=\"\"} NaN\n\
                    # TYPE left gauge\nleft -Inf 1700000000000\n";
        let expected = json!([
            {"name": "up", "type": "gauge", "help": "Since\nwhen.", "samples": [
                {"name": "up", "labels": {}, "value": 2.5}]},
            {"name": "took", "type": "histogram", "help": "How \\ long.", "samples": [
                {"name": "took_bucket", "labels": {"alert_name": "a \"b\", {c}\\", "le": "+Inf"}, "value": 3.0},
                {"name": "took_sum", "labels": {"alert_name": ""}, "value": "NaN"}]},
            {"name": "left", "type": "gauge", "help": "", "samples": [
                {"name": "left", "labels": {}, "value": "-Inf"}]},
        ]);
        assert_eq!(serde_json::to_value(families(text)?)?, expected);
        Ok(())
    }

    #[test]
    fn what_is_no_metric_is_an_error_that_says_where() {
        for text in ["up 1", "# TYPE up gauge\nup", "# TYPE up gauge\nup{a=\"b} 1", "# TYPE up gauge\nup one"] {
            let message = families(text).unwrap_err().to_string();
            assert!(message.starts_with(&format!("line {} of the metrics", text.lines().count())), "{text}: {message}");
        }
    }
}
