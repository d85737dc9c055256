//! What operators see of the outbox, and what they may put back into it.
//!
//! Input: a filter, or which notifications to send after all. Output: [`NotificationRecord`]s. Who has put what back,
//! and when, stands in its row.

use serde::Serialize;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use super::notification::NotificationStatus;
use super::now;
use crate::ids::NotificationId;
use crate::store::{Store, StoreError};
use crate::timestamp::Timestamp;

/// Which notifications to list.
#[derive(Clone, Copy, Debug)]
pub struct NotificationFilter<'a> {
    /// Only those with this status.
    pub status: Option<NotificationStatus>,
    /// Only those of this alert.
    pub alert: Option<&'a str>,
    /// At most so many, the newest first.
    pub limit: u32,
}

/// Which notifications that were given up to send after all.
#[derive(Clone, Copy, Debug)]
pub enum Replay<'a> {
    /// This one.
    One(NotificationId),
    /// All of them.
    All {
        /// Only those of this alert.
        alert: Option<&'a str>,
    },
}

/// A notification as it stands in the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotificationRecord {
    /// Its name.
    pub notification_id: String,
    /// The execution that caused it.
    pub execution_id: String,
    /// The alert.
    pub alert_name: String,
    /// The instance; empty where the alert has none.
    pub instance: String,
    /// The route, as the definition names it.
    pub route_key: String,
    /// The kind of channel behind the route.
    pub channel: String,
    /// What it is about.
    pub kind: String,
    /// `PENDING`, `SENDING`, `SENT`, `DEAD` or `SKIPPED`.
    pub status: String,
    /// How often it was tried.
    pub attempt: i64,
    /// Whether an attempt may have arrived although nobody has said so.
    pub possible_duplicate: bool,
    /// What went wrong at last.
    pub last_error: Option<String>,
    /// The route that it stands in for.
    pub fallback_for: Option<String>,
    /// The digest that told it.
    pub digest_id: Option<String>,
    /// When it was queued.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When somebody put it back after it was given up.
    pub replayed_at: Option<Timestamp>,
    /// Who.
    pub replayed_by: Option<String>,
}

const COLUMNS: &str = "notification_id, execution_id, alert_name, instance, route_key, channel, kind, status, \
    CAST(attempt AS BIGINT), CAST(possible_duplicate AS BIGINT), last_error, fallback_for, digest_id, created_at, \
    finished_at, replayed_at, replayed_by";

impl Store {
    /// The newest notifications that `filter` lets through.
    pub async fn notifications(&self, filter: NotificationFilter<'_>) -> Result<Vec<NotificationRecord>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM sqlsentinel_notifications \
             WHERE (CAST($1 AS TEXT) IS NULL OR status = $1) AND (CAST($2 AS TEXT) IS NULL OR alert_name = $2) \
             ORDER BY created_at DESC, sequence DESC, notification_id LIMIT $3"
        );
        self.step(async {
            let query = sqlx::query(AssertSqlSafe(sql))
                .bind(filter.status.map(NotificationStatus::as_str))
                .bind(filter.alert.map(str::to_owned))
                .bind(i64::from(filter.limit));
            query.fetch_all(self.pool()).await?.iter().map(read_record).collect()
        })
        .await
    }

    /// Puts back what was given up, due at once, as if it had not been tried yet; what it may have done stays noted.
    /// Returns what was put back; of one that had not been given up, nothing.
    pub async fn replay(&self, which: Replay<'_>, by: &str) -> Result<Vec<NotificationRecord>, StoreError> {
        let (one, alert) = match which {
            Replay::One(id) => (Some(id.to_string()), None),
            Replay::All { alert } => (None, alert.map(str::to_owned)),
        };
        let sql = format!(
            "UPDATE sqlsentinel_notifications SET status = '{pending}', attempt = 0, next_attempt_at = $1, \
             first_attempt_at = NULL, finished_at = NULL, digest_id = NULL, replayed_at = $1, replayed_by = $2 \
             WHERE status = '{dead}' AND (CAST($3 AS TEXT) IS NULL OR notification_id = $3) \
             AND (CAST($4 AS TEXT) IS NULL OR alert_name = $4) RETURNING {COLUMNS}",
            pending = NotificationStatus::Pending.as_str(),
            dead = NotificationStatus::Dead.as_str(),
        );
        self.step(async {
            let mut tx = self.begin().await?;
            let now = now(&mut tx, self.dialect).await?;
            let query = sqlx::query(AssertSqlSafe(sql)).bind(now.as_micros()).bind(by.to_owned()).bind(one).bind(alert);
            let records = query.fetch_all(&mut *tx).await?.iter().map(read_record).collect::<Result<Vec<_>, _>>()?;
            tx.commit().await?;
            Ok(records)
        })
        .await
    }
}

fn read_record(row: &AnyRow) -> Result<NotificationRecord, StoreError> {
    let time = |column: usize| -> Result<_, StoreError> {
        Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_micros))
    };
    Ok(NotificationRecord {
        notification_id: row.try_get(0)?,
        execution_id: row.try_get(1)?,
        alert_name: row.try_get(2)?,
        instance: row.try_get(3)?,
        route_key: row.try_get(4)?,
        channel: row.try_get(5)?,
        kind: row.try_get(6)?,
        status: row.try_get(7)?,
        attempt: row.try_get(8)?,
        possible_duplicate: row.try_get::<i64, _>(9)? != 0,
        last_error: row.try_get(10)?,
        fallback_for: row.try_get(11)?,
        digest_id: row.try_get(12)?,
        created_at: Timestamp::from_micros(row.try_get(13)?),
        finished_at: time(14)?,
        replayed_at: time(15)?,
        replayed_by: row.try_get(16)?,
    })
}
