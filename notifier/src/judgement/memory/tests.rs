use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;
use sqlsentinel_common::alert::OnEvent;

use super::*;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// What happens to an alert, a minute after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    /// An answer with a row for each of [`NAMES`] that has a status here.
    Rows([Option<RunStatus>; 3]),
    /// Any other end of a run.
    Plain(RunStatus),
    Silence,
    Unsilence,
    Sweep,
}

use Event::{Plain, Rows, Silence, Sweep, Unsilence};
use NoticeKind::{Alert as AlertNotice, NoData as NoDataNotice, Resolved};
use RunStatus::{Alert, Error, NoData, Ok as AllOk};

fn verdict(event: &Event) -> Option<Verdict> {
    match event {
        Plain(status) => Some(Verdict::bare(*status)),
        Rows(rows) => {
            let instances = NAMES.into_iter().zip(rows).filter_map(|(name, status)| {
                let row = Verdict { actual_value: Some(json!(7)), ..Verdict::bare((*status)?) };
                let context = [("Name".to_owned(), json!(name)), ("note".to_owned(), json!("x"))];
                Some(InstanceVerdict::new(name.to_owned(), Verdict { context: context.into_iter().collect(), ..row }))
            });
            let status = if rows.contains(&Some(Alert)) { Alert } else { AllOk };
            Some(Verdict { instances: instances.collect(), ..Verdict::bare(status) })
        }
        Silence | Unsilence | Sweep => None,
    }
}

fn at(minute: i64) -> Timestamp {
    Timestamp::from_micros(minute * 60_000_000)
}

fn judged(minute: i64, status: RunStatus) -> Judged {
    Judged {
        execution_id: ExecutionId::manual(),
        scheduled_for: at(minute),
        started_at: Timestamp::from_micros(minute * 60_000_000 + 1),
        status,
    }
}

/// Who was told what.
type Told = Vec<(String, NoticeKind)>;

fn told<'a>(decided: impl IntoIterator<Item = (&'a str, &'a [NoticeKind])>) -> Told {
    let pairs = |(name, kinds): (&'a str, &'a [NoticeKind])| kinds.iter().map(move |kind| (name.to_owned(), *kind));
    decided.into_iter().flat_map(pairs).collect()
}

/// One event; errors count from the third in a row. What is only ever written is forgotten, as by the store.
fn happen(memory: &mut Memory, minute: i64, event: &Event, rules: &JudgingRules) -> Vec<Decided<'static>> {
    let key = ["name".to_owned()];
    let decided = match (event, verdict(event)) {
        (_, Some(verdict)) => {
            let judged = judged(minute, verdict.status);
            let decided = memory.judge(&Heard { judged, verdict: &verdict, key: &key }, Rule { error_after: 3, rules });
            let owned = |Word { execution_id, scheduled_for, verdict }: Word<'_>| Word {
                execution_id,
                scheduled_for,
                verdict: Cow::Owned(verdict.into_owned()),
            };
            decided
                .into_iter()
                .map(|one| Decided {
                    instance: one.instance,
                    reason: one.reason,
                    notices: one.notices,
                    word: owned(one.word),
                })
                .collect()
        }
        (Silence | Unsilence, None) => {
            memory.alert.silenced = *event == Silence;
            Vec::new()
        }
        (_, None) if memory.alert.silenced || !memory.alert.untold => Vec::new(),
        // Without instances, it is the table's own function that the sweep calls.
        (_, None) if memory.instances.is_empty() => {
            let step = catch_up(&memory.alert, rules, at(minute));
            memory.alert = step.state.clone();
            let word = Word {
                execution_id: ExecutionId::manual(),
                scheduled_for: at(minute),
                verdict: Cow::Owned(Verdict::bare(AllOk)),
            };
            vec![decided(ITSELF, step, word)]
        }
        (_, None) => memory.catch_up(rules, at(minute)),
    };
    let AlertState { executed_at, alerted_at, ok_at, .. } = &mut memory.alert;
    (*executed_at, *alerted_at, *ok_at) = (None, None, None);
    decided
}

fn after(events: &[Event], rules: &JudgingRules) -> (Memory, Vec<Decided<'static>>) {
    let mut memory = Memory::default();
    let mut last = Vec::new();
    for (minute, event) in (1..).zip(events) {
        last = happen(&mut memory, minute, event, rules);
    }
    (memory, last)
}

fn told_last(events: &[Event], rules: &JudgingRules) -> Told {
    let decided = after(events, rules).1;
    told(decided.iter().map(|decided| (decided.instance.as_str(), decided.notices.as_slice())))
}

