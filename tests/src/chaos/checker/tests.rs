//! Histories with one planted violation of each kind, and with what looks like one and has a reason.

use super::*;
use crate::chaos::history::*;
use crate::chaos::report::Durations;

const SECOND: i64 = 1_000_000;
/// A whole day since the epoch.
const BEGIN: i64 = 20_000 * 86_400 * SECOND;

/// A moment of the run, in seconds since it began.
fn at(seconds: f64) -> i64 {
    BEGIN + (seconds * 1e6) as i64
}

/// A minute of two alerts, in which a leader is killed and nothing is wrong. `orders` runs every second, and is over its
/// threshold twice; `stock` runs every five and never is. From 20.2 to 22.5 nobody leads: two fires of `orders` become a
/// gap.
fn clean() -> History {
    let orders = Definition { send_resolved: true, ..Definition::default() };
    let stock = Definition { schedule: "*/5 * * * * *".to_owned(), ..Definition::default() };
    let mut history = History {
        begin: at(0.0),
        until: at(60.0),
        end: at(65.0),
        recovery_us: 3 * SECOND,
        alerts: vec![alert("orders", &orders), alert("stock", &stock)],
        faults: vec![fault(FaultKind::Kill, "coordinator-1", 20.2, 22.0)],
        ..History::default()
    };
    for (status, value, from, until) in [
        ("OK", 0, -1.0, 10.5),
        ("ALERT", 1, 10.5, 15.5),
        ("OK", 1, 15.5, 30.5),
        ("ALERT", 2, 30.5, 40.5),
        ("OK", 2, 40.5, 60.0),
    ] {
        let (set_before, set_after) = (at(from), at(from) + 1_000);
        let followed_at = Some(at(until) - SECOND / 10);
        let alert = "orders".to_owned();
        history.signals.push(Signal { alert, status: status.to_owned(), value, set_before, set_after, followed_at });
    }
    for second in 1..=60 {
        if second == 21 || second == 22 {
            continue;
        }
        run(&mut history, "orders", f64::from(second));
        if second % 5 == 0 {
            run(&mut history, "stock", f64::from(second));
        }
    }
    history.ledger.gaps.push(Gap {
        alert: "orders".to_owned(),
        first: at(21.0),
        last: at(22.0),
        fires: 2,
        reason: "misfire".to_owned(),
        epoch: 2,
        seq: 1,
    });
    history.leadership = vec![
        Sample { at: at(1.0), epoch: 1, holder: "coordinator-1".to_owned(), acquired_at: at(-5.0) },
        Sample { at: at(23.0), epoch: 2, holder: "coordinator-2".to_owned(), acquired_at: at(22.5) },
    ];
    for (kind, status, value, second) in
        [("alert", "ALERT", 1, 11), ("resolved", "OK", 1, 16), ("alert", "ALERT", 2, 31), ("resolved", "OK", 2, 41)]
    {
        tell(&mut history, kind, status, value, second);
    }
    history
}

fn alert(name: &str, definition: &Definition) -> Alert {
    Alert {
        name: name.to_owned(),
        edits: vec![Edit { at: at(-10.0), definition: Some(definition.clone()) }],
        versions: vec![Version { valid_from: at(-6.0), valid_until: None, definition: definition.clone() }],
    }
}

fn fault(kind: FaultKind, subject: &str, from: f64, until: f64) -> Fault {
    Fault {
        kind,
        subject: subject.to_owned(),
        from: at(from),
        until: at(until),
        lost_after: None,
        detail: String::new(),
    }
}

fn rollback(lost_after: f64, from: f64, until: f64) -> Fault {
    Fault { lost_after: Some(at(lost_after)), ..fault(FaultKind::StateRollback, "state", from, until) }
}

