//! The SQL of the outcome transaction: what a notifier reads and writes when runs have ended.
//!
//! Input: the ids in a batch of outcomes, or the alerts that a sweep has found, then what the notifier judged. Output:
//! fires concluded, runs recorded, states moved and notifications queued, all in one [`OutcomeTx`], with a fixed number
//! of statements however large the batch is.
//!
//! Invariant 3 (atomic): a state and its notifications are written by the same transaction, and by no other road.
//! Locks are taken in one order, fires by id, then states by alert, then instances by alert and name, so that two
//! notifiers wait and never deadlock.

mod instances;
mod records;
mod untold;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row};

pub use self::instances::{InstanceState, Instances};
pub use self::records::{AlertState, Condition, FireProgress, LockedFire, RecordedRun, Trigger};
use self::records::{execution_record, run_status, state_record};
pub use self::untold::LastWord;
use super::outbox::{NewNotification, NotificationStatus};
use super::rollback::MAY_HAVE_BEEN_TOLD;
use super::silences::silenced;
use super::{Dialect, Store, StoreError, Tx};
use crate::alert::{AlertDefinition, ConfigHash};
use crate::ids::ExecutionId;
use crate::timestamp::Timestamp;

/// A transaction that turns outcomes into history, states and notifications. Nothing of it holds until [`Self::commit`].
#[derive(Debug)]
pub struct OutcomeTx {
    tx: Tx,
    dialect: Dialect,
}

impl Store {
    /// Begins the transaction of one batch of outcomes.
    pub async fn begin_outcomes(&self) -> Result<OutcomeTx, StoreError> {
        Ok(OutcomeTx { tx: self.begin().await?, dialect: self.dialect })
    }
}

