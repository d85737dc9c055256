//! Rows that are old enough to go, and their going.
//!
//! Looking and deleting are two steps: [`Store::expendable`] only reads, however long that takes, and [`Store::purge`]
//! deletes a page of what was seen in a leader's transaction that takes milliseconds, because planning waits for it.
//! Nothing that is open goes, nothing that a state or an open notification refers to, and never an alert's newest run.

use serde::Serialize;
use sqlx::{AssertSqlSafe, Row};

use super::fires::as_json;
use super::leadership::Term;
use super::{Dialect, Store, StoreError};
use crate::timestamp::Timestamp;

/// The most rows of one page: what one transaction deletes.
pub const PAGE: i64 = 500;
/// How many alerts one page looks at.
const ALERTS: i64 = 500;
/// A version's runs end no later than this after the last fire that was due in its time: the longest catching up and
/// the longest deadline.
const AFTERMATH_MICROS: i64 = 14 * 24 * 60 * 60 * 1_000_000;

/// What grows with time, in the order in which it goes: what refers to something before what it refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expendable {
    /// Notifications that have ended.
    Notifications,
    /// Runs.
    Executions,
    /// Fires that have ended.
    Fires,
    /// Gaps.
    Gaps,
    /// Silences that are over.
    Silences,
    /// When a version was in force that is not any more.
    Configs,
    /// Versions that nothing refers to.
    Definitions,
}

/// Where a pass over one table goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    alert_name: String,
    ended_at: i64,
}

/// Some of the rows that may go.
#[derive(Clone, Debug)]
pub struct ExpendableRows {
    /// Their names; there may be none although there are more.
    pub keys: Vec<Key>,
    /// Where there may be more.
    pub next: Option<Place>,
}

/// The name of a row, as its table has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Key {
    id: String,
    /// Of a gap, whose name has two parts.
    first: i64,
}

impl Expendable {
    /// All of them, in their order.
    pub const ALL: [Self; 7] = [
        Self::Notifications,
        Self::Executions,
        Self::Fires,
        Self::Gaps,
        Self::Silences,
        Self::Configs,
        Self::Definitions,
    ];