fn with_ends() -> JudgingRules {
    JudgingRules { send_resolved: true, ..JudgingRules::default() }
}

fn one(name: &str, kind: NoticeKind) -> (String, NoticeKind) {
    (name.to_owned(), kind)
}

const TWO_WRONG: Event = Rows([Some(Alert), Some(Alert), Some(AllOk)]);
const ONE_WRONG: Event = Rows([Some(Alert), Some(AllOk), Some(AllOk)]);
const ALL_WELL: Event = Rows([Some(AllOk), Some(AllOk), Some(AllOk)]);

#[test]
fn each_instance_is_told_by_itself_and_forgotten_when_its_end_was() {
    let rules = with_ends();
    assert_eq!(told_last(&[TWO_WRONG], &rules), [one("a", AlertNotice), one("b", AlertNotice)]);
    assert_eq!(told_last(&[TWO_WRONG, TWO_WRONG], &rules), []);
    assert_eq!(told_last(&[TWO_WRONG, ONE_WRONG], &rules), [one("b", Resolved)]);
    assert_eq!(told_last(&[TWO_WRONG, ONE_WRONG, TWO_WRONG], &rules), [one("b", AlertNotice)]);
    let names = |events: &[Event]| after(events, &rules).0.instances.into_keys().collect::<Vec<_>>();
    assert_eq!(names(&[TWO_WRONG]), ["", "a", "b"]);
    assert_eq!(names(&[TWO_WRONG, ONE_WRONG]), ["", "a"]);
    assert_eq!(names(&[TWO_WRONG, ONE_WRONG, ALL_WELL]), [] as [&str; 0]);
}

#[test]
fn an_instance_that_is_not_in_the_answer_has_ended_and_is_named_by_its_key_alone() {
    let (_, decided) = after(&[TWO_WRONG, Rows([None, Some(Alert), None])], &with_ends());
    let ended = decided.iter().find(|decided| decided.instance == "a").unwrap();
    assert_eq!(ended.notices, [Resolved]);
    let expected = Verdict { context: [("Name".to_owned(), json!("a"))].into_iter().collect(), ..Verdict::bare(AllOk) };
    assert_eq!(ended.word.verdict.as_ref(), &expected);
    // A query may return what is wrong alone, and then nothing.
    let listing = JudgingRules { on_no_data: OnEvent::Ok, ..with_ends() };
    assert_eq!(told_last(&[TWO_WRONG, Plain(NoData)], &listing), [one("a", Resolved), one("b", Resolved)]);
}

#[test]
fn the_alerts_own_events_stand_beside_those_of_its_instances() {
    let rules = with_ends();
    assert_eq!(told_last(&[TWO_WRONG, Plain(NoData)], &rules), [one("", NoDataNotice)]);
    let alarming = JudgingRules { on_no_data: OnEvent::Alert, ..with_ends() };
    let events = [TWO_WRONG, Plain(NoData), ONE_WRONG];
    assert_eq!(told_last(&events[..2], &alarming), [one("", AlertNotice)]);
    assert_eq!(told_last(&events, &alarming), [one("", Resolved), one("b", Resolved)]);
    // What is told of the alert itself says that it is well, whatever its instances are in.
    let (_, decided) = after(&events, &alarming);
    assert_eq!(decided[0].word.verdict.as_ref(), &Verdict::bare(AllOk));
}

#[test]
fn what_the_sweep_tells_of_the_alert_itself_is_its_newest_run_that_said_something() {
    let alarming = JudgingRules { on_no_data: OnEvent::Alert, ..with_ends() };
    let silenced = [ONE_WRONG, Silence, Plain(NoData), Plain(Error), Unsilence, Sweep];
    let (_, decided) = after(&silenced, &alarming);
    assert_eq!((decided[0].instance.as_str(), decided[0].notices.as_slice()), (ITSELF, [AlertNotice].as_slice()));
    assert_eq!((decided[0].word.verdict.status, decided[0].word.scheduled_for), (NoData, at(3)));
}

#[test]
fn the_state_says_the_worst_of_all_for_dashboards() {
    let state = |events: &[Event]| after(events, &JudgingRules::default()).0.alert;
    let shown = |events: &[Event]| {
        let state = state(events);
        (state.condition, state.consecutive_alerts, state.consecutive_oks, state.last_outcome)
    };
    assert_eq!(shown(&[ALL_WELL, ALL_WELL]), (Some(Condition::Ok), 0, 2, Some(AllOk)));
    assert_eq!(shown(&[ALL_WELL, TWO_WRONG, ONE_WRONG]), (Some(Condition::Alert), 2, 0, Some(Alert)));
    assert_eq!(shown(&[TWO_WRONG, Plain(Error)]), (Some(Condition::Alert), 1, 0, Some(Error)));
    assert_eq!(shown(&[TWO_WRONG, TWO_WRONG, ALL_WELL]), (Some(Condition::Ok), 0, 1, Some(AllOk)));
    let held = JudgingRules { consecutive: 2, ..JudgingRules::default() };
    assert_eq!(after(&[TWO_WRONG], &held).0.alert.condition, Some(Condition::Pending));
    assert_eq!(state(&[TWO_WRONG, TWO_WRONG, ONE_WRONG]).alerting_since, Some(at(1)));
}