impl OutcomeTx {
    /// Locks the fires of `executions`, in the order of their ids; one that has no fire is not in the result.
    pub async fn lock_fires(
        &mut self,
        executions: &BTreeSet<ExecutionId>,
    ) -> Result<BTreeMap<ExecutionId, LockedFire>, StoreError> {
        let sql = format!(
            "SELECT execution_id, alert_name, scheduled_for, config_hash, status FROM sqlsentinel_fires \
             WHERE execution_id {} ORDER BY execution_id{}",
            self.in_list(),
            self.dialect.lock("sqlsentinel_fires")
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(json!(executions).to_string()).fetch_all(&mut *self.tx).await?;
        rows.iter()
            .map(|row| {
                let (id, status): (String, String) = (row.try_get(0)?, row.try_get(4)?);
                let fire = LockedFire {
                    alert_name: row.try_get(1)?,
                    scheduled_for: Timestamp::from_micros(row.try_get(2)?),
                    config_hash: ConfigHash::from_stored(row.try_get(3)?),
                    progress: match status.as_str() {
                        "WAITING" | "QUEUED" => FireProgress::Open,
                        "EXPIRED" => FireProgress::Expired,
                        _ => FireProgress::Ended,
                    },
                };
                Ok((id.parse().map_err(StoreError::corrupt)?, fire))
            })
            .collect()
    }

    /// The JSON of these versions; one that is not stored is not in the result.
    pub async fn definitions(
        &mut self,
        hashes: &BTreeSet<&ConfigHash>,
    ) -> Result<Vec<(ConfigHash, String)>, StoreError> {
        let sql =
            format!("SELECT config_hash, definition FROM sqlsentinel_definitions WHERE config_hash {}", self.in_list());
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(json!(hashes).to_string()).fetch_all(&mut *self.tx).await?;
        rows.iter().map(|row| Ok((ConfigHash::from_stored(row.try_get(0)?), row.try_get(1)?))).collect()
    }

    /// Makes sure that a version is stored: one that no coordinator has adopted may be run by hand.
    pub async fn ensure_definition(
        &mut self,
        definition: &AlertDefinition,
        hash: &ConfigHash,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO sqlsentinel_definitions (config_hash, alert_name, definition) VALUES ($1, $2, $3) \
             ON CONFLICT (config_hash) DO NOTHING",
        )
        .bind(hash.as_str().to_owned())
        .bind(definition.name.clone())
        .bind(definition.canonical_json().map_err(StoreError::corrupt)?)
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Locks the states of `alerts`, in the order of their names; an alert that had none has one now.
    pub async fn lock_states(&mut self, alerts: &BTreeSet<&str>) -> Result<BTreeMap<String, AlertState>, StoreError> {
        let names = json!(alerts).to_string();
        // Every column that the Python system declared NOT NULL is named: its own tables have no defaults.
        let ensure = format!(
            "INSERT INTO sqlsentinel_state \
             (alert_name, consecutive_alerts, consecutive_oks, escalation_count, notification_failures, updated_at) \
             SELECT value, 0, 0, 0, 0, {} FROM {} WHERE TRUE ORDER BY value ON CONFLICT (alert_name) DO NOTHING",
            self.now_as_datetime(),
            self.dialect.pick("jsonb_array_elements_text($1::jsonb) AS n(value)", "json_each($1)"),
        );
        sqlx::query(AssertSqlSafe(ensure)).bind(names.clone()).execute(&mut *self.tx).await?;
        let sql = format!(
            "SELECT alert_name, current_status, last_scheduled_for, last_execution_id, last_outcome, \
             consecutive_alerts, consecutive_oks, consecutive_errors, consecutive_no_data, error_notified, sequence, \
             condition_execution_id, alerting_since, told_at, untold, no_data_untold, {} \
             FROM sqlsentinel_state WHERE alert_name {} ORDER BY alert_name{}",
            silenced(self.dialect, "silenced_until"),
            self.in_list(),
            self.dialect.lock("sqlsentinel_state")
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(names).fetch_all(&mut *self.tx).await?;
        rows.iter()
            .map(|row| {
                let (condition, outcome): (Option<String>, Option<String>) = (row.try_get(1)?, row.try_get(4)?);
                let id = |column: usize| -> Result<_, StoreError> {
                    Ok(row.try_get::<Option<String>, _>(column)?.and_then(|id| id.parse().ok()))
                };
                let time = |column: usize| -> Result<_, StoreError> {
                    Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_micros))
                };
                let flag = |column: usize| -> Result<_, StoreError> { Ok(row.try_get::<i64, _>(column)? != 0) };
                let state = AlertState {
                    alert_name: row.try_get(0)?,
                    condition: condition.as_deref().and_then(Condition::from_stored),
                    last_scheduled_for: time(2)?,
                    last_execution_id: id(3)?,
                    last_outcome: outcome.as_deref().and_then(run_status),
                    consecutive_alerts: row.try_get(5)?,
                    consecutive_oks: row.try_get(6)?,
                    consecutive_errors: row.try_get(7)?,
                    consecutive_no_data: row.try_get(8)?,
                    error_notified: flag(9)?,
                    sequence: row.try_get(10)?,
                    condition_execution_id: id(11)?,
                    alerting_since: time(12)?,
                    told_at: time(13)?,
                    untold: flag(14)?,
                    no_data_untold: flag(15)?,
                    silenced: flag(16)?,
                    ..AlertState::default()
                };
                Ok((state.alert_name.clone(), state))
            })
            .collect()
    }

