//! The ledger of fires: planned by the leader, queued for the bus, rescued, expired. (How a fire ends with an outcome is
//! [`super::outcomes`]' subject.)
//!
//! Invariant (accounted): a fire's row or the gap row that covers it is written in the transaction that moves the schedule
//! cursor past it. Every function here that writes does so in a leader's transaction.

use serde::Serialize;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use super::definitions::json_rows;
use super::leadership::{LeaderTx, Mark, Term};
use super::{Store, StoreError};
use crate::alert::{ConfigHash, SourceName};
use crate::ids::ExecutionId;
use crate::timestamp::Timestamp;

/// A fire that is due and shall run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NewFire {
    /// Its name.
    pub execution_id: ExecutionId,
    /// The alert.
    pub alert_name: String,
    /// When it was nominally due.
    #[serde(serialize_with = "micros")]
    pub scheduled_for: Timestamp,
    /// The version in force then.
    pub config_hash: ConfigHash,
    /// The data source it runs on.
    pub source: SourceName,
    /// After this moment its run is worth nothing.
    #[serde(serialize_with = "micros")]
    pub deadline: Timestamp,
}

/// Fires that will not run one by one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NewGap {
    /// The alert.
    pub alert_name: String,
    /// The first fire covered.
    #[serde(serialize_with = "micros")]
    pub first_scheduled_for: Timestamp,
    /// The last fire covered.
    #[serde(serialize_with = "micros")]
    pub last_scheduled_for: Timestamp,
    /// How many fires are covered.
    pub fires: i64,
    /// Why they did not run.
    pub reason: &'static str,
    /// The version in force then.
    pub config_hash: ConfigHash,
}

/// One tick's decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Fires that shall run.
    pub fires: Vec<NewFire>,
    /// Fires that will not.
    pub gaps: Vec<NewGap>,
    /// The cursor's new place: every fire due up to here is in `fires` or `gaps`.
    pub planned_through: Timestamp,
}

/// A queued fire, to be made a job.
#[derive(Clone, Debug, PartialEq)]
pub struct QueuedFire {
    /// The fire.
    pub execution_id: ExecutionId,
    /// The alert.
    pub alert_name: String,
    /// When it was nominally due.
    pub scheduled_for: Timestamp,
    /// The version to run.
    pub config_hash: ConfigHash,
    /// The data source to run on.
    pub source: SourceName,
    /// After this moment its run is worth nothing.
    pub deadline: Timestamp,
    /// Which publication this is to be, from 1.
    pub attempt: u32,
    /// The stamp of the transaction that queued it.
    pub mark: Mark,
}

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

/// Fires are locked in the order of their ids, as the notifiers do: then nobody waits for anybody in a circle.
pub(super) const LOCK_FIRES: &str = " FOR UPDATE OF f";

const QUEUED_COLUMNS: &str =
    "execution_id, alert_name, scheduled_for, config_hash, source, deadline, attempt, epoch, seq";

impl Store {
    /// Writes one tick: fires, gaps, the cursor, and how far publishing has come. A fire whose alert still has an open
    /// execution ends as `SKIPPED(overlap)`; at most `lane` fires of one source are queued, the rest wait in the ledger.
    ///
    /// A fixed number of statements, however many fires there are.
    pub async fn commit_plan(&self, term: &Term, plan: &Plan, published: Mark, lane: i64) -> Result<Mark, StoreError> {
        self.step(async {
            let mut leader = self.begin_as(term).await?;
            if !plan.fires.is_empty() {
                self.insert_fires(&mut leader, &plan.fires, lane).await?;
            }
            if !plan.gaps.is_empty() {
                self.insert_gaps(&mut leader, &plan.gaps).await?;
            }
            // Invariant: the cursor never passes the database's clock, so a leader whose clock runs ahead cannot
            // account for fires that are not due.
            let moved = sqlx::query(AssertSqlSafe(format!(
                "UPDATE sqlsentinel_leadership SET planned_through = $1, published_epoch = $2, published_seq = $3 \
                 WHERE id = 1 AND planned_through <= $1 AND $1 <= {} + 1000000",
                self.dialect.now()
            )))
            .bind(plan.planned_through.as_micros())
            .bind(published.epoch)
            .bind(published.seq)
            .execute(&mut *leader.tx)
            .await?;
            if moved.rows_affected() == 0 {
                return Err(StoreError::AheadOfClock);
            }
            let mark = leader.mark;
            leader.commit().await?;
            Ok(mark)
        })
        .await
    }

