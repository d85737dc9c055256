//! Judges a [`History`]: one file a promise. It shares no code with what it judges: what was due it plans itself, what had
//! to be told follows from what the harness set at the target, and what ran is what the target logged.

mod accounted;
mod completed;
mod disturbances;
mod doubled;
mod due;
mod failovers;
mod notifications;
pub mod scheduler;
mod stale;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use anyhow::Result;

use self::disturbances::Disturbances;
use self::due::Due;
use super::history::History;
use super::report::{Finding, Report};

/// The verdict on `history`; an error if it cannot be judged, because a schedule in it cannot be read.
pub fn check(history: &History) -> Result<Report> {
    let (failovers, leaderless) = failovers::measure(history);
    let disturbances = Disturbances::new(history, leaderless);
    let (due, mut findings) = Due::plan(history, &disturbances)?;
    let (accounted, unaccounted) = accounted::check(history, &due, &disturbances);
    findings.extend(unaccounted);
    findings.extend(doubled::check(history, &due, &disturbances));
    findings.extend(notifications::check(history, &disturbances));
    findings.extend(stale::check(history));
    let mut faults = BTreeMap::new();
    for fault in &history.faults {
        *faults.entry(fault.kind).or_default() += 1;
    }
    let report = Report {
        fires_due: due.count(),
        accounted,
        completed_outside_faults: completed::share(history, &due, &disturbances),
        failovers: failovers.count,
        failover_ms: failovers.durations,
        faults,
        ..Report::default()
    };
    Ok(report.found(findings))
}

/// A moment as people write it.
fn clock(moment: i64) -> String {
    let time = chrono::DateTime::from_timestamp_micros(moment);
    time.map_or_else(|| moment.to_string(), |time| time.format("%H:%M:%S%.3f").to_string())
}

fn finding(rule: super::report::Rule, what: String) -> Finding {
    Finding { rule, times: 1, what }
}
