//! What a target database answered: rows of named JSON values, already within the limits on rows, cells and all of it.
//!
//! Made by [`crate::source`], judged by [`crate::verdict`]. Pure.

use serde_json::Value;
use sqlsentinel_common::alert::QueryOptions;
use sqlsentinel_common::outcome::MAX_INSTANCES;

/// Stands at the end of a text that was cut.
pub const CUT_MARK: &str = "… [cut]";

/// How deeply a value may be nested: readers of JSON have limits of their own, ours too, and an outcome wraps it.
const MAX_DEPTH: usize = 64;

/// How much of memory an answer may take, in bytes: so often as a worker has queries at once, that is what it may need. An
/// outcome has room for less, so nothing that could be told is lost.
pub const MAX_BYTES: usize = 16 * 1024 * 1024;

/// What an answer may hold; more is cut, or left at the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows that are read. One more is looked for, to know that there are more.
    pub rows: usize,
    /// Bytes of one value's text.
    pub cell_bytes: usize,
    /// Bytes of memory of all rows together. Of the first row, values are cut until it fits; others are not read.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows: 1, cell_bytes: 64 * 1024, bytes: MAX_BYTES }
    }
}

impl Limits {
    /// Those of a query with these options: many rows, but shorter values, where each row is an instance.
    pub fn of(options: &QueryOptions) -> Self {
        if options.instance_key.is_empty() {
            Self::default()
        } else {
            Self { rows: MAX_INSTANCES, cell_bytes: 8 * 1024, ..Self::default() }
        }
    }

    /// The same, with values so short that a row of so many columns has no more than all rows may have.
    pub fn for_columns(self, columns: usize) -> Self {
        Self { cell_bytes: self.cell_bytes.min(self.bytes / columns.max(1)), ..self }
    }
}

/// One row: names and values in the query's order. A name may occur twice.
pub type Row = Vec<(String, Value)>;

/// An answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// At most [`Limits::rows`] rows, of at most [`Limits::bytes`].
    pub rows: Vec<Row>,
    /// What those take of memory, in bytes.
    pub bytes: usize,
    /// Whether the database had more rows.
    pub more: bool,
    /// Whether there are more because those have too many bytes, not because they are too many.
    pub too_large: bool,
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
        let (limits, mut bytes, mut truncated) = (limits.for_columns(row.len()), 0, false);
        let mut fit = |(name, value): (String, Value)| {
            let (mut value, cut) = fit(visible_nul(value), limits.cell_bytes);
            let name = visible_nul_in(name);
            truncated |= cut;
            if bytes + held(&value) > limits.bytes && (value.is_array() || value.is_object()) {
                value = Value::String(value.to_string());
            }
            bytes += name.len() + size_of::<String>() + held(&value);
            (name, value)
        };
        let row = row.into_iter().map(&mut fit).collect();
        if !self.rows.is_empty() && self.bytes + bytes > limits.bytes {
            (self.more, self.too_large) = (true, true);
            return false;
        }
        self.rows.push(row);
        self.bytes += bytes;
        self.truncated |= truncated;
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

/// What `value` takes of memory, in bytes: short texts alone are many times as long in an array.
fn held(value: &Value) -> usize {
    let inside = match value {
        Value::Null | Value::Bool(_) => 0,
        Value::Number(number) => number.as_str().len(),
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(held).sum(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| size_of::<String>() + name.len() + held(value)).sum()
        }
    };
    size_of::<Value>() + inside
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
        let limits = Limits { rows: 2, cell_bytes: 10, ..Limits::default() };
        let answer = answer_of([row(), row()], limits);
        assert_eq!((answer.rows.len(), answer.more), (2, false));
        let answer = answer_of([row(), row(), row()], limits);
        assert_eq!((answer.rows.len(), answer.more), (2, true));
    }

    #[test]
    fn an_alert_with_instances_has_more_rows_and_shorter_values() {
        let several = QueryOptions { instance_key: vec!["shop".to_owned()], ..QueryOptions::default() };
        assert_eq!(Limits::of(&several), Limits { rows: 1_000, cell_bytes: 8_192, bytes: MAX_BYTES });
        assert_eq!(Limits::of(&QueryOptions::default()), Limits::default());
    }

    #[test]
    fn a_cell_is_cut_between_characters_and_marked() {
        let limits = Limits { rows: 1, cell_bytes: 20, ..Limits::default() };
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

    #[test]
    fn rows_are_taken_until_they_have_too_many_bytes() {
        let row = |text: usize| vec![("a".to_owned(), json!("x".repeat(text)))];
        let limits = Limits { rows: 1_000, cell_bytes: 4_096, bytes: 64 * 1024 };
        let answer = answer_of((0..10).map(|_| row(4_096)), limits);
        assert_eq!((answer.rows.len(), answer.more, answer.too_large), (10, false, false));
        for answer in
            [answer_of((0..1_000).map(|_| row(4_096)), limits), answer_of((0..1_001).map(|_| row(100)), limits)]
        {
            assert!(answer.more && answer.too_large && answer.rows.len() > 10, "{}", answer.rows.len());
            let text: usize = answer.rows.iter().flatten().filter_map(|(_, value)| value.as_str()).map(str::len).sum();
            assert!(text < answer.bytes && answer.bytes <= limits.bytes, "{text} {}", answer.bytes);
        }
        // So many that both are exceeded: what is reached first is said.
        let answer = answer_of((0..1_001).map(|_| row(1)), Limits { bytes: MAX_BYTES, ..limits });
        assert_eq!((answer.rows.len(), answer.more, answer.too_large), (1_000, true, false));
    }

    #[test]
    fn one_row_of_very_many_columns_has_shorter_values_and_what_is_short_stays() {
        let limits = Limits::default();
        let long = (0..4_000).map(|number| (format!("c{number}"), json!("x".repeat(limits.cell_bytes))));
        let row: Row = long.chain([("status".to_owned(), json!("OK"))]).collect();
        let answer = answer_of([row], limits);
        assert_eq!((answer.rows.len(), answer.more, answer.truncated), (1, false, true));
        assert_eq!(answer.rows[0].last(), Some(&("status".to_owned(), json!("OK"))));
        assert!(answer.bytes < limits.bytes + 4_001 * 100, "{}", answer.bytes);
        let few = answer_of([vec![("a".to_owned(), json!("x".repeat(limits.cell_bytes)))]], limits);
        assert!(!few.truncated);
    }

    #[test]
    fn values_that_take_far_more_memory_than_their_text_is_long_arrive_as_their_text_once_there_are_too_many() {
        let numbers = Value::Array(vec![json!(1); 30_000]);
        let row = (0..100).map(|number| (format!("c{number}"), numbers.clone())).collect();
        let answer = answer_of([row], Limits::default());
        assert_eq!((&answer.rows[0][0].1, &answer.rows[0][99].1), (&numbers, &json!(numbers.to_string())));
        assert!(answer.bytes < 2 * MAX_BYTES && !answer.truncated, "{}", answer.bytes);
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
