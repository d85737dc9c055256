//! Who wrote the ledger, in which order: a log that the state database itself keeps for a test.
//!
//! Each transaction of a leader holds the row of the leadership locked from its first statement to its end, so what
//! triggers write down within it is numbered in the order of the commits. Only what was committed stays.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use sqlx::{AnyPool, Row};

/// The log's table and triggers: a stamp for each transaction of a leader, and for each of its statements that wrote fires
/// or gaps.
const LOG: &str = "
CREATE TABLE stamps (
    number BIGSERIAL PRIMARY KEY,
    place TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL DEFAULT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)
);
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stamps (place, epoch, seq) VALUES (TG_TABLE_NAME, NEW.epoch, NEW.seq);
    RETURN NULL;
END $$;
CREATE TRIGGER stamp AFTER UPDATE OF epoch, seq ON sqlsentinel_leadership FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE TRIGGER stamp AFTER INSERT OR UPDATE OF epoch, seq ON sqlsentinel_fires FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE TRIGGER stamp AFTER INSERT ON sqlsentinel_gaps FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE TRIGGER stamp AFTER INSERT ON sqlsentinel_config_sets FOR EACH ROW EXECUTE FUNCTION stamp();
";

/// One row that a leader wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The table.
    pub place: String,
    /// The leader's epoch.
    pub epoch: i64,
    /// Its transaction's number.
    pub seq: i64,
    /// When, on the state database's clock, in microseconds.
    pub at: i64,
}

/// The log of one PostgreSQL state database.
#[derive(Clone, Debug)]
pub struct Stamps {
    pool: AnyPool,
}

impl Stamps {
    /// Begins the log; the schema has to be there.
    pub async fn begin(pool: &AnyPool) -> Result<Self> {
        sqlx::raw_sql(LOG).execute(pool).await?;
        Ok(Self { pool: pool.clone() })
    }

    /// Everything that was committed so far, in order.
    pub async fn committed(&self) -> Result<Vec<Stamp>> {
        let rows =
            sqlx::query("SELECT place, epoch, seq, at FROM stamps ORDER BY number").fetch_all(&self.pool).await?;
        let read = |row: &sqlx::any::AnyRow| {
            Ok(Stamp { place: row.try_get(0)?, epoch: row.try_get(1)?, seq: row.try_get(2)?, at: row.try_get(3)? })
        };
        rows.iter().map(read).collect()
    }
}

/// The places where something of an earlier epoch, or of an earlier transaction of the same one, was committed after
/// something later: none, unless a deposed leader changed the ledger.
pub fn out_of_order(stamps: &[Stamp]) -> Vec<(Stamp, Stamp)> {
    let pairs = stamps.iter().zip(stamps.iter().skip(1));
    pairs
        .filter(|(one, next)| (next.epoch, next.seq) < (one.epoch, one.seq))
        .map(|(one, next)| (one.clone(), next.clone()))
        .collect()
}

/// The epochs in the log.
pub fn epochs(stamps: &[Stamp]) -> BTreeSet<i64> {
    stamps.iter().map(|stamp| stamp.epoch).collect()
}

/// From the last commit of `former` to the first of whoever came after it: when the two happened, in microseconds.
pub fn hand_over(stamps: &[Stamp], former: i64) -> Result<(i64, i64)> {
    let last = stamps.iter().rfind(|stamp| stamp.epoch == former).context("the former leader wrote nothing")?;
    let first = stamps.iter().find(|stamp| stamp.epoch > former).context("nobody came after the former leader")?;
    Ok((last.at, first.at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_deposed_leader_commits_is_found() {
        let stamp = |epoch, seq| Stamp { place: "fires".to_owned(), epoch, seq, at: epoch * 100 + seq };
        let good = [stamp(1, 1), stamp(1, 1), stamp(1, 2), stamp(3, 0), stamp(3, 1)];
        assert_eq!(out_of_order(&good), []);
        assert_eq!(hand_over(&good, 1).ok(), Some((102, 300)));
        assert_eq!(epochs(&good), [1, 3].into());
        let late = [stamp(1, 1), stamp(3, 0), stamp(1, 2), stamp(3, 1)];
        assert_eq!(out_of_order(&late), [(stamp(3, 0), stamp(1, 2))]);
        let again = [stamp(1, 2), stamp(1, 1)];
        assert_eq!(out_of_order(&again).len(), 1);
    }
}
