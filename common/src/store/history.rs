//! What operators read: the state of every alert and what became of its fires. Only reads, and never locks.
//!
//! The Python system's times are read as text, because that is the form in which both databases give them exactly; the
//! rows that it wrote are read like our own.

use chrono::NaiveDateTime;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use super::silences::silenced;
use super::{Dialect, Store, StoreError};
use crate::timestamp::Timestamp;

/// What is known of one alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertStatus {
    /// The alert.
    pub alert_name: String,
    /// `OK`, `PENDING` or `ALERT`; none before the first of them.
    pub status: Option<String>,
    /// How the newest run ended: `OK`, `ALERT`, `ERROR` or `NO_DATA`.
    pub last_outcome: Option<String>,
    /// The nominal time of the newest fire that was judged.
    pub last_check: Option<Timestamp>,
    /// When the newest run began.
    pub last_executed_at: Option<Timestamp>,
    /// Whether it is silenced, by the database's clock. An older coordinator does not say.
    #[serde(default)]
    pub silenced: bool,
    /// Until when it is, or was last, silenced; none if it never was, or somebody ended it.
    pub silenced_until: Option<Timestamp>,
    /// How many `ALERT` since the last `OK`.
    pub consecutive_alerts: i64,
    /// How many `ERROR` since a query was last answered.
    pub consecutive_errors: i64,
    /// How many of its instances are in `ALERT`; absent where none is.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub instances_alerting: i64,
}

fn is_zero(count: &i64) -> bool {
    *count == 0
}

/// What is known of one instance of an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InstanceStatus {
    /// Which one.
    pub instance: String,
    /// `PENDING` or `ALERT`.
    pub status: String,
    /// The nominal time of its first `ALERT` since its last `OK`.
    pub alerting_since: Option<Timestamp>,
    /// When its alert was told last; none if it was not.
    pub told_at: Option<Timestamp>,
}

/// One line of history: a fire with what became of it, a run that had no fire, or a gap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The alert.
    pub alert_name: String,
    /// When it was nominally due: for a gap the last fire covered, for a run without a fire when it ran.
    pub scheduled_for: Timestamp,
    /// `WAITING`, `QUEUED`, `OK`, `ALERT`, `ERROR`, `NO_DATA`, `SKIPPED`, `EXPIRED` or `GAP`.
    pub status: String,
    /// Why it was skipped, given up or left out.
    pub reason: Option<String>,
    /// How many fires this line stands for: more than one for most gaps.
    pub fires: i64,
    /// The execution's id as it was written (the Python system's are not always UUIDs); none for a gap.
    pub execution_id: Option<String>,
    /// When the run began.
    pub executed_at: Option<Timestamp>,
    /// How long the run took, in milliseconds.
    pub duration_ms: Option<f64>,
    /// The `actual_value` column, with its digits.
    pub actual_value: Option<Value>,
    /// The `threshold` column, with its digits.
    pub threshold: Option<Value>,
    /// Why the run failed.
    pub error_message: Option<String>,
    /// `CRON`, `MANUAL` or `API`; none for what has not run.
    pub triggered_by: Option<String>,
    /// Whether a notification of it was sent.
    pub notification_sent: bool,
}

