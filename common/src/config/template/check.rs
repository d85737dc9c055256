//! Whether a template gives a text for every kind of news, tried with samples before there is any.
//!
//! Input: a template. Output: what is wrong with it. Which columns a query returns nobody knows here, so a sample has
//! every column, of whatever type the template can use. Only where no row was returned, there is none.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::ErrorKind;
use minijinja::value::{Enumerator, Object, Value};
use serde_json::{Map, json};

use super::engine::{Compiled, Engine, Escape, Failure};
use super::notice::{Notice, VARIABLES};
use super::values::Numbers;
use super::{TemplateError, variables};
use crate::config::keys;
use crate::outcome::{ErrorKind as RunErrorKind, RunError, RunStatus};
use crate::store::outbox::NoticeKind;
use crate::timestamp::Timestamp;

/// Holds what is markup or syntax somewhere.
const SAMPLE: &str = "\"EU\" & <West>\n\\2";
/// Columns that a loop finds.
const COLUMNS: &[&str] = &["orders", "region"];

/// A mapping that has every key.
#[derive(Clone, Copy, Debug)]
enum Anything {
    Texts,
    Numbers,
    /// Of mappings, so many deep.
    Mappings(u8),
}

impl Object for Anything {
    fn get_value(self: &Arc<Self>, _: &Value) -> Option<Value> {
        Some(match **self {
            Self::Texts | Self::Mappings(0) => Value::from(SAMPLE),
            Self::Numbers => Value::from(42.5),
            Self::Mappings(depth) => Value::from_object(Self::Mappings(depth - 1)),
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(COLUMNS)
    }
}

/// What the template `source` gives for samples of all kinds of news, or what is wrong with it.
pub(super) fn try_out(source: &str, escape: Escape) -> Result<Vec<String>, TemplateError> {
    let mut numbers = Numbers::default();
    let samples = NoticeKind::ALL.map(|kind| (kind, sample(kind, &mut numbers)));
    let engine = Engine::new(escape, numbers);
    let template = engine.read(source).map_err(|failure| TemplateError::Unreadable(failure.in_full()))?;
    let names = template.names();
    if let Some(unknown) = names.iter().find(|name| !VARIABLES.contains(&name.as_str())) {
        return Err(TemplateError::UnknownVariable(unknown.clone(), keys::suggestion(unknown, &VARIABLES)));
    }
    let guesses = names.iter().any(|name| name == "context");
    let mut texts = Vec::new();
    for (kind, values) in samples {
        match try_kind(&template, kind, &values, guesses) {
            Ok(text) => texts.extend(text),
            Err(failure) => return Err(TemplateError::Unusable { kind: kind.as_str(), reason: failure.in_full() }),
        }
    }
    Ok(texts)
}

/// None if only a real row can tell.
fn try_kind(
    template: &Compiled<'_, '_>,
    kind: NoticeKind,
    values: &BTreeMap<String, Value>,
    guesses: bool,
) -> Result<Option<String>, Failure> {
    let has_row = has_row(kind);
    let shapes: &[Anything] = match (has_row, guesses) {
        (true, true) => &[Anything::Texts, Anything::Numbers, Anything::Mappings(3)],
        _ => &[Anything::Texts],
    };
    let mut first = None;
    for shape in shapes {
        let mut values = values.clone();
        values.insert("labels".to_owned(), Value::from_object(Anything::Texts));
        if has_row {
            values.insert("context".to_owned(), Value::from_object(*shape));
        }
        match template.render(Value::from_pairs(values)) {
            Ok(text) => return Ok(Some(text)),
            Err(failure) => _ = first.get_or_insert(failure),
        }
    }
    match first {
        Some(failure) if has_row && guesses && failure.kind == ErrorKind::InvalidOperation => Ok(None),
        Some(failure) => Err(failure),
        None => Ok(None),
    }
}

fn has_row(kind: NoticeKind) -> bool {
    !matches!(kind, NoticeKind::Error | NoticeKind::NoData)
}

fn sample(kind: NoticeKind, numbers: &mut Numbers) -> BTreeMap<String, Value> {
    let (actual_value, threshold) = (json!(8500.5), json!(10_000));
    let error =
        RunError { kind: RunErrorKind::Timeout, message: "database `default`: no answer within 5 s".to_owned() };
    let status = match kind {
        NoticeKind::Alert | NoticeKind::Repeat => RunStatus::Alert,
        NoticeKind::Resolved | NoticeKind::ErrorResolved => RunStatus::Ok,
        NoticeKind::Error => RunStatus::Error,
        NoticeKind::NoData => RunStatus::NoData,
    };
    let has_row = has_row(kind);
    let (context, labels) = (Map::new(), BTreeMap::new());
    let notice = Notice {
        alert_name: SAMPLE,
        status: status.as_str(),
        kind: kind.as_str(),
        actual_value: has_row.then_some(&actual_value),
        threshold: has_row.then_some(&threshold),
        description: SAMPLE,
        context: &context,
        labels: &labels,
        severity: Some("warning"),
        runbook: Some("https://example.com/runbook"),
        instance: Some(SAMPLE),
        source: "default",
        scheduled_for: Timestamp::from_micros(1_767_225_660_000_000),
        notification_id: "04440625-1cee-569a-85fa-71b910a8a865".to_owned(),
        execution_id: "cd6a4c67-f502-5b84-8250-f6373da36adb".to_owned(),
        error: (kind == NoticeKind::Error).then_some(&error),
        consecutive_errors: if kind == NoticeKind::Error { 3 } else { 0 },
        attempt: 1,
        possible_duplicate: false,
        truncated: false,
        fallback_for: Some("pager"),
    };
    variables(&notice, numbers)
}
