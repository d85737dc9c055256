//! No fire has two records, and none ran at the target more often than it was handed out.

use std::collections::BTreeMap;

use super::disturbances::Disturbances;
use super::due::{Due, name};
use crate::chaos::history::{FaultKind, History};
use crate::chaos::report::{Finding, Rule};

pub(super) fn check(history: &History, due: &Due<'_>, disturbances: &Disturbances<'_>) -> Vec<Finding> {
    let mut findings = second_records(history, due);
    findings.extend(runs_beyond_record(history, disturbances));
    findings
}

/// A due fire that is covered twice, and an execution that is recorded twice.
fn second_records(history: &History, due: &Due<'_>) -> Vec<Finding> {
    let mut covered: BTreeMap<(&str, i64), u64> = BTreeMap::new();
    for fire in &history.ledger.fires {
        *covered.entry((&fire.alert, fire.scheduled_for)).or_default() += 1;
    }
    for gap in &history.ledger.gaps {
        for moment in due.between(&gap.alert, gap.first, gap.last) {
            *covered.entry((&gap.alert, moment)).or_default() += 1;
        }
    }
    let mut recorded: BTreeMap<(&str, i64), u64> = BTreeMap::new();
    for execution in &history.ledger.executions {
        *recorded.entry((&execution.alert, execution.scheduled_for)).or_default() += 1;
    }
    let places = [(covered, "in the ledger"), (recorded, "in the history of runs")];
    let twice = places.iter().flat_map(|(places, place)| {
        let twice = places.iter().filter(|(_, times)| **times > 1);
        twice.map(move |((alert, moment), times)| Finding {
            rule: Rule::Doubled,
            times: times - 1,
            what: format!("{} is {times} times {place}", name(alert, *moment)),
        })
    });
    twice.collect()
}

/// Runs at the target beyond those for which there was a job. Runs whose record a rollback took count for nothing.
fn runs_beyond_record(history: &History, disturbances: &Disturbances<'_>) -> Vec<Finding> {
    let lost: Vec<(i64, i64)> = disturbances.lost().collect();
    let mut ran: BTreeMap<(&str, &str), Vec<i64>> = BTreeMap::new();
    for run in &history.runs {
        if !lost.iter().any(|(after, until)| (*after..=*until).contains(&run.at)) {
            ran.entry((&run.execution_id, &run.alert)).or_default().push(run.at);
        }
    }
    let attempts: BTreeMap<&str, i64> =
        history.ledger.fires.iter().map(|fire| (fire.execution_id.as_str(), fire.attempt)).collect();
    let records: BTreeMap<&str, (i64, i64)> = history
        .ledger
        .executions
        .iter()
        .map(|execution| (execution.id.as_str(), (execution.attempt, execution.delivery)))
        .collect();
    let mut findings = Vec::new();
    for ((id, alert), moments) in ran {
        let times = i64::try_from(moments.len()).unwrap_or(i64::MAX);
        let (first, last) = moments.iter().fold((i64::MAX, i64::MIN), |(a, z), at| (a.min(*at), z.max(*at)));
        let published = attempts.get(id).copied();
        let allowed = match records.get(id) {
            // Each publication may have been handed out as often as the one that counts.
            Some((attempt, delivery)) => {
                published.unwrap_or(0).max(*attempt) * (*delivery).max(1) + disturbances.forgettings(first, last)
            }
            // It ended without a record, and nobody counted how often its jobs were handed out.
            None if published.is_some_and(|attempt| attempt > 0) => i64::MAX,
            // Its job was on the bus when the database forgot the fire.
            None if disturbances.had(FaultKind::StateRollback, first, last) => i64::MAX,
            None => 0,
        };
        if times > allowed {
            let extra = u64::try_from(times - allowed).unwrap_or_default();
            let what = format!("{id} of {alert} ran {times} times at the target, where {allowed} are recorded");
            findings.push(Finding { rule: Rule::Doubled, times: extra, what });
        }
    }
    findings
}
