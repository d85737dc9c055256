//! The ledger of fires: planned by the leader and queued for the bus. What becomes of lost and overdue ones is
//! [`super::rescue`]'s subject, and how a fire ends with an outcome is [`super::outcomes`]'.
//!
//! Invariant (accounted): a fire's row or the gap row that covers it is written in the transaction that moves the schedule
//! cursor past it. Every function here that writes does so in a leader's transaction.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use super::leadership::{LeaderTx, Mark, Term};
use super::{Store, StoreError};
use crate::alert::{ConfigHash, Overlap, SourceName};
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
    /// Before this moment it is not queued.
    #[serde(serialize_with = "micros")]
    pub not_before: Timestamp,
    /// Which fires of its source are queued before it: those with a lower number, 0 to 3.
    pub priority: u8,
    /// What becomes of it while an earlier fire of its alert is open.
    pub overlap: Overlap,
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

/// What a tick has written: the same tick again writes nothing, and so counts nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The stamp of its rows.
    pub mark: Mark,
    /// New fires that shall run, now or when they may.
    pub planned: u64,
    /// New fires that ended as `SKIPPED(overlap)`.
    pub skipped: u64,
    /// Fires that new gaps cover, by the gaps' reasons.
    pub in_gaps: BTreeMap<String, u64>,
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

pub(super) const QUEUED_COLUMNS: &str =
    "execution_id, alert_name, scheduled_for, config_hash, source, deadline, attempt, epoch, seq";

