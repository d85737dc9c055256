//! One look at the outbox: what is claimed now, for whom, and how it is to be told.
//!
//! Input: what is under way, and how the channels stand. Output: [`Batch`]es. Most destinations are claimed for together;
//! those with limits of their own and those that have been failing are left out of that, and claimed for one by one.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use sqlsentinel_common::clock::BootInstant;
use sqlsentinel_common::store::StoreError;
use sqlsentinel_common::store::outbox::{Claim, ClaimRequest, Claims, Destination, Due};

use crate::channel::{ATTEMPTS_AT_ONCE, Special};
use crate::circuit::Turn;
use crate::deliver::{Batch, Deliverer};
use crate::retry::span;

/// How many notifications one look may claim, so that the limits are looked at in between.
const CLAIM_AT_ONCE: usize = 8;
/// How many notifications one look may give up at one destination.
const GIVE_UP_AT_ONCE: usize = 64;

/// How many attempts are under way, by route and by the alert's route.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    by_route: HashMap<String, usize>,
    by_alert: HashMap<(String, String), usize>,
}

impl UnderWay {
    pub(super) fn begin(&mut self, batch: &Batch) {
        for claim in batch.claims() {
            *self.by_route.entry(claim.route_key.clone()).or_default() += 1;
            *self.by_alert.entry((claim.alert_name.clone(), claim.route_key.clone())).or_default() += 1;
        }
    }

    pub(super) fn ended(&mut self, claim: &Claim) {
        for count in [
            self.by_route.get_mut(&claim.route_key),
            self.by_alert.get_mut(&(claim.alert_name.clone(), claim.route_key.clone())),
        ]
        .into_iter()
        .flatten()
        {
            *count -= 1;
        }
        self.by_route.retain(|_, count| *count > 0);
        self.by_alert.retain(|_, count| *count > 0);
    }

    /// The routes that have as many attempts under way as they may, whichever alerts they are of.
    fn busy_routes(&self) -> Vec<String> {
        let busy = self.by_route.iter().filter(|(_, count)| **count >= ATTEMPTS_AT_ONCE);
        busy.map(|(route, _)| route.clone()).collect()
    }

    fn at(&self, destination: &Destination) -> usize {
        let count = match destination {
            Destination::Named(name) => self.by_route.get(name),
            Destination::Inline { alert_name, route_key } => {
                self.by_alert.get(&(alert_name.clone(), route_key.clone()))
            }
        };
        count.copied().unwrap_or(0)
    }
}

/// Until when the windows of channels' rates are used up, as far as this process knows.
#[derive(Debug, Default)]
pub(super) struct UsedUp(BTreeMap<Destination, BootInstant>);

impl UsedUp {
    fn waits(&mut self, destination: &Destination) -> bool {
        match self.0.get(destination) {
            Some(until) if until.remaining() > Duration::ZERO => true,
            Some(_) => {
                self.0.remove(destination);
                false
            }
            None => false,
        }
    }
}

/// What a look is for.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    /// How many messages there is room for, at least 1.
    pub(super) room: usize,
    /// How long the claims hold.
    pub(super) lease: Duration,
    /// Only notifications of these alerts; all if none.
    pub(super) only_alerts: Option<&'a [String]>,
}

/// What a look has found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What is to be done at once.
    pub(super) batches: Vec<Batch>,
    /// How long until something that waits is due, if that is known.
    pub(super) next_due: Option<Duration>,
}

/// What may be done with a special destination now. Pure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing.
    Wait,
    /// So many attempts.
    Claim(usize),
    /// Give up what has waited for so long.
    GiveUp(Duration),
}

fn step(special: &Special, under_way: usize, room: usize) -> Step {
    let at_once = match special.turn {
        Turn::Closed => special.at_once,
        Turn::Probe => 1,
        Turn::Open { .. } => return Step::GiveUp(special.given_up_after),
    };
    match at_once.saturating_sub(under_way).min(room).min(CLAIM_AT_ONCE) {
        0 => Step::Wait,
        limit => Step::Claim(limit),
    }
}

