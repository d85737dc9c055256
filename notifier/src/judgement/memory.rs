//! What is remembered of an alert and of its instances, and what one run does to all of them. Pure.
//!
//! Input: the alert's state, its instances, a run or the end of a silence. Output: both as they are after it, and what is
//! to be told of each. The transition table judges each by itself; this file says by which status:
//!
//! - a run that was answered: each row's instance as the row says; a known instance that has none, as OK; the alert
//!   itself as OK where the rows were instances, or else as its one row says;
//! - a run that was not: the alert itself as the definition says of errors and of no data; its instances as OK if that
//!   is what it says, and not at all otherwise.
//!
//! Invariant: an instance that is OK with nothing left to tell is forgotten. While there is one that is not, the alert's
//! own memory is kept beside it under [`ITSELF`], and its state says the worst of all; otherwise the state is its own.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use sqlsentinel_common::alert::JudgingRules;
use sqlsentinel_common::ids::ExecutionId;
use sqlsentinel_common::outcome::{InstanceVerdict, RunStatus, Verdict};
use sqlsentinel_common::store::outbox::NoticeKind;
use sqlsentinel_common::store::outcomes::{AlertState, Condition, InstanceState, Instances};
use sqlsentinel_common::timestamp::Timestamp;

use crate::transition::{Judged, Reason, Rule, Transition, catch_up, judge};

/// The name under which an alert's own memory stands among its instances; its own notifications have it too.
pub const ITSELF: &str = "";

/// One run, as it is judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard<'a> {
    /// When, and by which execution.
    pub(super) judged: Judged,
    /// What it said.
    pub(super) verdict: &'a Verdict,
    /// The columns that tell instances apart.
    pub(super) key: &'a [String],
}

/// What was decided about the alert itself, or about one of its instances.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Decided<'a> {
    /// Which instance; [`ITSELF`].
    pub(super) instance: String,
    pub(super) reason: Reason,
    pub(super) notices: Vec<NoticeKind>,
    /// What there is to tell, and which execution said it.
    pub(super) word: Word<'a>,
}

/// What an execution said of one instance.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Word<'a> {
    pub(super) execution_id: ExecutionId,
    pub(super) scheduled_for: Timestamp,
    pub(super) verdict: Cow<'a, Verdict>,
}

/// An alert and its instances.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Memory {
    /// What is stored of the alert: its own memory, or the worst of all.
    pub(super) alert: AlertState,
    /// Those of which something is remembered, and [`ITSELF`] beside them.
    pub(super) instances: Instances,
}

impl Memory {
    /// Judges one run. What is told of the alert itself comes first, then instances by name; those that go on as they
    /// were are not in the result.
    pub(super) fn judge<'a>(&mut self, heard: &Heard<'a>, rule: Rule<'_>) -> Vec<Decided<'a>> {
        let Heard { judged, verdict, .. } = heard;
        let answered = matches!(verdict.status, RunStatus::Ok | RunStatus::Alert);
        let rows: BTreeMap<&str, &InstanceVerdict> = match answered {
            true => verdict.instances.iter().map(|row| (row.instance.as_str(), row)).collect(),
            false => BTreeMap::new(),
        };
        let about_itself =
            if rows.is_empty() { Cow::Borrowed(*verdict) } else { Cow::Owned(Verdict::bare(RunStatus::Ok)) };
        let own = judge(&self.own(), &Judged { status: about_itself.status, ..*judged }, rule);
        let word =
            Word { execution_id: judged.execution_id, scheduled_for: judged.scheduled_for, verdict: about_itself };
        if own.reason == Reason::Older {
            return vec![decided(ITSELF, own, word)];
        }
        let spoke = own.state.condition_execution_id == Some(judged.execution_id);
        let all_is_well = answered || (spoke && own.state.condition == Some(Condition::Ok));
        let mut said = spoke.then_some(own.state.condition != Some(Condition::Ok));

        let mut known = mem::take(&mut self.instances);
        let own_part = known.remove(ITSELF);
        let names: BTreeSet<String> = known.keys().cloned().chain(rows.keys().map(|name| (*name).to_owned())).collect();
        let mut all_decided = Vec::new();
        for name in names.into_iter().filter(|name| name != ITSELF) {
            let part = known.remove(&name);
            let (is_alert, verdict) = match (rows.get(name.as_str()), &part) {
                (Some(row), _) => (row.status == RunStatus::Alert, row.verdict()),
                (None, Some(part)) if all_is_well => (false, ended(part, heard)),
                (None, part) => {
                    self.instances.extend(part.clone().map(|part| (name, part)));
                    continue;
                }
            };
            let status = if is_alert { RunStatus::Alert } else { RunStatus::Ok };
            let step = judge(&named(part.as_ref(), &own.state), &Judged { status, ..*judged }, rule);
            said = Some(said.unwrap_or_default() || is_alert);
            let word = Word { verdict: Cow::Owned(verdict), ..word.clone() };
            self.remember(&name, &step.state, &word);
            if !matches!(step.reason, Reason::AllWell | Reason::GoesOn) {
                all_decided.push(decided(&name, step, word));
            }
        }
        let own_word = match own_part {
            Some(part) if !spoke => word_of(&part),
            _ => word.clone(),
        };
        self.conclude(own.state.clone(), &own_word, said.map(|alert| (alert, *judged)));
        self.alert.last_outcome = Some(verdict.status);
        all_decided.insert(0, decided(ITSELF, own, word));
        all_decided
    }

