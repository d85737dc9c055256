use std::collections::BTreeSet;

use NoticeKind::{Alert as AlertNotice, Error as ErrorNotice, ErrorResolved, NoData as NoDataNotice, Repeat, Resolved};
use RunStatus::{Alert, Error, NoData, Ok as AllOk};

use super::*;

mod model;

/// What happens to an alert, a minute after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Run(RunStatus),
    Silence,
    Unsilence,
    /// The notifiers' sweep looks at it, as it does of alerts that are not silenced.
    Sweep,
}

use Event::{Run, Silence, Sweep, Unsilence};

fn outcome(minute: i64, status: RunStatus) -> Judged {
    Judged {
        execution_id: ExecutionId::manual(),
        scheduled_for: Timestamp::from_micros(minute * 60_000_000),
        started_at: Timestamp::from_micros(minute * 60_000_000 + 1),
        status,
    }
}

fn minutes(count: u64) -> u64 {
    count * 60_000
}

fn quiet() -> JudgingRules {
    JudgingRules::default()
}

/// One event; errors count from the third in a row.
fn happen(before: &AlertState, minute: i64, event: Event, rules: &JudgingRules) -> Transition {
    let silenced = |silenced| AlertState { silenced, ..before.clone() };
    let nothing = |state| Transition { state, notices: Vec::new(), reason: Reason::AllWell };
    match event {
        Run(status) => judge(before, &outcome(minute, status), Rule { error_after: 3, rules }),
        Silence => nothing(silenced(true)),
        Unsilence => nothing(silenced(false)),
        Sweep if before.silenced || !before.untold => nothing(before.clone()),
        Sweep => catch_up(before, rules, Timestamp::from_micros(minute * 60_000_000)),
    }
}

/// The state before the last of `events`, and what that one did.
fn last_of(events: &[Event], rules: &JudgingRules) -> (AlertState, Transition) {
    let mut before = AlertState::default();
    let mut last = Transition { state: before.clone(), notices: Vec::new(), reason: Reason::AllWell };
    for (minute, event) in (1..).zip(events) {
        before = last.state;
        last = happen(&before, minute, *event, rules);
    }
    (before, last)
}

fn after(statuses: &[RunStatus]) -> Transition {
    let events: Vec<_> = statuses.iter().copied().map(Run).collect();
    last_of(&events, &quiet()).1
}

/// Examples of one row of the table, with what the last event of each has to say.
struct Row {
    from_to: &'static str,
    condition: &'static str,
    rules: JudgingRules,
    examples: &'static [(&'static [Event], &'static [NoticeKind], Reason)],
}

