//! Whether a channel is worth an attempt: the circuit of one destination. Pure.
//!
//! Input: how attempts have ended, and the time since some moment. Output: whether another one may be made ([`Turn`]).
//!
//! A circuit is closed until five attempts in a row have failed. Then it is open for half a minute, and after every
//! probe that fails for twice as long as before, up to five minutes, longer where the channel asks for it; each time is
//! lengthened by up to a quarter, so that notifiers do not come back together. When the time is over, one attempt is
//! let through, the probe: its success closes the circuit.

use std::time::Duration;

/// After so many failures in a row no more attempts are made.
pub const FAILURES: u32 = 5;
/// How long a circuit is open at first.
pub const FIRST_OPEN: Duration = Duration::from_secs(30);
/// How long it is open at last, unless the channel asks for more.
pub const LONGEST_OPEN: Duration = Duration::from_secs(5 * 60);
/// The longest that a channel may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(60 * 60);

/// What may be done with a channel now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Attempts, as many as its limit allows.
    Closed,
    /// One attempt.
    Probe,
    /// None until then.
    Open {
        /// The end of the pause.
        until: Duration,
    },
}

/// The circuit of one destination. Times are durations since one moment that its owner has chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Circuit {
    failures: u32,
    failing_since: Option<Duration>,
    open: Option<Pause>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pause {
    until: Duration,
    /// Its length without what lengthens it.
    length: Duration,
}

impl Circuit {
    /// What may be done at `now`.
    pub fn turn(&self, now: Duration) -> Turn {
        match self.open {
            None => Turn::Closed,
            Some(pause) if pause.until <= now => Turn::Probe,
            Some(pause) => Turn::Open { until: pause.until },
        }
    }

    /// For how long every attempt has failed; zero if the last one has not.
    pub fn failing_for(&self, now: Duration) -> Duration {
        self.failing_since.map(|since| now.saturating_sub(since)).unwrap_or_default()
    }

    /// The channel has answered: it took a message, or refused this one for good.
    pub fn answered(&mut self) {
        *self = Self::default();
    }

    /// An attempt has failed at `now`. `asked` is how long the channel asks to be left alone; `chance`, from 0 to 1,
    /// lengthens the pause.
    pub fn failed(&mut self, now: Duration, asked: Option<Duration>, chance: f64) {
        self.failures = self.failures.saturating_add(1);
        self.failing_since.get_or_insert(now);
        let asked = asked.unwrap_or_default().min(LONGEST_ASKED);
        let length = match self.open {
            // An attempt that had begun before the circuit opened: it says nothing new, but for what the channel asks.
            Some(Pause { until, length }) if now < until => {
                self.open = Some(Pause { until: until.max(now.saturating_add(asked)), length });
                return;
            }
            Some(Pause { length, .. }) => (length * 2).min(LONGEST_OPEN),
            None if self.failures >= FAILURES => FIRST_OPEN,
            None => return,
        };
        let pause = length.mul_f64(1.0 + chance.clamp(0.0, 1.0) / 4.0).max(asked);
        self.open = Some(Pause { until: now.saturating_add(pause), length });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn failed(times: u32) -> Circuit {
        let mut circuit = Circuit::default();
        for _ in 0..times {
            circuit.failed(seconds(100), None, 0.0);
        }
        circuit
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_an_answer_starts_the_count_again() {
        assert_eq!(failed(4).turn(seconds(100)), Turn::Closed);
        assert_eq!(failed(5).turn(seconds(100)), Turn::Open { until: seconds(130) });
        let mut circuit = failed(4);
        circuit.answered();
        circuit.failed(seconds(101), None, 0.0);
        assert_eq!(circuit.turn(seconds(101)), Turn::Closed);
        assert_eq!(circuit.failing_for(seconds(111)), seconds(10));
    }

    #[test]
    fn a_pause_ends_with_one_probe_and_doubles_up_to_five_minutes() {
        let (mut circuit, mut now) = (failed(5), seconds(100));
        for pause in [30, 60, 120, 240, 300, 300] {
            let until = now + seconds(pause);
            assert_eq!(circuit.turn(until - Duration::from_millis(1)), Turn::Open { until });
            assert_eq!(circuit.turn(until), Turn::Probe);
            now = until;
            circuit.failed(now, None, 0.0);
        }
        assert_eq!(circuit.failing_for(now), now - seconds(100));
        circuit.answered();
        assert_eq!((circuit.turn(now), circuit.failing_for(now)), (Turn::Closed, Duration::ZERO));
    }

    #[test]
    fn a_channel_that_asks_for_more_gets_it_within_reason() {
        for (asked, pause) in [(7, 30), (90, 90), (100_000, 3_600)] {
            let mut circuit = failed(4);
            circuit.failed(seconds(100), Some(seconds(asked)), 0.0);
            assert_eq!(circuit.turn(seconds(100)), Turn::Open { until: seconds(100 + pause) }, "{asked}");
        }
    }

    #[test]
    fn what_was_under_way_when_it_opened_does_not_double_the_pause() {
        let mut circuit = failed(5);
        circuit.failed(seconds(109), None, 1.0);
        assert_eq!(circuit.turn(seconds(109)), Turn::Open { until: seconds(130) });
        circuit.failed(seconds(110), Some(seconds(60)), 0.0);
        assert_eq!(circuit.turn(seconds(110)), Turn::Open { until: seconds(170) }, "what the channel asks counts");
        circuit.failed(seconds(170), None, 0.0);
        assert_eq!(circuit.turn(seconds(170)), Turn::Open { until: seconds(230) });
    }

    #[derive(Clone, Debug)]
    enum Event {
        Answered,
        Failed { asked: Option<u64>, chance: f64 },
        Wait(u64),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let asked = prop::option::weighted(0.2, 0u64..10_000);
        let event = prop_oneof![
            1 => Just(Event::Answered),
            8 => (asked, 0.0..=1.0).prop_map(|(asked, chance)| Event::Failed { asked, chance }),
            6 => (0u64..400).prop_map(Event::Wait),
        ];
        prop::collection::vec(event, 0..200)
    }

    proptest! {
        /// Whatever happens: it is never open without five failures in a row, never for longer than it may be, and never
        /// for ever; and it is open after five.
        #[test]
        fn it_opens_when_it_must_and_only_then(events in events()) {
            let (mut circuit, mut now, mut in_a_row) = (Circuit::default(), Duration::ZERO, 0);
            let mut longest_asked = 0;
            for event in events {
                match event {
                    Event::Wait(wait) => now += seconds(wait),
                    Event::Answered => {
                        circuit.answered();
                        (in_a_row, longest_asked) = (0, 0);
                    }
                    Event::Failed { asked, chance } => {
                        circuit.failed(now, asked.map(seconds), chance);
                        in_a_row += 1;
                        longest_asked = longest_asked.max(asked.unwrap_or(0)).min(3_600);
                        if in_a_row >= FAILURES {
                            let Turn::Open { until } = circuit.turn(now) else {
                                return Err(TestCaseError::fail("a failure leaves it open"));
                            };
                            prop_assert!(until - now <= seconds(375.max(longest_asked)), "{:?}", until - now);
                        }
                    }
                }
                prop_assert_eq!(circuit.turn(now) == Turn::Closed, in_a_row < FAILURES);
                prop_assert_eq!(circuit.failing_for(now) > Duration::ZERO && in_a_row == 0, false);
                // A silent channel is asked again some day.
                let later = matches!(circuit.turn(now + seconds(3_600)), Turn::Open { .. });
                prop_assert!(!later);
            }
        }
    }
}
