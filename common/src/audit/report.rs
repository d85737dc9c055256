//! What an audit has found, in numbers and in words.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Difference, Kind};
use crate::timestamp::Timestamp;

/// How many differences are told one by one.
const TOLD: usize = 20;

/// How late something may be before it counts as overdue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerance {
    /// From the schedule cursor to the database's clock. A fail-over takes some of it.
    pub planning: Duration,
    /// From the deadline of a fire to its end. Expiry waits for outcomes that are stored already.
    pub settling: Duration,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { planning: Duration::from_secs(120), settling: Duration::from_secs(300) }
    }
}

/// What is late by more than its tolerance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Overdue {
    /// How far planning is behind the database's clock, in seconds; 0 within the tolerance.
    pub planning_behind_seconds: f64,
    /// How many fires were due since, by the definitions in force.
    pub unplanned: i64,
    /// Fires that are open though their deadline has passed long ago.
    pub open: i64,
}

impl Overdue {
    /// Whether nothing is.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What was found in one window of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Fires after this moment were looked at,
    pub after: Timestamp,
    /// up to this one: the schedule cursor.
    pub through: Timestamp,
    /// How many fires were due.
    pub due: i64,
    /// How many of these have a row, or are in a gap.
    pub accounted: i64,
    /// How many fires differ, by kind; every kind is there.
    pub totals: BTreeMap<Kind, i64>,
    /// The first differences.
    pub differences: Vec<Difference>,
    /// What is late.
    pub overdue: Overdue,
}

impl Report {
    /// A window in which `due` fires were due.
    pub fn new(after: Timestamp, through: Timestamp, due: i64, differences: Vec<Difference>, overdue: Overdue) -> Self {
        let mut totals: BTreeMap<Kind, i64> = Kind::ALL.map(|kind| (kind, 0)).into();
        for difference in &differences {
            *totals.entry(difference.kind).or_default() += difference.fires;
        }
        let accounted = due - totals[&Kind::Missed];
        let differences = differences.into_iter().take(TOLD).collect();
        Self { after, through, due, accounted, totals, differences, overdue }
    }

    /// This report and that of the window after it.
    #[must_use]
    pub fn followed_by(mut self, later: Self) -> Self {
        for (kind, fires) in later.totals {
            *self.totals.entry(kind).or_default() += fires;
        }
        self.differences.extend(later.differences);
        self.differences.truncate(TOLD);
        let (due, accounted) = (self.due + later.due, self.accounted + later.accounted);
        Self { through: later.through, due, accounted, overdue: later.overdue, ..self }
    }

    /// Whether every fire due is accounted for exactly once.
    pub fn is_complete(&self) -> bool {
        self.totals.values().all(|fires| *fires == 0)
    }

    /// Whether that is so, and nothing is overdue.
    pub fn is_in_order(&self) -> bool {
        self.is_complete() && self.overdue.is_nothing()
    }

    /// The differences that are told one by one, in words; short enough for a line of a log.
    pub fn told(&self) -> String {
        let told: Vec<String> = self.differences.iter().map(Difference::to_string).collect();
        told.join("; ")
    }
}

/// In one line: `1440 fires were due, 1 missed, 0 doubled, …`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { after, through, due, totals, overdue, .. } = self;
        if self.is_complete() {
            write!(f, "each of {due} fires due from {after} to {through} is accounted for once")?;
        } else {
            let differing = totals.iter().filter(|(_, fires)| **fires > 0);
            let counted: Vec<String> = differing.map(|(kind, fires)| format!("{fires} {}", kind.as_str())).collect();
            write!(f, "of {due} fires due from {after} to {through}: {}; {}", counted.join(", "), self.told())?;
        }
        if overdue.planning_behind_seconds > 0.0 {
            let (seconds, fires) = (overdue.planning_behind_seconds, overdue.unplanned);
            write!(f, "; nothing has been planned for {seconds:.0} s, in which {fires} fires were due")?;
        }
        if overdue.open > 0 {
            write!(f, "; fires open long after their deadline: {}", overdue.open)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(from: i64, differences: Vec<Difference>) -> Report {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        Report::new(at(from), at(from + 10), 10, differences, Overdue::default())
    }

    fn missed(fires: i64) -> Difference {
        let moments = vec![Timestamp::default()];
        Difference { alert_name: "orders".to_owned(), kind: Kind::Missed, fires, moments }
    }

    #[test]
    fn a_later_window_adds_to_what_was_found() {
        let both = report(0, vec![missed(2)]).followed_by(report(10, vec![missed(3)]));
        assert_eq!((both.due, both.accounted, both.totals[&Kind::Missed]), (20, 15, 5));
        assert_eq!((both.after, both.through), (report(0, vec![]).after, report(10, vec![]).through));
        assert!(!both.is_complete());
        assert!(report(0, vec![]).followed_by(report(10, vec![])).is_in_order());
    }

    #[test]
    fn however_much_differs_the_totals_are_whole_and_the_words_are_few() {
        let many = report(0, (0..1_000).map(|_| missed(1)).collect()).followed_by(report(10, vec![missed(7)]));
        assert_eq!((many.totals[&Kind::Missed], many.differences.len()), (1_007, TOLD));
    }

    #[test]
    fn the_words_say_what_differs_and_what_is_late() {
        let text = report(0, vec![missed(2)]).to_string();
        assert!(text.contains("of 10 fires due") && text.contains("2 missed"), "{text}");
        assert!(text.contains("orders: 2 missed (1970-01-01T00:00:00.000000Z, …)"), "{text}");
        let overdue = Overdue { planning_behind_seconds: 300.0, unplanned: 5, open: 1 };
        let late = Report { overdue, ..report(0, vec![]) };
        assert!(!late.is_in_order() && late.is_complete());
        let text = late.to_string();
        assert!(text.contains("nothing has been planned for 300 s") && text.contains("deadline: 1"), "{text}");
    }
}