fn rows() -> Vec<Row> {
    let row = |from_to, condition, rules, examples| Row { from_to, condition, rules, examples };
    let begins = "unknown, OK or PENDING → ALERT";
    let held = "not yet `for` so long, or `consecutive` so often";
    vec![
        row(
            begins,
            held,
            JudgingRules { consecutive: 3, ..quiet() },
            &[
                (&[Run(Alert)], &[], Reason::Pending),
                (&[Run(AllOk), Run(Alert), Run(Alert)], &[], Reason::Pending),
                (&[Run(Alert), Run(Alert), Run(AllOk), Run(Alert)], &[], Reason::Pending),
                (&[Run(Alert), Run(Error), Run(NoData), Run(Alert)], &[], Reason::Pending),
            ],
        ),
        row(
            begins,
            held,
            JudgingRules { for_ms: minutes(2), ..quiet() },
            &[
                (&[Run(Alert)], &[], Reason::Pending),
                (&[Run(AllOk), Run(Alert), Run(Alert)], &[], Reason::Pending),
                (&[Run(Alert), Run(Alert), Run(AllOk), Run(Alert)], &[], Reason::Pending),
            ],
        ),
        row(
            begins,
            held,
            JudgingRules { for_ms: minutes(1), consecutive: 3, ..quiet() },
            &[(&[Run(Alert), Run(Alert)], &[], Reason::Pending)],
        ),
        row(
            begins,
            "",
            quiet(),
            &[
                (&[Run(Alert)], &[AlertNotice], Reason::Began),
                (&[Run(AllOk), Run(Alert)], &[AlertNotice], Reason::Began),
                (&[Run(Alert), Run(AllOk), Run(Alert)], &[AlertNotice], Reason::Began),
            ],
        ),
        row(
            begins,
            "",
            JudgingRules { for_ms: minutes(2), consecutive: 3, ..quiet() },
            &[
                (&[Run(Alert), Run(Alert), Run(Alert)], &[AlertNotice], Reason::Began),
                (&[Run(Alert), Run(Alert), Run(Error), Run(Alert)], &[AlertNotice], Reason::Began),
            ],
        ),
        row(
            begins,
            "",
            JudgingRules { for_ms: minutes(2), ..quiet() },
            &[(&[Run(Alert), Run(NoData), Run(Alert)], &[AlertNotice], Reason::Began)],
        ),
        row(
            "ALERT → ALERT",
            "",
            quiet(),
            &[
                (&[Run(Alert), Run(Alert)], &[], Reason::GoesOn),
                (&[Run(Alert), Run(Error), Run(Alert)], &[], Reason::GoesOn),
                (&[Run(Alert), Run(NoData), Run(Alert)], &[], Reason::GoesOn),
            ],
        ),
        row(
            "ALERT → ALERT",
            "",
            JudgingRules { repeat_interval_ms: Some(minutes(2)), ..quiet() },
            &[
                (&[Run(Alert), Run(Alert)], &[], Reason::GoesOn),
                (&[Run(Alert), Run(Alert), Run(Alert), Run(Alert)], &[], Reason::GoesOn),
            ],
        ),
        row(
            "ALERT → ALERT",
            "`repeat_interval` has passed",
            JudgingRules { repeat_interval_ms: Some(minutes(2)), ..quiet() },
            &[
                (&[Run(Alert), Run(Alert), Run(Alert)], &[Repeat], Reason::Repeated),
                (&[Run(Alert), Run(Alert), Run(Alert), Run(Alert), Run(Alert)], &[Repeat], Reason::Repeated),
                (&[Run(Alert), Run(Error), Run(Error), Run(Alert)], &[Repeat], Reason::Repeated),
                (&[Run(Alert), Silence, Run(Alert), Unsilence, Run(Alert)], &[Repeat], Reason::Repeated),
            ],
        ),
        row("ALERT → OK", "", quiet(), &[(&[Run(Alert), Run(AllOk)], &[], Reason::Ended)]),
        row(
            "ALERT → OK",
            "`send_resolved`",
            JudgingRules { send_resolved: true, ..quiet() },
            &[
                (&[Run(Alert), Run(AllOk)], &[Resolved], Reason::Resolved),
                (&[Run(Alert), Run(NoData), Run(AllOk)], &[Resolved], Reason::Resolved),
            ],
        ),
        row(
            "unknown, OK or PENDING → OK",
            "",
            JudgingRules { consecutive: 2, send_resolved: true, ..quiet() },
            &[
                (&[Run(AllOk)], &[], Reason::AllWell),
                (&[Run(AllOk), Run(AllOk)], &[], Reason::AllWell),
                (&[Run(Alert), Run(AllOk)], &[], Reason::Ended),
            ],
        ),
        row(
            "any → ERROR",
            "fewer in a row than `after`",
            quiet(),
            &[
                (&[Run(Error)], &[], Reason::ErrorCounted),
                (&[Run(AllOk), Run(Error)], &[], Reason::ErrorCounted),
                (&[Run(Alert), Run(Error), Run(Error)], &[], Reason::ErrorCounted),
                (&[Run(Error), Run(Error), Run(AllOk), Run(Error)], &[], Reason::ErrorCounted),
                (&[Run(Error), Run(Error), Run(NoData), Run(Error)], &[], Reason::ErrorCounted),
            ],
        ),
        row(
            "any → ERROR",
            "fewer in a row than `after`",
            JudgingRules { on_error: OnEvent::Alert, ..quiet() },
            &[(&[Run(AllOk), Run(Error), Run(Error)], &[], Reason::ErrorCounted)],
        ),
        row(
            "any → ERROR",
            "fewer in a row than `after`",
            JudgingRules { on_error: OnEvent::Ok, ..quiet() },
            &[(&[Run(Alert), Run(Error), Run(Error)], &[], Reason::ErrorCounted)],
        ),
        row(
            "any → ERROR",
            "`on_error: notify`",
            quiet(),
            &[
                (&[Run(Alert), Run(Error), Run(Error), Run(Error)], &[ErrorNotice], Reason::ErrorsReached),
                (&[Run(Error), Run(Error), Run(Error), Run(Error)], &[], Reason::ErrorKnown),
                (
                    &[Run(Error), Run(Error), Run(Error), Run(AllOk), Run(Error), Run(Error), Run(Error)],
                    &[ErrorNotice],
                    Reason::ErrorsReached,
                ),
                (
                    &[Run(Error), Silence, Run(Error), Run(Error), Unsilence, Run(Error)],
                    &[ErrorNotice],
                    Reason::ErrorsReached,
                ),
            ],
        ),
        row(
            "any → ERROR",
            "`on_error: keep`",
            JudgingRules { on_error: OnEvent::Keep, ..quiet() },
            &[
                (&[Run(Error), Run(Error), Run(Error)], &[], Reason::ErrorKept),
                (&[Run(Alert), Run(Error), Run(Error), Run(Error)], &[], Reason::ErrorKept),
            ],
        ),
        row(
            "any → ERROR",
            "`on_error: alert`",
            JudgingRules { on_error: OnEvent::Alert, ..quiet() },
            &[
                (&[Run(AllOk), Run(Error), Run(Error), Run(Error)], &[AlertNotice], Reason::Began),
                (&[Run(Error), Run(Error), Run(Error), Run(Error)], &[], Reason::GoesOn),
                (&[Run(Alert), Run(Error), Run(Error), Run(Error)], &[], Reason::GoesOn),
            ],
        ),
        row(
            "any → ERROR",
            "`on_error: alert`",
            JudgingRules { on_error: OnEvent::Alert, consecutive: 2, ..quiet() },
            &[
                (&[Run(Error), Run(Error), Run(Error)], &[], Reason::Pending),
                (&[Run(Error), Run(Error), Run(Error), Run(Error)], &[AlertNotice], Reason::Began),
            ],
        ),
        row(
            "any → ERROR",
            "`on_error: ok`",
            JudgingRules { on_error: OnEvent::Ok, send_resolved: true, ..quiet() },
            &[
                (&[Run(Alert), Run(Error), Run(Error), Run(Error)], &[Resolved], Reason::Resolved),
                (&[Run(Error), Run(Error), Run(Error)], &[], Reason::AllWell),
            ],
        ),
        row(
            "any → NO_DATA",
            "`on_no_data: notify`",
            quiet(),
            &[
                (&[Run(NoData)], &[NoDataNotice], Reason::NoDataBegan),
                (&[Run(Alert), Run(NoData)], &[NoDataNotice], Reason::NoDataBegan),
                (&[Run(NoData), Run(NoData)], &[], Reason::NoDataKnown),
                (&[Run(NoData), Run(Error), Run(NoData)], &[], Reason::NoDataKnown),
                (&[Run(NoData), Run(AllOk), Run(NoData)], &[NoDataNotice], Reason::NoDataBegan),
                (&[Silence, Run(NoData), Unsilence, Run(NoData)], &[NoDataNotice], Reason::NoDataBegan),
                (&[Run(NoData), Silence, Run(NoData), Unsilence, Run(NoData)], &[], Reason::NoDataKnown),
            ],
        ),
        row(
            "any → NO_DATA",
            "`on_no_data: keep`",
            JudgingRules { on_no_data: OnEvent::Keep, ..quiet() },
            &[(&[Run(NoData)], &[], Reason::NoDataKept), (&[Run(Alert), Run(NoData)], &[], Reason::NoDataKept)],
        ),
        row(
            "any → NO_DATA",
            "`on_no_data: alert`",
            JudgingRules { on_no_data: OnEvent::Alert, ..quiet() },
            &[(&[Run(NoData)], &[AlertNotice], Reason::Began), (&[Run(Alert), Run(NoData)], &[], Reason::GoesOn)],
        ),
        row(
            "any → NO_DATA",
            "`on_no_data: ok`",
            JudgingRules { on_no_data: OnEvent::Ok, ..quiet() },
            &[(&[Run(NoData)], &[], Reason::AllWell), (&[Run(Alert), Run(NoData)], &[], Reason::Ended)],
        ),
        row(
            "any but ERROR",
            "after errors that were told",
            quiet(),
            &[
                (&[Run(Error), Run(Error), Run(Error), Run(AllOk)], &[ErrorResolved], Reason::AllWell),
                (&[Run(Error), Run(Error), Run(Error), Run(Alert)], &[ErrorResolved, AlertNotice], Reason::Began),
                (&[Run(Alert), Run(Error), Run(Error), Run(Error), Run(Alert)], &[ErrorResolved], Reason::GoesOn),
                (
                    &[Run(Error), Run(Error), Run(Error), Run(NoData)],
                    &[ErrorResolved, NoDataNotice],
                    Reason::NoDataBegan,
                ),
                (
                    &[Run(Error), Run(Error), Run(Error), Silence, Run(AllOk), Unsilence, Run(AllOk)],
                    &[ErrorResolved],
                    Reason::AllWell,
                ),
            ],
        ),
        row(
            "any",
            "silenced",
            JudgingRules { send_resolved: true, repeat_interval_ms: Some(1), ..quiet() },
            &[
                (&[Silence, Run(Alert)], &[], Reason::Silenced),
                (&[Run(Alert), Silence, Run(Alert)], &[], Reason::Silenced),
                (&[Run(Alert), Silence, Run(AllOk)], &[], Reason::Silenced),
                (&[Silence, Run(Error), Run(Error), Run(Error)], &[], Reason::Silenced),
                (&[Run(Error), Run(Error), Run(Error), Silence, Run(AllOk)], &[], Reason::Silenced),
                (&[Silence, Run(NoData)], &[], Reason::Silenced),
                (&[Silence, Run(AllOk)], &[], Reason::AllWell),
            ],
        ),
        row(
            "silence ends",
            "ALERT, and not told",
            quiet(),
            &[
                (&[Silence, Run(Alert), Unsilence, Sweep], &[AlertNotice], Reason::ToldLate),
                (&[Silence, Run(Alert), Run(Error), Unsilence, Sweep], &[AlertNotice], Reason::ToldLate),
                // Nobody hears of ends, so another beginning is news.
                (&[Run(Alert), Silence, Run(AllOk), Run(Alert), Unsilence, Sweep], &[AlertNotice], Reason::ToldLate),
            ],
        ),
        row(
            "silence ends",
            "not ALERT any more, and that was told; `send_resolved`",
            JudgingRules { send_resolved: true, consecutive: 2, ..quiet() },
            &[
                (&[Run(Alert), Run(Alert), Silence, Run(AllOk), Unsilence, Sweep], &[Resolved], Reason::Resolved),
                (
                    &[Run(Alert), Run(Alert), Silence, Run(AllOk), Run(Alert), Unsilence, Sweep],
                    &[Resolved],
                    Reason::Resolved,
                ),
            ],
        ),
    ]
}