/// One fire that runs as it should: planned at once, asked 50 ms later, answered and recorded 200 ms later.
fn run(history: &mut History, alert: &str, second: f64) {
    let (scheduled_for, asked) = (at(second), at(second + 0.05));
    let signal = history.signals.iter().rfind(|signal| signal.alert == alert && signal.set_after < asked);
    let (status, value) = signal.map_or(("OK".to_owned(), 0), |signal| (signal.status.clone(), signal.value));
    let id = id(alert, second);
    let (epoch, seq) = (if second < 21.0 { 1 } else { 2 }, second as i64);
    history.writes.push(Write {
        at: at(second + 0.01),
        table: "sqlsentinel_fires".to_owned(),
        key: id.clone(),
        epoch,
        seq,
    });
    history.runs.push(Run { execution_id: id.clone(), alert: alert.to_owned(), at: asked });
    history.ledger.executions.push(Execution {
        id: id.clone(),
        alert: alert.to_owned(),
        scheduled_for,
        executed_at: asked,
        status: status.clone(),
        value: Some(value),
        attempt: 1,
        delivery: 1,
    });
    history.ledger.fires.push(Fire {
        execution_id: id,
        alert: alert.to_owned(),
        scheduled_for,
        status,
        reason: String::new(),
        deadline: at(second + 30.0),
        attempt: 1,
        queued_at: Some(at(second + 0.01)),
        finished_at: Some(at(second + 0.2)),
        epoch,
        seq,
    });
}

fn id(alert: &str, second: f64) -> String {
    format!("{alert}/{second}")
}

/// News that the fire of a second caused, told half a second later.
fn tell(history: &mut History, kind: &str, status: &str, value: i64, second: i32) {
    let execution_id = id("orders", f64::from(second));
    let id = format!("{kind}/{second}");
    history.ledger.notifications.push(Notification {
        id: id.clone(),
        execution_id,
        alert: "orders".to_owned(),
        kind: kind.to_owned(),
        status: "SENT".to_owned(),
        attempt: 1,
        possible_duplicate: false,
    });
    history.deliveries.push(Delivery {
        at: at(f64::from(second) + 0.5),
        notification_id: id,
        alert: "orders".to_owned(),
        kind: kind.to_owned(),
        status: status.to_owned(),
        value: Some(value),
        possible_duplicate: false,
        answer: Answer::Status(200),
    });
}

/// The first news, which a rollback has made the ledger forget, is told anew.
fn again_under_another_name(history: &mut History, possible_duplicate: bool) {
    history.faults.push(rollback(10.9, 11.8, 12.0));
    history.ledger.notifications.remove(0);
    tell(history, "alert", "ALERT", 1, 13);
    for delivery in history.deliveries.iter_mut().rev().take(1) {
        delivery.possible_duplicate = possible_duplicate;
    }
}

/// The first alarm is told anew by the run of second 13. The one of second 12 saw the target after it did, and at rest.
fn overtake(history: &mut History, overlap: Overlap) {
    orders(history).for_each(|definition| definition.overlap = overlap);
    tell(history, "alert", "ALERT", 1, 13);
    for (second, status, executed_at) in [(12.0, "OK", at(13.4)), (13.0, "ALERT", at(13.1))] {
        let run = history.ledger.executions.iter_mut().find(|run| run.id == id("orders", second));
        let run = run.unwrap();
        (run.status, run.executed_at) = (status.to_owned(), executed_at);
    }
}

fn fire<'a>(history: &'a mut History, alert: &str, second: f64) -> &'a mut Fire {
    history.ledger.fires.iter_mut().find(|fire| fire.alert == alert && fire.scheduled_for == at(second)).unwrap()
}

fn execution(history: &mut History, second: f64) -> &mut Execution {
    let id = id("orders", second);
    history.ledger.executions.iter_mut().find(|execution| execution.id == id).unwrap()
}

/// A fire did not run.
fn end(history: &mut History, alert: &str, second: f64, status: &str, reason: &str, ended: f64) {
    let fire = fire(history, alert, second);
    (fire.status, fire.reason, fire.finished_at) = (status.to_owned(), reason.to_owned(), Some(at(ended)));
    (fire.attempt, fire.queued_at) = (0, None);
    let id = id(alert, second);
    history.ledger.executions.retain(|execution| execution.id != id);
    history.runs.retain(|run| run.execution_id != id);
}

