//! The audit: what the ledger holds against what was due by the definitions in force, as [`crate::audit`] compares it.
//! Only reads, and never locks; anyone may do it.
//!
//! Invariant: what lies up to the schedule cursor is all there when the cursor is, and only retention takes something away,
//! long after any window. So the cursor and the intervals of the versions are read in one snapshot, and everything else
//! after it, in steps short enough for no database to mind.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::fires::as_json;
use super::{Store, StoreError};
use crate::alert::ConfigHash;
use crate::audit::{Difference, Gap, Interval, Overdue, Report, Row, Stretch, Tally, Tolerance, Version, stretches};
use crate::schedule::Schedule;
use crate::timestamp::Timestamp;

/// About how many rows of fires one statement counts.
const ROWS: i64 = 200_000;
/// The most stretches that one statement counts the rows of.
const STRETCHES: usize = 2_000;
/// How many stretches are gone through fire by fire; of others that differ, the fires are counted.
const EXAMINED: usize = 20;

/// How far back an audit may look, in hours: less than the shortest time that history is kept.
pub const MOST_HOURS: u32 = 6 * 24;

/// What to look at, and what to call late.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// How far back from the cursor.
    pub window: Duration,
    /// Only what is later than this.
    pub after: Option<Timestamp>,
    /// What is late.
    pub tolerance: Tolerance,
}

/// An auditor of one ledger: it remembers the versions that it has read.
#[derive(Clone, Debug)]
pub struct Auditor {
    store: Store,
    versions: HashMap<ConfigHash, Arc<Version>>,
}

/// What belongs to one moment: the cursor, and when which version was in force.
struct Basis {
    planned_through: Timestamp,
    now: Timestamp,
    open: i64,
    intervals: Vec<Named>,
}

/// An interval by the name of its version.
struct Named {
    alert_name: String,
    hash: ConfigHash,
    valid_from: Timestamp,
    valid_until: Option<Timestamp>,
}

/// A stretch with what it was compared by.
struct Compared {
    stretch: Stretch,
    due: i64,
    tally: Tally,
}

impl Auditor {
    /// An auditor that has read nothing yet.
    pub fn of(store: Store) -> Self {
        Self { store, versions: HashMap::new() }
    }

    /// Compares the ledger with what was due; none before the first leader, when nothing was.
    pub async fn audit(&mut self, look: Look) -> Result<Option<Report>, StoreError> {
        let Some(basis) = self.store.audit_basis(look.tolerance).await? else { return Ok(None) };
        let through = basis.planned_through;
        let after = through.minus(look.window).max(look.after.unwrap_or(Timestamp::from_micros(i64::MIN))).min(through);
        let intervals = self.intervals(basis.intervals).await?;
        let late = (basis.now, look.tolerance.planning);
        let (counted, behind, unplanned) = computed(move || {
            let (behind, unplanned) = unplanned(&intervals, through, late);
            let counted = stretches(intervals, after, through).into_iter().map(|stretch| (stretch.due(), stretch));
            (counted.collect::<Vec<_>>(), behind, unplanned)
        })
        .await?;
        let gaps = self.store.audit_gaps(after, through).await?;
        let due = counted.iter().map(|(due, _)| due).sum();
        let compared = self.tally(counted).await?;
        let differences = self.differences(compared, gaps).await?;
        let planning_behind_seconds = behind.as_secs_f64();
        let overdue = Overdue { planning_behind_seconds, unplanned, open: basis.open };
        Ok(Some(Report::new(after, through, due, differences, overdue)))
    }

