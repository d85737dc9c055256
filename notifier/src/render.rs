//! What a notification says. Pure, but for the warning about a template that is of no use.
//!
//! Input: when an outcome is judged, the definition and the verdict become a [`Payload`], which the outbox keeps; when it
//! is sent, the payload and the attempt become the channel's text. Output: the webhook's JSON, and what [`email`] and
//! [`slack`] make of them for people.

mod custom;
pub mod digest;
pub mod email;
#[cfg(test)]
mod kinds;
#[cfg(test)]
pub(crate) mod samples;
pub mod slack;
pub mod webhook;
pub(crate) mod words;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlsentinel_common::alert::{AlertDefinition, Severity, SourceName};
use sqlsentinel_common::outcome::{RunError, RunStatus, Verdict};

pub use self::webhook::webhook_body;

/// What there is to tell, as the outbox keeps it: the same for every channel and every attempt.
///
/// A reader ignores keys that it does not know, so that a rolling upgrade may add some.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    /// The definition's description; empty if it has none.
    pub description: String,
    /// The data source that was asked.
    pub source: SourceName,
    /// How the run ended.
    pub status: RunStatus,
    /// The `actual_value` column, digits kept.
    #[serde(default)]
    pub actual_value: Option<Value>,
    /// The `threshold` column, digits kept.
    #[serde(default)]
    pub threshold: Option<Value>,
    /// Every other column.
    #[serde(default)]
    pub context: Map<String, Value>,
    /// Whether something was cut from the columns.
    #[serde(default)]
    pub truncated: bool,
    /// Why the run failed, if it did.
    #[serde(default)]
    pub error: Option<RunError>,
    /// How many runs in a row have failed, this one included; 0 after one that did not.
    #[serde(default)]
    pub consecutive_errors: i64,
    /// The alert's labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How bad it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Where it is written down what to do: a URL, `http` or `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
}

impl Payload {
    /// What `verdict` tells about the alert `definition`.
    pub fn new(definition: &AlertDefinition, verdict: &Verdict, consecutive_errors: i64) -> Self {
        Self {
            description: definition.description.clone(),
            source: definition.source.clone(),
            status: verdict.status,
            actual_value: verdict.actual_value.clone(),
            threshold: verdict.threshold.clone(),
            context: verdict.context.clone(),
            truncated: verdict.truncated,
            error: verdict.error.clone(),
            consecutive_errors,
            labels: definition.about.labels.clone(),
            severity: definition.about.severity,
            runbook: definition.about.runbook.clone(),
        }
    }
}