fn orders(history: &mut History) -> impl Iterator<Item = &mut Definition> {
    definitions(&mut history.alerts[0])
}

fn stock(history: &mut History) -> impl Iterator<Item = &mut Definition> {
    definitions(&mut history.alerts[1])
}

fn definitions(alert: &mut Alert) -> impl Iterator<Item = &mut Definition> {
    let edits = alert.edits.iter_mut().filter_map(|edit| edit.definition.as_mut());
    edits.chain(alert.versions.iter_mut().map(|version| &mut version.definition))
}

/// Of how many fires in a gap the leader says that it planned them at some time.
fn gap(history: &mut History, first: f64, last: f64, reason: &str, written: f64) {
    let seq = history.ledger.gaps.len() as i64 + 1_000;
    history.ledger.fires.retain(|fire| fire.alert != "orders" || !(at(first)..=at(last)).contains(&fire.scheduled_for));
    for second in first as i32..=last as i32 {
        let id = id("orders", f64::from(second));
        history.ledger.executions.retain(|execution| execution.id != id);
        history.runs.retain(|run| run.execution_id != id);
    }
    let (first, last) = (at(first), at(last));
    let fires = (last - first) / SECOND + 1;
    let (alert, reason) = ("orders".to_owned(), reason.to_owned());
    history.ledger.gaps.push(Gap { alert, first, last, fires, reason, epoch: 2, seq });
    history.writes.push(Write {
        at: at(written),
        table: "sqlsentinel_gaps".to_owned(),
        key: String::new(),
        epoch: 2,
        seq,
    });
}

fn again(history: &mut History, index: usize, later: f64, marked: bool) {
    let mut delivery = history.deliveries[index].clone();
    delivery.at += (later * 1e6) as i64;
    delivery.possible_duplicate = marked;
    history.deliveries.push(delivery);
}

/// No run that saw the end of the first alarm is on record.
fn forget_ends(history: &mut History) {
    history.ledger.executions.retain(|run| !(run.status == "OK" && run.value == Some(1)));
}

/// missed, doubled, lost, unmarked, stale, invented
type Figures = [u64; 6];

fn figures(report: &Report) -> Figures {
    let Report { missed, doubled, lost_notifications, unmarked_duplicates, stale_writes, invented, .. } = report;
    [*missed, *doubled, *lost_notifications, *unmarked_duplicates, *stale_writes, *invented]
}

#[test]
fn a_clean_history_has_no_violation_and_every_figure() {
    let report = check(&clean()).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!((report.fires_due, report.accounted), (60 + 12, 60 + 12));
    assert_eq!(report.completed_outside_faults, Some(1.0));
    assert_eq!((report.failovers, report.failover_ms), (1, Durations { p50: Some(2_300), max: Some(2_300) }));
    assert_eq!(report.faults, [(FaultKind::Kill, 1)].into());
    assert_eq!(report.exit_code(), 0);
}

macro_rules! judged {
    ($($name:ident: $figures:expr, $change:expr;)+) => {
        $(#[test]
        fn $name() {
            let mut history = clean();
            let change: fn(&mut History) = $change;
            change(&mut history);
            let report = check(&history).unwrap();
            assert_eq!(figures(&report), $figures, "missed, doubled, lost, unmarked, stale, invented in\n{report}");
        })+
    };
}

const NOTHING: Figures = [0; 6];
const MISSED: Figures = [1, 0, 0, 0, 0, 0];
const DOUBLED: Figures = [0, 1, 0, 0, 0, 0];
const LOST: Figures = [0, 0, 1, 0, 0, 0];
const UNMARKED: Figures = [0, 0, 0, 1, 0, 0];
const STALE: Figures = [0, 0, 0, 0, 1, 0];
const INVENTED: Figures = [0, 0, 0, 0, 0, 1];

mod fires {
    use super::*;

