//! The transition table: what an outcome does to an alert's state, and whom it makes tell something. Pure.
//!
//! Input: the alert's memory, one outcome, the definition's rule. Output: a [`Transition`]: the new memory, the notices
//! that follow from it, and the reason in one word. `docs/reference/transitions.md` is this file for people, and the
//! tests have one row for each of the table's.
//!
//! What receivers were told is a part of the memory. While an alert is silenced it stays as it is, whatever the alert
//! does; afterwards the next outcome, or [`catch_up`] without one, tells the difference, if there still is one.

use sqlsentinel_common::alert::{AlertDefinition, JudgingRules, OnEvent};
use sqlsentinel_common::ids::ExecutionId;
use sqlsentinel_common::outcome::RunStatus;
use sqlsentinel_common::store::outbox::NoticeKind;
use sqlsentinel_common::store::outcomes::{AlertState, Condition};
use sqlsentinel_common::timestamp::Timestamp;

/// One outcome, as far as the table cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Its nominal time: what is older than the state moves nothing.
    pub scheduled_for: Timestamp,
    /// When its run began.
    pub started_at: Timestamp,
    /// How it ended.
    pub status: RunStatus,
}

/// The part of a definition that the table goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule<'a> {
    /// After how many errors in a row they are what `rules.on_error` says; the first one if it is 0.
    pub error_after: u32,
    /// Everything else.
    pub rules: &'a JudgingRules,
}

impl<'a> Rule<'a> {
    /// That of `definition`.
    pub fn of(definition: &'a AlertDefinition) -> Self {
        Self { error_after: definition.error_after, rules: &definition.rules }
    }
}

/// What an outcome does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The memory after it.
    pub state: AlertState,
    /// What is to be told, in this order, to every route of the definition.
    pub notices: Vec<NoticeKind>,
    /// Why.
    pub reason: Reason,
}

/// Why a transition is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A newer outcome was judged already.
    Older,
    /// Something would be told if the alert were not silenced.
    Silenced,
    /// The alert would begin if it were held for long enough, or often enough in a row.
    Pending,
    /// The alert begins.
    Began,
    /// The alert goes on; that it began is told only now, because it was silenced.
    ToldLate,
    /// The alert goes on, and was told when it began.
    GoesOn,
    /// The alert goes on, and is told again.
    Repeated,
    /// The alert ends; nobody asked to be told, or was told of it.
    Ended,
    /// The alert has ended, and that is told.
    Resolved,
    /// All is well, as before.
    AllWell,
    /// The query failed, not often enough in a row to count or to be told.
    ErrorCounted,
    /// The query failed as often in a row as is to be told.
    ErrorsReached,
    /// The query still fails, and that was told.
    ErrorKnown,
    /// The query failed, which is to change nothing.
    ErrorKept,
    /// The query has begun to return no row.
    NoDataBegan,
    /// The query still returns no row, and that was told.
    NoDataKnown,
    /// The query returned no row, which is to change nothing.
    NoDataKept,
}

impl Reason {
    /// The name in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Older => "older",
            Self::Silenced => "silenced",
            Self::Pending => "pending",
            Self::Began => "began",
            Self::ToldLate => "told_late",
            Self::GoesOn => "goes_on",
            Self::Repeated => "repeated",
            Self::Ended => "ended",
            Self::Resolved => "resolved",
            Self::AllWell => "all_well",
            Self::ErrorCounted => "error_counted",
            Self::ErrorsReached => "errors_reached",
            Self::ErrorKnown => "error_known",
            Self::ErrorKept => "error_kept",
            Self::NoDataBegan => "no_data_began",
            Self::NoDataKnown => "no_data_known",
            Self::NoDataKept => "no_data_kept",
        }
    }
}

