//! The epoch: which coordinator may change the ledger.
//!
//! The lease elects, the epoch decides. A winner takes the next epoch here before it does anything else, and every
//! transaction of a leader begins with [`Store::begin_as`], which finds no row once somebody else has taken a later
//! epoch. However long a leader was frozen, and whatever it had prepared, it changes nothing after that.

use sqlx::{AssertSqlSafe, Row};

use super::{Store, StoreError, Tx};
use crate::alert::ConfigHash;
use crate::ids::TermId;
use crate::timestamp::Timestamp;

/// One leader's right to change the ledger, until somebody takes a later epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// Grows by at least one with every leader.
    pub epoch: i64,
    /// Tells two leaders apart that believe in the same epoch.
    pub term: TermId,
}

/// A place in the ledger's history: rows are stamped with it, later transactions have greater ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mark {
    /// The leader's epoch.
    pub epoch: i64,
    /// The transaction's number within the epoch.
    pub seq: i64,
}

/// What a new leader finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The right just taken.
    pub term: Term,
    /// The schedule cursor: every fire due up to here is accounted for.
    pub planned_through: Timestamp,
    /// Every queued fire stamped up to here has been published.
    pub published: Mark,
    /// Whether the row was older than the lease: this database has gone back in time.
    pub rolled_back: bool,
}

/// The leadership row, as anyone may read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeadershipRow {
    /// The epoch in force.
    pub epoch: i64,
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
}

impl LeaderTx {
    /// Makes it true.
    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.tx.commit().await?)
    }
}

impl Store {
    /// Takes the next epoch for `holder`: above the row's, and above `lease_epoch`, the greatest that the lease knew.
    pub async fn claim_leadership(&self, holder: &str, lease_epoch: i64) -> Result<Claimed, StoreError> {
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
                "SELECT epoch, planned_through, published_epoch, published_seq \
                 FROM sqlsentinel_leadership WHERE id = 1{lock}"
            )))
            .fetch_one(&mut *tx)
            .await?;
            let found_epoch: i64 = found.try_get(0)?;
            let epoch = found_epoch.max(lease_epoch) + 1;
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
                term: Term { epoch, term },
                planned_through: Timestamp::from_micros(found.try_get(1)?),
                published: Mark { epoch: found.try_get(2)?, seq: found.try_get(3)? },
                rolled_back: found_epoch < lease_epoch,
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
                .await?
                .ok_or(StoreError::Deposed)?;
        Ok(LeaderTx { tx, mark: Mark { epoch: term.epoch, seq: row.try_get(0)? } })
    }

    /// The leadership row; none before the first leader.
    pub async fn leadership(&self) -> Result<Option<LeadershipRow>, StoreError> {
        self.step(async {
            let row = sqlx::query(
                "SELECT epoch, holder, acquired_at, planned_through, set_hash FROM sqlsentinel_leadership WHERE id = 1",
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
            }))
        })
        .await
    }
}
