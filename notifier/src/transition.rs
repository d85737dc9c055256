//! The transition table: what an outcome does to an alert's state, and whom it makes tell something. Pure.
//!
//! Input: the alert's memory, one outcome, the definition's rule. Output: a [`Transition`]: the new memory, the notices
//! that follow from it, and the reason in one word. `docs/reference/transitions.md` is this file for people, and the
//! test below has one row for each of the table's.

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
    /// The alert begins.
    Began,
    /// The alert goes on, and was told when it began.
    GoesOn,
    /// The alert ends; nobody asked to be told.
    Ended,
    /// All is well, as before.
    AllWell,
    /// The query failed, not often enough in a row to be told.
    ErrorCounted,
    /// The query failed as often in a row as is to be told.
    ErrorsReached,
    /// The query still fails, and that was told.
    ErrorKnown,
    /// The query has begun to return no row.
    NoDataBegan,
    /// The query still returns no row, and that was told.
    NoDataKnown,
}

impl Reason {
    /// The name in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Older => "older",
            Self::Began => "began",
            Self::GoesOn => "goes_on",
            Self::Ended => "ended",
            Self::AllWell => "all_well",
            Self::ErrorCounted => "error_counted",
            Self::ErrorsReached => "errors_reached",
            Self::ErrorKnown => "error_known",
            Self::NoDataBegan => "no_data_began",
            Self::NoDataKnown => "no_data_known",
        }
    }
}

/// Judges one outcome. `error_after` is how many errors in a row are told; the first one if it is 0.
pub fn judge(before: &AlertState, outcome: &Judged, error_after: u32) -> Transition {
    // Invariant: state moves forward in scheduled_for only. An outcome that is judged again is not newer either.
    if before.last_scheduled_for.is_some_and(|newest| outcome.scheduled_for <= newest) {
        return Transition { state: before.clone(), notices: Vec::new(), reason: Reason::Older };
    }
    let mut state = AlertState {
        last_scheduled_for: Some(outcome.scheduled_for),
        last_execution_id: Some(outcome.execution_id),
        last_outcome: Some(outcome.status),
        executed_at: Some(outcome.started_at),
        ..before.clone()
    };
    let mut notices = Vec::new();
    if outcome.status != RunStatus::Error {
        notices.extend(end_of_errors(&mut state));
    }
    let (reason, notice) = match outcome.status {
        RunStatus::Ok => ok(&mut state, outcome.started_at),
        RunStatus::Alert => alert(&mut state, outcome.started_at),
        RunStatus::Error => error(&mut state, error_after),
        RunStatus::NoData => no_data(&mut state),
    };
    notices.extend(notice);
    Transition { state, notices, reason }
}

fn ok(state: &mut AlertState, started_at: Timestamp) -> (Reason, Option<NoticeKind>) {
    let reason = if state.condition == Some(Condition::Alert) { Reason::Ended } else { Reason::AllWell };
    state.condition = Some(Condition::Ok);
    state.ok_at = Some(started_at);
    state.consecutive_oks += 1;
    state.consecutive_alerts = 0;
    state.consecutive_no_data = 0;
    (reason, None)
}

fn alert(state: &mut AlertState, started_at: Timestamp) -> (Reason, Option<NoticeKind>) {
    let began = state.condition != Some(Condition::Alert);
    state.condition = Some(Condition::Alert);
    state.alerted_at = Some(started_at);
    state.consecutive_alerts += 1;
    state.consecutive_oks = 0;
    state.consecutive_no_data = 0;
    if began { (Reason::Began, Some(NoticeKind::Alert)) } else { (Reason::GoesOn, None) }
}

/// An error says nothing about the alert, nor about rows: condition and the run of NO_DATA stay as they are.
fn error(state: &mut AlertState, error_after: u32) -> (Reason, Option<NoticeKind>) {
    state.consecutive_errors += 1;
    if state.error_notified {
        return (Reason::ErrorKnown, None);
    }
    // Not `==`: the definition may have lowered its limit while the query was failing.
    if state.consecutive_errors < i64::from(error_after) {
        return (Reason::ErrorCounted, None);
    }
    state.error_notified = true;
    (Reason::ErrorsReached, Some(NoticeKind::Error))
}

/// No row says nothing about the alert either.
fn no_data(state: &mut AlertState) -> (Reason, Option<NoticeKind>) {
    state.consecutive_no_data += 1;
    if state.consecutive_no_data == 1 {
        (Reason::NoDataBegan, Some(NoticeKind::NoData))
    } else {
        (Reason::NoDataKnown, None)
    }
}

/// The query was answered, whatever it said: a run of errors ends, and who was told of it is told of its end.
fn end_of_errors(state: &mut AlertState) -> Option<NoticeKind> {
    state.consecutive_errors = 0;
    std::mem::take(&mut state.error_notified).then_some(NoticeKind::ErrorResolved)
}

#[cfg(test)]
mod tests {
    use NoticeKind::{Alert as AlertNotice, Error as ErrorNotice, ErrorResolved, NoData as NoDataNotice};
    use RunStatus::{Alert, Error, NoData, Ok as AllOk};

    use super::*;

    fn outcome(minute: i64, status: RunStatus) -> Judged {
        Judged {
            execution_id: ExecutionId::manual(),
            scheduled_for: Timestamp::from_micros(minute * 60_000_000),
            started_at: Timestamp::from_micros(minute * 60_000_000 + 1),
            status,
        }
    }

