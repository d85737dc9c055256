//! How the destinations of this process stand: which of them failed at their last attempt, and whose circuit is open.
//!
//! Input: how attempts have ended. Output: which destinations are worth an attempt, and what the health report says.
//! Only what is wrong is kept, at most as much as the configuration has destinations, and in this process alone: what
//! one notifier cannot reach, another one may.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlsentinel_common::clock::{BootInstant, wall_now};
use sqlsentinel_common::health::Check;
use sqlsentinel_common::store::outbox::Destination;

use crate::circuit::{Circuit, Turn};
use crate::retry::Sent;

/// The destinations whose last attempt failed.
#[derive(Debug)]
pub(super) struct Standing {
    /// The moment that circuits count from.
    origin: BootInstant,
    failing: Mutex<BTreeMap<Destination, Failing>>,
}

/// A destination whose last attempt failed.
#[derive(Debug)]
struct Failing {
    circuit: Circuit,
    error: String,
}

/// A circuit that is not closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OpenCircuit {
    /// Whose.
    pub(super) destination: Destination,
    /// What may be done.
    pub(super) turn: Turn,
    /// For how long every attempt has failed.
    pub(super) failing_for: Duration,
}

impl Default for Standing {
    fn default() -> Self {
        Self { origin: BootInstant::now(), failing: Mutex::default() }
    }
}

impl Standing {
    /// Notes how an attempt has ended. `chance` spreads the probes of several notifiers.
    pub(super) fn note(&self, destination: &Destination, sent: &Sent, chance: f64) {
        let now = self.origin.elapsed();
        let mut failing = self.lock();
        let (error, asked) = match sent {
            Sent::Delivered => {
                if failing.remove(destination).is_some_and(|failing| failing.circuit.turn(now) != Turn::Closed) {
                    tracing::info!(channel = name(destination), "channel takes messages again");
                }
                return;
            }
            Sent::Permanent(error) => (error, None),
            Sent::Unknown(error) => (error, None),
            Sent::NotDelivered { error, retry_after } => (error, *retry_after),
        };
        let failing = failing
            .entry(destination.clone())
            .or_insert_with(|| Failing { circuit: Circuit::default(), error: String::new() });
        failing.error.clone_from(error);
        if matches!(sent, Sent::Permanent(_)) {
            // This message is refused for good; the next one may be taken.
            failing.circuit.answered();
            return;
        }
        let before = failing.circuit.turn(now);
        failing.circuit.failed(now, asked, chance);
        if let (Turn::Closed | Turn::Probe, Turn::Open { until }) = (before, failing.circuit.turn(now)) {
            tracing::warn!(
                channel = name(destination),
                error,
                pause_seconds = until.saturating_sub(now).as_secs_f64(),
                "channel fails again and again, leaving it alone"
            );
        }
    }

    /// The circuits that are not closed.
    pub(super) fn open(&self) -> Vec<OpenCircuit> {
        let now = self.origin.elapsed();
        let open = |(destination, failing): (&Destination, &Failing)| {
            let (turn, failing_for) = (failing.circuit.turn(now), failing.circuit.failing_for(now));
            (turn != Turn::Closed).then(|| OpenCircuit { destination: destination.clone(), turn, failing_for })
        };
        self.lock().iter().filter_map(open).collect()
    }

    /// Forgets the destinations that are not what they were.
    pub(super) fn retain(&self, is_the_same: impl Fn(&Destination) -> bool) {
        self.lock().retain(|destination, _| is_the_same(destination));
    }

    /// How one destination stands.
    pub(super) fn check(&self, destination: &Destination) -> Check {
        match self.lock().get(destination) {
            None => Check::healthy("configured"),
            Some(failing) => Check::degraded(self.describe(failing)),
        }
    }

    /// How `destinations`, all of one kind, stand together.
    pub(super) fn check_all(&self, destinations: &[Destination]) -> Check {
        let failing = self.lock();
        let failing: Vec<&Failing> = destinations.iter().filter_map(|known| failing.get(known)).collect();
        // The one that says most.
        match failing.iter().max_by_key(|failing| self.reopens_in(failing)) {
            None => Check::healthy("configured"),
            Some(worst) => Check::degraded(format!(
                "{} of {} routes failed at their last attempt: {}",
                failing.len(),
                destinations.len(),
                self.describe(worst)
            )),
        }
    }

