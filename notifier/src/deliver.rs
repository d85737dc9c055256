//! One message, one attempt: send it, and bring the receipts of what it tells back.
//!
//! Input: a [`Batch`] of claims, whose attempts the outbox has committed. Output: the receipts, stored by
//! compare-and-set, and with them what another channel is to be told instead.

use std::time::{Duration, Instant};

use sqlsentinel_common::clock::BootInstant;
use sqlsentinel_common::ids::DigestId;
use sqlsentinel_common::store::outbox::{Claim, Receipt, Settlement, StandIn};
use sqlsentinel_common::store::{Store, StoreError};
use sqlsentinel_common::timestamp::milliseconds;

use crate::channel::{Channels, SEND_TIMEOUT};
use crate::metrics::Metrics;
use crate::render::Payload;
use crate::render::digest::Digest;
use crate::retry::{Sent, patience, receipt};

/// How long a receipt that the state database does not take is offered again. Without it, the message is sent again.
const RECEIPT_PATIENCE: Duration = Duration::from_secs(5 * 60);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Why the end of something is not told.
const NEVER_LEFT: &str = "what it tells the end of was never sent";

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

/// Claims that are settled together.
#[derive(Clone, Debug, PartialEq)]
pub enum Batch {
    /// To be told by a message of its own.
    One(Box<Claim>),
    /// To be told by one message.
    Digest(DigestId, Vec<Claim>),
    /// To be given up without another attempt, for this reason.
    GivenUp(Vec<Claim>, String),
}

impl Batch {
    /// The claims in it.
    pub fn claims(&self) -> &[Claim] {
        match self {
            Self::One(claim) => std::slice::from_ref(claim),
            Self::Digest(_, claims) | Self::GivenUp(claims, _) => claims,
        }
    }
}

impl Deliverer {
    /// Makes the attempts that were claimed no earlier than `claimed_at`, for `lease`.
    pub async fn deliver(&self, batch: Batch, claimed_at: BootInstant, lease: Duration) -> Vec<Attempt> {
        // Invariant: nothing is sent that others may have claimed by the time it arrives. A process that was frozen
        // since it claimed leaves the notification to whoever claims it next.
        if claimed_at.elapsed() + SEND_TIMEOUT > lease {
            let unsent = |claim: &Claim| {
                tracing::warn!(notification_id = %claim.notification_id, "claim is about to end, not sending");
                Attempt { claim: claim.clone(), receipt: None, stored: false }
            };
            return batch.claims().iter().map(unsent).collect();
        }
        let started = Instant::now();
        let settled = match batch {
            Batch::One(claim) => self.deliver_each(vec![*claim], None).await,
            Batch::Digest(id, claims) => self.deliver_each(claims, Some(id)).await,
            Batch::GivenUp(claims, reason) => {
                let dead = |claim| {
                    let receipt = Receipt::Dead { error: reason.clone(), may_have_arrived: false };
                    (claim, Some(receipt))
                };
                claims.into_iter().map(dead).collect()
            }
        };
        for (claim, receipt) in &settled {
            if let Some(receipt) = receipt {
                if let Some(metrics) = &self.metrics {
                    metrics.attempt(&claim.channel, receipt, started.elapsed());
                }
                log(claim, receipt, started.elapsed());
            }
        }
        self.store_receipts(settled).await
    }

    /// Sends `claims`, by one message if they have one. What needs not be sent is told from what is.
    async fn deliver_each(&self, claims: Vec<Claim>, digest: Option<DigestId>) -> Vec<(Claim, Option<Receipt>)> {
        let (mut settled, mut told) = (Vec::new(), Vec::new());
        for claim in claims {
            match self.prepare(&claim).await {
                Ok(Ok(payload)) => told.push((claim, payload)),
                Ok(Err(receipt)) => settled.push((claim, Some(receipt))),
                Err(error) => {
                    tracing::warn!(%error, notification_id = %claim.notification_id, "could not prepare a notification");
                    settled.push((claim, None));
                }
            }
        }
        let sent = match (digest, told.as_slice()) {
            (_, []) => return settled,
            // What is left of a digest may be one notification.
            (_, [(claim, payload)]) => self.channels.send(claim, payload).await,
            (Some(id), _) => self.channels.send_digest(&Digest { id, notices: &told }).await,
            // A claim of its own has one notification.
            (None, _) => Sent::not_delivered("several notifications without a digest"),
        };
        // The same for all: what was tried together comes back together.
        let chance = rand::random();
        for (claim, _) in told {
            let receipt = self.receipt(&claim, sent.clone(), chance);
            settled.push((claim, Some(receipt)));
        }
        settled
    }