    judged! {
        one_that_is_nowhere_is_missed: MISSED, |history| {
            end(history, "orders", 50.0, "SKIPPED", "", 50.0);
            history.ledger.fires.retain(|fire| !fire.reason.is_empty() || fire.status != "SKIPPED");
        };
        one_that_never_ended_is_missed: MISSED, |history| end(history, "orders", 50.0, "QUEUED", "", 50.0);
        one_skipped_without_a_reason_is_missed: MISSED, |history| end(history, "orders", 50.0, "SKIPPED", "", 50.0);
        one_skipped_for_overlap_with_nothing_is_missed: MISSED, |history| end(history, "stock", 50.0, "SKIPPED", "overlap", 50.01);
        one_skipped_while_an_earlier_one_ran_is_not: NOTHING, |history| {
            fire(history, "stock", 45.0).finished_at = Some(at(50.5));
            end(history, "stock", 50.0, "SKIPPED", "overlap", 50.01);
        };
        one_skipped_while_only_a_skipped_one_was_there_is_missed: [2, 0, 0, 0, 0, 0], |history| {
            end(history, "stock", 45.0, "SKIPPED", "overlap", 50.5);
            end(history, "stock", 50.0, "SKIPPED", "overlap", 50.01);
        };
        one_skipped_after_the_deadline_of_the_earlier_one_is_missed: MISSED, |history| {
            let early = fire(history, "stock", 45.0);
            (early.deadline, early.finished_at) = (at(47.0), Some(at(50.5)));
            end(history, "stock", 50.0, "SKIPPED", "overlap", 50.01);
        };
        one_skipped_for_overlap_that_is_allowed_is_missed: MISSED, |history| {
            stock(history).for_each(|definition| definition.overlap = Overlap::Allow);
            fire(history, "stock", 45.0).finished_at = Some(at(50.5));
            end(history, "stock", 50.0, "SKIPPED", "overlap", 50.01);
        };
        one_that_could_have_waited_for_the_only_other_is_missed: MISSED, |history| {
            stock(history).for_each(|definition| definition.overlap = Overlap::QueueOne);
            fire(history, "stock", 45.0).finished_at = Some(at(50.5));
            end(history, "stock", 50.0, "SKIPPED", "overlap", 50.01);
        };
        one_whose_place_to_wait_was_taken_is_not: NOTHING, |history| {
            stock(history).for_each(|definition| definition.overlap = Overlap::QueueOne);
            let waiting = fire(history, "stock", 45.0);
            (waiting.queued_at, waiting.finished_at) = (Some(at(53.0)), Some(at(53.2)));
            end(history, "stock", 50.0, "SKIPPED", "overlap", 50.01);
        };
        one_skipped_since_a_frozen_notifier_held_the_earlier_ones_row_is_not: NOTHING, |history| {
            history.faults.push(fault(FaultKind::Freeze, "notifier-1", 45.1, 51.0));
            end(history, "stock", 50.0, "SKIPPED", "overlap", 50.01);
        };
        one_skipped_long_after_a_fault_is_missed: MISSED, |history| {
            history.faults.push(fault(FaultKind::Freeze, "notifier-1", 45.1, 45.0));
            end(history, "stock", 50.0, "SKIPPED", "overlap", 50.01);
        };
        one_skipped_as_removed_that_was_not_removed_is_missed: MISSED, |history| {
            end(history, "orders", 50.0, "SKIPPED", "removed", 50.01);
        };
        one_whose_alert_was_removed_is_not: NOTHING, |history| {
            history.alerts[0].edits.push(Edit { at: at(50.1), definition: None });
            history.alerts[0].versions[0].valid_until = Some(at(50.0));
            end(history, "orders", 50.0, "SKIPPED", "removed", 50.3);
            history.ledger.fires.retain(|fire| fire.alert != "orders" || fire.scheduled_for <= at(50.0));
        };
        one_expired_for_no_reason_is_missed: MISSED, |history| {
            end(history, "orders", 55.0, "EXPIRED", "backlog", 59.0);
            fire(history, "orders", 55.0).deadline = at(57.0);
        };
        one_expired_while_the_target_was_cut_off_is_not: NOTHING, |history| {
            end(history, "orders", 55.0, "EXPIRED", "backlog", 59.0);
            fire(history, "orders", 55.0).deadline = at(57.0);
            history.faults.push(fault(FaultKind::CutTarget, "worker-1", 56.0, 57.0));
        };
        one_expired_while_only_the_receiver_was_away_is_missed: MISSED, |history| {
            end(history, "orders", 55.0, "EXPIRED", "backlog", 59.0);
            fire(history, "orders", 55.0).deadline = at(57.0);
            history.faults.push(fault(FaultKind::SinkError, "sink", 56.0, 57.0));
        };
        one_that_was_not_due_is_invented: INVENTED, |history| run(history, "orders", 50.5);
        one_after_the_audit_is_none_of_its_business: NOTHING, |history| run(history, "orders", 61.0);
    }
}

