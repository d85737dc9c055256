//! The epoch: which coordinator may change the ledger.
//!
//! The lease elects, the epoch decides. A winner takes the next epoch here before it does anything else, and every
//! transaction of a leader begins with [`Store::begin_as`], which finds no row once somebody else has taken a later
//! epoch. However long a leader was frozen, and whatever it had prepared, it changes nothing after that.
//!
//! A leader also knows its own last commit. A database that stands before it has gone back in time ([`super::rollback`]),
//! and with it the cursor: going on from memory would leave the lost fires out.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use sqlx::{AssertSqlSafe, Row};

pub use super::mark::Mark;
use super::rollback::{self, Rollback};
use super::{Store, StoreError, Tx};
use crate::alert::ConfigHash;
use crate::ids::TermId;
use crate::timestamp::Timestamp;

/// One leader's right to change the ledger, until somebody takes a later epoch.
#[derive(Clone, Debug)]
pub struct Term {
    /// Grows by at least one with every leader.
    pub epoch: i64,
    /// Tells two leaders apart that believe in the same epoch.
    pub term: TermId,
    /// The number of the last transaction that was committed for certain; shared by the clones of one term.
    committed: Arc<AtomicI64>,
}

impl Term {
    /// A term that has just been taken.
    pub fn new(epoch: i64, term: TermId) -> Self {
        Self { epoch, term, committed: Arc::default() }
    }

    /// The latest place in the ledger's history that this leader has committed for certain.
    pub fn last_commit(&self) -> Mark {
        Mark { epoch: self.epoch, seq: self.committed.load(Ordering::SeqCst) }
    }
}

/// What a new leader finds.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The right just taken.
    pub term: Term,
    /// The schedule cursor: every fire due up to here is accounted for.
    pub planned_through: Timestamp,
    /// Every queued fire stamped up to here has been published.
    pub published: Mark,
    /// Whether the row was older than what was known: this database has gone back in time.
    pub rolled_back: Option<Rollback>,
}

/// The leadership row, as anyone may read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeadershipRow {
    /// The epoch in force.
    pub epoch: i64,
    /// How many transactions the leader has committed in it.
    pub seq: i64,
    /// The node that took it.
    pub holder: String,
    /// When it was taken, on the database's clock.
    pub acquired_at: Timestamp,
    /// The schedule cursor.
    pub planned_through: Timestamp,
    /// The set of definitions in force; empty before the first.
    pub set_hash: ConfigHash,
}

/// A leader's transaction: already fenced, with the stamp for its rows.
#[derive(Debug)]
pub struct LeaderTx {
    /// The transaction.
    pub tx: Tx,
    /// The stamp of every row it writes.
    pub mark: Mark,
    committed: Arc<AtomicI64>,
}

impl LeaderTx {
    /// Makes it true.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.tx.commit().await?;
        self.committed.fetch_max(self.mark.seq, Ordering::SeqCst);
        Ok(())
    }
}

