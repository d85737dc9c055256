//! One notification, one attempt: send it, and bring the receipt back.
//!
//! Input: a [`Claim`], whose attempt the outbox has committed. Output: the receipt, stored by compare-and-set.

use std::time::{Duration, Instant};

use sqlsentinel_common::clock::BootInstant;
use sqlsentinel_common::store::outbox::{Claim, Receipt};
use sqlsentinel_common::store::{Store, StoreError};
use sqlsentinel_common::timestamp::milliseconds;

use crate::channel::{Channels, SEND_TIMEOUT};
use crate::metrics::Metrics;
use crate::render::Payload;
use crate::retry::{Sent, receipt};

/// How long a receipt that the state database does not take is offered again. Without it, the message is sent again.
const RECEIPT_PATIENCE: Duration = Duration::from_secs(5 * 60);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What a sender needs. One for all attempts of a process.
#[derive(Debug)]
pub struct Deliverer {
    /// Where receipts go.
    pub store: Store,
    /// Where messages go.
    pub channels: Channels,
    /// What is counted, where somebody reads it.
    pub metrics: Option<Metrics>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// The notification.
    pub claim: Claim,
    /// What became of it; none if nothing was sent because the claim was about to end.
    pub receipt: Option<Receipt>,
    /// Whether the outbox has it in writing.
    pub stored: bool,
}

impl Deliverer {
    /// Makes the attempt that was claimed no earlier than `claimed_at`, for `lease`.
    pub async fn deliver(&self, claim: Claim, claimed_at: BootInstant, lease: Duration) -> Attempt {
        // Invariant: nothing is sent that others may have claimed by the time it arrives. A process that was frozen
        // since it claimed leaves the notification to whoever claims it next.
        if claimed_at.elapsed() + SEND_TIMEOUT > lease {
            tracing::warn!(notification_id = %claim.notification_id, "claim is about to end, not sending");
            return Attempt { claim, receipt: None, stored: false };
        }
        let started = Instant::now();
        let receipt = match self.attempt(&claim).await {
            Ok(receipt) => receipt,
            Err(error) => {
                tracing::warn!(%error, notification_id = %claim.notification_id, "could not prepare a notification");
                return Attempt { claim, receipt: None, stored: false };
            }
        };
        if let Some(metrics) = &self.metrics {
            metrics.attempt(&claim.channel, &receipt, started.elapsed());
        }
        log(&claim, &receipt, started.elapsed());
        let stored = self.store_receipt(&claim, &receipt).await;
        Attempt { claim, receipt: Some(receipt), stored }
    }

    async fn attempt(&self, claim: &Claim) -> Result<Receipt, StoreError> {
        if self.store.never_left(claim).await? {
            return Ok(Receipt::Skipped { reason: "what it tells the end of was never sent" });
        }
        if self.store.overtaken(claim).await? {
            return Ok(Receipt::Skipped { reason: "it was over before the alert's silence was" });
        }
        let sent = match serde_json::from_str::<Payload>(&claim.payload) {
            Ok(payload) => self.channels.send(claim, &payload).await,
            // Written by a newer notifier, perhaps: one of those may take it next time.
            Err(error) => Sent::not_delivered(format!("the stored notification cannot be read: {error}")),
        };
        // The claim's own time is fresh: at most one attempt old.
        let age = claim.claimed_at.since(claim.created_at);
        Ok(receipt(sent, claim.attempt, age, rand::random()))
    }

    async fn store_receipt(&self, claim: &Claim, receipt: &Receipt) -> bool {
        let since = BootInstant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.store.settle_notification(claim, receipt).await {
                Ok(stored) => {
                    if !stored {
                        tracing::warn!(notification_id = %claim.notification_id, "receipt came too late: claimed by another");
                    }
                    return stored;
                }
                Err(error) if since.elapsed() > RECEIPT_PATIENCE => {
                    tracing::error!(%error, notification_id = %claim.notification_id, "receipt lost");
                    return false;
                }
                Err(error) => {
                    tracing::warn!(%error, notification_id = %claim.notification_id, "receipt not stored yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

fn log(claim: &Claim, receipt: &Receipt, took: Duration) {
    let (alert_name, execution_id) = (&claim.alert_name, &claim.execution_id);
    let (notification_id, channel, attempt) = (&claim.notification_id, &claim.channel, claim.attempt);
    let (kind, duration_ms) = (claim.kind.as_str(), milliseconds(took));
    match receipt {
        Receipt::Sent => {
            tracing::info!(
                alert_name, %execution_id, %notification_id, channel, kind, attempt, duration_ms, status = "sent",
                possible_duplicate = claim.possible_duplicate, "notification sent"
            );
        }
        Receipt::Retry { after, error, may_have_arrived } => {
            tracing::warn!(
                alert_name, %execution_id, %notification_id, channel, kind, attempt, duration_ms, status = "failed",
                error, may_have_arrived, retry_seconds = after.as_secs_f64(), "notification not sent yet"
            );
        }
        Receipt::Dead { error, may_have_arrived } => {
            tracing::error!(
                alert_name, %execution_id, %notification_id, channel, kind, attempt, duration_ms, status = "dead",
                error, may_have_arrived, "notification given up"
            );
        }
        Receipt::Skipped { reason } => {
            tracing::info!(
                alert_name, %execution_id, %notification_id, channel, kind, status = "skipped", reason,
                "notification skipped"
            );
        }
    }
}