    /// Gives the fires of `runs` their final status. Runs without a fire change nothing here.
    pub async fn conclude_fires<'a>(
        &mut self,
        runs: impl Iterator<Item = &'a RecordedRun<'a>>,
    ) -> Result<(), StoreError> {
        let records: Vec<Value> = runs
            .map(|run| {
                json!({
                    "execution_id": run.outcome.execution_id,
                    "status": run.outcome.verdict.status.as_str(),
                    "late": i64::from(run.late),
                })
            })
            .collect();
        // Invariant: accounted. What ended otherwise keeps its end, even if the caller's decision was wrong.
        let sql = format!(
            "UPDATE sqlsentinel_fires SET status = n.status, reason = NULL, late = n.late, finished_at = {} \
             FROM {} WHERE sqlsentinel_fires.execution_id = n.execution_id \
             AND sqlsentinel_fires.status IN ('WAITING', 'QUEUED', 'EXPIRED')",
            self.dialect.now(),
            self.dialect.rows("execution_id TEXT, status TEXT, late INTEGER"),
        );
        self.write(sql, records).await
    }

    /// Records `runs` in the history; one that is recorded already stays as it is. The query's text is in the definition
    /// alone; the Python system's own tables let the column hold no NULL.
    pub async fn insert_executions<'a>(
        &mut self,
        runs: impl Iterator<Item = &'a RecordedRun<'a>>,
    ) -> Result<(), StoreError> {
        let records: Vec<Value> = runs.map(execution_record).collect();
        let sql = format!(
            "INSERT INTO sqlsentinel_executions (id, alert_name, executed_at, execution_duration_ms, status, \
             actual_value, threshold, query, error_message, triggered_by, notification_sent, notification_error, \
             context_data, scheduled_for, config_hash, source, attempt, delivery, worker, error_kind, \
             actual_value_json, threshold_json, truncated) \
             SELECT n.id, n.alert_name, n.executed_at, n.execution_duration_ms, n.status, \
             n.actual_value, n.threshold, '', n.error_message, n.triggered_by, FALSE, NULL, \
             {}, n.scheduled_for, n.config_hash, n.source, n.attempt, n.delivery, n.worker, n.error_kind, \
             n.actual_value_json, n.threshold_json, n.truncated FROM {} WHERE TRUE ON CONFLICT (id) DO NOTHING",
            self.dialect.pick("n.context_data::json", "n.context_data"),
            self.dialect.rows(
                "id TEXT, alert_name TEXT, executed_at TIMESTAMP, execution_duration_ms DOUBLE PRECISION, status TEXT, \
                 actual_value DOUBLE PRECISION, threshold DOUBLE PRECISION, error_message TEXT, triggered_by TEXT, \
                 context_data TEXT, scheduled_for BIGINT, config_hash TEXT, source TEXT, attempt INTEGER, \
                 delivery INTEGER, worker TEXT, error_kind TEXT, actual_value_json TEXT, threshold_json TEXT, \
                 truncated INTEGER"
            ),
        );
        self.write(sql, records).await
    }

    /// Notes how often the broker had handed out jobs whose outcome came again: it bounds the runs at the target.
    pub async fn raise_deliveries(&mut self, deliveries: &BTreeMap<ExecutionId, u32>) -> Result<(), StoreError> {
        let records: Vec<Value> =
            deliveries.iter().map(|(id, delivery)| json!({ "id": id, "delivery": delivery })).collect();
        let sql = format!(
            "UPDATE sqlsentinel_executions SET delivery = n.delivery FROM {} \
             WHERE sqlsentinel_executions.id = n.id AND COALESCE(sqlsentinel_executions.delivery, 0) < n.delivery",
            self.dialect.rows("id TEXT, delivery INTEGER"),
        );
        self.write(sql, records).await
    }

    /// Writes states that [`Self::lock_states`] has locked.
    pub async fn save_states(&mut self, states: &[AlertState]) -> Result<(), StoreError> {
        let records: Vec<Value> = states.iter().map(state_record).collect();
        let sql = format!(
            "UPDATE sqlsentinel_state SET current_status = n.current_status, \
             last_scheduled_for = n.last_scheduled_for, last_execution_id = n.last_execution_id, \
             last_outcome = n.last_outcome, consecutive_alerts = n.consecutive_alerts, \
             consecutive_oks = n.consecutive_oks, consecutive_errors = n.consecutive_errors, \
             consecutive_no_data = n.consecutive_no_data, error_notified = n.error_notified, sequence = n.sequence, \
             condition_execution_id = n.condition_execution_id, alerting_since = n.alerting_since, \
             told_at = n.told_at, untold = n.untold, no_data_untold = n.no_data_untold, \
             last_executed_at = COALESCE(n.last_executed_at, sqlsentinel_state.last_executed_at), \
             last_alert_at = COALESCE(n.last_alert_at, sqlsentinel_state.last_alert_at), \
             last_ok_at = COALESCE(n.last_ok_at, sqlsentinel_state.last_ok_at), updated_at = {} \
             FROM {} WHERE sqlsentinel_state.alert_name = n.alert_name",
            self.now_as_datetime(),
            self.dialect.rows(
                "alert_name TEXT, current_status TEXT, last_scheduled_for BIGINT, last_execution_id TEXT, \
                 last_outcome TEXT, consecutive_alerts BIGINT, consecutive_oks BIGINT, consecutive_errors BIGINT, \
                 consecutive_no_data BIGINT, error_notified INTEGER, sequence BIGINT, condition_execution_id TEXT, \
                 alerting_since BIGINT, told_at BIGINT, untold INTEGER, no_data_untold INTEGER, \
                 last_executed_at TIMESTAMP, \
                 last_alert_at TIMESTAMP, last_ok_at TIMESTAMP"
            ),
        );
        self.write(sql, records).await
    }

    /// Queues notifications, due at once; one that is queued or sent already stays as it is. Before [`Self::save_states`]:
    /// whether they may have been told before is a question to the states as they were.
    pub async fn enqueue(&mut self, notifications: &[NewNotification]) -> Result<(), StoreError> {
        let records: Vec<Value> = notifications.iter().map(NewNotification::record).collect();
        let sql = format!(
            "INSERT INTO sqlsentinel_notifications (notification_id, execution_id, alert_name, instance, route_key, \
             channel, kind, sequence, scheduled_for, payload, status, attempt, next_attempt_at, possible_duplicate, \
             created_at) \
             SELECT n.notification_id, n.execution_id, n.alert_name, n.instance, n.route_key, \
             n.channel, n.kind, n.sequence, n.scheduled_for, n.payload, '{}', 0, {now}, CASE WHEN {told} THEN 1 ELSE 0 END, {now} \
             FROM {} WHERE TRUE ON CONFLICT (notification_id) DO NOTHING",
            NotificationStatus::Pending.as_str(),
            self.dialect.rows(
                "notification_id TEXT, execution_id TEXT, alert_name TEXT, instance TEXT, route_key TEXT, \
                 channel TEXT, kind TEXT, sequence BIGINT, scheduled_for BIGINT, payload TEXT"
            ),
            told = MAY_HAVE_BEEN_TOLD,
            now = self.dialect.now(),
        );
        self.write(sql, records).await
    }

    /// Makes it true.
    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.tx.commit().await?)
    }

    /// The schedule cursor: every fire due up to here is in the ledger. None before the first leader.
    pub async fn planned_through(&mut self) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT planned_through FROM sqlsentinel_leadership WHERE id = 1";
        let row = sqlx::query(sql).fetch_optional(&mut *self.tx).await?;
        row.map(|row| Ok(Timestamp::from_micros(row.try_get(0)?))).transpose()
    }

    /// The database's clock.
    pub async fn now(&mut self) -> Result<Timestamp, StoreError> {
        let sql = format!("SELECT {}", self.dialect.now());
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut *self.tx).await?;
        Ok(Timestamp::from_micros(row.try_get(0)?))
    }

    /// Runs one statement over all `records` at once; over none, nothing.
    async fn write(&mut self, sql: String, records: Vec<Value>) -> Result<(), StoreError> {
        if !records.is_empty() {
            let records = Value::from(records).to_string();
            sqlx::query(AssertSqlSafe(sql)).bind(records).execute(&mut *self.tx).await?;
        }
        Ok(())
    }

    /// A condition on the column before it: that it is in `$1`, a JSON array of texts.
    fn in_list(&self) -> &'static str {
        self.dialect
            .pick("= ANY(ARRAY(SELECT jsonb_array_elements_text($1::jsonb)))", "IN (SELECT value FROM json_each($1))")
    }

    /// Now on the database's clock, in the Python system's column type.
    fn now_as_datetime(&self) -> &'static str {
        self.dialect.now_as_datetime()
    }
}