mod gaps {
    use super::*;

    judged! {
        without_a_reason_miss_what_they_hold: [3, 0, 0, 0, 0, 0], |history| gap(history, 50.0, 52.0, "misfire", 53.0);
        while_a_worker_is_away_miss_what_they_hold: [3, 0, 0, 0, 0, 0], |history| {
            history.faults.push(fault(FaultKind::Kill, "worker-1", 50.0, 53.0));
            gap(history, 50.0, 52.0, "misfire", 53.0);
        };
        while_the_ledger_is_away_have_a_reason: NOTHING, |history| {
            history.faults.push(fault(FaultKind::StateRestart, "state", 50.1, 52.0));
            gap(history, 50.0, 52.0, "misfire", 53.0);
        };
        while_nobody_leads_have_a_reason: NOTHING, |history| {
            history.faults.clear();
        };
        of_an_alert_each_of_whose_fires_runs_miss_them: [5, 0, 0, 0, 0, 0], |history| {
            orders(history).for_each(|definition| definition.misfire = Misfire::All);
            history.faults.push(fault(FaultKind::StateRestart, "state", 50.1, 52.0));
            gap(history, 50.0, 52.0, "misfire", 53.0);
        };
        of_what_is_too_old_have_a_reason: NOTHING, |history| {
            orders(history).for_each(|definition| definition.catchup_us = Some(5 * SECOND));
            history.faults.push(fault(FaultKind::StateRestart, "state", 49.1, 57.5));
            gap(history, 50.0, 52.0, "catchup_window", 58.0);
        };
        of_what_is_young_enough_miss_it: [3, 0, 0, 0, 0, 0], |history| {
            history.faults.push(fault(FaultKind::StateRestart, "state", 49.1, 57.5));
            gap(history, 50.0, 52.0, "catchup_window", 58.0);
        };
        that_count_wrongly_are_invented: INVENTED, |history| history.ledger.gaps[0].fires = 3;
    }
}

mod versions {
    use super::*;

    /// At 50 the schedule becomes every two seconds, and the ledger follows.
    fn edit(history: &mut History) {
        let slower = Definition { schedule: "every 2s".to_owned(), send_resolved: true, ..Definition::default() };
        history.alerts[0].versions[0].valid_until = Some(at(51.0));
        history.alerts[0].versions.push(Version {
            valid_from: at(51.0),
            valid_until: None,
            definition: slower.clone(),
        });
        history.alerts[0].edits.push(Edit { at: at(50.0), definition: Some(slower) });
        for second in [53, 55, 57, 59] {
            end(history, "orders", f64::from(second), "SKIPPED", "gone", 0.0);
        }
        history.ledger.fires.retain(|fire| fire.reason != "gone");
    }

    judged! {
        each_have_their_own_due_fires: NOTHING, edit;
        that_no_file_held_are_invented: INVENTED, |history| {
            edit(history);
            history.alerts[0].edits.pop();
        };
        that_end_without_a_successor_miss_what_the_file_has_due: [5, 0, 0, 0, 0, 0], |history| {
            history.alerts[0].versions[0].valid_until = Some(at(55.0));
            history.ledger.fires.retain(|fire| fire.alert != "orders" || fire.scheduled_for <= at(55.0));
            history.ledger.executions.retain(|run| run.alert != "orders" || run.scheduled_for <= at(55.0));
            history.runs.retain(|run| run.alert != "orders" || run.at <= at(55.5));
        };
    }
}

