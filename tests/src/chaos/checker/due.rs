//! Which fires were due: each version's schedule over the interval that the ledger says it was in force, by the checker's
//! own scheduler. The ledger is not believed blindly: an interval without a version, of an alert that is in the files, is
//! planned by what the files say, and a version that nobody wrote into a file is made up.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use super::disturbances::{Disturbances, Part};
use super::{clock, finding, scheduler};
use crate::chaos::history::{Alert, Definition, FaultKind, History};
use crate::chaos::report::{Finding, Rule};

/// How long after an edit its version may come into force while nothing is disturbed.
const ADOPTION_US: i64 = 30_000_000;

/// The fires that were due, each with the definition in force.
#[derive(Debug, Default)]
pub(super) struct Due<'a> {
    alerts: BTreeMap<&'a str, BTreeMap<i64, &'a Definition>>,
}

impl<'a> Due<'a> {
    pub(super) fn plan(history: &'a History, disturbances: &Disturbances<'_>) -> Result<(Self, Vec<Finding>)> {
        let (mut due, mut findings) = (Self::default(), Vec::new());
        for alert in &history.alerts {
            let fires = due.alerts.entry(&alert.name).or_default();
            for version in &alert.versions {
                if !alert.edits.iter().any(|edit| edit.definition.as_ref() == Some(&version.definition)) {
                    findings.push(finding(
                        Rule::Invented,
                        format!("{} was in force in a version that no file held: {version:?}", alert.name),
                    ));
                }
                let from = version.valid_from.max(history.begin);
                let until = version.valid_until.unwrap_or(i64::MAX).min(history.until);
                let due = moments(alert, &version.definition, from, until)?;
                fires.extend(due.into_iter().map(|moment| (moment, &version.definition)));
            }
            for (from, until) in holes(alert, history) {
                fires.extend(due_by_files(alert, from, until, disturbances)?);
            }
        }
        Ok((due, findings))
    }

    /// How many.
    pub(super) fn count(&self) -> u64 {
        self.alerts.values().map(|fires| fires.len() as u64).sum()
    }

    /// All of them.
    pub(super) fn fires(&self) -> impl Iterator<Item = (&'a str, i64, &'a Definition)> + '_ {
        self.alerts
            .iter()
            .flat_map(|(alert, fires)| fires.iter().map(move |(moment, definition)| (*alert, *moment, *definition)))
    }

    /// The definition by which a fire was due; none if it was not.
    pub(super) fn by(&self, alert: &str, moment: i64) -> Option<&'a Definition> {
        self.alerts.get(alert)?.get(&moment).copied()
    }

    /// The fires of an alert between two moments, both included.
    pub(super) fn between(&self, alert: &str, first: i64, last: i64) -> impl Iterator<Item = i64> + '_ {
        let fires = self.alerts.get(alert).filter(|_| first <= last);
        fires.into_iter().flat_map(move |fires| fires.range(first..=last).map(|(moment, _)| *moment))
    }
}

fn moments(alert: &Alert, definition: &Definition, after: i64, until: i64) -> Result<Vec<i64>> {
    if !definition.enabled || after >= until {
        return Ok(Vec::new());
    }
    scheduler::due(&definition.schedule, &definition.timezone, after, until)
        .with_context(|| format!("the schedule of {}", alert.name))
}

/// The times after the first version, up to the audit, in which the ledger knows no version.
fn holes(alert: &Alert, history: &History) -> Vec<(i64, i64)> {
    let (mut holes, mut covered) = (Vec::new(), history.begin);
    let versions: BTreeSet<(i64, i64)> =
        alert.versions.iter().map(|version| (version.valid_from, version.valid_until.unwrap_or(i64::MAX))).collect();
    for (from, until) in versions {
        if from > covered {
            holes.push((covered, from.min(history.until)));
        }
        covered = covered.max(until);
    }
    holes.push((covered, history.until));
    holes.retain(|(from, until)| from < until);
    holes
}

/// What the files had due between two moments, but for the time after an edit in which it need not be in force yet.
fn due_by_files<'a>(
    alert: &'a Alert,
    from: i64,
    until: i64,
    disturbances: &Disturbances<'_>,
) -> Result<Vec<(i64, &'a Definition)>> {
    let mut due = Vec::new();
    for (index, edit) in alert.edits.iter().enumerate() {
        let Some(definition) = &edit.definition else { continue };
        // An edit counts from the schedule cursor on, which is a little behind.
        let over = alert.edits.get(index + 1).map_or(i64::MAX, |next| next.at - ADOPTION_US);
        let fires = moments(alert, definition, from.max(edit.at + ADOPTION_US), until.min(over))?;
        let split = |moment| disturbances.had(FaultKind::SplitFiles, edit.at, moment);
        due.extend(
            fires
                .into_iter()
                .filter(|moment| !disturbances.hinder(Part::Planning, *moment, *moment) && !split(*moment))
                .map(|moment| (moment, definition)),
        );
    }
    Ok(due)
}

/// A fire as people name it.
pub(super) fn name(alert: &str, moment: i64) -> String {
    format!("{alert} at {}", clock(moment))
}
