//! What a target database answered: rows of named JSON values, already within the limits on rows and cells.
//!
//! Made by [`crate::source`], judged by [`crate::verdict`]. Pure.

use serde_json::Value;
use sqlsentinel_common::alert::QueryOptions;
use sqlsentinel_common::outcome::MAX_INSTANCES;

/// Stands at the end of a text that was cut.
pub const CUT_MARK: &str = "… [cut]";

/// How deeply a value may be nested: readers of JSON have limits of their own, ours too, and an outcome wraps it.
const MAX_DEPTH: usize = 64;

/// What an answer may hold; more is cut, or left at the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows that are read. One more is looked for, to know that there are more.
    pub rows: usize,
    /// Bytes of one value's text.
    pub cell_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows: 1, cell_bytes: 64 * 1024 }
    }
}

impl Limits {
    /// Those of a query with these options: many rows, but shorter values, where each row is an instance.
    pub fn of(options: &QueryOptions) -> Self {
        if options.instance_key.is_empty() {
            Self::default()
        } else {
            Self { rows: MAX_INSTANCES, cell_bytes: 8 * 1024 }
        }
    }
}

/// One row: names and values in the query's order. A name may occur twice.
pub type Row = Vec<(String, Value)>;

/// An answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// At most [`Limits::rows`] rows.
    pub rows: Vec<Row>,
    /// Whether the database had more rows.
    pub more: bool,
    /// Whether a value was cut.
    pub truncated: bool,
}

impl Answer {
    /// Adds a row within `limits`; false if it was one too many, which is noted and nothing else.
    pub fn push(&mut self, row: Row, limits: &Limits) -> bool {
        if self.rows.len() >= limits.rows {
            self.more = true;
            return false;
        }
        let mut fit = |(name, value): (String, Value)| {
            let (value, cut) = fit(visible_nul(value), limits.cell_bytes);
            self.truncated |= cut;
            (visible_nul_in(name), value)
        };
        let row = row.into_iter().map(&mut fit).collect();
        self.rows.push(row);
        true
    }
}

/// `value` if its text has at most `limit` bytes, and as its text if it is nested too deeply; otherwise a text that is cut and marked; and whether it was cut.
pub fn fit(value: Value, limit: usize) -> (Value, bool) {
    let text = match value {
        Value::String(text) => text,
        Value::Null | Value::Bool(_) => return (value, false),
        other => match other.to_string() {
            text if text.len() > limit || is_deeper(&other, MAX_DEPTH) => text,
            _ => return (other, false),
        },
    };
    if text.len() <= limit {
        return (Value::String(text), false);
    }
    let end = text.floor_char_boundary(limit.saturating_sub(CUT_MARK.len()));
    (Value::String(format!("{}{CUT_MARK}", &text[..end])), true)
}

fn is_deeper(value: &Value, levels: usize) -> bool {
    let is_deeper = |value| levels == 0 || is_deeper(value, levels - 1);
    match value {
        Value::Array(values) => values.iter().any(is_deeper),
        Value::Object(fields) => fields.values().any(is_deeper),
        _ => false,
    }
}

/// NUL as the six characters `\u0000`: PostgreSQL's jsonb and most screens refuse the character itself.
fn visible_nul(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(visible_nul_in(text)),
        Value::Array(values) => Value::Array(values.into_iter().map(visible_nul).collect()),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, value)| (visible_nul_in(name), visible_nul(value))).collect())
        }
        other => other,
    }
}

fn visible_nul_in(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\\u0000") } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer_of(rows: impl IntoIterator<Item = Row>, limits: Limits) -> Answer {
        let mut answer = Answer::default();
        for row in rows {
            if !answer.push(row, &limits) {
                break;
            }
        }
        answer
    }

    #[test]
    fn one_row_too_many_is_noted_and_not_kept() {
        let row = || vec![("a".to_owned(), json!(1))];
        let limits = Limits { rows: 2, cell_bytes: 10 };
        let answer = answer_of([row(), row()], limits);
        assert_eq!((answer.rows.len(), answer.more), (2, false));
        let answer = answer_of([row(), row(), row()], limits);
        assert_eq!((answer.rows.len(), answer.more), (2, true));
    }

    #[test]
    fn an_alert_with_instances_has_more_rows_and_shorter_values() {
        let several = QueryOptions { instance_key: vec!["shop".to_owned()], ..QueryOptions::default() };
        assert_eq!(Limits::of(&several), Limits { rows: 1_000, cell_bytes: 8_192 });
        assert_eq!(Limits::of(&QueryOptions::default()), Limits::default());
    }

    #[test]
    fn a_cell_is_cut_between_characters_and_marked() {
        let limits = Limits { rows: 1, cell_bytes: 20 };
        for (value, expected) in [
            (json!("x".repeat(20)), json!("x".repeat(20))),
            (json!("x".repeat(21)), json!("xxxxxxxxxxx… [cut]")),
            (json!("ü".repeat(11)), json!("üüüüü… [cut]")),
            (json!([1, 2, 3]), json!([1, 2, 3])),
            (json!(["xxxxxxxxxx", "yyyyyyyyyy"]), json!("[\"xxxxxxxxx… [cut]")),
            (json!({"a": null}), json!({"a": null})),
        ] {
            let answer = answer_of([vec![("a".to_owned(), value.clone())]], limits);
            assert_eq!(answer.rows[0][0].1, expected, "{value}");
            assert_eq!(answer.truncated, value != expected, "{value}");
        }
    }

    /// An outcome that nobody can read would leave its fire without an end.
    #[test]
    fn a_value_that_is_nested_too_deeply_to_be_read_again_arrives_as_its_text() {
        let nested = |depth: usize| (0..depth).fold(json!(1), |value, _| json!([value]));
        for (depth, is_text) in [(1, false), (64, false), (65, true), (127, true)] {
            let answer = answer_of([vec![("a".to_owned(), nested(depth))]], Limits::default());
            let value = &answer.rows[0][0].1;
            let expected = if is_text { json!(nested(depth).to_string()) } else { nested(depth) };
            assert_eq!((value, answer.truncated), (&expected, false), "{depth}");
            let wrapped = json!({"verdict": {"context": {"a": value}}}).to_string();
            assert!(serde_json::from_str::<Value>(&wrapped).is_ok(), "{depth}");
        }
    }

    #[test]
    fn nul_is_made_visible_wherever_it_is() {
        let row = vec![("n\0".to_owned(), json!({"k\0": ["v\0", 1]}))];
        let answer = answer_of([row], Limits::default());
        assert_eq!(answer.rows[0], vec![("n\\u0000".to_owned(), json!({"k\\u0000": ["v\\u0000", 1]}))]);
    }
}
