//! A state database that has gone back in time: restored from a copy, or failed over to a replica that lacked commits.
//!
//! Whoever has seen a place in its history knows better than a database that says an earlier one: the leader by its own
//! commits ([`super::leadership`]), the next one by what the lease states, and senders by what they saw last (here). What
//! was lost may have been sent, so whatever the outbox holds then is `possible_duplicate`, and so is what alerts tell that
//! have not been judged since: the states that they are judged by have gone back, too.

use std::sync::{Arc, Mutex, PoisonError};

use sqlx::{AssertSqlSafe, Row};

use super::mark::Mark;
use super::{Dialect, Store, StoreError, Tx};
use crate::timestamp::Timestamp;

/// A condition on a new notification `n`, before the state that it follows from is written: whether the same news may
/// have been told in a future that was lost.
///
/// Such news is about a time before the loss was noticed; or it is the first that is said of an alert since then; or it
/// tells an alert that had begun before.
pub(super) const MAY_HAVE_BEEN_TOLD: &str = "EXISTS (SELECT 1 FROM \
    (SELECT MAX(uncertain_until) AS uncertain_until FROM sqlsentinel_rollbacks) r \
    LEFT JOIN sqlsentinel_state s ON s.alert_name = n.alert_name \
    WHERE n.scheduled_for <= r.uncertain_until OR s.last_scheduled_for <= r.uncertain_until \
    OR (n.kind = 'alert' AND s.alerting_since <= r.uncertain_until))";

/// What a new leader has found out about a database that has gone back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollback {
    /// A place in the history that was committed for certain.
    pub known: Mark,
    /// The place that the database was found at.
    pub found: Mark,
    /// The schedule cursor as it was found: fires after it may have run already.
    pub uncertain_from: Timestamp,
    /// When it was noticed, on the database's clock.
    pub uncertain_until: Timestamp,
    /// How many notifications were marked as possible duplicates.
    pub notifications: u64,
}

/// The latest place in the ledger's history that a process has seen; shared by the clones of its store.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Arc<Mutex<Mark>>);

impl Seen {
    fn latest(&self) -> Mark {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, mark: Mark) {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *latest = mark.max(*latest);
    }
}

impl Store {
    /// Notes that this database was restored, where nobody may be left who has seen what it has lost: all coordinators were
    /// stopped, or NATS is another one. Takes the next epoch, as a leader does who finds it out; none if nobody has led yet.
    pub async fn note_restored(&self, by: &str) -> Result<Option<Rollback>, StoreError> {
        let Some(found) = self.leadership().await? else { return Ok(None) };
        let known = Mark { epoch: found.epoch, seq: found.seq + 1 };
        Ok(self.claim_leadership(by, known).await?.rolled_back)
    }

    /// The database's clock, for a transaction that is about to claim notifications; and a look at whether the database
    /// has gone back, which a sender must not wait for the leader to notice. Until a leader has, in an epoch that is
    /// later than all, everything that is claimed is marked.
    pub(super) async fn now_and_look(&self, tx: &mut Tx) -> Result<Timestamp, StoreError> {
        // Before the question: what was seen then is in the answer, unless it is gone.
        let seen = self.seen.latest();
        let sql = format!(
            "SELECT {}, COALESCE(l.epoch, 0), COALESCE(l.seq, 0), COALESCE(l.planned_through, 0) \
             FROM (SELECT 1) AS one LEFT JOIN sqlsentinel_leadership l ON l.id = 1",
            self.dialect.now()
        );
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut **tx).await?;
        let now = Timestamp::from_micros(row.try_get(0)?);
        let found = Mark { epoch: row.try_get(1)?, seq: row.try_get(2)? };
        if found < seen {
            // Under the epoch as it was found: if its leader has died before it could say so, the next one reads it here.
            let cursor = Timestamp::from_micros(row.try_get(3)?);
            let rollback = write_down(tx, found.epoch, (seen, found), cursor, now).await?;
            tracing::warn!(
                known_epoch = seen.epoch,
                known_seq = seen.seq,
                found_epoch = found.epoch,
                found_seq = found.seq,
                notifications = rollback.notifications,
                "the state database has gone back in time: what is sent now is marked as a possible duplicate"
            );
        }
        self.seen.note(found);
        Ok(now)
    }
}

/// The latest place that a sender knew of, when it found the database before it in this epoch.
pub(super) async fn known_to_senders(tx: &mut Tx, epoch: i64) -> Result<Mark, StoreError> {
    let select = "SELECT known_epoch, known_seq FROM sqlsentinel_rollbacks WHERE epoch = $1";
    match sqlx::query(select).bind(epoch).fetch_optional(&mut **tx).await? {
        Some(row) => Ok(Mark { epoch: row.try_get(0)?, seq: row.try_get(1)? }),
        None => Ok(Mark::default()),
    }
}

/// Writes down that the database has gone back, and marks what is in the outbox. In the transaction that takes `epoch`.
pub(super) async fn note(
    tx: &mut Tx,
    dialect: Dialect,
    epoch: i64,
    (known, found): (Mark, Mark),
    uncertain_from: Timestamp,
) -> Result<Rollback, StoreError> {
    let now = sqlx::query(AssertSqlSafe(format!("SELECT {}", dialect.now()))).fetch_one(&mut **tx).await?;
    let uncertain_until = Timestamp::from_micros(now.try_get(0)?);
    write_down(tx, epoch, (known, found), uncertain_from, uncertain_until).await
}

async fn write_down(
    tx: &mut Tx,
    epoch: i64,
    (known, found): (Mark, Mark),
    uncertain_from: Timestamp,
    uncertain_until: Timestamp,
) -> Result<Rollback, StoreError> {
    sqlx::query(
        "INSERT INTO sqlsentinel_rollbacks (epoch, known_epoch, known_seq, found_epoch, found_seq, uncertain_from, \
         uncertain_until) VALUES ($1, $2, $3, $4, $5, $6, $7) \
         ON CONFLICT (epoch) DO UPDATE SET known_epoch = excluded.known_epoch, known_seq = excluded.known_seq, \
         found_epoch = excluded.found_epoch, found_seq = excluded.found_seq, uncertain_until = excluded.uncertain_until",
    )
    .bind(epoch)
    .bind(known.epoch)
    .bind(known.seq)
    .bind(found.epoch)
    .bind(found.seq)
    .bind(uncertain_from.as_micros())
    .bind(uncertain_until.as_micros())
    .execute(&mut **tx)
    .await?;
    let notifications = mark_uncertain(tx).await?;
    Ok(Rollback { known, found, uncertain_from, uncertain_until, notifications })
}

async fn mark_uncertain(tx: &mut Tx) -> Result<u64, StoreError> {
    let sql = format!(
        "UPDATE sqlsentinel_notifications SET possible_duplicate = 1 WHERE {} AND possible_duplicate = 0",
        super::outbox::ACTIVE
    );
    Ok(sqlx::query(AssertSqlSafe(sql)).execute(&mut **tx).await?.rows_affected())
}
