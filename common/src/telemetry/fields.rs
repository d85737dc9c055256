//! The fields of an event and of its spans, collected as JSON values: numbers stay numbers.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Debug;

use serde::{Serialize, Serializer};
use serde_json::{Number, Value};
use tracing::field::{Field, Visit};

/// Fields in the order they were recorded; a later value replaces an earlier one of the same name.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    /// Adds the fields of `other`.
    pub(super) fn extend(&mut self, other: &Self) {
        for (name, value) in &other.0 {
            self.set(name, value.clone());
        }
    }

    /// Removes what an event calls its message.
    pub(super) fn take_message(&mut self) -> Cow<'static, str> {
        match self.take("message") {
            Some(Value::String(message)) => message.into(),
            Some(other) => other.to_string().into(),
            None => "".into(),
        }
    }

    /// Removes the mark that makes an ERROR a CRITICAL.
    pub(super) fn take_critical(&mut self) -> bool {
        self.take("critical") == Some(Value::Bool(true))
    }

    /// Each name with its value.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let index = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.remove(index).1)
    }

    fn set(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // NaN and infinity have no JSON form; as text they can still be read.
        let number = Number::from_f64(value).map(Value::Number);
        self.set(field.name(), number.unwrap_or_else(|| value.to_string().into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), value.into());
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.set(field.name(), Number::from_i128(value).map_or(Value::Null, Value::Number));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.set(field.name(), Number::from_u128(value).map_or(Value::Null, Value::Number));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let causes = std::iter::successors(Some(value), |&error| error.source()).map(ToString::to_string);
        self.set(field.name(), causes.collect::<Vec<_>>().join(": ").into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.set(field.name(), format!("{value:?}").into());
    }
}