#[test]
fn an_alert_that_gets_a_key_while_it_is_wrong_ends_itself_and_tells_its_instances() {
    let told = told_last(&[Plain(Alert), TWO_WRONG], &with_ends());
    assert_eq!(told, [one("", Resolved), one("a", AlertNotice), one("b", AlertNotice)]);
    // Several rows without the key are an error, which is told like any other and ends nothing.
    let events = [Plain(Alert), Plain(Error), ONE_WRONG];
    assert_eq!(told_last(&events, &JudgingRules::default()), [one("a", AlertNotice)]);
}

#[test]
fn an_alert_that_loses_its_key_while_instances_are_wrong_ends_them_and_tells_itself() {
    let told = told_last(&[TWO_WRONG, Plain(Alert)], &with_ends());
    assert_eq!(told, [one("", AlertNotice), one("a", Resolved), one("b", Resolved)]);
    let (memory, _) = after(&[TWO_WRONG, Plain(Alert)], &with_ends());
    assert_eq!((memory.instances.len(), memory.alert.condition), (0, Some(Condition::Alert)));
    let (memory, _) = after(&[TWO_WRONG, Plain(AllOk)], &JudgingRules::default());
    assert_eq!((memory.instances.len(), memory.alert.condition), (0, Some(Condition::Ok)));
}

#[test]
fn the_end_of_a_silence_tells_each_instance_what_it_has_missed() {
    let rules = with_ends();
    let silenced = [ONE_WRONG, Silence, Rows([Some(AllOk), Some(Alert), None]), Unsilence];
    let (memory, _) = after(&silenced, &rules);
    assert!(memory.alert.untold && memory.instances.len() == 3, "{memory:?}");
    let swept = [&silenced[..], &[Sweep]].concat();
    assert_eq!(told_last(&swept, &rules), [one("a", Resolved), one("b", AlertNotice)]);
    let (memory, decided) = after(&swept, &rules);
    assert_eq!(
        (memory.alert.untold, memory.instances.into_keys().collect::<Vec<_>>()),
        (false, vec![String::new(), "b".to_owned()])
    );
    // The rows as they were: nobody has run the query since.
    assert_eq!(decided[1].word.verdict.actual_value, Some(json!(7)));
    assert_eq!(decided[1].word.scheduled_for, at(3));
    assert_eq!(told_last(&[&swept[..], &[Sweep]].concat(), &rules), []);
}

#[test]
fn an_outcome_that_is_not_newer_moves_no_instance() {
    let (mut memory, _) = after(&[ALL_WELL, ONE_WRONG], &with_ends());
    let before = memory.clone();
    let late = happen(&mut memory, 2, &ALL_WELL, &with_ends());
    assert_eq!((late.len(), late[0].reason, &memory), (1, Reason::Older, &before));
}

#[test]
fn what_no_worker_of_ours_says_of_instances_judges_nothing_wrongly() {
    let row = |name: &str, status| InstanceVerdict::new(name.to_owned(), Verdict::bare(status));
    let heard = |verdict: &Verdict| {
        let mut memory = after(&[ONE_WRONG], &with_ends()).0;
        let heard = Heard { judged: judged(9, verdict.status), verdict, key: &[] };
        let decided = memory.judge(&heard, Rule { error_after: 3, rules: &with_ends() });
        told(decided.iter().map(|decided| (decided.instance.as_str(), decided.notices.as_slice())))
    };
    let nameless = Verdict { instances: vec![row("", Alert), row("a", Alert)], ..Verdict::bare(Alert) };
    assert_eq!(heard(&nameless), []);
    let failed = Verdict { instances: vec![row("b", Alert)], ..Verdict::bare(Error) };
    assert_eq!(heard(&failed), []);
    let unanswered = Verdict { instances: vec![row("a", Error), row("b", NoData)], ..Verdict::bare(AllOk) };
    assert_eq!(heard(&unanswered), [one("a", Resolved)]);
}