/// Claims what is due.
pub(super) async fn look(
    deliverer: &Deliverer,
    under_way: &UnderWay,
    used_up: &mut UsedUp,
    scope: Scope<'_>,
) -> Result<Found, StoreError> {
    let specials = deliverer.channels.special();
    let left_out: Vec<Destination> = specials.iter().map(|special| special.destination.clone()).collect();
    let busy = under_way.busy_routes();
    let general = ClaimRequest {
        except_routes: &busy,
        except: &left_out,
        only_alerts: scope.only_alerts,
        ..ClaimRequest::new(scope.room.min(CLAIM_AT_ONCE), scope.lease)
    };
    let claims = deliverer.store.claim_notifications(general).await?;
    let mut found = Found { next_due: claims.next_due, batches: each(claims.claims) };
    match look_one_by_one(deliverer, specials, under_way, used_up, scope, &mut found).await {
        // What is claimed already is to be sent.
        Err(error) if !found.batches.is_empty() => tracing::warn!(%error, "could not look at all of the outbox"),
        looked => looked?,
    }
    Ok(found)
}

/// Claims what is due at each of `specials`.
async fn look_one_by_one(
    deliverer: &Deliverer,
    specials: Vec<Special>,
    under_way: &UnderWay,
    used_up: &mut UsedUp,
    scope: Scope<'_>,
    found: &mut Found,
) -> Result<(), StoreError> {
    let waiting: Vec<(Special, usize)> = specials
        .into_iter()
        .map(|special| {
            let count = under_way.at(&special.destination);
            (special, count)
        })
        .filter(|(special, count)| step(special, *count, scope.room) != Step::Wait)
        .filter(|(special, _)| !used_up.waits(&special.destination))
        .collect();
    let destinations: Vec<&Destination> = waiting.iter().map(|(special, _)| &special.destination).collect();
    for Due { destination, waited } in deliverer.store.due_at(&destinations).await? {
        let Some((special, count)) = waiting.iter().find(|(special, _)| special.destination == destination) else {
            continue;
        };
        let room = scope.room.saturating_sub(found.batches.len());
        let only = Some(&destination);
        let request =
            |limit| ClaimRequest { only, only_alerts: scope.only_alerts, ..ClaimRequest::new(limit, scope.lease) };
        match step(special, *count, room) {
            Step::Wait => {}
            Step::GiveUp(after) if waited < after => {}
            Step::GiveUp(after) => {
                let request = ClaimRequest { waited_for: Some(after), ..request(GIVE_UP_AT_ONCE) };
                let claims = deliverer.store.claim_notifications(request).await?.claims;
                if !claims.is_empty() {
                    let span = span(special.failing_for);
                    let reason = format!("not tried again: every attempt at the channel has failed for {span}");
                    found.batches.push(Batch::GivenUp(claims, reason));
                }
            }
            Step::Claim(limit) => match (&destination, special.rate) {
                (Destination::Named(name), Some(rate)) => {
                    let Claims { claims, digest, next_due } =
                        deliverer.store.claim_within(request(limit), name, rate).await?;
                    if let Some(wait) = next_due {
                        used_up.0.insert(destination, BootInstant::now().plus(wait));
                    }
                    match digest {
                        Some(digest) => found.batches.push(Batch::Digest(digest, claims)),
                        None => found.batches.extend(each(claims)),
                    }
                }
                _ => found.batches.extend(each(deliverer.store.claim_notifications(request(limit)).await?.claims)),
            },
        }
    }
    Ok(())
}

fn each(claims: Vec<Claim>) -> Vec<Batch> {
    claims.into_iter().map(|claim| Batch::One(Box::new(claim))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn special(turn: Turn, at_once: usize) -> Special {
        let destination = Destination::Named("ops".to_owned());
        let given_up_after = Duration::from_secs(300);
        Special { destination, turn, at_once, rate: None, given_up_after, failing_for: Duration::ZERO }
    }

    #[test]
    fn a_destination_gets_what_its_limit_its_circuit_and_the_room_allow() {
        let open = Turn::Open { until: Duration::ZERO };
        for (turn, at_once, under_way, room, expected) in [
            (Turn::Closed, 2, 0, 32, Step::Claim(2)),
            (Turn::Closed, 2, 1, 32, Step::Claim(1)),
            (Turn::Closed, 2, 2, 32, Step::Wait),
            (Turn::Closed, 2, 3, 32, Step::Wait),
            (Turn::Closed, 100, 0, 32, Step::Claim(CLAIM_AT_ONCE)),
            (Turn::Closed, 8, 0, 1, Step::Claim(1)),
            (Turn::Closed, 8, 0, 0, Step::Wait),
            (Turn::Probe, 8, 0, 32, Step::Claim(1)),
            (Turn::Probe, 8, 1, 32, Step::Wait),
            (open, 8, 0, 32, Step::GiveUp(Duration::from_secs(300))),
        ] {
            assert_eq!(
                step(&special(turn, at_once), under_way, room),
                expected,
                "{turn:?} {at_once} {under_way} {room}"
            );
        }
    }
}