mod runs {
    use super::*;

    judged! {
        beyond_the_recorded_attempts_are_doubled: DOUBLED, |history| {
            history.runs.push(Run { execution_id: id("orders", 50.0), alert: "orders".to_owned(), at: at(50.6) });
        };
        of_a_job_that_was_handed_out_again_are_not: NOTHING, |history| {
            history.runs.push(Run { execution_id: id("orders", 50.0), alert: "orders".to_owned(), at: at(50.6) });
            execution(history, 50.0).delivery = 2;
        };
        of_a_fire_that_was_rescued_are_not: NOTHING, |history| {
            history.runs.push(Run { execution_id: id("orders", 50.0), alert: "orders".to_owned(), at: at(50.6) });
            fire(history, "orders", 50.0).attempt = 2;
        };
        of_an_execution_that_is_in_no_record_are_doubled: DOUBLED, |history| {
            history.runs.push(Run { execution_id: "nobody".to_owned(), alert: "orders".to_owned(), at: at(50.6) });
        };
        whose_record_a_rollback_took_are_not: NOTHING, |history| {
            history.faults.push(rollback(49.9, 51.0, 52.0));
            history.runs.push(Run { execution_id: id("orders", 50.0), alert: "orders".to_owned(), at: at(50.6) });
        };
        whose_fire_a_rollback_took_are_not: NOTHING, |history| {
            history.faults.push(rollback(49.9, 51.0, 52.0));
            history.runs.push(Run { execution_id: "nobody".to_owned(), alert: "orders".to_owned(), at: at(53.0) });
        };
        long_after_a_rollback_are_doubled_like_any: DOUBLED, |history| {
            history.faults.push(rollback(49.9, 51.0, 52.0));
            history.runs.push(Run { execution_id: "nobody".to_owned(), alert: "orders".to_owned(), at: at(58.0) });
        };
        of_a_job_that_was_published_again_after_the_bus_forgot_it_are_not: NOTHING, |history| {
            history.faults.push(fault(FaultKind::NatsWipe, "nats-0,nats-1,nats-2", 50.1, 51.0));
            history.runs.push(Run { execution_id: id("orders", 50.0), alert: "orders".to_owned(), at: at(52.0) });
        };
        of_a_job_are_one_more_after_each_wipe_and_no_more: DOUBLED, |history| {
            history.faults.push(fault(FaultKind::NatsWipe, "nats-0,nats-1,nats-2", 50.1, 51.0));
            let run = Run { execution_id: id("orders", 50.0), alert: "orders".to_owned(), at: at(52.0) };
            history.runs.extend([run.clone(), run]);
        };
        of_a_job_that_other_nodes_still_knew_are_doubled: DOUBLED, |history| {
            history.faults.push(fault(FaultKind::NatsWipe, "nats-0", 50.1, 51.0));
            history.runs.push(Run { execution_id: id("orders", 50.0), alert: "orders".to_owned(), at: at(52.0) });
        };
        that_are_recorded_twice_are_doubled: DOUBLED, |history| {
            let again = execution(history, 50.0).clone();
            history.ledger.executions.push(again);
        };
        of_a_fire_that_a_gap_covers_too_are_doubled: DOUBLED, |history| run(history, "orders", 22.0);
    }
}

mod news {
    use super::*;