    async fn insert_fires(&self, leader: &mut LeaderTx, fires: &[NewFire], lane: i64) -> Result<(), StoreError> {
        let now = self.dialect.now();
        let rows = self.dialect.pick(
            "SELECT * FROM jsonb_to_recordset($1::jsonb) AS r(execution_id TEXT, alert_name TEXT, \
             scheduled_for BIGINT, config_hash TEXT, source TEXT, deadline BIGINT)"
                .to_owned(),
            json_rows("execution_id, alert_name, scheduled_for, config_hash, source, deadline"),
        );
        // `place` counts a source's new fires; with what is open already it says whether the lane has room.
        let sql = format!(
            "INSERT INTO sqlsentinel_fires (execution_id, alert_name, scheduled_for, config_hash, source, status, \
               reason, deadline, attempt, queued_at, finished_at, epoch, seq) \
             SELECT execution_id, alert_name, scheduled_for, config_hash, source, \
               CASE WHEN overlap THEN 'SKIPPED' WHEN room THEN 'QUEUED' ELSE 'WAITING' END, \
               CASE WHEN overlap THEN 'overlap' END, \
               deadline, \
               CASE WHEN room AND NOT overlap THEN 1 ELSE 0 END, \
               CASE WHEN room AND NOT overlap THEN {now} END, \
               CASE WHEN overlap THEN {now} END, \
               $3, $4 \
             FROM (SELECT n.*, \
               EXISTS (SELECT 1 FROM sqlsentinel_fires o WHERE o.alert_name = n.alert_name \
                 AND o.status IN ('WAITING', 'QUEUED') AND o.deadline > {now}) AS overlap, \
               ROW_NUMBER() OVER (PARTITION BY n.source ORDER BY n.deadline, n.execution_id) \
                 + COALESCE(q.open, 0) <= $2 AS room \
               FROM ({rows}) AS n LEFT JOIN (SELECT source, COUNT(*) AS open FROM sqlsentinel_fires \
                 WHERE status IN ('WAITING', 'QUEUED') GROUP BY source) AS q ON q.source = n.source) AS judged \
             WHERE TRUE ON CONFLICT DO NOTHING"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(as_json(fires)?)
            .bind(lane)
            .bind(leader.mark.epoch)
            .bind(leader.mark.seq)
            .execute(&mut *leader.tx)
            .await?;
        Ok(())
    }

    async fn insert_gaps(&self, leader: &mut LeaderTx, gaps: &[NewGap]) -> Result<(), StoreError> {
        let columns = "alert_name, first_scheduled_for, last_scheduled_for, fires, reason, config_hash";
        let rows = self.dialect.pick(
            "SELECT * FROM jsonb_to_recordset($1::jsonb) AS r(alert_name TEXT, first_scheduled_for BIGINT, \
             last_scheduled_for BIGINT, fires BIGINT, reason TEXT, config_hash TEXT)"
                .to_owned(),
            json_rows(columns),
        );
        let sql = format!(
            "INSERT INTO sqlsentinel_gaps ({columns}, epoch, seq) SELECT {columns}, $2, $3 FROM ({rows}) AS n \
             WHERE TRUE ON CONFLICT DO NOTHING"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(as_json(gaps)?)
            .bind(leader.mark.epoch)
            .bind(leader.mark.seq)
            .execute(&mut *leader.tx)
            .await?;
        Ok(())
    }

    /// Whether any fire waits in the ledger for room in its source's lane.
    pub async fn any_waiting(&self) -> Result<bool, StoreError> {
        self.step(async {
            let row = sqlx::query("SELECT 1 FROM sqlsentinel_fires WHERE status = 'WAITING' LIMIT 1")
                .fetch_optional(self.pool())
                .await?;
            Ok(row.is_some())
        })
        .await
    }

    /// Queues waiting fires for the bus, earliest deadline first, as far as the lanes have room. Returns how many.
    pub async fn queue_waiting(&self, term: &Term, lane: i64) -> Result<u64, StoreError> {
        self.step(async {
            let mut leader = self.begin_as(term).await?;
            let sql = format!(
                "UPDATE sqlsentinel_fires SET status = 'QUEUED', attempt = 1, queued_at = {}, epoch = $2, seq = $3 \
                 WHERE execution_id IN (SELECT w.execution_id FROM \
                 (SELECT execution_id, source, ROW_NUMBER() OVER (PARTITION BY source ORDER BY deadline, execution_id) \
                   AS place FROM sqlsentinel_fires WHERE status = 'WAITING') AS w \
                 LEFT JOIN (SELECT source, COUNT(*) AS queued FROM sqlsentinel_fires WHERE status = 'QUEUED' \
                   GROUP BY source) AS q ON q.source = w.source \
                 WHERE w.place + COALESCE(q.queued, 0) <= $1)",
                self.dialect.now()
            );
            let queued = sqlx::query(AssertSqlSafe(sql))
                .bind(lane)
                .bind(leader.mark.epoch)
                .bind(leader.mark.seq)
                .execute(&mut *leader.tx)
                .await?
                .rows_affected();
            leader.commit().await?;
            Ok(queued)
        })
        .await
    }

    /// Queued fires stamped after `published`, oldest stamp first: what has yet to be published. The lanes bound them.
    pub async fn unpublished(&self, published: Mark) -> Result<Vec<QueuedFire>, StoreError> {
        self.step(async {
            let sql = format!(
                "SELECT {QUEUED_COLUMNS} FROM sqlsentinel_fires \
                 WHERE status = 'QUEUED' AND (epoch, seq) > ($1, $2) ORDER BY epoch, seq"
            );
            let rows = sqlx::query(AssertSqlSafe(sql))
                .bind(published.epoch)
                .bind(published.seq)
                .fetch_all(self.pool())
                .await?;
            rows.iter().map(queued_fire).collect()
        })
        .await
    }

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
            let rows = self.dialect.pick(
                "SELECT * FROM jsonb_to_recordset($1::jsonb) AS r(execution_id TEXT, attempt INTEGER)".to_owned(),
                json_rows("execution_id, attempt"),
            );
            let sql = format!(
                "WITH n AS ({rows}), locked AS (SELECT f.execution_id FROM sqlsentinel_fires f \
                   JOIN n ON n.execution_id = f.execution_id AND n.attempt = f.attempt \
                   WHERE f.status = 'QUEUED' ORDER BY f.execution_id{lock}) \
                 UPDATE sqlsentinel_fires SET attempt = attempt + 1, queued_at = {now}, epoch = $2, seq = $3 \
                 WHERE execution_id IN (SELECT execution_id FROM locked)",
                lock = self.dialect.pick(LOCK_FIRES, ""),
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

    /// Ends overdue fires as `EXPIRED(reason)`, where they are still open. Returns how many.
    pub async fn expire(&self, term: &Term, expired: &[(ExecutionId, &'static str)]) -> Result<u64, StoreError> {
        #[derive(Serialize)]
        struct Expired {
            execution_id: ExecutionId,
            reason: &'static str,
        }
        let expired: Vec<Expired> =
            expired.iter().map(|&(execution_id, reason)| Expired { execution_id, reason }).collect();
        self.step(async {
            let mut leader = self.begin_as(term).await?;
            let rows = self.dialect.pick(
                "SELECT * FROM jsonb_to_recordset($1::jsonb) AS r(execution_id TEXT, reason TEXT)".to_owned(),
                json_rows("execution_id, reason"),
            );
            let sql = format!(
                "WITH n AS ({rows}), locked AS (SELECT f.execution_id, n.reason FROM sqlsentinel_fires f \
                   JOIN n ON n.execution_id = f.execution_id \
                   WHERE f.status IN ('WAITING', 'QUEUED') ORDER BY f.execution_id{lock}) \
                 UPDATE sqlsentinel_fires SET status = 'EXPIRED', finished_at = {now}, epoch = $2, seq = $3, \
                 reason = (SELECT l.reason FROM locked l WHERE l.execution_id = sqlsentinel_fires.execution_id) \
                 WHERE execution_id IN (SELECT execution_id FROM locked)",
                lock = self.dialect.pick(LOCK_FIRES, ""),
                now = self.dialect.now()
            );
            let ended = sqlx::query(AssertSqlSafe(sql))
                .bind(as_json(&expired)?)
                .bind(leader.mark.epoch)
                .bind(leader.mark.seq)
                .execute(&mut *leader.tx)
                .await?
                .rows_affected();
            leader.commit().await?;
            Ok(ended)
        })
        .await
    }
}

fn queued_fire(row: &AnyRow) -> Result<QueuedFire, StoreError> {
    let attempt: i64 = row.try_get(6)?;
    Ok(QueuedFire {
        execution_id: id(row, 0)?,
        alert_name: row.try_get(1)?,
        scheduled_for: Timestamp::from_micros(row.try_get(2)?),
        config_hash: ConfigHash::from_stored(row.try_get(3)?),
        source: source(row, 4)?,
        deadline: Timestamp::from_micros(row.try_get(5)?),
        attempt: u32::try_from(attempt).map_err(StoreError::corrupt)?,
        mark: Mark { epoch: row.try_get(7)?, seq: row.try_get(8)? },
    })
}

fn id(row: &AnyRow, column: usize) -> Result<ExecutionId, StoreError> {
    let text: String = row.try_get(column)?;
    text.parse().map_err(StoreError::corrupt)
}

fn source(row: &AnyRow, column: usize) -> Result<SourceName, StoreError> {
    let text: String = row.try_get(column)?;
    SourceName::try_from(text).map_err(StoreError::corrupt)
}

fn as_json<T: Serialize + ?Sized>(records: &T) -> Result<String, StoreError> {
    serde_json::to_string(records).map_err(StoreError::corrupt)
}

fn micros<S: serde::Serializer>(moment: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(moment.as_micros())
}
