//! What the bus lost, and what came too late.
//!
//! *Rescue* publishes a fire again, with the next attempt number, only when the broker no longer stores its job *and* every
//! outcome stored before that was looked at has been settled: an outcome that still waits for a notifier is not a lost job,
//! and a notifier that is away must not make us hammer production. *Expiry* ends a fire whose deadline has passed, by the
//! same rule, with a reason that helps.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use sqlsentinel_common::alert::SourceName;
use sqlsentinel_common::bus::{Backlog, Bus, BusError};
use sqlsentinel_common::clock::BootInstant;
use sqlsentinel_common::ids::ExecutionId;
use sqlsentinel_common::store::fires::QueuedFire;
use sqlsentinel_common::store::leadership::{Mark, Term};
use sqlsentinel_common::store::rescue::OverdueFire;
use sqlsentinel_common::store::{Store, StoreError};

use crate::metrics::Metrics;

/// The most fires one statement handles, and one pass queues again.
const BATCH: i64 = 1_000;
/// How long one pass waits for the notifiers to settle what is stored.
const SETTLE_WAIT: Duration = Duration::from_secs(2);
const SETTLE_POLL: Duration = Duration::from_millis(100);

/// Why a pass did not finish. The next one begins anew.
#[derive(Debug, thiserror::Error)]
pub enum RescueError {
    /// The ledger did not answer, or this leader is deposed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker did not answer.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// One term's rescuer.
#[derive(Debug)]
pub struct Rescuer {
    /// The ledger.
    pub store: Store,
    /// The broker.
    pub bus: Bus,
    /// The right to change the ledger.
    pub term: Term,
    /// A job is looked for only when it was queued longer ago than this.
    pub rescue_after: Duration,
    /// The figures.
    pub metrics: Metrics,
}

impl Rescuer {
    /// One pass over published fires without an outcome and over overdue ones. Returns how many were queued again.
    pub async fn run_once(&self, published: Mark) -> Result<u64, RescueError> {
        let (age, since) = (micros(self.rescue_after), BootInstant::now());
        let unsettled = self.store.unsettled(published, age, BATCH).await?;
        let overdue = self.store.overdue(0, BATCH).await?;
        if unsettled.is_empty() && overdue.is_empty() {
            return Ok(0);
        }

        // In this order: what the broker stores, then the last outcome, then until that is settled, then the ledger again
        // (the statements below change only what is still open). An outcome is stored before its job is forgotten, so a
        // job that is gone here either has its outcome settled by then or never had one.
        let stored = self.bus.stored_jobs().await?;
        let lost: Vec<QueuedFire> = unsettled.into_iter().filter(|fire| !stored.contains(&fire.execution_id)).collect();
        if lost.is_empty() && overdue.is_empty() {
            return Ok(0);
        }
        let last_result = self.bus.last_result().await?;
        if !self.settled(last_result).await? {
            tracing::info!(lost = lost.len(), overdue = overdue.len(), "waiting for the notifiers before rescuing");
            return Ok(0);
        }
        self.expire_all(overdue, &stored, since).await?;
        if lost.is_empty() {
            return Ok(0);
        }
        let rescued = self.store.requeue(&self.term, &lost).await?;
        if rescued > 0 {
            tracing::warn!(fires = rescued, "jobs were lost on the way: publishing them again");
            self.metrics.fires_rescued.inc_by(rescued);
        }
        Ok(rescued)
    }

    async fn settled(&self, last_result: u64) -> Result<bool, BusError> {
        let deadline = tokio::time::Instant::now() + SETTLE_WAIT;
        loop {
            if self.bus.results_settled(last_result).await? {
                return Ok(true);
            }
            if tokio::time::Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(SETTLE_POLL).await;
        }
    }

    /// Ends `overdue`, and whatever else was overdue at `since`: after a long outage that is much more than one batch, and
    /// nobody shall wait for as many passes.
    async fn expire_all(
        &self,
        mut overdue: Vec<OverdueFire>,
        stored: &HashSet<ExecutionId>,
        since: BootInstant,
    ) -> Result<(), RescueError> {
        loop {
            self.expire(&overdue, stored).await?;
            if i64::try_from(overdue.len()).unwrap_or(i64::MAX) < BATCH {
                return Ok(());
            }
            overdue = self.store.overdue(micros(since.elapsed()), BATCH).await?;
        }
    }

    async fn expire(&self, overdue: &[OverdueFire], stored: &HashSet<ExecutionId>) -> Result<(), RescueError> {
        let mut lanes: HashMap<&SourceName, Option<Backlog>> = HashMap::new();
        for fire in overdue {
            if !lanes.contains_key(&fire.source) {
                lanes.insert(&fire.source, self.bus.jobs_backlog(&fire.source).await.ok());
            }
        }
        let reasons: Vec<(ExecutionId, &'static str)> = overdue
            .iter()
            .map(|fire| {
                let lane = lanes.get(&fire.source).copied().flatten();
                (fire.execution_id, expiry_reason(fire.queued, stored.contains(&fire.execution_id), lane))
            })
            .collect();
        if reasons.is_empty() {
            return Ok(());
        }
        let expired = self.store.expire(&self.term, &reasons).await?;
        if let Some(reason) = expired.first() {
            tracing::error!(
                fires = expired.len(),
                reason,
                alert_name = overdue[0].alert_name,
                "fires expired without an outcome"
            );
        }
        for reason in &expired {
            self.metrics.fires_expired.with_label_values(&[reason]).inc();
            self.metrics.disposed(&format!("expired_{reason}"), 1);
        }
        Ok(())
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// Why a fire had no outcome by its deadline.
fn expiry_reason(queued: bool, stored: bool, lane: Option<Backlog>) -> &'static str {
    match lane {
        _ if queued && !stored => "worker_lost",
        Some(lane) if lane.waiting == 0 && lane.unsettled == 0 => "no_worker",
        _ => "backlog",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_an_expiry_says_where_to_look() {
        let idle = Backlog { pending: 5, unsettled: 0, waiting: 0 };
        let busy = Backlog { pending: 5, unsettled: 3, waiting: 0 };
        let table = [
            (true, false, Some(busy), "worker_lost"),
            (true, true, Some(idle), "no_worker"),
            (true, true, Some(busy), "backlog"),
            (false, false, Some(busy), "backlog"),
            (false, false, Some(idle), "no_worker"),
            (false, false, None, "backlog"),
        ];
        for (queued, stored, lane, reason) in table {
            assert_eq!(expiry_reason(queued, stored, lane), reason, "{queued} {stored} {lane:?}");
        }
    }
}
