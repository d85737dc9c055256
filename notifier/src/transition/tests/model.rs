//! A slow and obviously right model of the table: it keeps everything that ever happened, and answers every question by
//! looking through it again. The table must agree with it over any sequence of events.

use proptest::prelude::*;

use super::*;

/// Everything that happened, with what was told then.
#[derive(Debug, Default)]
struct History {
    events: Vec<(Event, Vec<NoticeKind>)>,
}

impl History {
    /// Every run with its minute; the first event happened in minute 1.
    fn runs(&self) -> impl Iterator<Item = (i64, RunStatus)> + '_ {
        (1..).zip(&self.events).filter_map(|(minute, (event, _))| match event {
            Run(status) => Some((minute, *status)),
            _ => None,
        })
    }

    /// The newest minute in which one of these was told; 0 if none was.
    fn told(&self, kinds: &[NoticeKind]) -> i64 {
        let told = (1..).zip(&self.events).filter(|(_, (_, told))| told.iter().any(|kind| kinds.contains(kind)));
        told.map(|(minute, _)| minute).last().unwrap_or(0)
    }

    fn silenced(&self) -> bool {
        let last = self.events.iter().rev().find(|(event, _)| matches!(event, Silence | Unsilence));
        matches!(last, Some((Silence, _)))
    }

    /// How many errors in a row there were at `minute`.
    fn errors_at(&self, minute: i64) -> usize {
        let until: Vec<_> = self.runs().filter(|(at, _)| *at <= minute).collect();
        until.iter().rev().take_while(|(_, status)| *status == Error).count()
    }

    /// The runs that said what the alert is in: when, and whether ALERT.
    fn words(&self, rules: &JudgingRules) -> Vec<(i64, bool)> {
        let as_said = |action| match action {
            OnEvent::Alert => Some(true),
            OnEvent::Ok => Some(false),
            OnEvent::Keep | OnEvent::Notify => None,
        };
        self.runs()
            .filter_map(|(minute, status)| {
                let word = match status {
                    Alert => Some(true),
                    AllOk => Some(false),
                    NoData => as_said(rules.on_no_data),
                    Error if self.errors_at(minute) >= 3 => as_said(rules.on_error),
                    Error => None,
                };
                Some((minute, word?))
            })
            .collect()
    }

    fn condition(&self, rules: &JudgingRules) -> Option<Condition> {
        let words = self.words(rules);
        let row: Vec<i64> = words.iter().rev().take_while(|(_, alert)| *alert).map(|(minute, _)| *minute).collect();
        let Some(first) = row.last() else { return words.last().map(|_| Condition::Ok) };
        let fulfilled = row.iter().rev().enumerate().any(|(before, minute)| {
            let long_enough = (minute - first) * 60_000 >= i64::try_from(rules.for_ms).unwrap();
            before + 1 >= rules.consecutive as usize && long_enough
        });
        Some(if fulfilled { Condition::Alert } else { Condition::Pending })
    }

    /// Whether receivers believe that the alert is on, from what they were sent and, where they hear of no ends, from
    /// when it ended.
    fn believed(&self, rules: &JudgingRules) -> bool {
        let alert = self.told(&[AlertNotice]);
        if rules.send_resolved {
            return alert > self.told(&[Resolved]);
        }
        alert > 0 && !self.words(rules).iter().any(|(minute, word)| !word && *minute > alert)
    }

    /// What the newest event is to tell. (It is in the history already, with nothing told.)
    fn expected(&self, rules: &JudgingRules) -> Vec<NoticeKind> {
        let now = i64::try_from(self.events.len()).unwrap();
        let Some((event, _)) = self.events.last() else { return Vec::new() };
        if self.silenced() || matches!(event, Silence | Unsilence) {
            return Vec::new();
        }
        let mut notices = Vec::new();
        let believed_failing = self.told(&[ErrorNotice]) > self.told(&[ErrorResolved]);
        if matches!(event, Run(status) if *status != Error) && believed_failing {
            notices.push(ErrorResolved);
        }
        let speaks = self.words(rules).last().is_some_and(|(minute, _)| *minute == now);
        if speaks || *event == Sweep {
            let on = self.condition(rules) == Some(Condition::Alert);
            match (on, self.believed(rules)) {
                (true, false) => notices.push(AlertNotice),
                (false, true) if rules.send_resolved => notices.push(Resolved),
                (true, true) if *event != Sweep => {
                    let passed = (now - self.told(&[AlertNotice, Repeat])) * 60_000;
                    if rules.repeat_interval_ms.is_some_and(|interval| passed >= i64::try_from(interval).unwrap()) {
                        notices.push(Repeat);
                    }
                }
                _ => {}
            }
        } else if *event == Run(Error) && rules.on_error == OnEvent::Notify {
            if self.errors_at(now) >= 3 && !believed_failing {
                notices.push(ErrorNotice);
            }
        } else if *event == Run(NoData) && rules.on_no_data == OnEvent::Notify {
            // Told once since rows were seen last.
            let rows_seen = self.runs().filter(|(_, status)| matches!(status, AllOk | Alert)).last();
            let rows_seen = rows_seen.map_or(0, |(minute, _)| minute);
            let told = self.told(&[NoDataNotice]);
            if told == 0 || told < rows_seen {
                notices.push(NoDataNotice);
            }
        }
        notices
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Run(Alert)),
        3 => Just(Run(AllOk)),
        4 => Just(Run(Error)),
        2 => Just(Run(NoData)),
        1 => Just(Silence),
        2 => Just(Unsilence),
        2 => Just(Sweep),
    ]
}

fn rules() -> impl Strategy<Value = JudgingRules> {
    let action = || proptest::sample::select(OnEvent::ALL.to_vec());
    let interval = proptest::option::of(1u64..6);
    (0u64..4, 0u32..4, interval, any::<bool>(), action(), action()).prop_map(
        |(for_minutes, consecutive, interval, send_resolved, on_error, on_no_data)| JudgingRules {
            for_ms: minutes(for_minutes),
            consecutive,
            repeat_interval_ms: interval.map(minutes),
            send_resolved,
            on_error,
            on_no_data,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_table_agrees_with_the_model(rules in rules(), events in proptest::collection::vec(event(), 1..40)) {
        let mut history = History::default();
        let mut state = AlertState::default();
        for (minute, event) in (1..).zip(events) {
            history.events.push((event, Vec::new()));
            let expected = history.expected(&rules);
            let step = happen(&state, minute, event, &rules);
            prop_assert_eq!(&step.notices, &expected, "minute {}: {:?}", minute, &history);
            prop_assert_eq!(step.state.condition, history.condition(&rules), "minute {}: {:?}", minute, &history);
            if let Some(last) = history.events.last_mut() {
                last.1 = expected;
            }
            let on = step.state.condition == Some(Condition::Alert);
            prop_assert_eq!(step.state.untold, on != history.believed(&rules), "minute {}: {:?}", minute, &history);
            state = step.state;
        }
    }
}
