//! What a notification says. Pure.
//!
//! Input: when an outcome is judged, the definition and the verdict become a [`Payload`], which the outbox keeps; when it
//! is sent, the payload and the attempt become the channel's text. Output: the webhook's JSON, and what [`email`] and
//! [`slack`] make of them for people.

pub mod email;
#[cfg(test)]
pub(crate) mod samples;
pub mod slack;
pub(crate) mod words;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlsentinel_common::alert::{AlertDefinition, SourceName};
use sqlsentinel_common::ids::{ExecutionId, NotificationId};
use sqlsentinel_common::outcome::{RunError, RunStatus, Verdict};
use sqlsentinel_common::store::outbox::Claim;
use sqlsentinel_common::timestamp::Timestamp;

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
        }
    }
}

/// The webhook's body. The first keys are the Python system's, in its order; the others were added here.
#[derive(Serialize)]
struct WebhookBody<'a> {
    alert_name: &'a str,
    status: RunStatus,
    description: &'a str,
    actual_value: &'a Option<Value>,
    threshold: &'a Option<Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    context: &'a Map<String, Value>,
    kind: &'a str,
    notification_id: NotificationId,
    execution_id: ExecutionId,
    scheduled_for: Timestamp,
    source: &'a SourceName,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: &'a Option<RunError>,
    consecutive_errors: i64,
    truncated: bool,
    attempt: u32,
    possible_duplicate: bool,
}

/// The JSON that a webhook sends for this attempt.
pub fn webhook_body(claim: &Claim, payload: &Payload) -> Result<String, serde_json::Error> {
    serde_json::to_string(&WebhookBody {
        alert_name: &claim.alert_name,
        status: payload.status,
        description: &payload.description,
        actual_value: &payload.actual_value,
        threshold: &payload.threshold,
        context: &payload.context,
        kind: claim.kind.as_str(),
        notification_id: claim.notification_id,
        execution_id: claim.execution_id,
        scheduled_for: claim.scheduled_for,
        source: &payload.source,
        error: &payload.error,
        consecutive_errors: payload.consecutive_errors,
        truncated: payload.truncated,
        attempt: claim.attempt,
        possible_duplicate: claim.possible_duplicate,
    })
}
