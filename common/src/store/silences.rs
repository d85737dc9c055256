//! Silences: who has asked for an alert not to be told, until when, and why.
//!
//! Input: operators' commands. Output: `sqlsentinel_silences`, the record of them, and `sqlsentinel_state.silenced_until`,
//! which everybody else goes by: it has the meaning that it had in the Python system. The two are written together, the
//! state's row first, so that whoever judges the alert at that moment comes before or after, not in between.

use std::time::Duration;

use serde::Serialize;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::{Dialect, Store, StoreError, Tx};
use crate::timestamp::Timestamp;

/// What somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SilenceRequest<'a> {
    /// Which alert.
    pub alert_name: &'a str,
    /// For how long from now on.
    pub duration: Duration,
    /// Who asks.
    pub created_by: &'a str,
    /// Why, if that was said.
    pub reason: Option<&'a str>,
}

/// One silence, past or present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Silence {
    /// Which alert.
    pub alert_name: String,
    /// Who asked for it.
    pub created_by: String,
    /// Why, if that was said.
    pub reason: Option<String>,
    /// Since when.
    pub begins_at: Timestamp,
    /// Until when it was asked for.
    pub ends_at: Timestamp,
    /// When it was ended before its time.
    pub ended_at: Option<Timestamp>,
    /// By whom.
    pub ended_by: Option<String>,
    /// Whether it is in force.
    pub in_force: bool,
}

