//! An alarm that the cluster must have seen is told, and so is its end where the definition says so.

use std::collections::BTreeMap;

use super::super::clock;
use super::super::disturbances::Disturbances;
use super::{News, Told, held, versions};
use crate::chaos::history::{Definition, Execution, History, Signal};
use crate::chaos::report::{Finding, Rule};

pub(super) fn check(history: &History, disturbances: &Disturbances<'_>, told: &Told<'_>) -> Vec<Finding> {
    let witnesses = Witnesses::new(history);
    let mut findings = Vec::new();
    for (signal, until) in held(history) {
        let news = if signal.status == "ALERT" { News::Alarm } else { News::End };
        let rules: Vec<&Definition> = versions(history, &signal.alert, signal.set_before, until).collect();
        let arrived = told.about(&signal.alert, news, signal.value);
        if arrived.iter().any(|delivery| delivery.arrived() || delivery.was_rejected()) {
            continue;
        }
        let seen = match news {
            News::Alarm => signal.followed_at.is_some() || witnesses.must_tell(signal, until, &rules),
            // Nobody is told the end of what they were not told; that this was lost is counted already.
            News::End if !told.about(&signal.alert, News::Alarm, signal.value).iter().any(|alarm| alarm.arrived()) => {
                false
            }
            News::End if !rules.iter().all(|rules| rules.send_resolved) => false,
            News::End => signal.followed_at.is_some() || !witnesses.of(signal, until).is_empty(),
        };
        let forgotten = disturbances.rolled_back(signal.set_before, until) && !is_recorded(history, told, news, signal);
        if seen && !forgotten && !is_still_on(history, disturbances, signal) {
            let (alert, status, value) = (&signal.alert, &signal.status, signal.value);
            let since = clock(signal.set_after);
            let what = format!("{alert} was {status} with value {value} from {since} on, and nobody was told");
            findings.push(super::super::finding(Rule::LostNotification, what));
        }
    }
    findings
}

/// Whether the ledger, as it is after all, has news of this signal: then a rollback is no reason not to tell it.
fn is_recorded(history: &History, told: &Told<'_>, news: News, signal: &Signal) -> bool {
    history.ledger.notifications.iter().any(|notification| {
        let value = told.executions.get(notification.execution_id.as_str()).and_then(|execution| execution.value);
        notification.alert == signal.alert && News::of(&notification.kind) == Some(news) && value == Some(signal.value)
    })
}

/// Whether a rollback took the end of the alarm before: to the cluster this one is the same, and told already.
fn is_still_on(history: &History, disturbances: &Disturbances<'_>, signal: &Signal) -> bool {
    let before = history.signals.iter().rfind(|one| one.alert == signal.alert && one.set_before < signal.set_before);
    let Some(end) = before.filter(|_| signal.status == "ALERT") else { return false };
    // What was judged again only after the cluster had seen this alarm came too late to end the one before.
    let in_time = |execution: &Execution| {
        let fire = history.ledger.fires.iter().find(|fire| fire.execution_id == execution.id);
        fire.and_then(|fire| fire.finished_at) <= signal.followed_at.or(Some(i64::MAX))
    };
    let on_record = history.ledger.executions.iter().any(|execution| {
        let says_so = execution.status == end.status && execution.value == Some(end.value);
        execution.alert == end.alert && says_so && in_time(execution)
    });
    disturbances.rolled_back(end.set_before, signal.set_before) && !on_record
}

/// The runs of each alert, to see who must have seen a signal.
struct Witnesses<'a> {
    history: &'a History,
    /// The first and the last run of an execution at the target.
    runs: BTreeMap<&'a str, (i64, i64)>,
    /// What has an answer, by alert, in the order of nominal times.
    answered: BTreeMap<&'a str, Vec<&'a Execution>>,
}

impl<'a> Witnesses<'a> {
    fn new(history: &'a History) -> Self {
        let mut runs: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        for run in &history.runs {
            let span = runs.entry(&run.execution_id).or_insert((run.at, run.at));
            *span = (span.0.min(run.at), span.1.max(run.at));
        }
        let mut answered: BTreeMap<&str, Vec<&Execution>> = BTreeMap::new();
        for execution in history.ledger.executions.iter().filter(|execution| execution.status != "ERROR") {
            answered.entry(&execution.alert).or_default().push(execution);
        }
        for executions in answered.values_mut() {
            executions.sort_by_key(|execution| execution.scheduled_for);
        }
        Self { history, runs, answered }
    }

    /// Whether an execution asked the target only while the signal certainly held: whatever is recorded, it saw it.
    fn saw(&self, execution: &Execution, signal: &Signal, until: i64) -> bool {
        let inside = |(first, last): &(i64, i64)| signal.set_after < *first && *last < until;
        execution.scheduled_for <= self.history.until && self.runs.get(execution.id.as_str()).is_some_and(inside)
    }

    /// All that saw it.
    fn of(&self, signal: &Signal, until: i64) -> Vec<&'a Execution> {
        let answered = self.answered.get(signal.alert.as_str()).into_iter().flatten().copied();
        answered.filter(|execution| self.saw(execution, signal, until)).collect()
    }

    /// Whether so many in a row, and over such a time, saw an alarm that under any of `rules` it has to be told.
    fn must_tell(&self, signal: &Signal, until: i64, rules: &[&Definition]) -> bool {
        let most = |of: fn(&Definition) -> i64| rules.iter().map(|rules| of(rules)).max();
        let consecutive = most(|rules| i64::try_from(rules.consecutive).unwrap_or(i64::MAX));
        let (Some(consecutive), Some(for_us)) = (consecutive, most(|rules| rules.for_us)) else { return false };
        let Some(answered) = self.answered.get(signal.alert.as_str()) else { return false };
        let rows = answered.split(|execution| !self.saw(execution, signal, until));
        rows.filter_map(|row| Some((row, row.first()?, row.last()?))).any(|(row, first, last)| {
            row.len() as i64 >= consecutive.max(1) && last.scheduled_for - first.scheduled_for >= for_us
        })
    }
}
