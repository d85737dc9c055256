//! What the state database says, read in plain SQL with a pool of the test's own: an auditor that shares no code with
//! what it audits.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sqlx::any::{AnyPoolOptions, AnyRow};
use sqlx::{AnyPool, Row};

/// Statuses of fires that are still under way.
pub const OPEN: [&str; 2] = ["WAITING", "QUEUED"];

/// One row of `sqlsentinel_fires`. All moments are microseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fire {
    /// The execution's id.
    pub execution_id: String,
    /// The alert.
    pub alert: String,
    /// The nominal time.
    pub scheduled_for: i64,
    /// Open (`WAITING`, `QUEUED`), or how it ended.
    pub status: String,
    /// Why it was skipped or expired; empty otherwise.
    pub reason: String,
    /// After this moment its run was worth nothing.
    pub deadline: i64,
    /// The last publication's number; 0 if there was none.
    pub attempt: i64,
    /// When it was last queued for the bus.
    pub queued_at: Option<i64>,
    /// When it ended.
    pub finished_at: Option<i64>,
    /// The stamp of the leader's transaction that wrote it last.
    pub epoch: i64,
    /// The same: the transaction's number.
    pub seq: i64,
}

/// One row of `sqlsentinel_gaps`: fires that were accounted for together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The alert.
    pub alert: String,
    /// The first fire covered.
    pub first: i64,
    /// The last fire covered.
    pub last: i64,
    /// How many.
    pub fires: i64,
    /// Why they did not run.
    pub reason: String,
    /// The stamp of the transaction that wrote it.
    pub epoch: i64,
    /// The same: its number.
    pub seq: i64,
}

/// One row of `sqlsentinel_executions`: a finished run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// The execution's id.
    pub id: String,
    /// The alert.
    pub alert: String,
    /// How the run ended.
    pub status: String,
    /// What was wrong; empty if nothing.
    pub error: String,
    /// Which publication it was.
    pub attempt: i64,
    /// How often that publication had been handed out.
    pub delivery: i64,
    /// The worker.
    pub worker: String,
}

/// One row of `sqlsentinel_notifications`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// Its id, the webhook's `Idempotency-Key`.
    pub id: String,
    /// The execution that caused it.
    pub execution_id: String,
    /// The alert.
    pub alert: String,
    /// `alert`, `repeat`, `resolved`, `error`, `error_resolved` or `no_data`.
    pub kind: String,
    /// `PENDING`, `SENDING`, `SENT`, `DEAD` or `SKIPPED`.
    pub status: String,
    /// How often it was tried.
    pub attempt: i64,
    /// Whether a resend may have arrived twice.
    pub possible_duplicate: bool,
}

/// The row of `sqlsentinel_leadership`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The current epoch.
    pub epoch: i64,
    /// The current term's id.
    pub term: String,
    /// How many transactions the term has committed.
    pub seq: i64,
    /// The leader's node name.
    pub holder: String,
    /// The schedule cursor, in microseconds: fires up to here are planned.
    pub planned_through: i64,
}

/// Fires that should be in the ledger and are not, or are there more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unaccounted {
    /// Due, but neither a fire nor in a gap.
    pub missing: Vec<(String, i64)>,
    /// Covered more than once.
    pub twice: Vec<(String, i64)>,
    /// In the ledger, but never due.
    pub invented: Vec<(String, i64)>,
}

/// A reader of one state database.
#[derive(Clone, Debug)]
pub struct Ledger {
    pool: AnyPool,
}

impl Ledger {
    /// A reader of the database at `url`; it connects when it is asked.
    pub fn open(url: &str) -> Result<Self> {
        sqlx::any::install_default_drivers();
        Ok(Self { pool: AnyPoolOptions::new().max_connections(2).connect_lazy(url)? })
    }