#[test]
fn every_row_of_the_table() {
    for Row { from_to, condition, rules, examples } in rows() {
        for (events, notices, reason) in examples {
            let (_, last) = last_of(events, &rules);
            assert_eq!(
                (last.notices.as_slice(), last.reason),
                (*notices, *reason),
                "{from_to}; {condition}: {events:?}"
            );
        }
    }
}

/// The cells of the document's table.
fn documented() -> Vec<[String; 4]> {
    let document = include_str!("../../../docs/reference/transitions.md").split("\n## ").next().unwrap_or_default();
    let rows = document.lines().filter_map(|line| line.strip_prefix('|')).skip(2);
    rows.map(|row| {
        let mut cells = row.trim_end().trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned());
        std::array::from_fn(|_| cells.next().unwrap_or_default())
    })
    .collect()
}

fn shown(condition: Option<Condition>) -> &'static str {
    condition.map_or("unknown", Condition::as_str)
}

/// The outcome in the place of which the last event counts; the same events with it.
fn counted_as(events: &[Event], status: RunStatus) -> Vec<Event> {
    let mut events = events.to_vec();
    if let Some(last) = events.last_mut() {
        *last = Run(status);
    }
    events
}

#[test]
fn the_document_has_these_rows_and_says_what_they_do() {
    let rows = rows();
    let documented = documented();
    let names: BTreeSet<_> = rows.iter().map(|row| (row.from_to, row.condition)).collect();
    let described: BTreeSet<_> =
        documented.iter().map(|[from, condition, ..]| (from.as_str(), condition.as_str())).collect();
    assert_eq!(names, described);
    assert_eq!(described.len(), documented.len(), "a row is there twice");

    for Row { from_to, condition, rules, examples } in &rows {
        let cells = documented.iter().find(|[from, where_, ..]| from == from_to && where_ == condition).unwrap();
        let (state, notification) = (cells[2].as_str(), cells[3].as_str());
        let mut told = BTreeSet::new();
        for (events, ..) in *examples {
            let (before, last) = last_of(events, rules);
            let context = format!("{from_to}; {condition}: {events:?}");
            if let Some((froms, _)) = from_to.split_once(" → ") {
                let froms = froms.replace(" or ", ", ");
                assert!(froms == "any" || froms.split(", ").any(|from| from == shown(before.condition)), "{context}");
            }
            let as_after = |status| last_of(&counted_as(events, status), rules).1;
            match state {
                "as before" => assert_eq!(last.state.condition, before.condition, "{context}"),
                "as after ALERT" => {
                    let alert = as_after(Alert);
                    assert_eq!(
                        (last.state.condition, &last.notices),
                        (alert.state.condition, &alert.notices),
                        "{context}"
                    );
                }
                "as after OK" => {
                    let ok = as_after(AllOk);
                    assert_eq!((last.state.condition, &last.notices), (ok.state.condition, &ok.notices), "{context}");
                }
                "as the outcome says" | "as without the silence" => {
                    let loud: Vec<_> = events.iter().copied().filter(|event| matches!(event, Run(_))).collect();
                    assert_eq!(last.state.condition, last_of(&loud, rules).1.state.condition, "{context}");
                }
                named => assert_eq!(shown(last.state.condition), named, "{context}"),
            }
            told.extend(last.notices.first().map(|kind| kind.as_str()));
        }
        let named: BTreeSet<_> = notification.split('`').skip(1).step_by(2).collect();
        if !notification.starts_with("as after") {
            assert_eq!(told, named, "{from_to}; {condition}");
        }
    }
}

