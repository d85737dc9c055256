//! The outbox loop: claims what is due, and sends it with bounded concurrency.
//!
//! Input: the outbox, looked at when this process has queued something, when something becomes due, when an attempt
//! has ended, and once a second, since other notifiers queue and die too. Output: attempts ([`crate::deliver`]).

mod look;

use std::sync::Arc;
use std::time::Duration;

use sqlsentinel_common::clock::BootInstant;
use sqlsentinel_common::health::{Check, Health};
use sqlsentinel_common::lifecycle::Stop;
use sqlsentinel_common::store::StoreError;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};

use self::look::{Scope, UnderWay, UsedUp, look};
use crate::deliver::{Attempt, Batch, Deliverer};

/// The check of this loop.
pub const CHECK: &str = "outbox";
/// The longest time between two looks at the outbox.
const POLL: Duration = Duration::from_secs(1);
/// How many notifications are sent at once where there is no loop.
const AT_ONCE: usize = 8;

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

/// What the loop remembers from one look to the next.
#[derive(Debug, Default)]
struct Sending {
    tasks: JoinSet<Vec<Attempt>>,
    under_way: UnderWay,
    used_up: UsedUp,
}

impl Outbox {
    /// Claims and sends until a stop is requested, then waits for what is under way.
    pub async fn run(self, stop: Stop) -> anyhow::Result<()> {
        let mut sending = Sending::default();
        while !stop.requested.is_cancelled() {
            while let Some(ended) = sending.tasks.try_join_next() {
                sending.ended(ended)?;
            }
            let wait = self.claim_what_is_due(&mut sending, &stop).await;
            tokio::select! {
                Some(ended) = sending.tasks.join_next() => sending.ended(ended)?,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
                () = stop.requested.cancelled() => {}
            }
        }
        // What is cancelled here keeps its claim, and is sent again, marked, when that ends.
        tokio::select! {
            drained = sending.drain() => drained,
            () = stop.aborted.cancelled() => Ok(()),
        }
    }

    /// Claims until nothing is due or there is no room; how long until it is worth looking again.
    async fn claim_what_is_due(&self, sending: &mut Sending, stop: &Stop) -> Duration {
        while !stop.requested.is_cancelled() {
            // Invariant: room before claim. What is claimed is sent at once, while its lease is fresh.
            let room = self.concurrency.saturating_sub(sending.tasks.len());
            if room == 0 {
                self.health.report(CHECK, Check::healthy("sending as much as is allowed at once"));
                break;
            }
            let claimed_at = BootInstant::now();
            let scope = Scope { room, lease: self.lease, only_alerts: None };
            match look(&self.deliverer, &sending.under_way, &mut sending.used_up, scope).await {
                Ok(found) => {
                    self.health.report(CHECK, Check::healthy("claiming what is due"));
                    if found.batches.is_empty() {
                        return found.next_due.unwrap_or(POLL).min(POLL);
                    }
                    for batch in found.batches {
                        sending.begin(self.deliverer.clone(), batch, claimed_at, self.lease);
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

impl Sending {
    fn begin(&mut self, deliverer: Arc<Deliverer>, batch: Batch, claimed_at: BootInstant, lease: Duration) {
        self.under_way.begin(&batch);
        self.tasks.spawn(async move { deliverer.deliver(batch, claimed_at, lease).await });
    }

    /// A panic ends the loop, and with it the process.
    fn ended(&mut self, ended: Result<Vec<Attempt>, JoinError>) -> anyhow::Result<()> {
        for attempt in ended? {
            self.under_way.ended(&attempt.claim);
        }
        Ok(())
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
    let (mut attempts, mut used_up) = (Vec::new(), UsedUp::default());
    let scope = Scope { room: AT_ONCE, lease, only_alerts: Some(alerts) };
    loop {
        let claimed_at = BootInstant::now();
        let found = look(deliverer, &UnderWay::default(), &mut used_up, scope).await?;
        if found.batches.is_empty() {
            return Ok(attempts);
        }
        let sending = found.batches.into_iter().map(|batch| deliverer.deliver(batch, claimed_at, lease));
        attempts.extend(futures::future::join_all(sending).await.into_iter().flatten());
    }
}