    /// The pool, for a question that only one test has.
    pub fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// All fires, or those of one alert, by nominal time.
    pub async fn fires(&self, alert: Option<&str>) -> Result<Vec<Fire>> {
        self.rows(
            "SELECT execution_id, alert_name, scheduled_for, status, COALESCE(reason, ''), deadline, \
             CAST(attempt AS BIGINT), queued_at, finished_at, epoch, seq FROM sqlsentinel_fires",
            "ORDER BY scheduled_for, alert_name",
            alert,
            |row| {
                Ok(Fire {
                    execution_id: row.try_get(0)?,
                    alert: row.try_get(1)?,
                    scheduled_for: row.try_get(2)?,
                    status: row.try_get(3)?,
                    reason: row.try_get(4)?,
                    deadline: row.try_get(5)?,
                    attempt: row.try_get(6)?,
                    queued_at: row.try_get(7)?,
                    finished_at: row.try_get(8)?,
                    epoch: row.try_get(9)?,
                    seq: row.try_get(10)?,
                })
            },
        )
        .await
    }

    /// All gaps, or those of one alert.
    pub async fn gaps(&self, alert: Option<&str>) -> Result<Vec<Gap>> {
        self.rows(
            "SELECT alert_name, first_scheduled_for, last_scheduled_for, fires, reason, epoch, seq FROM sqlsentinel_gaps",
            "ORDER BY first_scheduled_for, alert_name",
            alert,
            |row| {
                Ok(Gap {
                    alert: row.try_get(0)?,
                    first: row.try_get(1)?,
                    last: row.try_get(2)?,
                    fires: row.try_get(3)?,
                    reason: row.try_get(4)?,
                    epoch: row.try_get(5)?,
                    seq: row.try_get(6)?,
                })
            },
        )
        .await
    }

    /// All finished runs, or those of one alert, in the order of their nominal times.
    pub async fn executions(&self, alert: Option<&str>) -> Result<Vec<Execution>> {
        self.rows(
            "SELECT id, alert_name, status, COALESCE(error_message, ''), CAST(attempt AS BIGINT), \
             CAST(delivery AS BIGINT), COALESCE(worker, '') FROM sqlsentinel_executions",
            "ORDER BY scheduled_for",
            alert,
            |row| {
                Ok(Execution {
                    id: row.try_get(0)?,
                    alert: row.try_get(1)?,
                    status: row.try_get(2)?,
                    error: row.try_get(3)?,
                    attempt: row.try_get(4)?,
                    delivery: row.try_get(5)?,
                    worker: row.try_get(6)?,
                })
            },
        )
        .await
    }

    /// All notifications, or those of one alert, in order.
    pub async fn notifications(&self, alert: Option<&str>) -> Result<Vec<Notification>> {
        self.rows(
            "SELECT notification_id, execution_id, alert_name, kind, status, CAST(attempt AS BIGINT), \
             CAST(possible_duplicate AS BIGINT) FROM sqlsentinel_notifications",
            "ORDER BY scheduled_for, alert_name, sequence",
            alert,
            |row| {
                Ok(Notification {
                    id: row.try_get(0)?,
                    execution_id: row.try_get(1)?,
                    alert: row.try_get(2)?,
                    kind: row.try_get(3)?,
                    status: row.try_get(4)?,
                    attempt: row.try_get(5)?,
                    possible_duplicate: row.try_get::<i64, _>(6)? != 0,
                })
            },
        )
        .await
    }

    /// Who leads, and how far planning has come.
    pub async fn leadership(&self) -> Result<Leadership> {
        let row = sqlx::query("SELECT epoch, term, seq, holder, planned_through FROM sqlsentinel_leadership")
            .fetch_one(&self.pool)
            .await?;
        Ok(Leadership {
            epoch: row.try_get(0)?,
            term: row.try_get(1)?,
            seq: row.try_get(2)?,
            holder: row.try_get(3)?,
            planned_through: row.try_get(4)?,
        })
    }

    /// The state in the transition table's memory; none while it is unknown.
    pub async fn state(&self, alert: &str) -> Result<Option<String>> {
        let row = sqlx::query("SELECT current_status FROM sqlsentinel_state WHERE alert_name = $1")
            .bind(alert.to_owned())
            .fetch_optional(&self.pool)
            .await?;
        row.map_or(Ok(None), |row| Ok(row.try_get(0)?))
    }