    /// The intervals with their versions, which are read unless they are known, and forgotten when nothing names them.
    async fn intervals(&mut self, named: Vec<Named>) -> Result<Vec<Interval>, StoreError> {
        let hashes: HashSet<&ConfigHash> = named.iter().map(|interval| &interval.hash).collect();
        self.versions.retain(|hash, _| hashes.contains(hash));
        let unknown: Vec<&ConfigHash> = hashes.into_iter().filter(|hash| !self.versions.contains_key(hash)).collect();
        for some in unknown.chunks(STRETCHES) {
            let texts = self.store.audit_definitions(some).await?;
            let read = computed(move || texts.into_iter().map(version).collect::<Result<Vec<_>, _>>()).await??;
            self.versions.extend(read.into_iter().map(|version| (version.hash.clone(), Arc::new(version))));
        }
        let interval = |named: Named| {
            // A version without a text is one whose interval has just been purged.
            let version = Arc::clone(self.versions.get(&named.hash)?);
            let Named { alert_name, valid_from, valid_until, .. } = named;
            Some(Interval { alert_name, version, valid_from, valid_until })
        };
        Ok(named.into_iter().filter_map(interval).collect())
    }

    /// Counts the rows of the stretches, about as many in each statement.
    async fn tally(&self, counted: Vec<(i64, Stretch)>) -> Result<Vec<Compared>, StoreError> {
        let mut compared = Vec::with_capacity(counted.len());
        let mut batch: Vec<(i64, Stretch)> = Vec::new();
        let mut rows = 0;
        for (due, stretch) in counted {
            if batch.len() >= STRETCHES || (rows > 0 && rows + due > ROWS) {
                compared.extend(self.store.audit_tallies(std::mem::take(&mut batch)).await?);
                rows = 0;
            }
            rows += due;
            batch.push((due, stretch));
        }
        if !batch.is_empty() {
            compared.extend(self.store.audit_tallies(batch).await?);
        }
        Ok(compared)
    }

    async fn differences(&self, compared: Vec<Compared>, gaps: Vec<Gap>) -> Result<Vec<Difference>, StoreError> {
        let (differing, gaps) = computed(move || {
            let mut by_alert: HashMap<String, Vec<Gap>> = HashMap::new();
            for gap in gaps {
                by_alert.entry(gap.alert_name.clone()).or_default().push(gap);
            }
            let differs = |compared: &Compared| {
                let gaps = of_alert(&by_alert, &compared.stretch);
                !compared.stretch.agrees(compared.due, compared.tally, gaps)
            };
            let differing: Vec<Compared> = compared.into_iter().filter(differs).collect();
            (differing, Arc::new(by_alert))
        })
        .await?;
        let mut differences = Vec::new();
        for (place, Compared { stretch, due, tally }) in differing.into_iter().enumerate() {
            if place >= EXAMINED {
                differences.extend(stretch.estimate(due, tally, of_alert(&gaps, &stretch)));
                continue;
            }
            let rows = self.store.audit_rows(&stretch).await?;
            let gaps = Arc::clone(&gaps);
            differences.extend(computed(move || stretch.examine(&rows, of_alert(&gaps, &stretch))).await?);
        }
        Ok(differences)
    }
}