impl Store {
    /// Silences an alert; a silence that is in force is replaced. Returns until when.
    pub async fn silence(&self, request: &SilenceRequest<'_>) -> Result<Timestamp, StoreError> {
        self.step(async {
            let mut tx = self.begin().await?;
            lock_state(&mut tx, self.dialect, request.alert_name).await?;
            let now = self.now_in(&mut tx).await?;
            let until = now.plus(request.duration);
            end_present(&mut tx, request.alert_name, now, request.created_by).await?;
            sqlx::query(
                "INSERT INTO sqlsentinel_silences (silence_id, alert_name, created_by, reason, begins_at, ends_at) \
                 VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(Uuid::now_v7().to_string())
            .bind(request.alert_name.to_owned())
            .bind(request.created_by.to_owned())
            .bind(request.reason.map(str::to_owned))
            .bind(now.as_micros())
            .bind(until.as_micros())
            .execute(&mut *tx)
            .await?;
            self.write_silenced_until(&mut tx, request.alert_name, Some(until)).await?;
            tx.commit().await?;
            Ok(until)
        })
        .await
    }

    /// Ends the silence of an alert. False: it was not silenced.
    pub async fn unsilence(&self, alert_name: &str, ended_by: &str) -> Result<bool, StoreError> {
        self.step(async {
            let mut tx = self.begin().await?;
            let was_silenced = lock_state(&mut tx, self.dialect, alert_name).await?;
            let now = self.now_in(&mut tx).await?;
            end_present(&mut tx, alert_name, now, ended_by).await?;
            self.write_silenced_until(&mut tx, alert_name, None).await?;
            tx.commit().await?;
            Ok(was_silenced)
        })
        .await
    }

    /// The silences that are in force, or with `past` all that there were; of `alert` alone, if it is named. The newest
    /// come first.
    pub async fn silences(&self, alert: Option<&str>, past: Past) -> Result<Vec<Silence>, StoreError> {
        let now = self.dialect.now();
        let in_force = format!("(ended_at IS NULL AND ends_at > {now})");
        let sql = format!(
            "SELECT alert_name, created_by, reason, begins_at, ends_at, ended_at, ended_by, \
             CAST(CASE WHEN {in_force} THEN 1 ELSE 0 END AS BIGINT) FROM sqlsentinel_silences \
             WHERE ($1 = '' OR alert_name = $1){} ORDER BY begins_at DESC, silence_id DESC",
            match past {
                Past::Included => String::new(),
                Past::LeftOut => format!(" AND {in_force}"),
            }
        );
        self.step(async {
            let query = sqlx::query(AssertSqlSafe(sql)).bind(alert.unwrap_or_default().to_owned());
            query.fetch_all(self.pool()).await?.iter().map(silence).collect()
        })
        .await
    }

    async fn now_in(&self, tx: &mut Tx) -> Result<Timestamp, StoreError> {
        let row = sqlx::query(AssertSqlSafe(format!("SELECT {}", self.dialect.now()))).fetch_one(&mut **tx).await?;
        Ok(Timestamp::from_micros(row.try_get(0)?))
    }

    async fn write_silenced_until(
        &self,
        tx: &mut Tx,
        alert_name: &str,
        until: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let sql = format!(
            "UPDATE sqlsentinel_state SET silenced_until = {} WHERE alert_name = $1",
            self.dialect.pick("CAST($2 AS TIMESTAMP)", "$2")
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(alert_name.to_owned())
            .bind(until.map(Timestamp::to_sql_text))
            .execute(&mut **tx)
            .await?;
        Ok(())
    }
}

/// Whether a list has what is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// It has.
    Included,
    /// It has not.
    LeftOut,
}

/// 1 while the time in `column` (of the Python system's type) has yet to come, else 0: whether an alert is silenced.
pub(super) fn silenced(dialect: Dialect, column: &str) -> String {
    let (until, now) = dialect.pick(
        (column.to_owned(), "timezone('UTC', clock_timestamp())"),
        (format!("unixepoch({column}, 'subsec')"), "unixepoch('subsec')"),
    );
    format!("CAST(CASE WHEN {until} > {now} THEN 1 ELSE 0 END AS BIGINT)")
}

/// Locks the alert's state; an alert that had none has one now. Whether it is silenced.
async fn lock_state(tx: &mut Tx, dialect: Dialect, alert_name: &str) -> Result<bool, StoreError> {
    // Every column that the Python system declared NOT NULL is named: its own tables have no defaults.
    let ensure = format!(
        "INSERT INTO sqlsentinel_state \
         (alert_name, consecutive_alerts, consecutive_oks, escalation_count, notification_failures, updated_at) \
         VALUES ($1, 0, 0, 0, 0, {}) ON CONFLICT (alert_name) DO NOTHING",
        dialect.now_as_datetime()
    );
    sqlx::query(AssertSqlSafe(ensure)).bind(alert_name.to_owned()).execute(&mut **tx).await?;
    let sql = format!(
        "SELECT {} FROM sqlsentinel_state WHERE alert_name = $1{}",
        silenced(dialect, "silenced_until"),
        dialect.lock("sqlsentinel_state")
    );
    let row = sqlx::query(AssertSqlSafe(sql)).bind(alert_name.to_owned()).fetch_one(&mut **tx).await?;
    Ok(row.try_get::<i64, _>(0)? != 0)
}

async fn end_present(tx: &mut Tx, alert_name: &str, now: Timestamp, ended_by: &str) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE sqlsentinel_silences SET ended_at = $2, ended_by = $3 \
         WHERE alert_name = $1 AND ended_at IS NULL AND ends_at > $2",
    )
    .bind(alert_name.to_owned())
    .bind(now.as_micros())
    .bind(ended_by.to_owned())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn silence(row: &AnyRow) -> Result<Silence, StoreError> {
    Ok(Silence {
        alert_name: row.try_get(0)?,
        created_by: row.try_get(1)?,
        reason: row.try_get(2)?,
        begins_at: Timestamp::from_micros(row.try_get(3)?),
        ends_at: Timestamp::from_micros(row.try_get(4)?),
        ended_at: row.try_get::<Option<i64>, _>(5)?.map(Timestamp::from_micros),
        ended_by: row.try_get(6)?,
        in_force: row.try_get::<i64, _>(7)? != 0,
    })
}