    /// From where on an alert's definition is in force: fires after this moment, in microseconds, are due.
    pub async fn valid_from(&self, alert: &str) -> Result<i64> {
        let row = sqlx::query(
            "SELECT valid_from FROM sqlsentinel_configs \
             WHERE alert_name = $1 AND valid_from IS NOT NULL AND valid_until IS NULL",
        )
        .bind(alert.to_owned())
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.with_context(|| format!("`{alert}` has no definition in force"))?.try_get(0)?)
    }

    /// Compares the ledger of `alerts`, which are due at every multiple of `every` microseconds, with what was due
    /// from the start of each definition to `until`. It computes the due times itself.
    pub async fn audit(&self, alerts: &[String], every: i64, until: i64) -> Result<Unaccounted> {
        let mut due = BTreeSet::new();
        for alert in alerts {
            let from = self.valid_from(alert).await?;
            due.extend(multiples(from, until, every).map(|moment| (alert.clone(), moment)));
        }
        Ok(compare(&due, &self.covered(every).await?, until))
    }

    /// The same for one alert, the only one there is, which was due from `from` on in whatever version.
    pub async fn audit_from(&self, alert: &str, from: i64, every: i64, until: i64) -> Result<Unaccounted> {
        let due = multiples(from, until, every).map(|moment| (alert.to_owned(), moment)).collect();
        Ok(compare(&due, &self.covered(every).await?, until))
    }

    /// How often each moment of each alert is in the ledger.
    async fn covered(&self, every: i64) -> Result<BTreeMap<(String, i64), u32>> {
        let mut covered: BTreeMap<(String, i64), u32> = BTreeMap::new();
        for fire in self.fires(None).await? {
            *covered.entry((fire.alert, fire.scheduled_for)).or_default() += 1;
        }
        for gap in self.gaps(None).await? {
            for due in multiples(gap.first - 1, gap.last, every) {
                *covered.entry((gap.alert.clone(), due)).or_default() += 1;
            }
        }
        Ok(covered)
    }

    async fn rows<T>(
        &self,
        select: &str,
        order: &str,
        alert: Option<&str>,
        read: impl Fn(&AnyRow) -> Result<T>,
    ) -> Result<Vec<T>> {
        let condition = if alert.is_some() { "WHERE alert_name = $1" } else { "" };
        let sql = format!("{select} {condition} {order}");
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        if let Some(alert) = alert {
            query = query.bind(alert.to_owned());
        }
        query.fetch_all(&self.pool).await?.iter().map(read).collect()
    }
}

/// The multiples of `every` after `after`, up to and including `until`.
fn multiples(after: i64, until: i64, every: i64) -> impl Iterator<Item = i64> {
    let first = (after.div_euclid(every) + 1) * every;
    (0..).map(move |step| first + step * every).take_while(move |moment| *moment <= until)
}

fn compare(due: &BTreeSet<(String, i64)>, covered: &BTreeMap<(String, i64), u32>, until: i64) -> Unaccounted {
    let mut unaccounted = Unaccounted::default();
    unaccounted.missing.extend(due.iter().filter(|fire| !covered.contains_key(fire)).cloned());
    for (fire, times) in covered {
        if *times > 1 {
            unaccounted.twice.push(fire.clone());
        }
        // What was planned after the moment of the audit is not its subject.
        if fire.1 <= until && !due.contains(fire) {
            unaccounted.invented.push(fire.clone());
        }
    }
    unaccounted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_times_are_the_multiples_after_one_moment_up_to_another() {
        assert_eq!(multiples(10, 40, 10).collect::<Vec<_>>(), [20, 30, 40]);
        assert_eq!(multiples(9, 29, 10).collect::<Vec<_>>(), [10, 20]);
        assert_eq!(multiples(40, 40, 10).count(), 0);
    }

    #[test]
    fn the_audit_finds_what_is_missing_twice_or_invented() {
        let fire = |moment| ("a".to_owned(), moment);
        let due: BTreeSet<_> = [fire(10), fire(20), fire(30)].into();
        let good: BTreeMap<_, _> = [(fire(10), 1), (fire(20), 1), (fire(30), 1), (fire(40), 1)].into();
        assert_eq!(compare(&due, &good, 30), Unaccounted::default());
        let bad: BTreeMap<_, _> = [(fire(10), 2), (fire(20), 1), (fire(25), 1)].into();
        let found = compare(&due, &bad, 30);
        assert_eq!((found.missing, found.twice, found.invented), (vec![fire(30)], vec![fire(10)], vec![fire(25)]));
    }
}
