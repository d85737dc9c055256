//! How long history is kept: the leader deletes what is older, a page at a time, beside planning.
//!
//! Input: the age that a row may have, counted from the schedule cursor, so that a clock that has jumped ahead takes nothing
//! with it before somebody has accepted it. Output: a smaller ledger, a figure and a line in the log.

use std::time::Duration;

use sqlsentinel_common::store::leadership::Term;
use sqlsentinel_common::store::retention::{Expendable, Place};
use sqlsentinel_common::store::{Store, StoreError};
use sqlsentinel_common::timestamp::Timestamp;

use crate::metrics::Metrics;

/// How soon after the beginning of a term the first pass begins: taking over comes first.
const FIRST: Duration = Duration::from_secs(5);
/// From the end of a pass to the next one.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// Between two pages: planning waits for a page's transaction, and must find its turn.
const BREATH: Duration = Duration::from_millis(50);

/// The longest that a configuration may have missed fires caught up: what is younger may still be needed.
const LEAST_DAYS: u32 = 7;
const MOST_DAYS: u32 = 36_500;

/// Reads a number of days; 0 is for ever.
pub fn days(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(days @ (0 | LEAST_DAYS..=MOST_DAYS)) => Ok(days),
        _ => Err(format!(
            "write 0 (for ever), or {LEAST_DAYS} to {MOST_DAYS} days: fires are caught up for {LEAST_DAYS}"
        )),
    }
}

/// So many days as an age; none for ever.
pub fn keep(days: u32) -> Option<Duration> {
    (days > 0).then(|| Duration::from_secs(u64::from(days) * 24 * 60 * 60))
}

/// One term's retention.
#[derive(Debug)]
pub struct Retention {
    /// The ledger.
    pub store: Store,
    /// The right to change it.
    pub term: Term,
    /// How old a row may be; none: rows are kept for ever.
    pub keep: Option<Duration>,
    /// The figures.
    pub metrics: Metrics,
}

impl Retention {
    /// Purges now and then. Ends when another coordinator has taken over.
    pub async fn run(self) {
        let Some(keep) = self.keep else { return std::future::pending().await };
        tokio::time::sleep(FIRST).await;
        loop {
            match self.run_once(keep).await {
                Ok(_) => {}
                Err(StoreError::Deposed) => return,
                Err(error) => tracing::warn!(%error, "old history was not purged to the end, trying again later"),
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// One pass over every table. Returns how many rows went.
    pub async fn run_once(&self, keep: Duration) -> Result<u64, StoreError> {
        let cursor = self.store.leadership().await?.ok_or(StoreError::Deposed)?.planned_through;
        let before = cursor.minus(keep);
        let mut all = 0;
        for what in Expendable::ALL {
            all += self.purge(what, before).await?;
        }
        Ok(all)
    }

    async fn purge(&self, what: Expendable, before: Timestamp) -> Result<u64, StoreError> {
        let (mut place, mut rows) = (Place::default(), 0);
        loop {
            let found = self.store.expendable(what, before, &place).await?;
            if !found.keys.is_empty() {
                let deleted = self.store.purge(&self.term, what, &found.keys).await?;
                self.metrics.purged_rows.with_label_values(&[what.table()]).inc_by(deleted);
                rows += deleted;
                if deleted == 0 {
                    // Somebody holds all of them. The next pass will find them again.
                    break;
                }
                tokio::time::sleep(BREATH).await;
            }
            match found.next {
                Some(next) => place = next,
                None => break,
            }
        }
        if rows > 0 {
            tracing::info!(table = what.table(), rows, %before, "old history was purged");
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_kept_for_ever_or_for_longer_than_anything_is_caught_up() {
        for (text, expected) in [("0", Some(0)), ("7", Some(7)), ("90", Some(90)), ("36500", Some(36_500))] {
            assert_eq!(days(text).ok(), expected, "{text}");
        }
        for text in ["", "1", "6", "36501", "-7", "90d"] {
            assert!(days(text).is_err(), "{text}");
        }
        assert_eq!((keep(0), keep(7)), (None, Some(Duration::from_secs(604_800))));
    }
}