impl Store {
    /// The cursor, and what must be seen together with it; none before the first leader.
    async fn audit_basis(&self, tolerance: Tolerance) -> Result<Option<Basis>, StoreError> {
        self.step(async {
            let begin = self.dialect.pick("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "BEGIN");
            let mut snapshot = self.pool().begin_with(begin).await?;
            let sql = format!(
                "SELECT planned_through, {now}, (SELECT COUNT(*) FROM sqlsentinel_fires \
                 WHERE status IN ('WAITING', 'QUEUED') AND deadline < {now} - $1) FROM sqlsentinel_leadership WHERE id = 1",
                now = self.dialect.now()
            );
            let settling = i64::try_from(tolerance.settling.as_micros()).unwrap_or(i64::MAX);
            let row = sqlx::query(AssertSqlSafe(sql)).bind(settling).fetch_optional(&mut *snapshot).await?;
            let Some(row) = row else { return Ok(None) };
            let planned_through: i64 = row.try_get(0)?;
            let intervals = sqlx::query(
                "SELECT alert_name, config_hash, valid_from, valid_until FROM sqlsentinel_configs WHERE valid_from <= $1",
            )
            .bind(planned_through)
            .fetch_all(&mut *snapshot)
            .await?;
            Ok(Some(Basis {
                planned_through: Timestamp::from_micros(planned_through),
                now: Timestamp::from_micros(row.try_get(1)?),
                open: row.try_get(2)?,
                intervals: intervals.iter().map(named).collect::<Result<_, _>>()?,
            }))
        })
        .await
    }

    async fn audit_definitions(&self, hashes: &[&ConfigHash]) -> Result<Vec<(ConfigHash, String)>, StoreError> {
        #[derive(Serialize)]
        struct Wanted<'a> {
            config_hash: &'a ConfigHash,
        }
        let wanted: Vec<Wanted<'_>> = hashes.iter().map(|config_hash| Wanted { config_hash }).collect();
        let sql = format!(
            "SELECT d.config_hash, d.definition FROM {} JOIN sqlsentinel_definitions d ON d.config_hash = n.config_hash",
            self.dialect.rows("config_hash TEXT")
        );
        self.step(async {
            let rows = sqlx::query(AssertSqlSafe(sql)).bind(as_json(&wanted)?).fetch_all(self.pool()).await?;
            rows.iter().map(|row| Ok((ConfigHash::from_stored(row.try_get(0)?), row.try_get(1)?))).collect()
        })
        .await
    }

    /// How many rows each stretch has, in their order.
    async fn audit_tallies(&self, batch: Vec<(i64, Stretch)>) -> Result<Vec<Compared>, StoreError> {
        #[derive(Serialize)]
        struct Wanted<'a> {
            place: usize,
            alert_name: &'a str,
            config_hash: &'a str,
            low: i64,
            high: i64,
        }
        fn wanted((place, (_, stretch)): (usize, &(i64, Stretch))) -> Wanted<'_> {
            Wanted {
                place,
                alert_name: &stretch.alert_name,
                config_hash: stretch.version.as_ref().map_or("", |version| version.hash.as_str()),
                low: stretch.after.as_micros(),
                high: stretch.through.as_micros(),
            }
        }
        let wanted = as_json(&batch.iter().enumerate().map(wanted).collect::<Vec<_>>())?;
        let rows = self.dialect.rows("place BIGINT, alert_name TEXT, config_hash TEXT, low BIGINT, high BIGINT");
        let counts = "COUNT(f.alert_name), COUNT(f.alert_name) FILTER (WHERE f.config_hash = n.config_hash)";
        let lies_in = "f.alert_name = n.alert_name AND f.scheduled_for > n.low AND f.scheduled_for <= n.high";
        // One walk along the index for each stretch, whatever the planner believes of a list that it cannot see into.
        let sql = self.dialect.pick(
            format!(
                "SELECT n.place, t.* FROM {rows}, \
                 LATERAL (SELECT {counts} FROM sqlsentinel_fires f WHERE {lies_in}) AS t ORDER BY n.place"
            ),
            format!(
                "SELECT n.place, {counts} FROM {rows} LEFT JOIN sqlsentinel_fires f ON {lies_in} \
                 GROUP BY n.place ORDER BY n.place"
            ),
        );
        let rows = self.step(async { Ok(sqlx::query(AssertSqlSafe(sql)).bind(wanted).fetch_all(self.pool()).await?) });
        let tallies = rows.await?;
        if tallies.len() != batch.len() {
            return Err(StoreError::corrupt("a count is missing"));
        }
        let compared = |((due, stretch), row): ((i64, Stretch), AnyRow)| {
            Ok(Compared { stretch, due, tally: Tally { rows: row.try_get(1)?, own: row.try_get(2)? } })
        };
        batch.into_iter().zip(tallies).map(compared).collect()
    }

    /// The gaps that reach into this time, by alert and first fire.
    async fn audit_gaps(&self, after: Timestamp, through: Timestamp) -> Result<Vec<Gap>, StoreError> {
        const SQL: &str = "SELECT g.alert_name, g.first_scheduled_for, g.last_scheduled_for, g.fires, g.config_hash, \
            (SELECT COUNT(*) FROM sqlsentinel_fires f WHERE f.alert_name = g.alert_name \
              AND f.scheduled_for BETWEEN g.first_scheduled_for AND g.last_scheduled_for) \
            FROM sqlsentinel_gaps g WHERE g.last_scheduled_for > $1 AND g.first_scheduled_for <= $2 \
            ORDER BY g.alert_name, g.first_scheduled_for";
        self.step(async {
            let query = sqlx::query(SQL).bind(after.as_micros()).bind(through.as_micros());
            query.fetch_all(self.pool()).await?.iter().map(gap).collect()
        })
        .await
    }

    async fn audit_rows(&self, stretch: &Stretch) -> Result<Vec<Row>, StoreError> {
        const SQL: &str = "SELECT scheduled_for, config_hash FROM sqlsentinel_fires \
            WHERE alert_name = $1 AND scheduled_for > $2 AND scheduled_for <= $3 ORDER BY scheduled_for";
        self.step(async {
            let query = sqlx::query(SQL).bind(stretch.alert_name.clone());
            let query = query.bind(stretch.after.as_micros()).bind(stretch.through.as_micros());
            let row = |row: &AnyRow| {
                let scheduled_for = Timestamp::from_micros(row.try_get(0)?);
                Ok(Row { scheduled_for, hash: ConfigHash::from_stored(row.try_get(1)?) })
            };
            query.fetch_all(self.pool()).await?.iter().map(row).collect()
        })
        .await
    }
}