    /// The table.
    pub fn table(self) -> &'static str {
        match self {
            Self::Notifications => "sqlsentinel_notifications",
            Self::Executions => "sqlsentinel_executions",
            Self::Fires => "sqlsentinel_fires",
            Self::Gaps => "sqlsentinel_gaps",
            Self::Silences => "sqlsentinel_silences",
            Self::Configs => "sqlsentinel_configs",
            Self::Definitions => "sqlsentinel_definitions",
        }
    }

    fn key_column(self) -> &'static str {
        match self {
            Self::Notifications => "notification_id",
            Self::Executions | Self::Configs => "id",
            Self::Fires => "execution_id",
            Self::Gaps => "alert_name",
            Self::Silences => "silence_id",
            Self::Definitions => "config_hash",
        }
    }

    /// Whether its rows are found by their alert: these are the tables that hold millions, and the index that everything
    /// else reads them by begins with the alert. One by time alone would cost every run something.
    fn is_by_alert(self) -> bool {
        matches!(self, Self::Executions | Self::Fires | Self::Gaps)
    }

    /// The condition on a row `t` that must still hold when it is deleted: what was seen may have changed since.
    fn still(self) -> &'static str {
        match self {
            Self::Notifications => "t.status NOT IN ('PENDING', 'SENDING')",
            Self::Fires => "t.status NOT IN ('WAITING', 'QUEUED')",
            Self::Definitions => "NOT EXISTS (SELECT 1 FROM sqlsentinel_configs c WHERE c.config_hash = t.config_hash)",
            Self::Executions | Self::Gaps | Self::Silences | Self::Configs => "TRUE",
        }
    }

    /// The condition on a row `t` of being older than `$2` and of no use to anybody.
    fn is_expendable(self, dialect: Dialect) -> String {
        let before = as_time(dialect, "$2");
        match self {
            Self::Notifications => format!("t.finished_at < $2 AND {} AND {OVER_AND_DONE}", self.still()),
            // The newest run stays, and so do those that a state, an instance or an open notification tells of.
            Self::Executions => format!(
                "t.executed_at < {before} \
                 AND EXISTS (SELECT 1 FROM sqlsentinel_executions later \
                   WHERE later.alert_name = t.alert_name AND later.executed_at > t.executed_at) \
                 AND NOT EXISTS (SELECT 1 FROM sqlsentinel_state s WHERE s.alert_name = t.alert_name \
                   AND (s.last_execution_id = t.id OR s.condition_execution_id = t.id)) \
                 AND NOT EXISTS (SELECT 1 FROM sqlsentinel_instances i \
                   WHERE i.alert_name = t.alert_name AND i.execution_id = t.id) \
                 AND NOT EXISTS (SELECT 1 FROM sqlsentinel_notifications o WHERE o.execution_id = t.id \
                   AND o.status IN ('PENDING', 'SENDING'))"
            ),
            Self::Fires => format!("t.scheduled_for < $2 AND {}", self.still()),
            Self::Gaps => "t.last_scheduled_for < $2".to_owned(),
            Self::Silences => "COALESCE(t.ended_at, t.ends_at) < $2".to_owned(),
            // Rows of 0.1.x have no interval.
            Self::Configs => {
                format!(
                    "(t.valid_until < $2 OR (t.valid_from IS NULL AND t.active = FALSE AND t.loaded_at < {before}))"
                )
            }
            Self::Definitions => format!(
                "{} AND NOT EXISTS (SELECT 1 FROM sqlsentinel_fires f WHERE f.alert_name = t.alert_name \
                   AND f.scheduled_for < $2 + {AFTERMATH_MICROS} AND f.config_hash = t.config_hash) \
                 AND NOT EXISTS (SELECT 1 FROM sqlsentinel_executions e WHERE e.alert_name = t.alert_name \
                   AND e.executed_at < {} AND e.config_hash = t.config_hash) \
                 AND NOT EXISTS (SELECT 1 FROM sqlsentinel_gaps g \
                   WHERE g.alert_name = t.alert_name AND g.config_hash = t.config_hash)",
                self.still(),
                as_time(dialect, &format!("($2 + {AFTERMATH_MICROS})"))
            ),
        }
    }

    /// The keys of the rows that may go. `$1` says where to look: the alerts of a page, or since when.
    fn sql(self, dialect: Dialect) -> String {
        let (table, key, condition) = (self.table(), self.key_column(), self.is_expendable(dialect));
        let second = match self {
            Self::Gaps => "t.first_scheduled_for",
            Self::Notifications => "t.finished_at",
            _ => "CAST(0 AS BIGINT)",
        };
        let (places, order) = match self {
            Self::Notifications => (
                format!("JOIN {} ON t.finished_at >= n.ended_at", dialect.rows("ended_at BIGINT")),
                " ORDER BY t.finished_at",
            ),
            _ if self.is_by_alert() => {
                (format!("JOIN {} ON t.alert_name = n.alert_name", dialect.rows("alert_name TEXT")), "")
            }
            _ => ("CROSS JOIN (SELECT $1) AS unused".to_owned(), ""),
        };
        format!("SELECT t.{key}, {second} FROM {table} t {places} WHERE {condition}{order} LIMIT {PAGE}")
    }
}

/// A moment in microseconds as the Python system's time columns are compared with it.
fn as_time(dialect: Dialect, micros: &str) -> String {
    dialect.pick(
        format!("(to_timestamp({micros} / 1000000.0) AT TIME ZONE 'UTC')"),
        format!("strftime('%Y-%m-%d %H:%M:%f', {micros} / 1000000.0, 'unixepoch')"),
    )
}

/// Notifications of which nothing that is still to be told speaks. The end of what is going on is told to whoever was told
/// its beginning, so everything of the present alert and of the present run of errors stays.
const OVER_AND_DONE: &str = "NOT EXISTS (SELECT 1 FROM sqlsentinel_notifications o WHERE o.alert_name = t.alert_name \
    AND o.instance = t.instance AND o.route_key = t.route_key AND o.status IN ('PENDING', 'SENDING')) \
    AND (t.kind NOT IN ('alert', 'repeat') \
      OR EXISTS (SELECT 1 FROM sqlsentinel_notifications later WHERE later.kind IN ('alert', 'repeat') \
        AND later.kind = 'alert' AND later.alert_name = t.alert_name AND later.instance = t.instance \
        AND later.route_key = t.route_key AND later.sequence > t.sequence) \
      OR (NOT EXISTS (SELECT 1 FROM sqlsentinel_instances i WHERE i.alert_name = t.alert_name AND i.instance = t.instance) \
        AND NOT EXISTS (SELECT 1 FROM sqlsentinel_state s WHERE s.alert_name = t.alert_name AND t.instance = '' \
          AND s.current_status = 'ALERT'))) \
    AND (t.kind <> 'error' \
      OR EXISTS (SELECT 1 FROM sqlsentinel_notifications later WHERE later.kind = 'error' \
        AND later.alert_name = t.alert_name AND later.instance = t.instance \
        AND later.route_key = t.route_key AND later.sequence > t.sequence) \
      OR NOT EXISTS (SELECT 1 FROM sqlsentinel_state s WHERE s.alert_name = t.alert_name AND s.error_notified = 1))";

