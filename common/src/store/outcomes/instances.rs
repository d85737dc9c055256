//! The transition table's memory of an alert's instances: read and written by the outcome transaction.
//!
//! Only what is not OK, or whose end has yet to be told, is kept, so that the table is bounded by what is wrong. Their
//! rows are locked after the alert's own state row, in the order of their names.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use super::{Condition, OutcomeTx};
use crate::ids::ExecutionId;
use crate::outcome::Verdict;
use crate::store::StoreError;
use crate::timestamp::Timestamp;

/// What is remembered of one instance of an alert; under the empty name, of the alert itself while it has others.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceState {
    /// Which alert.
    pub alert_name: String,
    /// Which instance.
    pub instance: String,
    /// What it is known to be in.
    pub condition: Condition,
    /// The newest execution that said so.
    pub execution_id: ExecutionId,
    /// That execution's nominal time.
    pub scheduled_for: Timestamp,
    /// What it said of this instance.
    pub verdict: Verdict,
    /// How many `ALERT` since the last `OK`.
    pub consecutive_alerts: i64,
    /// The nominal time of the first `ALERT` since the last `OK`.
    pub alerting_since: Option<Timestamp>,
    /// When the present alert was told last.
    pub told_at: Option<Timestamp>,
    /// Whether a silence has kept back what is known.
    pub untold: bool,
}

/// The instances of one alert, by name.
pub type Instances = BTreeMap<String, InstanceState>;

impl OutcomeTx {
    /// Locks what is remembered of the instances of `alerts`, whose states are locked. An alert that has none is not in
    /// the result.
    pub async fn lock_instances(&mut self, alerts: &BTreeSet<&str>) -> Result<BTreeMap<String, Instances>, StoreError> {
        let sql = format!(
            "SELECT alert_name, instance, status, execution_id, scheduled_for, verdict, consecutive_alerts, \
             alerting_since, told_at, CAST(untold AS BIGINT) FROM sqlsentinel_instances \
             WHERE alert_name {} ORDER BY alert_name, instance{}",
            self.in_list(),
            self.dialect.lock("sqlsentinel_instances")
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(json!(alerts).to_string()).fetch_all(&mut *self.tx).await?;
        let mut found: BTreeMap<String, Instances> = BTreeMap::new();
        for row in &rows {
            let state = instance_state(row)?;
            found.entry(state.alert_name.clone()).or_default().insert(state.instance.clone(), state);
        }
        Ok(found)
    }

    /// Writes these, and forgets `ended`, pairs of alert and instance. Their alerts' states are locked.
    pub async fn save_instances(
        &mut self,
        states: &[InstanceState],
        ended: &BTreeSet<(String, String)>,
    ) -> Result<(), StoreError> {
        let sql = format!(
            "INSERT INTO sqlsentinel_instances (alert_name, instance, status, execution_id, scheduled_for, verdict, \
             consecutive_alerts, alerting_since, told_at, untold) \
             SELECT n.alert_name, n.instance, n.status, n.execution_id, n.scheduled_for, n.verdict, \
             n.consecutive_alerts, n.alerting_since, n.told_at, n.untold FROM {} WHERE TRUE \
             ON CONFLICT (alert_name, instance) DO UPDATE SET status = excluded.status, \
             execution_id = excluded.execution_id, scheduled_for = excluded.scheduled_for, \
             verdict = excluded.verdict, consecutive_alerts = excluded.consecutive_alerts, \
             alerting_since = excluded.alerting_since, told_at = excluded.told_at, untold = excluded.untold",
            self.dialect.rows(
                "alert_name TEXT, instance TEXT, status TEXT, execution_id TEXT, scheduled_for BIGINT, verdict TEXT, \
                 consecutive_alerts BIGINT, alerting_since BIGINT, told_at BIGINT, untold INTEGER"
            ),
        );
        let records = states.iter().map(record).collect::<Result<Vec<_>, _>>().map_err(StoreError::corrupt)?;
        self.write(sql, records).await?;
        let sql = format!(
            "DELETE FROM sqlsentinel_instances WHERE (alert_name, instance) IN (SELECT n.alert_name, n.instance FROM {})",
            self.dialect.rows("alert_name TEXT, instance TEXT"),
        );
        let ended = ended.iter().map(|(alert, name)| json!({ "alert_name": alert, "instance": name })).collect();
        self.write(sql, ended).await
    }
}

fn instance_state(row: &AnyRow) -> Result<InstanceState, StoreError> {
    let time = |column: usize| -> Result<_, StoreError> {
        Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_micros))
    };
    let status: String = row.try_get(2)?;
    Ok(InstanceState {
        alert_name: row.try_get(0)?,
        instance: row.try_get(1)?,
        condition: Condition::from_stored(&status)
            .ok_or_else(|| StoreError::Corrupt(format!("`{status}` is nothing that an instance can be in")))?,
        execution_id: row.try_get::<String, _>(3)?.parse().map_err(StoreError::corrupt)?,
        scheduled_for: Timestamp::from_micros(row.try_get(4)?),
        verdict: serde_json::from_str(&row.try_get::<String, _>(5)?).map_err(StoreError::corrupt)?,
        consecutive_alerts: row.try_get(6)?,
        alerting_since: time(7)?,
        told_at: time(8)?,
        untold: row.try_get::<i64, _>(9)? != 0,
    })
}

fn record(state: &InstanceState) -> Result<Value, serde_json::Error> {
    Ok(json!({
        "alert_name": state.alert_name,
        "instance": state.instance,
        "status": state.condition.as_str(),
        "execution_id": state.execution_id,
        "scheduled_for": state.scheduled_for.as_micros(),
        // As text: jsonb would rewrite the numbers in it.
        "verdict": serde_json::to_string(&state.verdict)?,
        "consecutive_alerts": state.consecutive_alerts,
        "alerting_since": state.alerting_since.map(Timestamp::as_micros),
        "told_at": state.told_at.map(Timestamp::as_micros),
        "untold": i64::from(state.untold),
    }))
}