/// Judges one outcome.
pub fn judge(before: &AlertState, outcome: &Judged, rule: Rule<'_>) -> Transition {
    // Invariant: state moves forward in scheduled_for only. An outcome that is judged again is not newer either.
    if before.last_scheduled_for.is_some_and(|newest| outcome.scheduled_for <= newest) {
        return Transition { state: before.clone(), notices: Vec::new(), reason: Reason::Older };
    }
    let mut step = Step::new(AlertState {
        last_scheduled_for: Some(outcome.scheduled_for),
        last_execution_id: Some(outcome.execution_id),
        last_outcome: Some(outcome.status),
        executed_at: Some(outcome.started_at),
        ..before.clone()
    });
    step.count(outcome.status);
    step.end_of_errors(outcome.status);
    let reason = match says(&step.state, outcome.status, rule) {
        Says::Alert => step.alert(outcome, rule.rules),
        Says::Ok => step.ok(outcome, rule.rules),
        Says::Error => step.error(rule.error_after),
        Says::NoData => step.no_data(),
        Says::Nothing(reason) => reason,
    };
    step.finish(reason)
}

/// What receivers have to hear of an alert that is not silenced any more, without a new outcome. `now` is the cluster's
/// time: of a repetition, the interval begins there.
pub fn catch_up(state: &AlertState, rules: &JudgingRules, now: Timestamp) -> Transition {
    let mut step = Step::new(state.clone());
    let reason = match (step.state.condition == Some(Condition::Alert), step.told) {
        (true, false) => step.begin(now),
        (false, true) => step.resolve(rules),
        (true, true) => Reason::GoesOn,
        (false, false) => Reason::AllWell,
    };
    step.finish(if reason == Reason::Began { Reason::ToldLate } else { reason })
}

/// What an outcome says about the alert, or else what may be told of it.
enum Says {
    Alert,
    Ok,
    Error,
    NoData,
    Nothing(Reason),
}

fn says(state: &AlertState, status: RunStatus, rule: Rule<'_>) -> Says {
    // Not `==`: the definition may have lowered its limit while the query was failing.
    let errors_reached = state.consecutive_errors >= i64::from(rule.error_after);
    match status {
        RunStatus::Alert => Says::Alert,
        RunStatus::Ok => Says::Ok,
        RunStatus::Error => match rule.rules.on_error {
            OnEvent::Notify => Says::Error,
            OnEvent::Keep => Says::Nothing(Reason::ErrorKept),
            OnEvent::Alert | OnEvent::Ok if !errors_reached => Says::Nothing(Reason::ErrorCounted),
            OnEvent::Alert => Says::Alert,
            OnEvent::Ok => Says::Ok,
        },
        RunStatus::NoData => match rule.rules.on_no_data {
            OnEvent::Notify => Says::NoData,
            OnEvent::Keep => Says::Nothing(Reason::NoDataKept),
            OnEvent::Alert => Says::Alert,
            OnEvent::Ok => Says::Ok,
        },
    }
}

/// A transition in the making.
struct Step {
    state: AlertState,
    /// Whether receivers believe that the alert is on.
    told: bool,
    notices: Vec<NoticeKind>,
    kept_back: bool,
}

impl Step {
    fn new(state: AlertState) -> Self {
        let told = (state.condition == Some(Condition::Alert)) != state.untold;
        Self { state, told, notices: Vec::new(), kept_back: false }
    }

    fn finish(mut self, reason: Reason) -> Transition {
        self.state.untold = (self.state.condition == Some(Condition::Alert)) != self.told;
        let reason = if self.kept_back { Reason::Silenced } else { reason };
        Transition { state: self.state, notices: self.notices, reason }
    }

    /// Invariant: the only way to a notice. False: a silence keeps it back, and what was told is not to be touched.
    fn tell(&mut self, kind: NoticeKind) -> bool {
        if self.state.silenced {
            self.kept_back = true;
        } else {
            self.notices.push(kind);
        }
        !self.state.silenced
    }

