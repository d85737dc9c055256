//! What the outcome transaction reads and writes, and how it is written down.

use serde_json::{Value, json};

use crate::alert::ConfigHash;
use crate::ids::ExecutionId;
use crate::messages::OutcomeMessage;
use crate::outcome::{RunStatus, Verdict};
use crate::timestamp::Timestamp;

/// A fire that this transaction has locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedFire {
    /// The fire's alert.
    pub alert_name: String,
    /// Its nominal time.
    pub scheduled_for: Timestamp,
    /// The version of the definition that it belongs to.
    pub config_hash: ConfigHash,
    /// Whether an outcome may still conclude it.
    pub progress: FireProgress,
}

/// How far a fire has come, as far as an outcome cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FireProgress {
    /// Waiting or queued: the outcome concludes it.
    Open,
    /// Given up as too late: a real outcome may still take its place, once.
    Expired,
    /// Has its final status: another outcome of it is a duplicate.
    Ended,
}

/// What caused a run, as the Python system named it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The schedule.
    Cron,
    /// A person.
    Manual,
}

impl Trigger {
    /// The name in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cron => "CRON",
            Self::Manual => "MANUAL",
        }
    }
}

/// A finished run that is to be recorded.
#[derive(Clone, Debug)]
pub struct RecordedRun<'a> {
    /// What the worker said. Which alert, time and version it belongs to is said by the fields below.
    pub outcome: &'a OutcomeMessage,
    /// The alert.
    pub alert_name: &'a str,
    /// The nominal time.
    pub scheduled_for: Timestamp,
    /// The version of the definition.
    pub config_hash: &'a ConfigHash,
    /// What caused it; a manual run has no fire.
    pub trigger: Trigger,
    /// Whether its fire had been given up as `EXPIRED`.
    pub late: bool,
}

/// What an alert or an instance is known to be in, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// All is well.
    Ok,
    /// Something is wrong, not for long enough, or not often enough in a row, to be told.
    Pending,
    /// Something is wrong.
    Alert,
}

impl Condition {
    /// The name in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => RunStatus::Ok.as_str(),
            Self::Pending => "PENDING",
            Self::Alert => RunStatus::Alert.as_str(),
        }
    }

    /// Reads the name; what the Python system may have left there beside these tells nothing.
    pub(super) fn from_stored(text: &str) -> Option<Self> {
        [Self::Ok, Self::Pending, Self::Alert]
            .into_iter()
            .find(|condition| text.eq_ignore_ascii_case(condition.as_str()))
    }
}

/// The transition table's memory of one alert. While the alert has [instances](super::InstanceState), what is stored
/// here of `condition` and what belongs to it is the worst of them all.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AlertState {
    /// Which alert.
    pub alert_name: String,
    /// What it is known to be in; none before the first `OK` or `ALERT`.
    pub condition: Option<Condition>,
    /// The nominal time of the newest outcome that was judged.
    pub last_scheduled_for: Option<Timestamp>,
    /// The execution which that outcome came from.
    pub last_execution_id: Option<ExecutionId>,
    /// That outcome.
    pub last_outcome: Option<RunStatus>,
    /// The newest execution that said what the alert is in.
    pub condition_execution_id: Option<ExecutionId>,
    /// How many `ALERT` since the last `OK`.
    pub consecutive_alerts: i64,
    /// How many `OK` since the last `ALERT`.
    pub consecutive_oks: i64,
    /// How many `ERROR` since a query was last answered.
    pub consecutive_errors: i64,
    /// How many `NO_DATA` since a query last returned a row.
    pub consecutive_no_data: i64,
    /// Whether the present run of errors was notified.
    pub error_notified: bool,
    /// The nominal time of the first `ALERT` since the last `OK`.
    pub alerting_since: Option<Timestamp>,
    /// When the present alert was told last: the nominal time of the outcome that was, or when a sweep told it.
    pub told_at: Option<Timestamp>,
    /// Whether a silence has kept back what is known: receivers believe otherwise than `condition` says.
    pub untold: bool,
    /// Whether a silence has kept back that the query has begun to return no row.
    pub no_data_untold: bool,
    /// Whether the alert is silenced. Read, never written.
    pub silenced: bool,
    /// The number of the alert's newest notification.
    pub sequence: i64,
    /// When the newest judged run began. Written, never read; none leaves what is stored.
    pub executed_at: Option<Timestamp>,
    /// When the newest judged `ALERT` began. Written, never read; none leaves what is stored.
    pub alerted_at: Option<Timestamp>,
    /// When the newest judged `OK` began. Written, never read; none leaves what is stored.
    pub ok_at: Option<Timestamp>,
}