    /// What there is to tell, or why there is nothing.
    async fn prepare(&self, claim: &Claim) -> Result<Result<Payload, Receipt>, StoreError> {
        if self.store.never_left(claim).await? {
            return Ok(Err(Receipt::Skipped { reason: NEVER_LEFT }));
        }
        if self.store.overtaken(claim).await? {
            return Ok(Err(Receipt::Skipped { reason: "it was over before the alert's silence was" }));
        }
        Ok(serde_json::from_str::<Payload>(&claim.payload).map_err(|error| {
            // Written by a newer notifier, perhaps: one of those may take it next time.
            let sent = Sent::not_delivered(format!("the stored notification cannot be read: {error}"));
            self.receipt(claim, sent, rand::random())
        }))
    }

    fn receipt(&self, claim: &Claim, sent: Sent, chance: f64) -> Receipt {
        // The claim's own time is fresh: at most one attempt old.
        let age = claim.claimed_at.since(claim.first_attempt_at);
        receipt(sent, claim.attempt, age, patience(self.channels.stand_in(claim).is_some()), chance)
    }

    /// Who is to be told in the place of a channel that has not taken a notification. One that was given the beginning
    /// is given the end, too.
    async fn stand_in(&self, claim: &Claim, receipt: &Receipt) -> Result<Option<StandIn>, StoreError> {
        match receipt {
            Receipt::Dead { .. } => Ok(self.channels.stand_in(claim)),
            Receipt::Skipped { reason } if *reason == NEVER_LEFT => match self.channels.stand_in(claim) {
                Some(stand_in) if self.store.was_handed_to(claim, &stand_in.route_key).await? => Ok(Some(stand_in)),
                _ => Ok(None),
            },
            Receipt::Sent | Receipt::Retry { .. } | Receipt::Skipped { .. } => Ok(None),
        }
    }

    /// Stores the receipts, together, and brings back what was settled. What has none was not sent, and keeps its claim.
    async fn store_receipts(&self, settled: Vec<(Claim, Option<Receipt>)>) -> Vec<Attempt> {
        let since = BootInstant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.settle(&settled).await {
                Ok(stored) => {
                    let attempts = settled.into_iter().zip(stored);
                    return attempts.map(|((claim, receipt), stored)| Attempt { claim, receipt, stored }).collect();
                }
                Err(error) if since.elapsed() > RECEIPT_PATIENCE => {
                    for (claim, _) in &settled {
                        tracing::error!(%error, notification_id = %claim.notification_id, "receipt lost");
                    }
                    let lost = |(claim, receipt)| Attempt { claim, receipt, stored: false };
                    return settled.into_iter().map(lost).collect();
                }
                Err(error) => {
                    tracing::warn!(%error, receipts = settled.len(), "receipts not stored yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// For each, whether the outbox has it in writing.
    async fn settle(&self, settled: &[(Claim, Option<Receipt>)]) -> Result<Vec<bool>, StoreError> {
        let mut stand_ins = Vec::with_capacity(settled.len());
        for (claim, receipt) in settled {
            stand_ins.push(match receipt {
                Some(receipt) => self.stand_in(claim, receipt).await?,
                None => None,
            });
        }
        let (places, settlements): (Vec<usize>, Vec<Settlement<'_>>) = settled
            .iter()
            .zip(&stand_ins)
            .enumerate()
            .filter_map(|(place, ((claim, receipt), stand_in))| {
                Some((place, Settlement { claim, receipt: receipt.as_ref()?, stand_in: stand_in.as_ref() }))
            })
            .unzip();
        let mut stored = vec![false; settled.len()];
        if settlements.is_empty() {
            return Ok(stored);
        }
        for ((place, is_stored), Settlement { claim, stand_in, .. }) in
            places.into_iter().zip(self.store.settle_notifications(&settlements).await?).zip(&settlements)
        {
            stored[place] = is_stored;
            let notification_id = claim.notification_id;
            match stand_in {
                _ if !is_stored => {
                    tracing::warn!(%notification_id, "receipt came too late: claimed by another");
                }
                Some(StandIn { route_key, .. }) => {
                    tracing::warn!(
                        alert_name = claim.alert_name, execution_id = %claim.execution_id, %notification_id,
                        channel = claim.channel, fallback = route_key, "another channel stands in"
                    );
                }
                None => {}
            }
        }
        Ok(stored)
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