    /// Runs outcomes a minute apart through the table; what the last one did.
    fn after(statuses: &[RunStatus]) -> Transition {
        let mut last = Transition { state: AlertState::default(), notices: Vec::new(), reason: Reason::AllWell };
        for (minute, status) in (1..).zip(statuses) {
            last = judge(&last.state, &outcome(minute, *status), 3);
        }
        last
    }

    #[test]
    fn every_row_of_the_table() {
        const OK: Option<Condition> = Some(Condition::Ok);
        const ALERT: Option<Condition> = Some(Condition::Alert);
        type Row = (&'static [RunStatus], Option<Condition>, &'static [NoticeKind], Reason);
        let rows: &[Row] = &[
            // unknown or OK → ALERT
            (&[Alert], ALERT, &[AlertNotice], Reason::Began),
            (&[AllOk, Alert], ALERT, &[AlertNotice], Reason::Began),
            (&[Alert, AllOk, Alert], ALERT, &[AlertNotice], Reason::Began),
            // ALERT → ALERT
            (&[Alert, Alert], ALERT, &[], Reason::GoesOn),
            (&[Alert, Error, Alert], ALERT, &[], Reason::GoesOn),
            (&[Alert, NoData, Alert], ALERT, &[], Reason::GoesOn),
            // ALERT → OK, and OK without an alert before
            (&[Alert, AllOk], OK, &[], Reason::Ended),
            (&[AllOk], OK, &[], Reason::AllWell),
            (&[AllOk, AllOk], OK, &[], Reason::AllWell),
            // any → ERROR: told at the third in a row, once a run of errors
            (&[Error], None, &[], Reason::ErrorCounted),
            (&[AllOk, Error], OK, &[], Reason::ErrorCounted),
            (&[Alert, Error, Error], ALERT, &[], Reason::ErrorCounted),
            (&[Alert, Error, Error, Error], ALERT, &[ErrorNotice], Reason::ErrorsReached),
            (&[Error, Error, Error, Error], None, &[], Reason::ErrorKnown),
            (&[Error, Error, AllOk, Error], OK, &[], Reason::ErrorCounted),
            (&[Error, Error, NoData, Error], None, &[], Reason::ErrorCounted),
            (&[Error, Error, Error, AllOk, Error, Error, Error], OK, &[ErrorNotice], Reason::ErrorsReached),
            // any → NO_DATA: told at the first in a row; an error in between says nothing about rows
            (&[NoData], None, &[NoDataNotice], Reason::NoDataBegan),
            (&[Alert, NoData], ALERT, &[NoDataNotice], Reason::NoDataBegan),
            (&[NoData, NoData], None, &[], Reason::NoDataKnown),
            (&[NoData, Error, NoData], None, &[], Reason::NoDataKnown),
            (&[NoData, AllOk, NoData], OK, &[NoDataNotice], Reason::NoDataBegan),
            // recovery from a run of errors that was told, before whatever else there is to tell
            (&[Error, Error, Error, AllOk], OK, &[ErrorResolved], Reason::AllWell),
            (&[Error, Error, Error, Alert], ALERT, &[ErrorResolved, AlertNotice], Reason::Began),
            (&[Alert, Error, Error, Error, Alert], ALERT, &[ErrorResolved], Reason::GoesOn),
            (&[Error, Error, Error, NoData], None, &[ErrorResolved, NoDataNotice], Reason::NoDataBegan),
            (&[Error, Error, Error, AllOk, AllOk], OK, &[], Reason::AllWell),
            // … and from one that was not
            (&[Error, Error, AllOk], OK, &[], Reason::AllWell),
        ];
        for (statuses, condition, notices, reason) in rows {
            let last = after(statuses);
            assert_eq!(
                (last.state.condition, last.notices.as_slice(), last.reason),
                (*condition, *notices, *reason),
                "{statuses:?}"
            );
        }
    }

    #[test]
    fn an_outcome_that_is_not_newer_moves_nothing() {
        let now = after(&[AllOk, AllOk, Alert]).state;
        for minute in [2, 3] {
            for status in [AllOk, Alert, Error, NoData] {
                let late = judge(&now, &outcome(minute, status), 1);
                assert_eq!(late, Transition { state: now.clone(), notices: Vec::new(), reason: Reason::Older });
            }
        }
    }

    #[test]
    fn counters_and_times_say_what_the_python_columns_mean() {
        let state = after(&[Alert, AllOk, AllOk, Error, NoData]).state;
        assert_eq!((state.consecutive_alerts, state.consecutive_oks), (0, 2));
        assert_eq!((state.consecutive_errors, state.consecutive_no_data), (0, 1));
        assert_eq!(state.last_outcome, Some(NoData));
        assert_eq!(state.executed_at, Some(outcome(5, NoData).started_at));
        assert_eq!(state.ok_at, Some(outcome(3, AllOk).started_at));
        assert_eq!(state.alerted_at, Some(outcome(1, Alert).started_at));
        assert_eq!(after(&[AllOk, Alert, Alert]).state.consecutive_alerts, 2);
    }

    #[test]
    fn a_limit_that_was_lowered_during_a_run_of_errors_still_tells_once() {
        let counted = after(&[Error, Error]).state;
        let told = judge(&counted, &outcome(9, Error), 1);
        assert_eq!(told.notices, [ErrorNotice]);
        assert_eq!(judge(&told.state, &outcome(10, Error), 1).notices, []);
        assert_eq!(judge(&AlertState::default(), &outcome(1, Error), 0).notices, [ErrorNotice]);
    }
}