    /// What has to be heard of an alert with instances that is not silenced any more.
    pub(super) fn catch_up(&mut self, rules: &JudgingRules, now: Timestamp) -> Vec<Decided<'static>> {
        let own_before = self.own();
        let (mut own, mut own_word) = (own_before.clone(), None);
        let mut all_decided = Vec::new();
        for (name, part) in mem::take(&mut self.instances) {
            let word = word_of(&part);
            let before = if name == ITSELF { own_before.clone() } else { named(Some(&part), &own_before) };
            let step = catch_up(&before, rules, now);
            own_word.get_or_insert_with(|| word.clone());
            if name == ITSELF {
                own = step.state.clone();
            } else {
                self.remember(&name, &step.state, &word);
            }
            if part.untold {
                all_decided.push(decided(&name, step, word));
            }
        }
        if let Some(word) = own_word {
            self.conclude(own, &word, None);
        }
        all_decided
    }

    /// The number of the alert's next notification.
    pub(super) fn next_sequence(&mut self) -> i64 {
        self.alert.sequence += 1;
        self.alert.sequence
    }

    /// The alert's own memory. How errors and answers without rows follow each other is the alert's alone.
    fn own(&self) -> AlertState {
        match self.instances.get(ITSELF) {
            Some(part) => recalled(part, self.alert.clone()),
            None => self.alert.clone(),
        }
    }

    /// Invariant: the only way into `instances`; what is well and told is left out.
    fn remember(&mut self, name: &str, state: &AlertState, word: &Word<'_>) {
        if name == ITSELF || state.untold || !matches!(state.condition, None | Some(Condition::Ok)) {
            let part = InstanceState {
                alert_name: state.alert_name.clone(),
                instance: name.to_owned(),
                condition: state.condition.unwrap_or(Condition::Ok),
                execution_id: word.execution_id,
                scheduled_for: word.scheduled_for,
                verdict: word.verdict.clone().into_owned(),
                consecutive_alerts: state.consecutive_alerts,
                alerting_since: state.alerting_since,
                told_at: state.told_at,
                untold: state.untold,
            };
            self.instances.insert(name.to_owned(), part);
        }
    }

    /// Makes the state that is stored from the alert's own and those of its instances. `said`: whether the run, if it
    /// said anything of any of them, said ALERT of one.
    fn conclude(&mut self, own: AlertState, own_word: &Word<'_>, said: Option<(bool, Judged)>) {
        if self.instances.is_empty() {
            self.alert = own;
            return;
        }
        self.remember(ITSELF, &own, own_word);
        let before = mem::take(&mut self.alert);
        let worst = self.instances.values().map(|part| part.condition).max();
        let like_the_worst = || self.instances.values().filter(|part| Some(part.condition) == worst);
        let (alerts, oks) = match said {
            Some((true, _)) => (before.consecutive_alerts + 1, 0),
            Some((false, _)) => (0, before.consecutive_oks + 1),
            None => (before.consecutive_alerts, before.consecutive_oks),
        };
        let began = |alert: bool| said.filter(|(said, _)| *said == alert).map(|(_, judged)| judged.started_at);
        self.alert = AlertState {
            condition: worst,
            condition_execution_id: said.map(|(_, judged)| judged.execution_id).or(before.condition_execution_id),
            consecutive_alerts: alerts,
            consecutive_oks: oks,
            alerting_since: like_the_worst().filter_map(|part| part.alerting_since).min(),
            told_at: like_the_worst().filter_map(|part| part.told_at).max(),
            untold: self.instances.values().any(|part| part.untold),
            alerted_at: began(true),
            ok_at: began(false),
            ..own
        };
    }
}

fn decided<'a>(name: &str, step: Transition, word: Word<'a>) -> Decided<'a> {
    Decided { instance: name.to_owned(), reason: step.reason, notices: step.notices, word }
}

/// The table's memory of an instance of `alert`; of one that is not known, there is none.
fn named(part: Option<&InstanceState>, alert: &AlertState) -> AlertState {
    let nothing =
        AlertState { alert_name: alert.alert_name.clone(), silenced: alert.silenced, ..AlertState::default() };
    match part {
        Some(part) => recalled(part, nothing),
        None => nothing,
    }
}

fn recalled(part: &InstanceState, rest: AlertState) -> AlertState {
    AlertState {
        condition: Some(part.condition),
        condition_execution_id: Some(part.execution_id),
        consecutive_alerts: part.consecutive_alerts,
        alerting_since: part.alerting_since,
        told_at: part.told_at,
        untold: part.untold,
        ..rest
    }
}

fn word_of(part: &InstanceState) -> Word<'static> {
    Word {
        execution_id: part.execution_id,
        scheduled_for: part.scheduled_for,
        verdict: Cow::Owned(part.verdict.clone()),
    }
}

/// What a run says of an instance that it does not name: only which one it is, not how it was.
fn ended(part: &InstanceState, heard: &Heard<'_>) -> Verdict {
    let is_key = |name: &str| heard.key.iter().any(|column| column.eq_ignore_ascii_case(name));
    let context = part.verdict.context.iter().filter(|(name, _)| is_key(name));
    let status = match heard.verdict.status {
        RunStatus::Alert | RunStatus::Ok => RunStatus::Ok,
        unanswered => unanswered,
    };
    Verdict {
        context: context.map(|(name, value)| (name.clone(), value.clone())).collect(),
        error: heard.verdict.error.clone(),
        ..Verdict::bare(status)
    }
}

#[cfg(test)]
mod tests;