    fn describe(&self, failing: &Failing) -> String {
        match self.reopens_in(failing) {
            None => failing.error.clone(),
            Some(wait) if wait.is_zero() => format!("{} (waiting for one attempt to succeed)", failing.error),
            Some(wait) => {
                let until = wall_now().plus(wait).to_datetime().format("%H:%M:%S UTC");
                format!("{} (no attempts until {until})", failing.error)
            }
        }
    }

    /// How long an open circuit stays open; none if it is closed.
    fn reopens_in(&self, failing: &Failing) -> Option<Duration> {
        let now = self.origin.elapsed();
        match failing.circuit.turn(now) {
            Turn::Closed => None,
            Turn::Probe => Some(Duration::ZERO),
            Turn::Open { until } => Some(until.saturating_sub(now)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Destination, Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The destination in logs: a channel's name, or an alert and the key of its route.
fn name(destination: &Destination) -> String {
    match destination {
        Destination::Named(name) => name.clone(),
        Destination::Inline { alert_name, route_key } => format!("{route_key} of {alert_name}"),
    }
}

#[cfg(test)]
mod tests {
    use sqlsentinel_common::health::Status;

    use super::*;

    fn named(name: &str) -> Destination {
        Destination::Named(name.to_owned())
    }

    fn fail(standing: &Standing, destination: &Destination, times: usize) {
        for _ in 0..times {
            standing.note(destination, &Sent::not_delivered("no connection"), 0.0);
        }
    }

    #[test]
    fn a_kind_is_degraded_while_one_of_its_routes_fails_and_says_why() {
        let standing = Standing::default();
        let (ops, sales) = (named("ops"), named("sales"));
        let both = || standing.check_all(&[ops.clone(), sales.clone()]);
        assert_eq!(both().status, Status::Healthy);
        fail(&standing, &ops, 1);
        standing.note(&sales, &Sent::Delivered, 0.0);
        assert_eq!(both(), Check::degraded("1 of 2 routes failed at their last attempt: no connection"));
        assert_eq!(standing.check(&sales).status, Status::Healthy);
        assert_eq!(
            standing.check_all(std::slice::from_ref(&sales)).status,
            Status::Healthy,
            "other kinds are their own"
        );
        standing.note(&ops, &Sent::Delivered, 0.0);
        assert_eq!(both().status, Status::Healthy);
    }

    #[test]
    fn an_entry_of_one_alert_says_nothing_of_the_same_entry_of_another() {
        let standing = Standing::default();
        let inline =
            |alert: &str| Destination::Inline { alert_name: alert.to_owned(), route_key: "slack-1".to_owned() };
        fail(&standing, &inline("a"), 5);
        assert_eq!(standing.open().len(), 1);
        assert_eq!(standing.check(&inline("b")).status, Status::Healthy);
    }

    #[test]
    fn an_open_circuit_says_until_when_and_closes_with_a_success() {
        let standing = Standing::default();
        fail(&standing, &named("ops"), 4);
        assert_eq!(standing.open(), []);
        fail(&standing, &named("ops"), 1);
        let message = standing.check(&named("ops")).message.unwrap_or_default();
        assert!(message.starts_with("no connection (no attempts until "), "{message}");
        standing.note(&named("ops"), &Sent::Delivered, 0.0);
        assert_eq!(standing.open(), []);
    }

    #[test]
    fn what_refuses_one_message_for_good_is_not_left_alone() {
        let standing = Standing::default();
        for _ in 0..20 {
            standing.note(&named("ops"), &Sent::Permanent("status 422".to_owned()), 0.0);
        }
        assert_eq!(standing.open(), []);
        assert_eq!(standing.check(&named("ops")), Check::degraded("status 422"));
    }

    #[test]
    fn a_channel_that_was_changed_is_tried_at_once() {
        let standing = Standing::default();
        fail(&standing, &named("ops"), 5);
        fail(&standing, &named("sales"), 5);
        standing.retain(|destination| *destination == named("sales"));
        assert_eq!(standing.open().into_iter().map(|open| open.destination).collect::<Vec<_>>(), [named("sales")]);
    }
}