impl Store {
    /// Every alert that has a state or a definition in force, or `alert` alone, by name.
    pub async fn alert_statuses(&self, alert: Option<&str>) -> Result<Vec<AlertStatus>, StoreError> {
        let sql = format!(
            "SELECT n.alert_name, s.current_status, s.last_outcome, s.last_scheduled_for, {}, {}, \
             CAST(COALESCE(s.consecutive_alerts, 0) AS BIGINT), CAST(COALESCE(s.consecutive_errors, 0) AS BIGINT), {}, \
             (SELECT COUNT(*) FROM sqlsentinel_instances i \
             WHERE i.alert_name = n.alert_name AND i.instance <> '' AND i.status = 'ALERT') \
             FROM (SELECT alert_name FROM sqlsentinel_configs WHERE valid_from IS NOT NULL AND valid_until IS NULL \
             UNION SELECT alert_name FROM sqlsentinel_state) AS n \
             LEFT JOIN sqlsentinel_state s ON s.alert_name = n.alert_name WHERE {} ORDER BY n.alert_name",
            self.dialect.time_text("s.last_executed_at"),
            self.dialect.time_text("s.silenced_until"),
            silenced(self.dialect, "s.silenced_until"),
            filter("n.alert_name", alert),
        );
        self.step(async {
            let query = sqlx::query(AssertSqlSafe(sql)).bind(alert.unwrap_or_default().to_owned());
            query.fetch_all(self.pool()).await?.iter().map(alert_status).collect()
        })
        .await
    }

    /// The instances of `alert` that are not OK, by name.
    pub async fn instance_statuses(&self, alert: &str) -> Result<Vec<InstanceStatus>, StoreError> {
        const SQL: &str = "SELECT instance, status, alerting_since, told_at FROM sqlsentinel_instances \
                           WHERE alert_name = $1 AND instance <> '' AND status <> 'OK' ORDER BY instance";
        self.step(async {
            let rows = sqlx::query(SQL).bind(alert.to_owned()).fetch_all(self.pool()).await?;
            rows.iter()
                .map(|row| {
                    let time = |column: usize| -> Result<_, StoreError> {
                        Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_micros))
                    };
                    let (instance, status) = (row.try_get(0)?, row.try_get(1)?);
                    Ok(InstanceStatus { instance, status, alerting_since: time(2)?, told_at: time(3)? })
                })
                .collect()
        })
        .await
    }

    /// The newest `limit` lines of history of all alerts, or of `alert` alone, newest first.
    pub async fn history(&self, alert: Option<&str>, limit: u32) -> Result<Vec<HistoryEntry>, StoreError> {
        let (executed_at, double) =
            (self.dialect.time_text("e.executed_at"), self.dialect.pick("DOUBLE PRECISION", "REAL"));
        let executed_micros = self.dialect.pick(
            "CAST(EXTRACT(EPOCH FROM executed_at) * 1000000 AS BIGINT)",
            "CAST(unixepoch(executed_at, 'subsec') * 1000000 AS INTEGER)",
        );
        let filter = filter("alert_name", alert);
        // Each part is cut to the limit before anything is joined to it.
        let sql = format!(
            "WITH fires AS (SELECT alert_name, scheduled_for, status, reason, CAST(1 AS BIGINT) AS fires, execution_id \
               FROM sqlsentinel_fires WHERE {filter} ORDER BY scheduled_for DESC LIMIT $2), \
             gaps AS (SELECT alert_name, last_scheduled_for, 'GAP', reason, fires, NULL FROM sqlsentinel_gaps \
               WHERE {filter} ORDER BY last_scheduled_for DESC LIMIT $2), \
             others AS (SELECT alert_name, {executed_micros}, status, NULL, 1, id FROM sqlsentinel_executions e \
               WHERE {filter} AND NOT EXISTS (SELECT 1 FROM sqlsentinel_fires f WHERE f.execution_id = e.id) \
               ORDER BY executed_at DESC LIMIT $2), \
             lines AS (SELECT * FROM fires UNION ALL SELECT * FROM gaps UNION ALL SELECT * FROM others) \
             SELECT l.alert_name, l.scheduled_for, l.status, l.reason, l.fires, l.execution_id, {executed_at}, \
               CAST(e.execution_duration_ms AS {double}), COALESCE(e.actual_value_json, CAST(e.actual_value AS TEXT)), \
               COALESCE(e.threshold_json, CAST(e.threshold AS TEXT)), e.error_message, e.triggered_by, \
               CAST(COALESCE(e.notification_sent, FALSE) AS INTEGER) \
             FROM lines l LEFT JOIN sqlsentinel_executions e ON e.id = l.execution_id \
             ORDER BY l.scheduled_for DESC, l.alert_name LIMIT $2"
        );
        self.step(async {
            let query = sqlx::query(AssertSqlSafe(sql)).bind(alert.unwrap_or_default().to_owned());
            query.bind(i64::from(limit)).fetch_all(self.pool()).await?.iter().map(history_entry).collect()
        })
        .await
    }
}

