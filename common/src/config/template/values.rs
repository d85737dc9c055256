//! Values of a notification in templates, and templates' values as text. Numbers keep their digits.
//!
//! Templates calculate and compare with floats, which hold 17 digits and no trailing zero. So a number of a row is a
//! float there, and [`Numbers`] remembers how it was written, for the moment when it is shown.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind, State};
use serde_json::Value as Json;

/// How deep a value may be nested that is shown as JSON.
const DEEPEST: usize = 64;
/// How many bytes of a text cost as much as one instruction.
const BYTES_PER_FUEL: usize = 64;

/// How the numbers of a notification are written, by the floats that stand for them.
#[derive(Debug, Default)]
pub(super) struct Numbers(HashMap<u64, String>);

impl Numbers {
    /// `json` for a template. Numbers that a float cannot tell apart, or cannot hold, are texts: their digits are
    /// worth more than calculating with them.
    pub(super) fn value(&mut self, json: &Json) -> Value {
        match json {
            Json::Null => Value::from(()),
            Json::Bool(value) => Value::from(*value),
            Json::Number(number) => self.number(number.to_string()),
            Json::String(text) => Value::from(text.as_str()),
            Json::Array(items) => Value::from(items.iter().map(|item| self.value(item)).collect::<Vec<_>>()),
            Json::Object(map) => Value::from_pairs(map.iter().map(|(key, item)| (key.as_str(), self.value(item)))),
        }
    }

    fn number(&mut self, text: String) -> Value {
        if let Ok(integer) = text.parse::<i128>()
            && integer.to_string() == text
        {
            return i64::try_from(integer).map_or_else(|_| Value::from(integer), Value::from);
        }
        let Some(float) = text.parse::<f64>().ok().filter(|float| float.is_finite()) else { return Value::from(text) };
        match self.0.entry(float.to_bits()) {
            Entry::Vacant(entry) => {
                entry.insert(text);
                Value::from(float)
            }
            Entry::Occupied(entry) if normal(entry.get()) == normal(&text) => Value::from(float),
            Entry::Occupied(_) => Value::from(text),
        }
    }

    /// How a float is written; none if `value` is none.
    fn float(&self, value: &Value) -> Option<String> {
        let float = f64::try_from(value.clone()).ok().filter(|_| value.is_number() && !value.is_integer())?;
        Some(self.0.get(&float.to_bits()).cloned().unwrap_or_else(|| value.to_string()))
    }

    /// `value` as a message shows it: nothing for none, lists and mappings as JSON.
    pub(super) fn text(&self, state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
        Ok(match value.kind() {
            ValueKind::Undefined | ValueKind::None => String::new(),
            ValueKind::Bool => value.is_true().to_string(),
            ValueKind::Number => self.float(value).unwrap_or_else(|| value.to_string()),
            ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => self.json(state, value, 0)?.to_string(),
            _ => value.to_string(),
        })
    }

    /// `value` as JSON.
    pub(super) fn to_json(&self, state: &State<'_, '_>, value: &Value) -> Result<Json, Error> {
        self.json(state, value, 0)
    }

    fn json(&self, state: &State<'_, '_>, value: &Value, depth: usize) -> Result<Json, Error> {
        // A list may hold the same long text many times over.
        let bytes = value.as_str().map_or(0, str::len);
        state.consume_fuel(u64::try_from(1 + bytes / BYTES_PER_FUEL).unwrap_or(u64::MAX))?;
        if depth > DEEPEST {
            return Err(Error::new(ErrorKind::InvalidOperation, "the value is nested too deeply"));
        }
        Ok(match value.kind() {
            ValueKind::Undefined | ValueKind::None => Json::Null,
            ValueKind::Bool => Json::Bool(value.is_true()),
            ValueKind::Number => {
                let text = self.float(value).unwrap_or_else(|| value.to_string());
                // Infinity and its like are no JSON.
                text.parse::<serde_json::Number>().map_or(Json::Null, Json::Number)
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.checked().map(|item| self.json(state, &item?, depth + 1));
                Json::Array(items.collect::<Result<_, Error>>()?)
            }
            ValueKind::Map => {
                let pair = |key: Result<Value, Error>| {
                    let key = key?;
                    Ok((key.to_string(), self.json(state, &value.get_item(&key)?, depth + 1)?))
                };
                Json::Object(value.try_iter()?.checked().map(pair).collect::<Result<_, Error>>()?)
            }
            ValueKind::Invalid => return Err(Error::new(ErrorKind::InvalidOperation, "the value cannot be used")),
            _ => Json::String(value.to_string()),
        })
    }
}

/// A number's sign, digits without zeros around them, and the power of ten of the last digit: the same for `1e1`, `10`
/// and `10.0`.
fn normal(text: &str) -> (bool, String, i64) {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (digits, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    let kept = all.trim_end_matches('0');
    let places = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    // A float's power fits; what does not never came here.
    let power = power.parse().unwrap_or(0_i64);
    let power = power.saturating_add(places(all.len() - kept.len())).saturating_sub(places(fraction.len()));
    let kept = kept.trim_start_matches('0');
    (negative, kept.to_owned(), if kept.is_empty() { 0 } else { power })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_is_known_in_every_spelling() {
        for same in ["10", "10.0", "1e1", "0.1E+2", "10.000", "100e-1"] {
            assert_eq!(normal(same), normal("10"), "{same}");
        }
        for other in ["-10", "1", "10.01", "100"] {
            assert_ne!(normal(other), normal("10"), "{other}");
        }
        assert_eq!(normal("0.00"), normal("0e5"));
    }

    #[test]
    fn numbers_that_floats_confuse_keep_their_digits_as_texts() {
        let mut numbers = Numbers::default();
        let mut value = |text: &str| numbers.value(&serde_json::from_str(text).unwrap());
        let (first, same, other) = (
            value("1234567890123456789012345678901234567890.5"),
            value("1234567890123456789012345678901234567890.50"),
            value("1234567890123456789012345678901234567890.6"),
        );
        assert!(first.is_number() && first == same);
        assert_eq!(other.as_str(), Some("1234567890123456789012345678901234567890.6"));
        assert_eq!(value("1e400").as_str(), Some("1e+400"));
        assert!(value("170141183460469231731687303715884105727").is_integer());
    }
}
