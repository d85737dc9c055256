//! Fires that were lost on the way, and fires whose time is up: what the rescuer finds, queues again and ends.
//!
//! Every statement changes only fires that are still as they were seen, in a leader's transaction. Fires are locked in the
//! order of their ids, as the notifiers do: then nobody waits for anybody in a circle.

use serde::Serialize;
use sqlx::{AssertSqlSafe, Row};

use super::fires::{QUEUED_COLUMNS, QueuedFire, as_json, id, queued_fire, source};
use super::leadership::{Mark, Term};
use super::{Store, StoreError};
use crate::alert::SourceName;
use crate::ids::ExecutionId;

/// An open fire whose deadline has passed.
#[derive(Clone, Debug, PartialEq)]
pub struct OverdueFire {
    /// The fire.
    pub execution_id: ExecutionId,
    /// The alert.
    pub alert_name: String,
    /// The data source it should have run on.
    pub source: SourceName,
    /// Whether it had been queued for the bus.
    pub queued: bool,
}

impl Store {
    /// Published fires without an outcome that were queued more than `age` microseconds ago: candidates for rescue.
    pub async fn unsettled(&self, published: Mark, age_us: i64, limit: i64) -> Result<Vec<QueuedFire>, StoreError> {
        self.step(async {
            let now = self.dialect.now();
            let sql = format!(
                "SELECT {QUEUED_COLUMNS} FROM sqlsentinel_fires WHERE status = 'QUEUED' AND (epoch, seq) <= ($1, $2) \
                 AND queued_at < {now} - $3 AND deadline > {now} ORDER BY deadline LIMIT $4"
            );
            let rows = sqlx::query(AssertSqlSafe(sql))
                .bind(published.epoch)
                .bind(published.seq)
                .bind(age_us)
                .bind(limit)
                .fetch_all(self.pool())
                .await?;
            rows.iter().map(queued_fire).collect()
        })
        .await
    }

    /// Queues lost fires again with the next attempt number, where they are still as they were seen. Returns how many.
    pub async fn requeue(&self, term: &Term, lost: &[QueuedFire]) -> Result<u64, StoreError> {
        #[derive(Serialize)]
        struct Lost {
            execution_id: ExecutionId,
            attempt: u32,
        }
        let lost: Vec<Lost> =
            lost.iter().map(|fire| Lost { execution_id: fire.execution_id, attempt: fire.attempt }).collect();
        self.step(async {
            let mut leader = self.begin_as(term).await?;
            let rows = self.dialect.rows("execution_id TEXT, attempt INTEGER");
            let sql = format!(
                "WITH locked AS (SELECT f.execution_id FROM sqlsentinel_fires f \
                   JOIN {rows} ON n.execution_id = f.execution_id AND n.attempt = f.attempt \
                   WHERE f.status = 'QUEUED' ORDER BY f.execution_id{lock}) \
                 UPDATE sqlsentinel_fires SET attempt = attempt + 1, queued_at = {now}, epoch = $2, seq = $3 \
                 WHERE execution_id IN (SELECT execution_id FROM locked)",
                lock = self.dialect.lock("f"),
                now = self.dialect.now()
            );
            let requeued = sqlx::query(AssertSqlSafe(sql))
                .bind(as_json(&lost)?)
                .bind(leader.mark.epoch)
                .bind(leader.mark.seq)
                .execute(&mut *leader.tx)
                .await?
                .rows_affected();
            leader.commit().await?;
            Ok(requeued)
        })
        .await
    }

    /// Open fires whose deadline passed more than `grace` microseconds ago.
    pub async fn overdue(&self, grace_us: i64, limit: i64) -> Result<Vec<OverdueFire>, StoreError> {
        self.step(async {
            let sql = format!(
                "SELECT execution_id, alert_name, source, status FROM sqlsentinel_fires \
                 WHERE status IN ('WAITING', 'QUEUED') AND deadline < {} - $1 ORDER BY deadline LIMIT $2",
                self.dialect.now()
            );
            let rows = sqlx::query(AssertSqlSafe(sql)).bind(grace_us).bind(limit).fetch_all(self.pool()).await?;
            rows.iter()
                .map(|row| {
                    let status: String = row.try_get(3)?;
                    Ok(OverdueFire {
                        execution_id: id(row, 0)?,
                        alert_name: row.try_get(1)?,
                        source: source(row, 2)?,
                        queued: status == "QUEUED",
                    })
                })
                .collect()
        })
        .await
    }

    /// Ends overdue fires as `EXPIRED(reason)`, where they are still open. Returns the reasons of those that it ended.
    pub async fn expire(
        &self,
        term: &Term,
        expired: &[(ExecutionId, &'static str)],
    ) -> Result<Vec<String>, StoreError> {
        #[derive(Serialize)]
        struct Expired {
            execution_id: ExecutionId,
            reason: &'static str,
        }
        let expired: Vec<Expired> =
            expired.iter().map(|&(execution_id, reason)| Expired { execution_id, reason }).collect();
        self.step(async {
            let mut leader = self.begin_as(term).await?;
            let rows = self.dialect.rows("execution_id TEXT, reason TEXT");
            let sql = format!(
                "WITH locked AS (SELECT f.execution_id, n.reason FROM sqlsentinel_fires f \
                   JOIN {rows} ON n.execution_id = f.execution_id \
                   WHERE f.status IN ('WAITING', 'QUEUED') ORDER BY f.execution_id{lock}) \
                 UPDATE sqlsentinel_fires SET status = 'EXPIRED', finished_at = {now}, epoch = $2, seq = $3, \
                 reason = (SELECT l.reason FROM locked l WHERE l.execution_id = sqlsentinel_fires.execution_id) \
                 WHERE execution_id IN (SELECT execution_id FROM locked) RETURNING reason",
                lock = self.dialect.lock("f"),
                now = self.dialect.now()
            );
            let ended = sqlx::query(AssertSqlSafe(sql))
                .bind(as_json(&expired)?)
                .bind(leader.mark.epoch)
                .bind(leader.mark.seq)
                .fetch_all(&mut *leader.tx)
                .await?;
            let reasons = ended.iter().map(|row| Ok(row.try_get(0)?)).collect::<Result<_, StoreError>>()?;
            leader.commit().await?;
            Ok(reasons)
        })
        .await
    }
}