/// The cells of the document's table of instances.
fn documented() -> Vec<[String; 4]> {
    let document = include_str!("../../../../docs/reference/transitions.md");
    let section = document.split("\n## ").find(|section| section.starts_with("Instances\n")).unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix('|')).skip(2);
    rows.map(|row| {
        let mut cells = row.trim_end().trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned());
        std::array::from_fn(|_| cells.next().unwrap_or_default())
    })
    .collect()
}

#[test]
fn the_document_says_which_status_each_is_judged_by() {
    let count_as_ok = JudgingRules { on_no_data: OnEvent::Ok, on_error: OnEvent::Ok, ..JudgingRules::default() };
    let others = |on_event| JudgingRules { on_no_data: on_event, on_error: on_event, ..JudgingRules::default() };
    let errors = vec![Plain(Error), Plain(Error), Plain(Error)];
    let mut rows = vec![
        ("rows of instances", JudgingRules::default(), vec![Rows([None, Some(Alert), Some(AllOk)])]),
        ("one row, without `instance_key`", JudgingRules::default(), vec![Plain(Alert)]),
        ("one row, without `instance_key`", JudgingRules::default(), vec![Plain(AllOk)]),
        ("ERROR or NO_DATA that counts as OK", count_as_ok.clone(), vec![Plain(NoData)]),
        ("ERROR or NO_DATA that counts as OK", count_as_ok.clone(), errors.clone()),
        ("any other ERROR or NO_DATA", count_as_ok, errors[..2].to_vec()),
    ];
    for on_event in [OnEvent::Keep, OnEvent::Notify, OnEvent::Alert] {
        rows.push(("any other ERROR or NO_DATA", others(on_event), vec![Plain(NoData)]));
        rows.push(("any other ERROR or NO_DATA", others(on_event), errors.clone()));
    }
    let documented = documented();
    let described: BTreeSet<_> = documented.iter().map(|[run, ..]| run.as_str()).collect();
    assert_eq!(described, rows.iter().map(|(run, ..)| *run).collect::<BTreeSet<_>>());

    for (run, rules, events) in rows {
        let [_, itself, in_it, not_in_it] = documented.iter().find(|[described, ..]| described == run).unwrap();
        let (last, earlier) = events.split_last().unwrap();
        // Itself in ALERT, and one instance.
        let mut memory = after(&[Plain(Alert), Rows([Some(Alert), None, None])], &rules).0;
        for (minute, event) in (3..).zip(earlier) {
            happen(&mut memory, minute, event, &rules);
        }
        let before = memory.clone();
        happen(&mut memory, 9, last, &rules);
        let context = format!("{run}: {events:?}");
        let condition = |name: &str| memory.instances.get(name).map_or(Condition::Ok, |part| part.condition);
        let by_table = |status| judge(&before.own(), &judged(9, status), Rule { error_after: 3, rules: &rules });
        let status = verdict(last).unwrap().status;
        let expected = match itself.as_str() {
            "as after OK" => by_table(AllOk),
            "as the row says" | "as the table says" => by_table(status),
            other => panic!("{other}"),
        };
        assert_eq!(memory.own().condition, expected.state.condition, "{context}");
        match in_it.as_str() {
            "as its row says" => assert_eq!((condition("b"), condition("c")), (Condition::Alert, Condition::Ok)),
            "" => assert_eq!(condition("b"), Condition::Ok, "{context}"),
            other => panic!("{other}"),
        }
        match not_in_it.as_str() {
            "as after OK" => assert_eq!(condition("a"), Condition::Ok, "{context}"),
            "as before" => assert_eq!(memory.instances.get("a"), before.instances.get("a"), "{context}"),
            other => panic!("{other}"),
        }
    }
}

/// A slow and obviously right model: it forgets no instance that it ever heard of, and judges each by the table alone.
#[derive(Debug, Default)]
struct Model {
    own: AlertState,
    named: [AlertState; 3],
    silenced: bool,
    consecutive_oks: i64,
    /// Whether the newest run that said something said ALERT of one.
    alerting: bool,
}