impl Store {
    /// Rows of a table that are older than `before` and that nobody needs, from `place` on.
    pub async fn expendable(
        &self,
        what: Expendable,
        before: Timestamp,
        place: &Place,
    ) -> Result<ExpendableRows, StoreError> {
        self.step(async {
            let (alerts, last) =
                if what.is_by_alert() { self.alerts_after(what.table(), place).await? } else { Default::default() };
            let input = match what {
                Expendable::Notifications => serde_json::json!([{"ended_at": place.ended_at}]),
                _ => alerts.iter().map(|alert_name| serde_json::json!({"alert_name": alert_name})).collect(),
            };
            let rows = sqlx::query(AssertSqlSafe(what.sql(self.dialect)))
                .bind(input.to_string())
                .bind(before.as_micros())
                .fetch_all(self.pool())
                .await?;
            let keys = rows
                .iter()
                .map(|row| Ok(Key { id: row.try_get(0)?, first: row.try_get(1)? }))
                .collect::<Result<Vec<Key>, StoreError>>()?;
            let more_here = i64::try_from(keys.len()).unwrap_or(i64::MAX) >= PAGE;
            let next = match (more_here, last) {
                (true, _) => Some(match keys.last() {
                    // What is kept lies between what goes: it is not looked at again.
                    Some(key) if what == Expendable::Notifications => Place { ended_at: key.first, ..Place::default() },
                    _ => place.clone(),
                }),
                (false, Some(alert_name)) => Some(Place { alert_name, ..Place::default() }),
                (false, None) => None,
            };
            Ok(ExpendableRows { keys, next })
        })
        .await
    }

    /// The alerts that `table` has rows of, in their order; and the last of them, if there may be more.
    async fn alerts_after(&self, table: &str, place: &Place) -> Result<(Vec<String>, Option<String>), StoreError> {
        // One step into the index for each alert, however many rows it has.
        let sql = format!(
            "WITH RECURSIVE alerts(name, nth) AS (\
               SELECT (SELECT MIN(t.alert_name) FROM {table} t WHERE t.alert_name > $1), 1 \
               UNION ALL SELECT (SELECT MIN(t.alert_name) FROM {table} t WHERE t.alert_name > alerts.name), nth + 1 \
               FROM alerts WHERE alerts.name IS NOT NULL AND nth < {ALERTS}) \
             SELECT name FROM alerts WHERE name IS NOT NULL ORDER BY nth"
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(place.alert_name.clone()).fetch_all(self.pool()).await?;
        let names = rows.iter().map(|row| Ok(row.try_get(0)?)).collect::<Result<Vec<String>, StoreError>>()?;
        let more = i64::try_from(names.len()).unwrap_or(i64::MAX) >= ALERTS;
        let last = names.last().filter(|_| more).cloned();
        Ok((names, last))
    }

    /// Deletes these rows, where that is still right, in a leader's transaction. Returns how many.
    pub async fn purge(&self, term: &Term, what: Expendable, keys: &[Key]) -> Result<u64, StoreError> {
        self.step(async {
            let mut leader = self.begin_as(term).await?;
            let rows = self.dialect.rows("id TEXT, first BIGINT");
            let (table, key, still) = (what.table(), what.key_column(), what.still());
            let sql = match what {
                Expendable::Gaps => format!(
                    "DELETE FROM {table} WHERE (alert_name, first_scheduled_for) IN (SELECT n.id, n.first FROM {rows})"
                ),
                // What somebody else holds goes another time.
                _ => format!(
                    "WITH locked AS (SELECT t.{key} FROM {table} t JOIN {rows} ON n.id = t.{key} \
                       WHERE {still} ORDER BY t.{key}{lock}) \
                     DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM locked)",
                    lock = self.dialect.pick(" FOR UPDATE OF t SKIP LOCKED", "")
                ),
            };
            let deleted =
                sqlx::query(AssertSqlSafe(sql)).bind(as_json(&keys)?).execute(&mut *leader.tx).await?.rows_affected();
            leader.commit().await?;
            Ok(deleted)
        })
        .await
    }
}