    judged! {
        of_an_alarm_that_never_arrives_is_lost: LOST, |history| {
            history.deliveries.retain(|delivery| delivery.notification_id != "alert/31");
            history.deliveries.retain(|delivery| delivery.notification_id != "resolved/41");
        };
        of_an_alarm_that_was_refused_is_lost: LOST, |history| {
            history.deliveries[2].answer = Answer::Status(503);
            history.deliveries.pop();
        };
        of_an_alarm_that_was_rejected_for_good_is_not: NOTHING, |history| {
            history.deliveries[2].answer = Answer::Status(410);
            history.deliveries.pop();
        };
        of_an_alarm_whose_answer_broke_off_is_not: NOTHING, |history| history.deliveries[2].answer = Answer::Reset;
        of_an_alarm_that_the_state_never_followed_is_lost_if_a_run_saw_it: LOST, |history| {
            history.signals[3].followed_at = None;
            history.deliveries.truncate(2);
        };
        of_an_alarm_that_no_run_saw_is_not: NOTHING, |history| {
            history.signals.truncate(3);
            let blip = |status: &str, from, value| Signal {
                alert: "orders".to_owned(),
                status: status.to_owned(),
                value,
                set_before: at(from),
                set_after: at(from) + 1_000,
                followed_at: None,
            };
            history.signals.extend([blip("ALERT", 31.3, 2), blip("OK", 31.6, 2)]);
            history.ledger.notifications.truncate(2);
            history.deliveries.truncate(2);
        };
        of_an_alarm_that_did_not_last_as_its_policy_asks_is_not: NOTHING, |history| {
            orders(history).for_each(|definition| definition.consecutive = 12);
            history.signals.iter_mut().for_each(|signal| signal.followed_at = None);
            history.deliveries.clear();
        };
        of_an_alarm_that_lasted_as_its_policy_asks_is_lost: LOST, |history| {
            orders(history).for_each(|definition| definition.consecutive = 6);
            history.signals.iter_mut().for_each(|signal| signal.followed_at = None);
            history.deliveries.clear();
        };
        of_an_alarm_that_lasted_as_long_as_its_policy_asks_is_lost: LOST, |history| {
            orders(history).for_each(|definition| definition.for_us = 6 * SECOND);
            history.signals.iter_mut().for_each(|signal| signal.followed_at = None);
            history.deliveries.clear();
        };
        of_an_end_that_never_arrives_is_lost: LOST, |history| {
            history.deliveries.pop();
        };
        of_an_end_that_nobody_wants_to_hear_is_not: NOTHING, |history| {
            orders(history).for_each(|definition| definition.send_resolved = false);
            history.deliveries.pop();
        };
        that_a_rollback_took_with_its_alarm_is_not: NOTHING, |history| {
            history.faults.push(rollback(30.9, 31.4, 32.0));
            history.signals[3].set_before = at(31.0);
            for index in [3, 2] {
                history.ledger.notifications.remove(index);
                history.deliveries.remove(index);
            }
        };
        that_is_in_the_ledger_after_a_rollback_is_lost_like_any: LOST, |history| {
            history.faults.push(rollback(30.9, 31.4, 32.0));
            history.deliveries.truncate(2);
        };
        of_an_alarm_after_an_end_that_a_rollback_took_is_not: NOTHING, |history| {
            history.faults.push(rollback(15.2, 30.2, 30.4));
            forget_ends(history);
            history.ledger.notifications.truncate(1);
            history.deliveries.truncate(2);
        };
        of_an_alarm_after_an_end_that_was_judged_again_after_it_is_not: NOTHING, |history| {
            history.faults.push(rollback(15.2, 30.2, 30.4));
            let ends = 16..31;
            for fire in history.ledger.fires.iter_mut().filter(|fire| fire.alert == "orders") {
                if ends.contains(&((fire.scheduled_for - at(0.0)) / SECOND)) {
                    fire.finished_at = Some(at(41.0));
                }
            }
            history.ledger.notifications.truncate(1);
            history.deliveries.truncate(2);
        };
        of_an_alarm_after_an_end_that_is_on_record_is_lost_in_spite_of_a_rollback: LOST, |history| {
            history.faults.push(rollback(28.2, 30.2, 30.4));
            history.deliveries.truncate(2);
        };
        told_twice_without_a_mark_is_unmarked: UNMARKED, |history| again(history, 0, 1.0, false);
        told_twice_with_the_mark_is_not: NOTHING, |history| again(history, 0, 1.0, true);
        told_again_after_a_refusal_is_not: NOTHING, |history| {
            again(history, 0, 1.0, false);
            history.deliveries[0].answer = Answer::Status(429);
        };
        told_again_after_silence_and_a_refusal_is_unmarked_both_times: [0, 0, 0, 2, 0, 0], |history| {
            again(history, 0, 1.0, false);
            again(history, 0, 2.0, false);
            history.deliveries[0].answer = Answer::Timeout;
            history.deliveries[4].answer = Answer::Status(500);
        };
        told_again_after_a_rollback_wants_the_mark_too: UNMARKED, |history| {
            history.faults.push(rollback(10.9, 11.8, 12.0));
            again(history, 0, 2.0, false);
        };
        told_under_a_second_name_is_unmarked: UNMARKED, |history| tell(history, "alert", "ALERT", 1, 13);
        told_under_a_second_name_since_a_rollback_took_the_first_wants_the_mark: UNMARKED, |history| {
            again_under_another_name(history, false);
        };
        told_under_a_second_name_with_the_mark_since_a_rollback_took_the_first_is_not: NOTHING, |history| {
            again_under_another_name(history, true);
        };
        sent_after_a_rollback_by_who_had_claimed_it_before_is_forgotten_too: NOTHING, |history| {
            again_under_another_name(history, true);
            history.deliveries[0].at = at(13.2);
        };
        told_under_a_second_name_since_runs_overtook_each_other_is_not: NOTHING, |history| overtake(history, Overlap::Allow);
        told_under_a_second_name_where_no_run_may_overtake_is_unmarked: UNMARKED, |history| overtake(history, Overlap::Skip);
        repeated_as_the_definition_says_is_not: NOTHING, |history| {
            orders(history).for_each(|definition| definition.repeat_us = Some(3 * SECOND));
            tell(history, "repeat", "ALERT", 1, 14);
        };
        repeated_earlier_than_the_definition_says_is_unmarked: UNMARKED, |history| {
            orders(history).for_each(|definition| definition.repeat_us = Some(3 * SECOND));
            tell(history, "repeat", "ALERT", 1, 13);
        };
        repeated_where_no_definition_says_so_is_unmarked: UNMARKED, |history| {
            tell(history, "repeat", "ALERT", 1, 14);
        };
        of_what_the_target_never_said_is_invented: INVENTED, |history| tell(history, "alert", "ALERT", 3, 45);
        that_is_not_in_the_ledger_is_invented: INVENTED, |history| {
            history.ledger.notifications.remove(0);
        };
    }
}