impl Model {
    fn happen(&mut self, minute: i64, event: &Event, rules: &JudgingRules) -> Told {
        let everyone = std::iter::once(ITSELF).chain(NAMES);
        let silenced = self.silenced;
        let mut all = std::iter::once(&mut self.own).chain(&mut self.named).collect::<Vec<_>>();
        all.iter_mut().for_each(|state| state.silenced = silenced);
        let mut notices = vec![Vec::new(); 4];
        match event {
            Silence | Unsilence => self.silenced = *event == Silence,
            Sweep => {
                for (state, notices) in all.into_iter().zip(&mut notices).filter(|(state, _)| state.untold && !silenced)
                {
                    let step = catch_up(state, rules, at(minute));
                    (*state, *notices) = (step.state, step.notices);
                }
            }
            Rows(_) | Plain(_) => {
                let mut statuses = [None; 4];
                match event {
                    Rows(rows) => {
                        statuses[0] = Some(AllOk);
                        for (status, row) in statuses[1..].iter_mut().zip(rows) {
                            *status = Some(row.unwrap_or(AllOk));
                        }
                    }
                    Plain(status) => {
                        statuses[0] = Some(*status);
                        let oks = all[0].consecutive_oks;
                        let step = judge(all[0], &judged(minute, *status), Rule { error_after: 3, rules });
                        let ends = matches!(status, Alert | AllOk) || step.state.consecutive_oks > oks;
                        statuses[1..].fill(ends.then_some(AllOk));
                    }
                    _ => {}
                }
                let (mut spoke, mut alert) = (false, false);
                for ((state, notices), status) in all.into_iter().zip(&mut notices).zip(statuses) {
                    let Some(status) = status else { continue };
                    let (oks, alerts) = (state.consecutive_oks, state.consecutive_alerts);
                    let step = judge(state, &judged(minute, status), Rule { error_after: 3, rules });
                    (*state, *notices) = (step.state, step.notices);
                    alert |= state.consecutive_alerts > alerts;
                    spoke |= state.consecutive_oks > oks || state.consecutive_alerts > alerts;
                }
                if spoke {
                    self.alerting = alert;
                    self.consecutive_oks = if alert { 0 } else { self.consecutive_oks + 1 };
                }
            }
        }
        told(everyone.zip(notices.iter().map(Vec::as_slice)))
    }

    fn all(&self) -> impl Iterator<Item = &AlertState> {
        std::iter::once(&self.own).chain(&self.named)
    }
}

fn event() -> impl Strategy<Value = Event> {
    let row = || proptest::sample::select(vec![None, Some(AllOk), Some(Alert)]);
    let rows = [row(), row(), row()].prop_filter("no row is NO_DATA", |rows| rows.iter().any(Option::is_some));
    prop_oneof![
        8 => rows.prop_map(Rows),
        4 => proptest::sample::select(vec![Error, Error, NoData, Alert, AllOk]).prop_map(Plain),
        1 => Just(Silence),
        2 => Just(Unsilence),
        2 => Just(Sweep),
    ]
}

fn rules() -> impl Strategy<Value = JudgingRules> {
    let action = || proptest::sample::select(OnEvent::ALL.to_vec());
    let interval = proptest::option::of(1u64..6);
    (0u64..3, 0u32..3, interval, any::<bool>(), action(), action()).prop_map(
        |(for_minutes, consecutive, interval, send_resolved, on_error, on_no_data)| JudgingRules {
            for_ms: for_minutes * 60_000,
            consecutive,
            repeat_interval_ms: interval.map(|minutes| minutes * 60_000),
            send_resolved,
            on_error,
            on_no_data,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn instances_agree_with_a_model_that_forgets_nothing(
        rules in rules(),
        events in proptest::collection::vec(event(), 1..40),
    ) {
        let (mut memory, mut model) = (Memory::default(), Model::default());
        for (minute, event) in (1..).zip(&events) {
            let decided = happen(&mut memory, minute, event, &rules);
            let heard = told(decided.iter().map(|decided| (decided.instance.as_str(), decided.notices.as_slice())));
            let context = format!("minute {minute}: {events:?}");
            prop_assert_eq!(heard, model.happen(minute, event, &rules), "{}", &context);

            let alert = &memory.alert;
            prop_assert_eq!(alert.condition, model.all().filter_map(|state| state.condition).max(), "{}", &context);
            prop_assert_eq!(alert.untold, model.all().any(|state| state.untold), "{}", &context);
            prop_assert_eq!(alert.consecutive_oks, model.consecutive_oks, "{}", &context);
            prop_assert_eq!(alert.consecutive_alerts > 0, model.alerting, "{}", &context);
            prop_assert_eq!(memory.own().condition, model.own.condition, "{}", &context);
            prop_assert_eq!(alert.consecutive_errors, model.own.consecutive_errors, "{}", &context);
            for (name, part) in &memory.instances {
                prop_assert!(name == ITSELF || part.untold || part.condition != Condition::Ok, "{}", &context);
            }
            prop_assert_eq!(memory.instances.contains_key(ITSELF), memory.instances.len() > 1, "{}", &context);
            prop_assert!(memory.instances.len() != 1, "{}", &context);
        }
    }
}