    fn count(&mut self, status: RunStatus) {
        let state = &mut self.state;
        match status {
            RunStatus::Error => state.consecutive_errors += 1,
            // An error says nothing about rows: it does not end a run of NO_DATA.
            RunStatus::NoData => {
                state.consecutive_errors = 0;
                state.consecutive_no_data += 1;
            }
            RunStatus::Ok | RunStatus::Alert => {
                state.consecutive_errors = 0;
                state.consecutive_no_data = 0;
                state.no_data_untold = false;
            }
        }
    }

    /// The query was answered, whatever it said: who was told that it fails is told that it does not.
    fn end_of_errors(&mut self, status: RunStatus) {
        if status != RunStatus::Error && self.state.error_notified && self.tell(NoticeKind::ErrorResolved) {
            self.state.error_notified = false;
        }
    }

    fn alert(&mut self, outcome: &Judged, rules: &JudgingRules) -> Reason {
        let state = &mut self.state;
        state.condition_execution_id = Some(outcome.execution_id);
        state.alerted_at = Some(outcome.started_at);
        state.consecutive_alerts += 1;
        state.consecutive_oks = 0;
        let since = *state.alerting_since.get_or_insert(outcome.scheduled_for);
        let began = state.condition != Some(Condition::Alert);
        let held = state.consecutive_alerts < i64::from(rules.consecutive)
            || outcome.scheduled_for.since(since) < rules.held_for();
        if began && held {
            state.condition = Some(Condition::Pending);
            // Only after a silence is there something to tell here: that the alert before this one has ended.
            return if self.told { self.resolve(rules) } else { Reason::Pending };
        }
        state.condition = Some(Condition::Alert);
        if !self.told {
            return match self.begin(outcome.scheduled_for) {
                Reason::Began if !began => Reason::ToldLate,
                reason => reason,
            };
        }
        let told_at = *self.state.told_at.get_or_insert(outcome.scheduled_for);
        let due = rules.repeat_interval().is_some_and(|interval| outcome.scheduled_for.since(told_at) >= interval);
        if due && self.tell(NoticeKind::Repeat) {
            self.state.told_at = Some(outcome.scheduled_for);
            return Reason::Repeated;
        }
        Reason::GoesOn
    }

    fn ok(&mut self, outcome: &Judged, rules: &JudgingRules) -> Reason {
        let state = &mut self.state;
        let before = state.condition;
        state.condition_execution_id = Some(outcome.execution_id);
        state.condition = Some(Condition::Ok);
        state.alerting_since = None;
        state.ok_at = Some(outcome.started_at);
        state.consecutive_oks += 1;
        state.consecutive_alerts = 0;
        if self.told {
            return self.resolve(rules);
        }
        if matches!(before, Some(Condition::Alert | Condition::Pending)) { Reason::Ended } else { Reason::AllWell }
    }

    fn begin(&mut self, at: Timestamp) -> Reason {
        if self.tell(NoticeKind::Alert) {
            self.told = true;
            self.state.told_at = Some(at);
        }
        Reason::Began
    }

    /// Where nobody is to be told of ends, each beginning is news.
    fn resolve(&mut self, rules: &JudgingRules) -> Reason {
        if !rules.send_resolved {
            self.told = false;
            return Reason::Ended;
        }
        if self.tell(NoticeKind::Resolved) {
            self.told = false;
        }
        Reason::Resolved
    }

    /// An error says nothing about the alert.
    fn error(&mut self, error_after: u32) -> Reason {
        if self.state.error_notified {
            return Reason::ErrorKnown;
        }
        if self.state.consecutive_errors < i64::from(error_after) {
            return Reason::ErrorCounted;
        }
        self.state.error_notified = self.tell(NoticeKind::Error);
        Reason::ErrorsReached
    }

    /// No row says nothing about the alert either.
    fn no_data(&mut self) -> Reason {
        if self.state.consecutive_no_data > 1 && !self.state.no_data_untold {
            return Reason::NoDataKnown;
        }
        self.state.no_data_untold = !self.tell(NoticeKind::NoData);
        Reason::NoDataBegan
    }
}

#[cfg(test)]
mod tests;