mod writes {
    use super::*;

    judged! {
        of_a_deposed_leader_are_stale: STALE, |history| history.writes[50].epoch = 1;
        of_its_successors_are_not: NOTHING, |history| history.writes[50..].iter_mut().for_each(|write| write.epoch = 3);
    }
}

#[test]
fn fires_that_end_otherwise_count_only_outside_faults() {
    let mut history = clean();
    fire(&mut history, "orders", 21.0 - 1.0).status = "ERROR".to_owned();
    fire(&mut history, "orders", 24.0).status = "ERROR".to_owned();
    assert!(check(&history).unwrap().completed_outside_faults < Some(1.0), "one was due before the fault");
    fire(&mut history, "orders", 21.0 - 1.0).status = "OK".to_owned();
    assert_eq!(check(&history).unwrap().completed_outside_faults, Some(1.0));
    fire(&mut history, "orders", 50.0).status = "ERROR".to_owned();
    let report = check(&history).unwrap();
    assert!(report.falls_short() && report.violations() == 0 && report.exit_code() == 1, "{report}");
}

#[test]
fn a_failover_is_timed_from_the_fault_or_else_from_the_last_write() {
    let mut history = clean();
    history.faults.clear();
    assert_eq!(check(&history).unwrap().failover_ms.max, Some(2_490));
    history.leadership.clear();
    assert_eq!(check(&history).unwrap().failover_ms.max, Some(3_000));
}

#[test]
fn a_history_comes_back_from_json_and_is_judged_alike() {
    let history = clean();
    let back: History = serde_json::from_str(&serde_json::to_string(&history).unwrap()).unwrap();
    assert_eq!(back, history);
}

#[test]
fn a_schedule_that_cannot_be_read_is_an_error_and_no_verdict() {
    let mut history = clean();
    orders(&mut history).for_each(|definition| definition.schedule = "now and then".to_owned());
    assert!(check(&history).is_err());
}
