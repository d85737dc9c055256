//! The outbox loop: claims what is due, and sends it with bounded concurrency.
//!
//! Input: the outbox, looked at when this process has queued something, when something becomes due, when an attempt
//! has ended, and once a second, since other notifiers queue and die too. Output: attempts ([`crate::deliver`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlsentinel_common::clock::BootInstant;
use sqlsentinel_common::health::{Check, Health};
use sqlsentinel_common::lifecycle::Stop;
use sqlsentinel_common::store::StoreError;
use sqlsentinel_common::store::outbox::{Claim, ClaimRequest};
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};

use crate::deliver::{Attempt, Deliverer};

/// The check of this loop.
pub const CHECK: &str = "outbox";
/// The longest time between two looks at the outbox.
const POLL: Duration = Duration::from_secs(1);
/// How many attempts one route may have under way before no more are claimed for it: a receiver that hangs keeps its
/// own notifications waiting and nobody else's.
const ROUTE_LIMIT: usize = 8;
/// How many notifications one look may claim, so that the limit above is looked at in between.
const CLAIM_AT_ONCE: usize = 8;

/// What the loop needs.
#[derive(Debug)]
pub struct Outbox {
    /// Sends.
    pub deliverer: Arc<Deliverer>,
    /// How many attempts may be under way at once.
    pub concurrency: usize,
    /// How long a claim holds without a receipt; longer than an attempt takes.
    pub lease: Duration,
    /// Told when this process has queued something.
    pub wake: Arc<Notify>,
    /// Where the loop says how it is.
    pub health: Health,
}

/// The attempts under way.
#[derive(Debug, Default)]
struct UnderWay {
    tasks: JoinSet<Attempt>,
    by_route: HashMap<String, usize>,
}

impl Outbox {
    /// Claims and sends until a stop is requested, then waits for what is under way.
    pub async fn run(self, stop: Stop) -> anyhow::Result<()> {
        let mut under_way = UnderWay::default();
        while !stop.requested.is_cancelled() {
            while let Some(ended) = under_way.tasks.try_join_next() {
                under_way.ended(ended)?;
            }
            let wait = self.claim_what_is_due(&mut under_way, &stop).await;
            tokio::select! {
                Some(ended) = under_way.tasks.join_next() => under_way.ended(ended)?,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
                () = stop.requested.cancelled() => {}
            }
        }
        // What is cancelled here keeps its claim, and is sent again, marked, when that ends.
        tokio::select! {
            drained = under_way.drain() => drained,
            () = stop.aborted.cancelled() => Ok(()),
        }
    }

    /// Claims until nothing is due or there is no room; how long until it is worth looking again.
    async fn claim_what_is_due(&self, under_way: &mut UnderWay, stop: &Stop) -> Duration {
        while !stop.requested.is_cancelled() {
            // Invariant: room before claim. What is claimed is sent at once, while its lease is fresh.
            let room = self.concurrency.saturating_sub(under_way.tasks.len());
            if room == 0 {
                self.health.report(CHECK, Check::healthy("sending as much as is allowed at once"));
                break;
            }
            let busy = under_way.busy_routes();
            let claimed_at = BootInstant::now();
            let request = ClaimRequest {
                limit: room.min(CLAIM_AT_ONCE),
                lease: self.lease,
                except_routes: &busy,
                only_alerts: None,
            };
            match self.deliverer.store.claim_notifications(request).await {
                Ok(found) => {
                    self.health.report(CHECK, Check::healthy("claiming what is due"));
                    if found.claims.is_empty() {
                        return found.next_due.unwrap_or(POLL).min(POLL);
                    }
                    for claim in found.claims {
                        under_way.begin(self.deliverer.clone(), claim, claimed_at, self.lease);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "could not look at the outbox");
                    self.health.report(CHECK, Check::unhealthy(error.to_string()));
                    break;
                }
            }
        }
        POLL
    }
}

impl UnderWay {
    fn begin(&mut self, deliverer: Arc<Deliverer>, claim: Claim, claimed_at: BootInstant, lease: Duration) {
        *self.by_route.entry(claim.route_key.clone()).or_default() += 1;
        self.tasks.spawn(async move { deliverer.deliver(claim, claimed_at, lease).await });
    }

    /// A panic ends the loop, and with it the process.
    fn ended(&mut self, ended: Result<Attempt, JoinError>) -> anyhow::Result<()> {
        let attempt = ended?;
        if let Some(count) = self.by_route.get_mut(&attempt.claim.route_key) {
            *count -= 1;
        }
        self.by_route.retain(|_, count| *count > 0);
        Ok(())
    }

    fn busy_routes(&self) -> Vec<String> {
        self.by_route.iter().filter(|(_, count)| **count >= ROUTE_LIMIT).map(|(route, _)| route.clone()).collect()
    }

    async fn drain(&mut self) -> anyhow::Result<()> {
        while let Some(ended) = self.tasks.join_next().await {
            self.ended(ended)?;
        }
        Ok(())
    }
}

/// Sends what is due for `alerts`, here and now, until nothing is; what has failed stays in the outbox for the next
/// run. For a process that runs once, without a cluster.
pub async fn deliver_due(
    deliverer: &Deliverer,
    alerts: &[String],
    lease: Duration,
) -> Result<Vec<Attempt>, StoreError> {
    let mut attempts = Vec::new();
    loop {
        let claimed_at = BootInstant::now();
        let request = ClaimRequest { limit: CLAIM_AT_ONCE, lease, except_routes: &[], only_alerts: Some(alerts) };
        let claims = deliverer.store.claim_notifications(request).await?.claims;
        if claims.is_empty() {
            return Ok(attempts);
        }
        let sending = claims.into_iter().map(|claim| deliverer.deliver(claim, claimed_at, lease));
        attempts.extend(futures::future::join_all(sending).await);
    }
}