impl Store {
    /// Writes one tick: fires, gaps, the cursor, and how far publishing has come. A fire whose alert still has an open
    /// execution ends as `SKIPPED(overlap)`, unless it may run beside it or wait for it; at most `lane` fires of one
    /// source are queued, the rest wait in the ledger.
    ///
    /// A fixed number of statements, however many fires there are.
    pub async fn commit_plan(
        &self,
        term: &Term,
        plan: &Plan,
        published: Mark,
        lane: i64,
    ) -> Result<Committed, StoreError> {
        self.step(async {
            let mut leader = self.begin_as(term).await?;
            let (mut planned, mut skipped, mut in_gaps) = (0, 0, BTreeMap::new());
            if !plan.fires.is_empty() {
                (planned, skipped) = self.insert_fires(&mut leader, plan, lane).await?;
            }
            if !plan.gaps.is_empty() {
                in_gaps = self.insert_gaps(&mut leader, &plan.gaps).await?;
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
            Ok(Committed { mark, planned, skipped, in_gaps })
        })
        .await
    }

    /// Returns how many of the fires are new and shall run, and how many are new and were skipped.
    async fn insert_fires(&self, leader: &mut LeaderTx, plan: &Plan, lane: i64) -> Result<(u64, u64), StoreError> {
        let now = self.dialect.now();
        let rows = self.dialect.rows(
            "execution_id TEXT, alert_name TEXT, scheduled_for BIGINT, config_hash TEXT, source TEXT, deadline BIGINT, \
             not_before BIGINT, priority INTEGER, overlap TEXT",
        );
        let open = |status: &str| {
            format!(
                "EXISTS (SELECT 1 FROM sqlsentinel_fires o WHERE o.alert_name = n.alert_name \
                 AND o.status = '{status}' AND o.deadline > {now})"
            )
        };
        // `place` counts a source's new fires; with what is open already it says whether the lane has room.
        let sql = format!(
            "INSERT INTO sqlsentinel_fires (execution_id, alert_name, scheduled_for, config_hash, source, status, \
               reason, deadline, attempt, queued_at, finished_at, not_before, priority, overlap, epoch, seq) \
             SELECT execution_id, alert_name, scheduled_for, config_hash, source, \
               CASE WHEN skipped THEN 'SKIPPED' WHEN ready THEN 'QUEUED' ELSE 'WAITING' END, \
               CASE WHEN skipped THEN 'overlap' END, \
               deadline, \
               CASE WHEN ready AND NOT skipped THEN 1 ELSE 0 END, \
               CASE WHEN ready AND NOT skipped THEN {now} END, \
               CASE WHEN skipped THEN {now} END, \
               not_before, priority, overlap, \
               $3, $4 \
             FROM (SELECT n.*, \
               CASE n.overlap WHEN 'skip' THEN {waits} OR {runs} WHEN 'queue_one' THEN {waits} ELSE FALSE END \
                 AS skipped, \
               n.not_before <= $5 AND (n.overlap = 'allow' OR NOT {runs}) \
                 AND ROW_NUMBER() OVER (PARTITION BY n.source ORDER BY n.priority, n.deadline, n.execution_id) \
                 + COALESCE(q.open, 0) <= $2 AS ready \
               FROM {rows} LEFT JOIN (SELECT source, COUNT(*) AS open FROM sqlsentinel_fires \
                 WHERE status = 'QUEUED' OR (status = 'WAITING' AND COALESCE(not_before, 0) <= {now}) \
                 GROUP BY source) AS q ON q.source = n.source) AS judged \
             WHERE TRUE ON CONFLICT DO NOTHING RETURNING status",
            waits = open("WAITING"),
            runs = open("QUEUED"),
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(as_json(&plan.fires)?)
            .bind(lane)
            .bind(leader.mark.epoch)
            .bind(leader.mark.seq)
            // Not the database's clock: what is not delayed is ready, however the two clocks differ.
            .bind(plan.planned_through.as_micros())
            .fetch_all(&mut *leader.tx)
            .await?;
        let (mut planned, mut skipped) = (0, 0);
        for row in rows {
            let status: String = row.try_get(0)?;
            *if status == "SKIPPED" { &mut skipped } else { &mut planned } += 1;
        }
        Ok((planned, skipped))
    }

    /// Returns how many fires the gaps that are new cover, by reason.
    async fn insert_gaps(&self, leader: &mut LeaderTx, gaps: &[NewGap]) -> Result<BTreeMap<String, u64>, StoreError> {
        let columns = "alert_name, first_scheduled_for, last_scheduled_for, fires, reason, config_hash";
        let rows = self.dialect.rows(
            "alert_name TEXT, first_scheduled_for BIGINT, last_scheduled_for BIGINT, fires BIGINT, reason TEXT, \
             config_hash TEXT",
        );
        let sql = format!(
            "INSERT INTO sqlsentinel_gaps ({columns}, epoch, seq) SELECT {columns}, $2, $3 FROM {rows} \
             WHERE TRUE ON CONFLICT DO NOTHING RETURNING reason, fires"
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(as_json(gaps)?)
            .bind(leader.mark.epoch)
            .bind(leader.mark.seq)
            .fetch_all(&mut *leader.tx)
            .await?;
        let mut covered = BTreeMap::new();
        for row in rows {
            *covered.entry(row.try_get(0)?).or_default() += u64::try_from(row.try_get::<i64, _>(1)?).unwrap_or(0);
        }
        Ok(covered)
    }

    /// The earliest moment at which a fire that waits in the ledger may be queued, if its lane and its alert let it; none
    /// if no fire waits.
    pub async fn next_waiting(&self) -> Result<Option<Timestamp>, StoreError> {
        self.step(async {
            let sql = "SELECT MIN(COALESCE(not_before, 0)) FROM sqlsentinel_fires WHERE status = 'WAITING'";
            let row = sqlx::query(sql).fetch_one(self.pool()).await?;
            Ok(row.try_get::<Option<i64>, _>(0)?.map(Timestamp::from_micros))
        })
        .await
    }

    /// Queues waiting fires for the bus, the worst severity and then the earliest deadline first, as far as the lanes
    /// have room and earlier fires of their alerts are not in their way. One whose deadline has passed is left to end as
    /// expired: on the bus it would only be in the way of those that can still run. Returns how many.
    pub async fn queue_waiting(&self, term: &Term, lane: i64) -> Result<u64, StoreError> {
        self.step(async {
            let mut leader = self.begin_as(term).await?;
            let sql = format!(
                "UPDATE sqlsentinel_fires SET status = 'QUEUED', attempt = 1, queued_at = {now}, epoch = $2, seq = $3 \
                 WHERE execution_id IN (SELECT w.execution_id FROM \
                 (SELECT execution_id, source, \
                   ROW_NUMBER() OVER (PARTITION BY source ORDER BY priority, deadline, execution_id) AS place \
                   FROM sqlsentinel_fires v WHERE status = 'WAITING' AND COALESCE(not_before, 0) <= {now} \
                   AND deadline > {now} AND (overlap = 'allow' OR NOT EXISTS (SELECT 1 FROM sqlsentinel_fires o \
                     WHERE o.alert_name = v.alert_name AND o.status = 'QUEUED' AND o.deadline > {now}))) AS w \
                 LEFT JOIN (SELECT source, COUNT(*) AS queued FROM sqlsentinel_fires WHERE status = 'QUEUED' \
                   GROUP BY source) AS q ON q.source = w.source \
                 WHERE w.place + COALESCE(q.queued, 0) <= $1)",
                now = self.dialect.now()
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

    /// Queued fires stamped after `published`: what has yet to be published, oldest stamp first, and what was queued
    /// together by severity and then by deadline. The lanes bound them.
    pub async fn unpublished(&self, published: Mark) -> Result<Vec<QueuedFire>, StoreError> {
        self.step(async {
            let sql = format!(
                "SELECT {QUEUED_COLUMNS} FROM sqlsentinel_fires \
                 WHERE status = 'QUEUED' AND (epoch, seq) > ($1, $2) \
                 ORDER BY epoch, seq, priority, deadline, execution_id"
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
}

pub(super) fn queued_fire(row: &AnyRow) -> Result<QueuedFire, StoreError> {
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

pub(super) fn id(row: &AnyRow, column: usize) -> Result<ExecutionId, StoreError> {
    let text: String = row.try_get(column)?;
    text.parse().map_err(StoreError::corrupt)
}

pub(super) fn source(row: &AnyRow, column: usize) -> Result<SourceName, StoreError> {
    let text: String = row.try_get(column)?;
    SourceName::try_from(text).map_err(StoreError::corrupt)
}

pub(super) fn as_json<T: Serialize + ?Sized>(records: &T) -> Result<String, StoreError> {
    serde_json::to_string(records).map_err(StoreError::corrupt)
}

fn micros<S: serde::Serializer>(moment: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(moment.as_micros())
}
