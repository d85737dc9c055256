//! One row of an answer with several: which instance of the alert it is about, and what it says. Pure.
//!
//! Input: the row, and the columns that its alert's `instance_key` names. Output: an [`InstanceVerdict`], whose name is
//! what the state, the outbox and people know the instance by.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{RunStatus, Verdict};
use crate::alert::hex;

/// How many instances one answer may have.
pub const MAX_INSTANCES: usize = 1_000;

/// Longest name of an instance, in bytes of its JSON: so many names, with what belongs to them, fit into an outcome.
const MAX_NAME_BYTES: usize = 160;
/// How many bytes of a long name's SHA-256 it ends in.
const HASH_BYTES: usize = 8;

/// What an answer says about one instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceVerdict {
    /// Which one ([`instance_name`]); never empty.
    pub instance: String,
    /// `ALERT` or `OK`.
    pub status: RunStatus,
    /// The `actual_value` column, as faithful JSON; none if absent or NULL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual_value: Option<Value>,
    /// The `threshold` column, as faithful JSON; none if absent or NULL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Value>,
    /// Every other column of the row, the key's included.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub context: Map<String, Value>,
    /// Whether something of the row was cut to keep the outcome within its size.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

impl InstanceVerdict {
    /// What `row`, judged by itself, says about `instance`.
    pub fn new(instance: String, row: Verdict) -> Self {
        let Verdict { status, actual_value, threshold, context, truncated, .. } = row;
        Self { instance, status, actual_value, threshold, context, truncated }
    }

    /// The row as if it were the whole answer.
    pub fn verdict(&self) -> Verdict {
        Verdict {
            actual_value: self.actual_value.clone(),
            threshold: self.threshold.clone(),
            context: self.context.clone(),
            truncated: self.truncated,
            ..Verdict::bare(self.status)
        }
    }
}

/// The name of the instance that these columns tell from the others: one column's text, or `name=text,name=text`.
///
/// Different values have different names, within each type of value. A text that could be taken for something else is
/// quoted like a JSON string: the empty one, `NULL`, one with control characters or that begins with a quote, and among
/// several one with a comma or `=`. NULL itself is `NULL`. A name that is too long is cut, and ends in its hash.
pub fn instance_name(key: &[(&str, &Value)]) -> String {
    let name = match key {
        [(_, value)] => part(value, &[]),
        several => {
            let part = |(name, value): &(&str, &Value)| {
                format!("{}={}", text_part(name, &SEPARATORS), part(value, &SEPARATORS))
            };
            several.iter().map(part).collect::<Vec<_>>().join(",")
        }
    };
    shortened(name)
}

const SEPARATORS: [char; 2] = [',', '='];

fn part(value: &Value, separators: &[char]) -> String {
    match value {
        Value::Null => NULL.to_owned(),
        Value::String(text) => text_part(text, separators),
        other => text_part(&other.to_string(), separators),
    }
}

const NULL: &str = "NULL";

fn text_part(text: &str, separators: &[char]) -> String {
    let ambiguous = text.is_empty()
        || text == NULL
        || text.starts_with('"')
        || text.contains(|c: char| c.is_control() || separators.contains(&c));
    if ambiguous { quoted(text) } else { text.to_owned() }
}

/// As a JSON string, and with the control characters escaped that JSON leaves as they are.
fn quoted(text: &str) -> String {
    let json = Value::from(text).to_string();
    let mut quoted = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_control() {
            quoted += &format!("\\u{:04x}", u32::from(c));
        } else {
            quoted.push(c);
        }
    }
    quoted
}

fn shortened(name: String) -> String {
    if json_bytes(&name) <= MAX_NAME_BYTES {
        return name;
    }
    let hash = Sha256::digest(name.as_bytes());
    let suffix = format!("…#{}", hex(&hash[..HASH_BYTES]));
    let room = MAX_NAME_BYTES - suffix.len();
    let mut end = name.floor_char_boundary(room);
    while json_bytes(&name[..end]) > room {
        end = name.floor_char_boundary(end - 1);
    }
    format!("{}{suffix}", &name[..end])
}

/// Within a JSON string; control characters were made visible before.
fn json_bytes(text: &str) -> usize {
    text.len() + text.matches(['"', '\\']).count()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn one(value: &Value) -> String {
        instance_name(&[("region", value)])
    }

    #[test]
    fn a_name_is_what_people_would_write_unless_it_could_mean_something_else() {
        for (value, name) in [
            (json!("eu-1"), "eu-1"),
            (json!("a,b=c"), "a,b=c"),
            (json!(7), "7"),
            (json!(true), "true"),
            (json!(["a", 1]), "[\"a\",1]"),
            (Value::Null, "NULL"),
            (json!("NULL"), "\"NULL\""),
            (json!(""), "\"\""),
            (json!("\"x\""), "\"\\\"x\\\"\""),
            (json!("a\nb"), "\"a\\nb\""),
            (json!("a\u{7f}\u{9b}b"), "\"a\\u007f\\u009bb\""),
        ] {
            assert_eq!(one(&value), name, "{value}");
        }
        let several = instance_name(&[("a", &json!(1)), ("b", &json!("x,b=2")), ("c", &Value::Null)]);
        assert_eq!(several, "a=1,b=\"x,b=2\",c=NULL");
    }

    #[test]
    fn a_long_name_keeps_its_beginning_and_is_told_by_its_end() {
        for unit in ["x", "ü", "\"", "\\", "漢\""] {
            let long = |end: &str| one(&json!(format!("{}{end}", unit.repeat(5_000))));
            let name = long("1");
            assert!(json!(name).to_string().len() <= MAX_NAME_BYTES + 2, "{name}");
            assert!(name.contains("…#"), "{name}");
            assert_ne!(name, long("2"), "{unit}");
            assert_eq!(name, long("1"), "{unit}");
        }
        assert_eq!(one(&json!("x".repeat(MAX_NAME_BYTES))).len(), MAX_NAME_BYTES);
    }

    fn value() -> impl Strategy<Value = Value> {
        let text = "[a\",=\\\\\n]{0,4}|NULL|a=1|1";
        prop_oneof![4 => text.prop_map(Value::from), 1 => Just(Value::Null)]
    }

    proptest! {
        #[test]
        fn two_keys_have_one_name_only_if_they_are_one(
            keys in proptest::collection::vec((value(), value()), 2..40),
        ) {
            let mut names = BTreeMap::new();
            for (a, b) in &keys {
                let name = instance_name(&[("a", a), ("b", b)]);
                prop_assert!(!name.is_empty());
                let first = *names.entry(name).or_insert((a, b));
                prop_assert_eq!(first, (a, b));
            }
            let mut names = BTreeMap::new();
            for (a, _) in &keys {
                let name = instance_name(&[("a", a)]);
                prop_assert!(!name.is_empty() && !name.contains(char::is_control));
                prop_assert_eq!(*names.entry(name).or_insert(a), a);
            }
        }
    }
}
