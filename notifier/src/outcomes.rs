//! The outcomes loop: batches from the bus into the outcome transaction, then acknowledged.
//!
//! Input: the `RESULTS` work queue, shared by all notifiers. Output: [`crate::record`]'s transaction; each message is
//! acked once what follows from it is committed, given back while that cannot be, and put away if it never can.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use sqlsentinel_common::bus::{Bus, BusError};
use sqlsentinel_common::delivery::{Delivery, Lane};
use sqlsentinel_common::health::{Check, Health};
use sqlsentinel_common::lifecycle::Stop;
use sqlsentinel_common::messages::OutcomeMessage;
use tokio::sync::Notify;

use crate::metrics::{Metrics, OutcomeResult};
use crate::record::{Fate, Recorder};

/// The check of this loop.
pub const CHECK: &str = "outcomes";
/// How long one look at the bus may last: as long as a stop may have to wait for it.
const LOOK: Duration = Duration::from_secs(2);
/// How many messages are settled at once.
const SETTLE_AT_ONCE: usize = 64;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// When an outcome comes again that the state database could not take.
const UNRECORDED_PAUSE: Duration = Duration::from_secs(1);
/// When an outcome comes again whose definition this notifier cannot read: until then, it may have been upgraded.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(30);

/// When an outcome comes again whose fire the leader has yet to plan, and how often: somebody has to lead by then.
const UNPLANNED_PAUSE: Duration = Duration::from_secs(1);
const UNPLANNED_DELIVERIES: u32 = 120;

/// The dead letter's reason for an outcome that no fire belongs to.
const UNKNOWN_FIRE: &str = "unknown_fire";

/// What the loop needs.
#[derive(Debug)]
pub struct Outcomes {
    /// Where outcomes come from.
    pub bus: Bus,
    /// Where they go.
    pub recorder: Arc<Recorder>,
    /// Told when something is new in the outbox.
    pub wake: Arc<Notify>,
    /// How many outcomes one transaction may hold.
    pub batch: usize,
    /// Where the loop says how it is.
    pub health: Health,
    /// What is counted.
    pub metrics: Metrics,
}

impl Outcomes {
    /// Takes and records batches until a stop is requested. It is never cancelled between taking a batch and settling it.
    pub async fn run(self, stop: Stop) -> anyhow::Result<()> {
        let mut lane = None;
        let mut pause = FIRST_PAUSE;
        while !stop.requested.is_cancelled() {
            let healthy = match self.run_once(&mut lane).await {
                Ok(check) => {
                    let healthy = check.is_none();
                    self.health.report(CHECK, check.unwrap_or_else(|| Check::healthy("recording what comes")));
                    healthy
                }
                Err(error) => {
                    tracing::warn!(%error, "could not take outcomes from the bus");
                    self.health.report(CHECK, Check::unhealthy(error.to_string()));
                    lane = None;
                    false
                }
            };
            if healthy {
                pause = FIRST_PAUSE;
            } else {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.requested.cancelled() => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        Ok(())
    }

    /// Takes one batch and settles it; a check if the state database could not take it all.
    async fn run_once(&self, lane: &mut Option<Lane<OutcomeMessage>>) -> Result<Option<Check>, BusError> {
        let lane = match lane {
            Some(lane) => lane,
            None => lane.insert(self.bus.results().await?),
        };
        let before = lane.dead_letters();
        let batch = lane.next_batch(self.batch, LOOK).await;
        for _ in before..lane.dead_letters() {
            self.metrics.outcome(OutcomeResult::DeadLettered);
        }
        let batch = batch?;
        if batch.is_empty() {
            return Ok(None);
        }
        Ok(self.settle(batch).await)
    }

    async fn settle(&self, batch: Vec<Delivery<OutcomeMessage>>) -> Option<Check> {
        let messages: Vec<&OutcomeMessage> = batch.iter().map(|delivery| &delivery.message).collect();
        let recorded = self.recorder.record(&messages).await;
        if recorded.notifications > 0 {
            self.wake.notify_one();
        }
        let settled = batch.iter().zip(&recorded.fates);
        futures::stream::iter(settled)
            .for_each_concurrent(SETTLE_AT_ONCE, |(delivery, fate)| self.settle_one(delivery, fate.as_ref()))
            .await;
        let failure = recorded.failure?;
        tracing::warn!(error = %failure, outcomes = batch.len(), "could not record a batch, it will come again");
        Some(Check::unhealthy(failure.to_string()))
    }

    async fn settle_one(&self, delivery: &Delivery<OutcomeMessage>, fate: Option<&Fate>) {
        let (result, settled) = match fate {
            Some(Fate::Recorded { late }) => {
                (if *late { OutcomeResult::Late } else { OutcomeResult::Recorded }, delivery.ack().await)
            }
            Some(Fate::Duplicate) => (OutcomeResult::Duplicate, delivery.ack().await),
            Some(Fate::NotPlannedYet) if delivery.delivery < UNPLANNED_DELIVERIES => {
                (OutcomeResult::GivenBack, delivery.nak(UNPLANNED_PAUSE).await)
            }
            Some(Fate::UnknownFire | Fate::NotPlannedYet) => {
                (OutcomeResult::DeadLettered, delivery.dead_letter(UNKNOWN_FIRE).await)
            }
            Some(Fate::Invalid(reason)) => (OutcomeResult::DeadLettered, delivery.dead_letter(reason).await),
            Some(Fate::Unreadable(reason)) => {
                tracing::error!(execution_id = %delivery.message.execution_id, reason, "cannot judge an outcome");
                (OutcomeResult::GivenBack, delivery.nak(UNREADABLE_PAUSE).await)
            }
            None => (OutcomeResult::GivenBack, delivery.nak(UNRECORDED_PAUSE).await),
        };
        self.metrics.outcome(result);
        // It comes again when the broker's clock for it ends, and is a duplicate then, or gets its second chance.
        if let Err(error) = settled {
            tracing::warn!(%error, execution_id = %delivery.message.execution_id, "could not settle an outcome");
        }
    }
}
