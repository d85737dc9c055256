//! The checker's verdict: figures for machines, findings for people, and whether the run was good.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::history::FaultKind;

/// Of the fires due while nothing was disturbed, at least this share ends OK or ALERT.
pub const COMPLETED_AT_LEAST: f64 = 0.99;
/// So many findings of a rule are shown as text; JSON has all.
const SHOWN: usize = 20;

/// What came of a chaos run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Fires that were due, by the checker's own scheduler.
    pub fires_due: u64,
    /// Those that one record or more covers.
    pub accounted: u64,
    /// Those that nothing covers or that never ended, and those that did not run without a reason.
    pub missed: u64,
    /// The share of fires due outside fault windows that ended OK or ALERT; none if none was due there.
    pub completed_outside_faults: Option<f64>,
    /// Runs at the target beyond an execution's recorded attempts, and second records.
    pub doubled: u64,
    /// News that nobody was told.
    pub lost_notifications: u64,
    /// Repeated news that does not say that it may be a repetition.
    pub unmarked_duplicates: u64,
    /// Rows stamped with a lower epoch after a higher one.
    pub stale_writes: u64,
    /// What is recorded or told and never was: a fire that was not due, an alarm that the target never gave.
    pub invented: u64,
    /// How often the leader changed.
    pub failovers: u64,
    /// How long nobody led then.
    pub failover_ms: Durations,
    /// How many faults of each kind there were.
    pub faults: BTreeMap<FaultKind, u64>,
    /// Each violation, in words.
    pub findings: Vec<Finding>,
}

/// Of some durations, in milliseconds; none if there were none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durations {
    /// Half of them were no longer.
    pub p50: Option<i64>,
    /// None was longer.
    pub max: Option<i64>,
}

impl Durations {
    /// Of these.
    pub fn of(mut durations: Vec<i64>) -> Self {
        durations.sort_unstable();
        let middle = durations.len().saturating_sub(1) / 2;
        Self { p50: durations.get(middle).copied(), max: durations.last().copied() }
    }
}

/// Something that must not have happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it breaks.
    pub rule: Rule,
    /// How often: a gap may hold several fires.
    pub times: u64,
    /// What happened.
    pub what: String,
}

/// The promises that are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Every due fire runs, or there is a reason.
    Missed,
    /// None runs more often than is recorded.
    Doubled,
    /// All news is told.
    LostNotification,
    /// And told again only with the mark.
    UnmarkedDuplicate,
    /// A deposed leader writes nothing.
    StaleWrite,
    /// Nothing is made up.
    Invented,
}

impl Report {
    /// How many violations there were.
    pub fn violations(&self) -> u64 {
        self.missed
            + self.doubled
            + self.lost_notifications
            + self.unmarked_duplicates
            + self.stale_writes
            + self.invented
    }

    /// Whether too few fires ended OK or ALERT although nothing was disturbed.
    pub fn falls_short(&self) -> bool {
        self.completed_outside_faults.is_some_and(|share| share < COMPLETED_AT_LEAST)
    }

    /// 0 if all is well, else 1.
    pub fn exit_code(&self) -> u8 {
        u8::from(self.violations() > 0 || self.falls_short())
    }

    /// Counts `findings`, and keeps them.
    pub(super) fn found(mut self, findings: Vec<Finding>) -> Self {
        for finding in findings {
            *self.counter(finding.rule) += finding.times;
            self.findings.push(finding);
        }
        self
    }

    fn counter(&mut self, rule: Rule) -> &mut u64 {
        match rule {
            Rule::Missed => &mut self.missed,
            Rule::Doubled => &mut self.doubled,
            Rule::LostNotification => &mut self.lost_notifications,
            Rule::UnmarkedDuplicate => &mut self.unmarked_duplicates,
            Rule::StaleWrite => &mut self.stale_writes,
            Rule::Invented => &mut self.invented,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |figure: Option<String>| figure.unwrap_or_else(|| "none".to_owned());
        writeln!(f, "fires_due                {}", self.fires_due)?;
        writeln!(f, "accounted                {}", self.accounted)?;
        writeln!(f, "missed                   {}", self.missed)?;
        let share = self.completed_outside_faults.map(|share| format!("{share:.4}"));
        writeln!(f, "completed_outside_faults {}", or_none(share))?;
        writeln!(f, "doubled                  {}", self.doubled)?;
        writeln!(f, "lost_notifications       {}", self.lost_notifications)?;
        writeln!(f, "unmarked_duplicates      {}", self.unmarked_duplicates)?;
        writeln!(f, "stale_writes             {}", self.stale_writes)?;
        writeln!(f, "invented                 {}", self.invented)?;
        writeln!(f, "failovers                {}", self.failovers)?;
        let milliseconds = |figure: Option<i64>| or_none(figure.map(|figure| figure.to_string()));
        let (p50, max) = (milliseconds(self.failover_ms.p50), milliseconds(self.failover_ms.max));
        writeln!(f, "failover_ms              p50 {p50}, max {max}")?;
        let faults: Vec<String> = self.faults.iter().map(|(kind, times)| format!("{} {times}", kind.name())).collect();
        writeln!(f, "faults                   {}", or_none(Some(faults.join(", ")).filter(|text| !text.is_empty())))?;
        let mut shown: BTreeMap<Rule, usize> = BTreeMap::new();
        for finding in &self.findings {
            let so_far = shown.entry(finding.rule).or_default();
            *so_far += 1;
            if *so_far <= SHOWN {
                writeln!(f, "{:?}: {}", finding.rule, finding.what)?;
            }
        }
        for (rule, all) in shown.into_iter().filter(|(_, all)| *all > SHOWN) {
            writeln!(f, "{rule:?}: and {} more", all - SHOWN)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(rule: Rule, times: usize) -> Report {
        Report::default().found(vec![Finding { rule, times: 1, what: "so it was".to_owned() }; times])
    }

    #[test]
    fn any_violation_makes_the_run_a_failure_and_none_does_not() {
        assert_eq!(Report::default().exit_code(), 0);
        for rule in [
            Rule::Missed,
            Rule::Doubled,
            Rule::LostNotification,
            Rule::UnmarkedDuplicate,
            Rule::StaleWrite,
            Rule::Invented,
        ] {
            let report = report(rule, 2);
            assert_eq!((report.violations(), report.exit_code()), (2, 1), "{rule:?}");
        }
    }

    #[test]
    fn so_does_a_share_of_completed_fires_below_the_limit() {
        let share = |share| Report { completed_outside_faults: share, ..Report::default() }.exit_code();
        assert_eq!([share(None), share(Some(1.0)), share(Some(0.99)), share(Some(0.9899))], [0, 0, 0, 1]);
    }

    #[test]
    fn the_text_names_every_figure_of_the_json_and_does_not_drown_in_findings() -> Result<(), serde_json::Error> {
        let report = report(Rule::Missed, 25);
        let text = report.to_string();
        let json = serde_json::to_value(&report)?;
        for key in json.as_object().unwrap().keys().filter(|key| *key != "findings") {
            assert!(text.contains(&format!("\n{key} ")) || text.starts_with(key), "{key}:\n{text}");
        }
        assert_eq!(text.matches("so it was").count(), 20);
        assert!(text.contains("Missed: and 5 more"));
        assert_eq!(serde_json::from_value::<Report>(json)?, report);
        Ok(())
    }

    #[test]
    fn the_median_of_an_even_number_is_the_lower_middle() {
        assert_eq!(Durations::of(vec![4, 1, 3, 2]), Durations { p50: Some(2), max: Some(4) });
        assert_eq!(Durations::of(vec![]), Durations::default());
    }
}
