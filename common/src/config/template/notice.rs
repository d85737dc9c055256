//! A notification as templates see it: the names that may stand between double braces.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::outcome::RunError;
use crate::timestamp::Timestamp;

/// What there is to tell. Each field is a variable of templates; what is not there is `none`.
#[derive(Clone, Debug, Serialize)]
pub struct Notice<'a> {
    /// The alert's name.
    pub alert_name: &'a str,
    /// How the run ended that caused this: `OK`, `ALERT`, `ERROR` or `NO_DATA`.
    pub status: &'a str,
    /// The news: `alert`, `repeat`, `resolved`, `error`, `error_resolved` or `no_data`.
    pub kind: &'a str,
    /// The `actual_value` column, digits kept.
    pub actual_value: Option<&'a Value>,
    /// The `threshold` column, digits kept.
    pub threshold: Option<&'a Value>,
    /// The alert's description; empty if it has none.
    pub description: &'a str,
    /// Every other column.
    pub context: &'a Map<String, Value>,
    /// The alert's labels.
    pub labels: &'a BTreeMap<String, String>,
    /// How bad it is.
    pub severity: Option<&'a str>,
    /// Where it is written down what to do.
    pub runbook: Option<&'a str>,
    /// Which of the alert's instances it is about.
    pub instance: Option<&'a str>,
    /// The data source that was asked.
    pub source: &'a str,
    /// The nominal time of the run.
    pub scheduled_for: Timestamp,
    /// The notification's id.
    pub notification_id: String,
    /// The run's id.
    pub execution_id: String,
    /// Why the run failed: `kind` and `message`.
    pub error: Option<&'a RunError>,
    /// How many runs in a row have failed, this one included.
    pub consecutive_errors: i64,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Whether an earlier attempt may have arrived.
    pub possible_duplicate: bool,
    /// Whether something was cut from the columns.
    pub truncated: bool,
    /// The channel that this one stands in for.
    pub fallback_for: Option<&'a str>,
}

/// The names of the variables, as [`Notice`] has them.
pub const VARIABLES: [&str; 21] = [
    "alert_name",
    "status",
    "kind",
    "actual_value",
    "threshold",
    "description",
    "context",
    "labels",
    "severity",
    "runbook",
    "instance",
    "source",
    "scheduled_for",
    "notification_id",
    "execution_id",
    "error",
    "consecutive_errors",
    "attempt",
    "possible_duplicate",
    "truncated",
    "fallback_for",
];