#[test]
fn a_repetition_after_the_sweep_keeps_its_distance_from_it() {
    let rules = JudgingRules { repeat_interval_ms: Some(minutes(3)), ..quiet() };
    let told = [Silence, Run(Alert), Unsilence, Sweep];
    let then = |more: &[Event]| last_of(&[&told, more].concat(), &rules).1.notices;
    assert_eq!(then(&[]), [AlertNotice]);
    assert_eq!(then(&[Run(Alert), Run(Alert)]), []);
    assert_eq!(then(&[Run(Alert), Run(Alert), Run(Alert)]), [Repeat]);
}

#[test]
fn what_a_silence_keeps_back_is_told_once_by_the_sweep_or_by_the_next_outcome() {
    let held = [Silence, Run(Alert), Unsilence];
    let then = |more: &[Event]| last_of(&[&held, more].concat(), &quiet()).1;
    assert_eq!(then(&[Run(Alert)]).notices, [AlertNotice]);
    assert_eq!(then(&[Run(Alert)]).reason, Reason::ToldLate);
    assert_eq!(then(&[Run(Alert), Sweep]).notices, []);
    assert_eq!(then(&[Sweep, Run(Alert)]).notices, []);
    assert_eq!(then(&[Sweep, Sweep]).notices, []);
    assert_eq!(then(&[Run(AllOk), Sweep]).notices, []);
}

