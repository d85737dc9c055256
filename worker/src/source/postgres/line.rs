//! A row as PostgreSQL writes it: one JSON object. Pure.
//!
//! PostgreSQL takes more for JSON than its readers do: half a surrogate pair, any depth, any exponent. A row with such
//! a value is taken apart by hand, and the value arrives as its text.

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::answer::Row;

/// The fields of a JSON object in their order, doubles included; none if it is no object at all.
pub(super) fn columns(line: &str) -> Option<Row> {
    parsed(line).ok().or_else(|| apart(line))
}

fn parsed(line: &str) -> Result<Row, serde_json::Error> {
    struct Columns;
    impl<'de> Visitor<'de> for Columns {
        type Value = Row;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a row as a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Row, A::Error> {
            let mut row = Row::new();
            while let Some(field) = fields.next_entry()? {
                row.push(field);
            }
            Ok(row)
        }
    }
    serde_json::Deserializer::from_str(line).deserialize_map(Columns)
}

/// The same, where a value that cannot be read is a text.
fn apart(line: &str) -> Option<Row> {
    let mut rest = line.trim().strip_prefix('{')?.strip_suffix('}')?.trim_start();
    let mut row = Row::new();
    while !rest.is_empty() {
        let (name, after) = rest.split_at(string_end(rest)?);
        let after = after.trim_start().strip_prefix(':')?;
        let (value, after) = after.split_at(value_end(after)?);
        row.push((serde_json::from_str(name).ok()?, read(value.trim())));
        rest = after.strip_prefix(',').unwrap_or(after).trim_start();
    }
    Some(row)
}

fn read(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|_| Value::String(json.to_owned()))
}

/// Where the string that `text` begins with has ended.
fn string_end(text: &str) -> Option<usize> {
    let mut bytes = text.bytes().enumerate();
    if bytes.next()?.1 != b'"' {
        return None;
    }
    while let Some((index, byte)) = bytes.next() {
        match byte {
            b'\\' => _ = bytes.next(),
            b'"' => return Some(index + 1),
            _ => {}
        }
    }
    None
}

/// Where the value that `text` begins with ends: at a comma outside every bracket, or with the text.
fn value_end(text: &str) -> Option<usize> {
    let (mut depth, mut index) = (0_usize, 0);
    while let Some(byte) = text.as_bytes().get(index) {
        match byte {
            b'"' => index += string_end(&text[index..])? - 1,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.checked_sub(1)?,
            b',' if depth == 0 => break,
            _ => {}
        }
        index += 1;
    }
    Some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> Option<Vec<String>> {
        Some(columns(line)?.iter().map(|(name, value)| format!("{name}={value}")).collect())
    }

    #[test]
    fn a_row_keeps_the_order_the_doubles_and_the_digits_of_its_columns() {
        let row = shown(r#"{"b":1.10,"a":123456789012345678901234567890.5,"b":null}"#);
        assert_eq!(row, Some(["b=1.10", "a=123456789012345678901234567890.5", "b=null"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn a_value_that_cannot_be_read_is_its_text_and_its_neighbours_are_what_they_are() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        let line = format!(
            r#"{{"a":1.10,"é \",{{":"\ud800","b":{{"k":["\udc00,]", 1]}},"c":[{{"x":"]}},"}},null],"deep": {deep},"a":"last\\"}}"#
        );
        let expected = [
            "a=1.10".to_owned(),
            r#"é ",{="\"\\ud800\"""#.to_owned(),
            format!("b={}", Value::from(r#"{"k":["\udc00,]", 1]}"#)),
            r#"c=[{"x":"]},"},null]"#.to_owned(),
            format!("deep={}", Value::from(deep)),
            r#"a="last\\""#.to_owned(),
        ];
        assert_eq!(shown(&line), Some(expected.to_vec()));
        assert_eq!(shown(r#"{"only":"\ud800"}"#), Some(vec![r#"only="\"\\ud800\"""#.to_owned()]));
    }

    #[test]
    fn what_is_no_row_is_none() {
        for line in ["", "[]", "{", r#"{"a"}"#, r#"{"a":"open}"#, r#"{"a":]}"#, r#"{a:1}"#, r#"{"\ud800":1}"#] {
            assert_eq!(columns(line), None, "{line}");
        }
        assert_eq!(columns("{}"), Some(Row::new()));
    }
}
