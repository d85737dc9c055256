//! What silences have kept back and nobody keeps back any more: found for the notifiers' sweep, which then goes through
//! the outcome transaction like everybody else.

use std::str::FromStr;

use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use super::records::run_status;
use crate::alert::AlertDefinition;
use crate::ids::ExecutionId;
use crate::outcome::{ErrorKind, RunError, RunStatus, Verdict};
use crate::store::silences::silenced;
use crate::store::{Store, StoreError};
use crate::timestamp::Timestamp;

/// The newest run that said what an alert is in, and the definition in force now.
#[derive(Clone, Debug, PartialEq)]
pub struct LastWord {
    /// The alert.
    pub alert_name: String,
    /// Where it would be told today, and by which rules; or why the version cannot be read here.
    pub definition: Result<AlertDefinition, String>,
    /// The run.
    pub execution_id: ExecutionId,
    /// Its nominal time.
    pub scheduled_for: Timestamp,
    /// What it said; only the state's own word if the history does not have the run any more.
    pub verdict: Verdict,
}

impl Store {
    /// Up to `limit` alerts after `after` by name that are in force, not silenced, and not told as they are.
    pub async fn untold(&self, after: &str, limit: u32) -> Result<Vec<LastWord>, StoreError> {
        let sql = format!(
            "SELECT s.alert_name, d.definition, COALESCE(s.condition_execution_id, s.last_execution_id), \
             COALESCE(e.scheduled_for, s.last_scheduled_for), COALESCE(e.status, s.current_status), \
             e.actual_value_json, e.threshold_json, CAST(e.context_data AS TEXT), \
             CAST(COALESCE(e.truncated, 0) AS BIGINT), e.error_kind, e.error_message \
             FROM sqlsentinel_state s \
             JOIN sqlsentinel_configs c ON c.alert_name = s.alert_name \
               AND c.valid_from IS NOT NULL AND c.valid_until IS NULL \
             JOIN sqlsentinel_definitions d ON d.config_hash = c.config_hash \
             LEFT JOIN sqlsentinel_executions e ON e.id = COALESCE(s.condition_execution_id, s.last_execution_id) \
             WHERE s.untold = 1 AND s.alert_name > $1 AND {} = 0 \
             AND s.last_execution_id IS NOT NULL AND s.last_scheduled_for IS NOT NULL \
             ORDER BY s.alert_name LIMIT $2",
            silenced(self.dialect, "s.silenced_until"),
        );
        self.step(async {
            let query = sqlx::query(AssertSqlSafe(sql)).bind(after.to_owned()).bind(i64::from(limit));
            query.fetch_all(self.pool()).await?.iter().map(last_word).collect()
        })
        .await
    }
}

fn last_word(row: &AnyRow) -> Result<LastWord, StoreError> {
    let text = |column: usize| row.try_get::<Option<String>, _>(column);
    let value = |column: usize| -> Result<Option<Value>, StoreError> {
        text(column)?.map(|json| Value::from_str(&json).map_err(StoreError::corrupt)).transpose()
    };
    let definition: String = row.try_get(1)?;
    let status = text(4)?.as_deref().and_then(run_status).unwrap_or(RunStatus::Alert);
    let error = match (text(9)?, text(10)?) {
        (Some(kind), Some(message)) => {
            // A kind that this build does not know is still an error with a message.
            let kind = serde_json::from_value(Value::String(kind)).unwrap_or(ErrorKind::Query);
            Some(RunError { kind, message })
        }
        _ => None,
    };
    Ok(LastWord {
        alert_name: row.try_get(0)?,
        definition: serde_json::from_str(&definition).map_err(|error| error.to_string()),
        execution_id: row.try_get::<String, _>(2)?.parse().map_err(StoreError::corrupt)?,
        scheduled_for: Timestamp::from_micros(row.try_get(3)?),
        verdict: Verdict {
            status,
            actual_value: value(5)?,
            threshold: value(6)?,
            context: text(7)?
                .map(|json| serde_json::from_str(&json).map_err(StoreError::corrupt))
                .transpose()?
                .unwrap_or_default(),
            instances: Vec::new(),
            truncated: row.try_get::<i64, _>(8)? != 0,
            error,
        },
    })
}
