//! Whether every fire that was due is accounted for exactly once: pure. Definitions with their intervals and what the
//! ledger holds in, a [`Report`] out.
//!
//! Time is cut into [`Stretch`]es, in each of which one version of an alert was in force, or none. Counts are compared
//! first ([`Stretch::agrees`]): how many fires were due follows from the schedule without going through them. Only a stretch
//! whose counts differ is gone through fire by fire ([`Stretch::examine`]), to name what differs.
//!
//! What it cannot see is a fault in the schedule arithmetic itself, by which it computes what was due as planning does: that
//! is tested against an independent library (`schedule/oracle.rs`).

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::alert::ConfigHash;
use crate::schedule::Schedule;
use crate::timestamp::Timestamp;

mod report;

pub use self::report::{Overdue, Report, Tolerance};

/// The name of the health check that says what an audit has found.
pub const CHECK: &str = "audit";

/// How many moments a difference names.
const MOMENTS: usize = 10;

/// What a version of an alert says about when it is due.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// Its name.
    pub hash: ConfigHash,
    /// When it is due.
    pub schedule: Schedule,
    /// A disabled version has no due fires.
    pub enabled: bool,
}

/// When a version was in force: for fires after `valid_from`, up to and including `valid_until`.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// The alert.
    pub alert_name: String,
    /// The version.
    pub version: Arc<Version>,
    /// Where it begins.
    pub valid_from: Timestamp,
    /// Where it ends; none while it is in force.
    pub valid_until: Option<Timestamp>,
}

/// Some of an alert's time in which one version was in force, or none.
#[derive(Clone, Debug, PartialEq)]
pub struct Stretch {
    /// The alert.
    pub alert_name: String,
    /// The version; where there is none, nothing was due.
    pub version: Option<Arc<Version>>,
    /// Its fires are after this moment,
    pub after: Timestamp,
    /// and up to this one.
    pub through: Timestamp,
}

/// How many rows of fires a stretch has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All of them.
    pub rows: i64,
    /// Those of the stretch's own version.
    pub own: i64,
}

/// A row of gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The alert.
    pub alert_name: String,
    /// The first fire covered.
    pub first: Timestamp,
    /// The last one.
    pub last: Timestamp,
    /// How many it says it covers.
    pub fires: i64,
    /// The version that it says was in force.
    pub hash: ConfigHash,
    /// How many rows of fires lie in it: none should.
    pub rows_within: i64,
}

/// A row of fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its nominal time.
    pub scheduled_for: Timestamp,
    /// The version that it points to.
    pub hash: ConfigHash,
}

/// How the ledger may differ from what was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A fire was due, and has neither a row nor a gap.
    Missed,
    /// A fire is covered more than once: by its row and a gap, or by several gaps.
    Doubled,
    /// A row or a gap for what was not due by the version in force.
    Stray,
    /// A gap covers another number of fires than it says.
    Miscounted,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Missed, Self::Doubled, Self::Stray, Self::Miscounted];

    /// The name in JSON, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::Doubled => "doubled",
            Self::Stray => "stray",
            Self::Miscounted => "miscounted",
        }
    }
}

/// Where the ledger of one alert differs from what was due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The alert.
    pub alert_name: String,
    /// In what way.
    pub kind: Kind,
    /// In how many fires.
    pub fires: i64,
    /// The first of them; none where they were only counted.
    pub moments: Vec<Timestamp>,
}

/// `orders: 3 missed (2027-01-01T00:00:00.000000Z, …)`.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { alert_name, kind, fires, moments } = self;
        write!(f, "{alert_name}: {fires} {}", kind.as_str())?;
        if moments.is_empty() {
            return Ok(());
        }
        let named: Vec<String> = moments.iter().map(Timestamp::to_string).collect();
        let more = if usize::try_from(*fires).is_ok_and(|fires| fires > named.len()) { ", …" } else { "" };
        write!(f, " ({}{more})", named.join(", "))
    }
}

/// The time after `after` up to `through` of every alert that ever had a version, cut where versions begin and end.
pub fn stretches(mut intervals: Vec<Interval>, after: Timestamp, through: Timestamp) -> Vec<Stretch> {
    intervals.sort_by(|a, b| (&a.alert_name, a.valid_from).cmp(&(&b.alert_name, b.valid_from)));
    let mut stretches = Vec::with_capacity(intervals.len());
    for intervals in intervals.chunk_by(|a, b| a.alert_name == b.alert_name) {
        let mut reached = after;
        let mut push = |version: Option<&Arc<Version>>, alert_name: &str, after: Timestamp, through: Timestamp| {
            if after < through {
                let (alert_name, version) = (alert_name.to_owned(), version.cloned());
                stretches.push(Stretch { alert_name, version, after, through });
            }
        };
        for Interval { alert_name, version, valid_from, valid_until } in intervals {
            let end = valid_until.unwrap_or(through).min(through);
            push(None, alert_name, reached, (*valid_from).min(through));
            push(Some(version), alert_name, (*valid_from).max(after), end);
            reached = reached.max(end);
        }
        if let Some(last) = intervals.last() {
            push(None, &last.alert_name, reached, through);
        }
    }
    stretches
}

impl Stretch {
    /// How many fires were due.
    pub fn due(&self) -> i64 {
        self.due_in(self.after.next(), self.through)
    }