/// What takes its time, off the threads that have others waiting.
async fn computed<T: Send + 'static>(compute: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(compute).await.map_err(|error| StoreError::Unavailable(error.to_string()))
}

/// How far planning is behind, if that is too far, and how many fires of the versions in force were due since.
fn unplanned(intervals: &[Interval], through: Timestamp, late: (Timestamp, Duration)) -> (Duration, i64) {
    let (now, tolerance) = late;
    let behind = now.since(through);
    if behind <= tolerance {
        return (Duration::ZERO, 0);
    }
    let in_force = intervals.iter().filter(|interval| interval.valid_until.is_none() && interval.version.enabled);
    (behind, in_force.map(|interval| interval.version.schedule.count(through.next(), now)).sum())
}

fn of_alert<'a>(gaps: &'a HashMap<String, Vec<Gap>>, stretch: &Stretch) -> &'a [Gap] {
    gaps.get(&stretch.alert_name).map_or(&[], Vec::as_slice)
}

/// What a definition says about when it is due. The rest may be of a version of this program that is newer than this one.
fn version((hash, definition): (ConfigHash, String)) -> Result<Version, StoreError> {
    #[derive(Deserialize)]
    struct Definition {
        schedule: Schedule,
        enabled: bool,
    }
    let Definition { schedule, enabled } = serde_json::from_str(&definition).map_err(StoreError::corrupt)?;
    Ok(Version { hash, schedule, enabled })
}

fn named(row: &AnyRow) -> Result<Named, StoreError> {
    Ok(Named {
        alert_name: row.try_get(0)?,
        hash: ConfigHash::from_stored(row.try_get(1)?),
        valid_from: Timestamp::from_micros(row.try_get(2)?),
        valid_until: row.try_get::<Option<i64>, _>(3)?.map(Timestamp::from_micros),
    })
}

fn gap(row: &AnyRow) -> Result<Gap, StoreError> {
    Ok(Gap {
        alert_name: row.try_get(0)?,
        first: Timestamp::from_micros(row.try_get(1)?),
        last: Timestamp::from_micros(row.try_get(2)?),
        fires: row.try_get(3)?,
        hash: ConfigHash::from_stored(row.try_get(4)?),
        rows_within: row.try_get(5)?,
    })
}