#[test]
fn receivers_who_were_told_hear_nothing_of_a_silence_that_changed_nothing() {
    let rules = JudgingRules { send_resolved: true, ..quiet() };
    let events = [Run(Alert), Silence, Run(AllOk), Run(Alert), Unsilence, Sweep];
    let (before, last) = last_of(&events, &rules);
    assert!(!before.untold);
    assert_eq!(last.notices, []);
}

#[test]
fn a_definition_that_stops_telling_ends_leaves_nothing_owed() {
    let rules = JudgingRules { send_resolved: true, ..quiet() };
    let (_, last) = last_of(&[Run(Alert), Silence, Run(AllOk), Unsilence], &rules);
    assert!(last.state.untold);
    let swept = catch_up(&last.state, &quiet(), Timestamp::from_micros(9 * 60_000_000));
    assert_eq!((swept.notices.as_slice(), swept.state.untold), ([].as_slice(), false));
}

#[test]
fn a_state_that_was_written_before_there_were_repetitions_is_not_repeated_at_once() {
    let rules = JudgingRules { repeat_interval_ms: Some(minutes(2)), ..quiet() };
    let old = AlertState {
        condition: Some(Condition::Alert),
        last_scheduled_for: Some(Timestamp::from_micros(1)),
        ..AlertState::default()
    };
    let first = happen(&old, 10, Run(Alert), &rules);
    assert_eq!(first.notices, []);
    assert_eq!(happen(&first.state, 12, Run(Alert), &rules).notices, [Repeat]);
}

#[test]
fn an_outcome_that_is_not_newer_moves_nothing() {
    let now = after(&[AllOk, AllOk, Alert]).state;
    let rules = JudgingRules { on_error: OnEvent::Alert, repeat_interval_ms: Some(1), ..quiet() };
    for minute in [2, 3] {
        for status in [AllOk, Alert, Error, NoData] {
            let late = judge(&now, &outcome(minute, status), Rule { error_after: 1, rules: &rules });
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
    let rules = quiet();
    let judge_at = |state: &AlertState, minute, error_after| {
        judge(state, &outcome(minute, Error), Rule { error_after, rules: &rules })
    };
    let told = judge_at(&counted, 9, 1);
    assert_eq!(told.notices, [ErrorNotice]);
    assert_eq!(judge_at(&told.state, 10, 1).notices, []);
    assert_eq!(judge_at(&AlertState::default(), 1, 0).notices, [ErrorNotice]);
}