impl Store {
    /// Takes the next epoch for `holder`: above the row's, and above that of `known`, the latest commit that the lease told
    /// of, or a sender. If the row is older than that, everything that follows from it is marked in the same transaction.
    pub async fn claim_leadership(&self, holder: &str, known: Mark) -> Result<Claimed, StoreError> {
        self.step(async {
            let term = TermId::random();
            let now = self.dialect.now();
            let mut tx = self.begin().await?;
            let born = format!(
                "INSERT INTO sqlsentinel_leadership (id, epoch, term, seq, holder, acquired_at, planned_through, \
                 published_epoch, published_seq, set_hash) VALUES (1, 0, '', 0, '', {now}, {now}, 0, 0, '') \
                 ON CONFLICT (id) DO NOTHING"
            );
            sqlx::query(AssertSqlSafe(born)).execute(&mut *tx).await?;
            let lock = self.dialect.pick(" FOR UPDATE", "");
            let found = sqlx::query(AssertSqlSafe(format!(
                "SELECT epoch, seq, planned_through, published_epoch, published_seq \
                 FROM sqlsentinel_leadership WHERE id = 1{lock}"
            )))
            .fetch_one(&mut *tx)
            .await?;
            let at = Mark { epoch: found.try_get(0)?, seq: found.try_get(1)? };
            let planned_through = Timestamp::from_micros(found.try_get(2)?);
            let known = known.max(rollback::known_to_senders(&mut tx, at.epoch).await?);
            let epoch = at.epoch.max(known.epoch) + 1;
            let rolled_back = match at < known {
                true => Some(rollback::note(&mut tx, self.dialect, epoch, (known, at), planned_through).await?),
                false => None,
            };
            sqlx::query(AssertSqlSafe(format!(
                "UPDATE sqlsentinel_leadership SET epoch = $1, term = $2, seq = 0, holder = $3, acquired_at = {now} \
                 WHERE id = 1"
            )))
            .bind(epoch)
            .bind(term.to_string())
            .bind(holder.to_owned())
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(Claimed {
                term: Term::new(epoch, term),
                planned_through,
                published: Mark { epoch: found.try_get(3)?, seq: found.try_get(4)? },
                rolled_back,
            })
        })
        .await
    }

    /// Begins a leader's transaction.
    // Invariant: fenced. This is the only way to a `LeaderTx`, and every write to the ledger takes one.
    pub async fn begin_as(&self, term: &Term) -> Result<LeaderTx, StoreError> {
        let mut tx = self.begin().await?;
        let row =
            sqlx::query("UPDATE sqlsentinel_leadership SET seq = seq + 1 WHERE epoch = $1 AND term = $2 RETURNING seq")
                .bind(term.epoch)
                .bind(term.term.to_string())
                .fetch_optional(&mut *tx)
                .await?;
        let Some(row) = row else { return Err(deposed(&mut tx, term).await?) };
        let mark = Mark { epoch: term.epoch, seq: row.try_get(0)? };
        // The row is locked until our end: whoever committed under a greater number did so before this statement, unless
        // the database has forgotten it.
        let known = term.last_commit();
        if mark <= known {
            return Err(StoreError::RolledBack { known, found: Mark { seq: mark.seq - 1, ..mark } });
        }
        Ok(LeaderTx { tx, mark, committed: Arc::clone(&term.committed) })
    }

    /// The leadership row; none before the first leader.
    pub async fn leadership(&self) -> Result<Option<LeadershipRow>, StoreError> {
        self.step(async {
            let row = sqlx::query(
                "SELECT epoch, holder, acquired_at, planned_through, set_hash, seq FROM sqlsentinel_leadership \
                 WHERE id = 1",
            )
            .fetch_optional(self.pool())
            .await?;
            let Some(row) = row else { return Ok(None) };
            Ok(Some(LeadershipRow {
                epoch: row.try_get(0)?,
                holder: row.try_get(1)?,
                acquired_at: Timestamp::from_micros(row.try_get(2)?),
                planned_through: Timestamp::from_micros(row.try_get(3)?),
                set_hash: ConfigHash::from_stored(row.try_get(4)?),
                seq: row.try_get(5)?,
            }))
        })
        .await
    }
}

/// Why there is no row of `term`: a later epoch, or a database that does not know this one any more.
async fn deposed(tx: &mut Tx, term: &Term) -> Result<StoreError, StoreError> {
    let row =
        sqlx::query("SELECT epoch, seq FROM sqlsentinel_leadership WHERE id = 1").fetch_optional(&mut **tx).await?;
    let found = match row {
        Some(row) => Mark { epoch: row.try_get(0)?, seq: row.try_get(1)? },
        None => Mark::default(),
    };
    let known = term.last_commit();
    Ok(if found.epoch < known.epoch { StoreError::RolledBack { known, found } } else { StoreError::Deposed })
}