pub(super) fn execution_record(run: &RecordedRun<'_>) -> Value {
    let (outcome, verdict) = (run.outcome, &run.outcome.verdict);
    json!({
        "id": outcome.execution_id,
        "alert_name": run.alert_name,
        "executed_at": outcome.started_at.to_sql_text(),
        "execution_duration_ms": outcome.duration_ms,
        "status": verdict.status.as_str(),
        "actual_value": verdict.actual_value.as_ref().and_then(as_double),
        "threshold": verdict.threshold.as_ref().and_then(as_double),
        "error_message": verdict.error.as_ref().map(|error| error.message.as_str()),
        "triggered_by": run.trigger.as_str(),
        // As text, like the exact values below: jsonb would rewrite the numbers in it.
        "context_data": context(verdict),
        "scheduled_for": run.scheduled_for.as_micros(),
        "config_hash": run.config_hash,
        "source": outcome.source,
        "attempt": i32::try_from(outcome.attempt).unwrap_or(i32::MAX),
        "delivery": i32::try_from(outcome.delivery).unwrap_or(i32::MAX),
        "worker": outcome.worker,
        "error_kind": verdict.error.as_ref().map(|error| error.kind.as_str()),
        "actual_value_json": verdict.actual_value.as_ref().map(Value::to_string),
        "threshold_json": verdict.threshold.as_ref().map(Value::to_string),
        "truncated": i64::from(verdict.truncated),
    })
}

/// How many instances that are in `ALERT` the history names.
const NAMED_INSTANCES: usize = 100;

/// The row's other columns; of several rows, how many there were, how many said `ALERT`, and which those are.
fn context(verdict: &Verdict) -> Option<String> {
    if verdict.instances.is_empty() {
        return (!verdict.context.is_empty()).then(|| json!(verdict.context).to_string());
    }
    let alerting = verdict.instances.iter().filter(|row| row.status == RunStatus::Alert);
    let names: Vec<&str> = alerting.map(|row| row.instance.as_str()).collect();
    let named = &names[..names.len().min(NAMED_INSTANCES)];
    Some(
        json!({ "instances": verdict.instances.len(), "alerting": names.len(), "alerting_instances": named })
            .to_string(),
    )
}

pub(super) fn state_record(state: &AlertState) -> Value {
    json!({
        "alert_name": state.alert_name,
        "current_status": state.condition.map(Condition::as_str),
        "last_scheduled_for": state.last_scheduled_for.map(Timestamp::as_micros),
        "last_execution_id": state.last_execution_id,
        "last_outcome": state.last_outcome.map(RunStatus::as_str),
        "condition_execution_id": state.condition_execution_id,
        "consecutive_alerts": state.consecutive_alerts,
        "consecutive_oks": state.consecutive_oks,
        "consecutive_errors": state.consecutive_errors,
        "consecutive_no_data": state.consecutive_no_data,
        "error_notified": i64::from(state.error_notified),
        "alerting_since": state.alerting_since.map(Timestamp::as_micros),
        "told_at": state.told_at.map(Timestamp::as_micros),
        "untold": i64::from(state.untold),
        "no_data_untold": i64::from(state.no_data_untold),
        "sequence": state.sequence,
        "last_executed_at": state.executed_at.map(Timestamp::to_sql_text),
        "last_alert_at": state.alerted_at.map(Timestamp::to_sql_text),
        "last_ok_at": state.ok_at.map(Timestamp::to_sql_text),
    })
}

/// The Python system's columns are floating point: what is no finite number is in the exact column alone.
fn as_double(value: &Value) -> Option<f64> {
    value.as_f64().filter(|number| number.is_finite())
}

pub(super) fn run_status(text: &str) -> Option<RunStatus> {
    [RunStatus::Ok, RunStatus::Alert, RunStatus::Error, RunStatus::NoData]
        .into_iter()
        .find(|status| status.as_str() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_a_double_cannot_hold_is_left_to_the_exact_column() -> Result<(), serde_json::Error> {
        for (json, double) in
            [("8500.10", Some(8500.1)), ("-0", Some(0.0)), ("1e400", None), ("\"12\"", None), ("true", None)]
        {
            assert_eq!(as_double(&serde_json::from_str(json)?), double, "{json}");
        }
        Ok(())
    }

    #[test]
    fn a_condition_is_what_is_stored_and_anything_else_is_unknown() {
        for condition in [Condition::Ok, Condition::Pending, Condition::Alert] {
            assert_eq!(Condition::from_stored(condition.as_str()), Some(condition));
        }
        assert_eq!(Condition::from_stored("alert"), Some(Condition::Alert));
        assert_eq!(Condition::from_stored("ERROR"), None);
    }
}