    /// Whether the counts say that every fire due was accounted for exactly once. `gaps` are the alert's, by their
    /// first fires.
    pub fn agrees(&self, due: i64, tally: Tally, gaps: &[Gap]) -> bool {
        let mut covered = tally.own;
        let mut end = None;
        for gap in self.gaps(gaps) {
            let overlaps = end.is_some_and(|end| gap.first <= end);
            if !self.owns(gap) || gap.rows_within > 0 || overlaps || self.is_miscounted(gap) {
                return false;
            }
            covered += self.covered_by(gap);
            end = end.max(Some(gap.last));
        }
        tally.rows == tally.own && covered == due
    }

    /// What differs, by the counts alone: for when there are too many stretches to examine each.
    pub fn estimate(&self, due: i64, tally: Tally, gaps: &[Gap]) -> Vec<Difference> {
        let covered =
            tally.own + self.gaps(gaps).filter(|gap| self.owns(gap)).map(|gap| self.covered_by(gap)).sum::<i64>();
        let counted =
            [(Kind::Missed, due - covered), (Kind::Doubled, covered - due), (Kind::Stray, tally.rows - tally.own)];
        let difference =
            |(kind, fires)| Difference { alert_name: self.alert_name.clone(), kind, fires, moments: Vec::new() };
        counted.into_iter().filter(|(_, fires)| *fires > 0).map(difference).collect()
    }

    /// What differs, fire by fire. `rows` are all rows of fires of the stretch.
    pub fn examine(&self, rows: &[Row], gaps: &[Gap]) -> Vec<Difference> {
        let mut found = Found { alert_name: &self.alert_name, by_kind: BTreeMap::new() };
        let is_own = |hash: &ConfigHash| self.version.as_ref().is_some_and(|version| version.hash == *hash);
        let mut own: HashSet<Timestamp> =
            rows.iter().filter(|row| is_own(&row.hash)).map(|row| row.scheduled_for).collect();
        let (own_gaps, others): (Vec<&Gap>, Vec<&Gap>) = self.gaps(gaps).partition(|gap| self.owns(gap));
        for due in self.fires() {
            let gaps = own_gaps.iter().filter(|gap| (gap.first..=gap.last).contains(&due)).count();
            match gaps + usize::from(own.remove(&due)) {
                0 => found.add(Kind::Missed, due, 1),
                1 => {}
                _ => found.add(Kind::Doubled, due, 1),
            }
        }
        // What is left of the version's own rows was not due.
        for row in rows.iter().filter(|row| !is_own(&row.hash) || own.contains(&row.scheduled_for)) {
            found.add(Kind::Stray, row.scheduled_for, 1);
        }
        for gap in others {
            found.add(Kind::Stray, gap.first, gap.fires);
        }
        for gap in own_gaps.into_iter().filter(|gap| self.is_miscounted(gap)) {
            found.add(Kind::Miscounted, gap.first, (gap.fires - self.due_in(gap.first, gap.last)).abs());
        }
        found.differences()
    }

    fn fires(&self) -> impl Iterator<Item = Timestamp> + '_ {
        let schedule = self.version.as_ref().filter(|version| version.enabled).map(|version| &version.schedule);
        let next = move |after: Timestamp| schedule.and_then(|schedule| schedule.next_after(after));
        std::iter::successors(next(self.after), move |fire| next(*fire)).take_while(|fire| *fire <= self.through)
    }

    /// Those of `gaps` that reach into the stretch.
    fn gaps<'a>(&'a self, gaps: &'a [Gap]) -> impl Iterator<Item = &'a Gap> {
        gaps.iter().filter(|gap| gap.last > self.after && gap.first <= self.through)
    }

    /// Whether the version that was in force here left `gap`.
    fn owns(&self, gap: &Gap) -> bool {
        self.version.as_ref().is_some_and(|version| version.enabled && version.hash == gap.hash)
    }

    fn due_in(&self, first: Timestamp, last: Timestamp) -> i64 {
        match &self.version {
            Some(version) if version.enabled => version.schedule.count(first, last),
            _ => 0,
        }
    }

    fn covered_by(&self, gap: &Gap) -> i64 {
        self.due_in(gap.first.max(self.after.next()), gap.last.min(self.through))
    }

    /// Told by the stretch that the gap ends in.
    fn is_miscounted(&self, gap: &Gap) -> bool {
        gap.last <= self.through && gap.fires != self.due_in(gap.first, gap.last)
    }
}

/// The differences of one stretch while they are found.
struct Found<'a> {
    alert_name: &'a str,
    by_kind: BTreeMap<Kind, (i64, Vec<Timestamp>)>,
}

impl Found<'_> {
    fn add(&mut self, kind: Kind, moment: Timestamp, fires: i64) {
        let (all, moments) = self.by_kind.entry(kind).or_default();
        *all += fires;
        if moments.len() < MOMENTS {
            moments.push(moment);
        }
    }

    fn differences(self) -> Vec<Difference> {
        let difference =
            |(kind, (fires, moments))| Difference { alert_name: self.alert_name.to_owned(), kind, fires, moments };
        self.by_kind.into_iter().map(difference).collect()
    }
}

#[cfg(test)]
mod tests;