/// A condition on `$1`, in a form that finds an index where there is something to find.
fn filter(column: &str, alert: Option<&str>) -> String {
    if alert.is_some() { format!("{column} = $1") } else { "$1 = ''".to_owned() }
}

impl Dialect {
    /// A column of the Python system's time type as text, UTC.
    fn time_text(self, column: &str) -> String {
        match self {
            Self::Postgres => format!("to_char({column}, 'YYYY-MM-DD HH24:MI:SS.US')"),
            Self::Sqlite => format!("CAST({column} AS TEXT)"),
        }
    }
}

fn alert_status(row: &AnyRow) -> Result<AlertStatus, StoreError> {
    Ok(AlertStatus {
        alert_name: row.try_get(0)?,
        status: row.try_get(1)?,
        last_outcome: row.try_get(2)?,
        last_check: row.try_get::<Option<i64>, _>(3)?.map(Timestamp::from_micros),
        last_executed_at: time(row.try_get(4)?)?,
        silenced_until: time(row.try_get(5)?)?,
        consecutive_alerts: row.try_get(6)?,
        consecutive_errors: row.try_get(7)?,
        silenced: row.try_get::<i64, _>(8)? != 0,
        instances_alerting: row.try_get(9)?,
    })
}

fn history_entry(row: &AnyRow) -> Result<HistoryEntry, StoreError> {
    Ok(HistoryEntry {
        alert_name: row.try_get(0)?,
        scheduled_for: Timestamp::from_micros(row.try_get(1)?),
        status: row.try_get(2)?,
        reason: row.try_get(3)?,
        fires: row.try_get(4)?,
        execution_id: row.try_get(5)?,
        executed_at: time(row.try_get(6)?)?,
        duration_ms: row.try_get(7)?,
        actual_value: value(row.try_get(8)?),
        threshold: value(row.try_get(9)?),
        error_message: row.try_get(10)?,
        triggered_by: row.try_get(11)?,
        notification_sent: row.try_get::<i64, _>(12)? != 0,
    })
}

fn time(text: Option<String>) -> Result<Option<Timestamp>, StoreError> {
    let parse = |text: String| {
        let parsed = NaiveDateTime::parse_from_str(&text.replace('T', " "), "%Y-%m-%d %H:%M:%S%.f");
        parsed.map(|time| time.and_utc().into()).map_err(StoreError::corrupt)
    };
    text.map(parse).transpose()
}

/// JSON as we wrote it, or the number that the Python system stored; as text if it is neither.
fn value(text: Option<String>) -> Option<Value> {
    text.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_each_writer_left_it() -> Result<(), StoreError> {
        for (text, shown) in [
            ("2025-11-08 03:06:26.510640", "2025-11-08T03:06:26.510640Z"),
            ("2025-11-08 03:06:26", "2025-11-08T03:06:26.000000Z"),
            ("2025-11-08T03:06:26.51", "2025-11-08T03:06:26.510000Z"),
        ] {
            assert_eq!(time(Some(text.to_owned()))?.map(|time| time.to_string()).as_deref(), Some(shown), "{text}");
        }
        assert_eq!(time(None)?, None);
        assert!(time(Some("yesterday".to_owned())).is_err());
        Ok(())
    }

    #[test]
    fn a_value_keeps_its_digits() {
        let digits = "12345678901234567890.10";
        assert_eq!(value(Some(digits.to_owned())).map(|value| value.to_string()).as_deref(), Some(digits));
        assert_eq!(value(Some("\"n/a\"".to_owned())), Some(Value::String("n/a".to_owned())));
    }
}
