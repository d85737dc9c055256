//! What is told again says that it may be a repetition; an alarm has one name; and nothing is told that never was.

use std::collections::{BTreeMap, BTreeSet};

use super::super::disturbances::Disturbances;
use super::super::{clock, finding};
use super::{News, Told, versions};
use crate::chaos::history::{ATTEMPT, Delivery, Execution, History, Overlap};
use crate::chaos::report::{Finding, Rule};

/// How long an attempt to send may take, in microseconds.
const ATTEMPT_US: i64 = ATTEMPT.as_micros() as i64;

pub(super) fn check(history: &History, disturbances: &Disturbances<'_>, told: &Told<'_>) -> Vec<Finding> {
    let mut findings = unmarked(history);
    findings.extend(second_names(history, disturbances, told));
    findings.extend(made_up(history, disturbances, told));
    findings
}

/// Each delivery of a notification after one that was not refused bears the mark.
fn unmarked(history: &History) -> Vec<Finding> {
    let (mut may_have_arrived, mut findings) = (BTreeMap::<&str, i64>::new(), Vec::new());
    for delivery in &history.deliveries {
        let id = delivery.notification_id.as_str();
        if let (Some(first), false) = (may_have_arrived.get(id), delivery.possible_duplicate) {
            let (first, again) = (clock(*first), clock(delivery.at));
            let what = format!("{id} of {} was told at {first}, and again at {again} without the mark", delivery.alert);
            findings.push(finding(Rule::UnmarkedDuplicate, what));
        }
        if !delivery.was_refused() {
            may_have_arrived.entry(id).or_insert(delivery.at);
        }
    }
    findings
}

/// One alarm is told under one id, but for repetitions that the definition wants, each in its time.
fn second_names(history: &History, disturbances: &Disturbances<'_>, told: &Told<'_>) -> Vec<Finding> {
    let kept = kept(history);
    let mut findings = Vec::new();
    for ((alert, _, value), deliveries) in &told.by_news {
        // Under which ids it arrived; not under those that a rollback has made the ledger forget.
        let mut names: BTreeMap<&str, &Delivery> = BTreeMap::new();
        let mut forgotten = None;
        for delivery in deliveries.iter().filter(|delivery| delivery.arrived()) {
            if is_forgotten(&kept, disturbances, delivery) {
                forgotten.get_or_insert(delivery.at);
            } else {
                names.entry(&delivery.notification_id).or_insert(delivery);
            }
        }
        // What was told and forgotten, and is told anew, may be a duplicate.
        for again in names.values().filter(|delivery| !delivery.possible_duplicate) {
            if let Some(first) = forgotten.filter(|first| *first < again.at) {
                let (first, again) = (clock(first), clock(again.at));
                let what = format!(
                    "{alert} told value {value} at {first}, forgot it, and told it at {again} without the mark"
                );
                findings.push(finding(Rule::UnmarkedDuplicate, what));
            }
        }
        let (repeats, mut first): (Vec<&Delivery>, Vec<&Delivery>) =
            names.into_values().partition(|delivery| delivery.kind == "repeat");
        first.sort_by_key(|delivery| told.cause(history, delivery).map(|run| run.scheduled_for));
        for pair in first.windows(2).filter(|pair| !overtaken(history, told, pair[0], pair[1])) {
            let what =
                format!("{alert} told value {value} under {} and {}", pair[0].notification_id, pair[1].notification_id);
            findings.push(finding(Rule::UnmarkedDuplicate, what));
        }
        findings.extend(early_repeats(history, told, alert, first.first().copied(), &repeats));
    }
    findings
}

/// Whether an alarm or its end was told a second time because runs overtook each other, as they may where they may overlap:
/// between the two, one was due that saw the target later than the run that caused the second, and saw it otherwise. An
/// alert is judged in the order in which its runs were due.
fn overtaken(history: &History, told: &Told<'_>, first: &Delivery, second: &Delivery) -> bool {
    let (Some(first), Some(second)) = (told.cause(history, first), told.cause(history, second)) else { return false };
    let between = |run: &&Execution| {
        run.alert == first.alert && (first.scheduled_for + 1..second.scheduled_for).contains(&run.scheduled_for)
    };
    let may_overlap = versions(history, &first.alert, first.scheduled_for, second.scheduled_for)
        .any(|definition| definition.overlap == Overlap::Allow);
    let sees_otherwise = |run: &Execution| run.status != second.status && run.executed_at > second.executed_at;
    may_overlap && history.ledger.executions.iter().filter(between).any(sees_otherwise)
}

/// Repetitions that no definition wants, or that come too early after the one before.
fn early_repeats(
    history: &History,
    told: &Told<'_>,
    alert: &str,
    first: Option<&Delivery>,
    repeats: &[&Delivery],
) -> Vec<Finding> {
    let nominal = |delivery: &Delivery| told.cause(history, delivery).map(|run| run.scheduled_for);
    let mut moments: Vec<i64> = first.into_iter().chain(repeats.iter().copied()).filter_map(nominal).collect();
    moments.sort_unstable();
    let early = moments.windows(2).filter(|pair| {
        let least = versions(history, alert, pair[0], pair[1]).filter_map(|rules| rules.repeat_us).min();
        least.is_none_or(|least| pair[1] - pair[0] < least)
    });
    let what = |at: i64| format!("{alert} was repeated at {}, which no `repeat_interval` says", clock(at));
    early.map(|pair| finding(Rule::UnmarkedDuplicate, what(pair[1]))).collect()
}

/// News of a value that the harness never set so, or of which the ledger knows nothing.
fn made_up(history: &History, disturbances: &Disturbances<'_>, told: &Told<'_>) -> Vec<Finding> {
    let set: BTreeSet<(&str, &str, i64)> =
        history.signals.iter().map(|signal| (signal.alert.as_str(), signal.status.as_str(), signal.value)).collect();
    let mut findings = Vec::new();
    for (alert, news, value) in told.by_news.keys() {
        let status = if *news == News::Alarm { "ALERT" } else { "OK" };
        if !set.contains(&(alert, status, *value)) {
            let what = format!("{alert} told {status} with value {value}, which the target never said");
            findings.push(finding(Rule::Invented, what));
        }
    }
    let kept = kept(history);
    let mut unknown = BTreeSet::new();
    for delivery in &history.deliveries {
        let id = delivery.notification_id.as_str();
        if !kept.contains(id) && !is_forgotten(&kept, disturbances, delivery) && unknown.insert(id) {
            findings.push(finding(Rule::Invented, format!("{id} of {} is not in the ledger", delivery.alert)));
        }
    }
    findings
}

/// The notifications that are in the ledger at the end.
fn kept(history: &History) -> BTreeSet<&str> {
    history.ledger.notifications.iter().map(|row| row.id.as_str()).collect()
}

/// Whether a rollback has made the ledger forget what was told here. A notifier that had claimed it before may send it
/// after the rollback, for as long as an attempt may take.
fn is_forgotten(kept: &BTreeSet<&str>, disturbances: &Disturbances<'_>, delivery: &Delivery) -> bool {
    !kept.contains(delivery.notification_id.as_str()) && disturbances.rolled_back(delivery.at - ATTEMPT_US, delivery.at)
}
