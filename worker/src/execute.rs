//! One job: run within its time, its outcome stored by the broker, and only then acked.
//!
//! Input: a delivered [`Job`]. Output: an [`OutcomeMessage`] on `RESULTS` and the job's settlement. A job that is not
//! settled here comes again, to this worker or another one.

mod alive;
mod plan;

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use sqlsentinel_common::alert::SourceName;
use sqlsentinel_common::bus::{Bus, BusError};
use sqlsentinel_common::clock::{ClusterClock, wall_now};
use sqlsentinel_common::delivery::Delivery;
use sqlsentinel_common::lifecycle::Stop;
use sqlsentinel_common::messages::{Job, MESSAGE_VERSION, OutcomeMessage};
use sqlsentinel_common::outcome::{ErrorKind, Verdict};
use sqlsentinel_common::timestamp::{Timestamp, milliseconds};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::plan::{MAX_DELIVERIES, Plan, plan};
use crate::metrics::Metrics;
use crate::reach::Reach;
use crate::run::{Cancelled, Run, run_once};
use crate::source::Source;

/// How often a settlement is tried before the broker is left to hand the job out again.
const SETTLE_ATTEMPTS: usize = 3;

/// Runs the jobs of one source.
#[derive(Debug)]
pub struct Executor {
    /// The transport.
    pub bus: Bus,
    /// This process's name.
    pub node: String,
    /// The source's name.
    pub name: SourceName,
    /// The source, or why it cannot be used.
    pub source: Result<Source, String>,
    /// Where it may run.
    pub seats: Seats,
    /// The time by which deadlines are judged: the broker's, sampled before the first job is pulled.
    pub clock: ClusterClock,
    /// What is counted.
    pub metrics: Metrics,
    /// What is reported.
    pub reach: Reach,
    /// When to give up.
    pub stop: Stop,
}

/// The right to run a query now. Each source has one seat of its own, so that slow databases, which may take every
/// shared seat of the process, cannot keep another source's jobs waiting.
#[derive(Debug)]
pub struct Seats {
    own: Semaphore,
    shared: Arc<Semaphore>,
}

impl Seats {
    /// One seat of its own, and a share in `shared`.
    pub fn new(shared: Arc<Semaphore>) -> Self {
        Self { own: Semaphore::new(1), shared }
    }

    /// None only if a semaphore were closed, which nothing does.
    async fn take(&self) -> Option<SemaphorePermit<'_>> {
        tokio::select! {
            biased;
            seat = self.own.acquire() => seat.ok(),
            seat = self.shared.acquire() => seat.ok(),
        }
    }
}

/// How a run ended, and what it took.
struct Ended {
    verdict: Verdict,
    started_at: Timestamp,
    duration: Duration,
}

impl Executor {
    /// Takes one job to its settlement, or leaves it to the broker.
    pub async fn execute(&self, delivery: Delivery<Job>) {
        let _held = self.metrics.hold();
        if delivery.delivery > 1 {
            self.metrics.redeliveries.inc();
        }
        // Cancelled by an abort, or when the broker can no longer be sure that this worker lives.
        let cancel = self.stop.aborted.child_token();
        let lost = || {
            let Job { alert_name, execution_id, .. } = &delivery.message;
            tracing::warn!(alert_name, %execution_id, "NATS is out of reach, cancelling what runs");
        };
        tokio::select! {
            () = self.work(&delivery, &cancel) => {}
            never = alive::keep(|| delivery.progress(), &cancel, lost) => match never {},
        }
    }

    async fn work(&self, delivery: &Delivery<Job>, cancel: &CancellationToken) {
        let job = &delivery.message;
        match self.outcome(job, delivery.delivery, cancel).await {
            Ok(Some(ended)) => self.deliver(delivery, ended).await,
            Ok(None) => {
                self.metrics.overdue.inc();
                tracing::info!(alert_name = job.alert_name, execution_id = %job.execution_id, "not run: its deadline has passed");
                // The leader sees that the job is gone without an outcome, and ends its fire as expired.
                self.settle(delivery).await;
            }
            Err(Cancelled) => {
                self.metrics.cancelled.inc();
                tracing::warn!(alert_name = job.alert_name, execution_id = %job.execution_id, "run cancelled, job given back");
                if let Err(error) = delivery.nak(Duration::ZERO).await {
                    tracing::debug!(%error, "the job comes again by itself");
                }
            }
        }
    }

    /// Runs the job, unless there is a reason not to; none if its deadline has passed.
    async fn outcome(&self, job: &Job, delivery: u32, cancel: &CancellationToken) -> Result<Option<Ended>, Cancelled> {
        let _seat = tokio::select! {
            () = cancel.cancelled() => return Err(Cancelled),
            seat = self.seats.take() => seat,
        };
        // Planned with the seat taken: waiting for it may have used up what was left.
        let (started_at, began) = (wall_now(), Instant::now());
        let verdict = match plan(job, delivery, self.clock.now()) {
            Plan::Overdue => return Ok(None),
            Plan::Abandon => Verdict::error(
                ErrorKind::Abandoned,
                format!("given up after {MAX_DELIVERIES} runs that no worker finished"),
            ),
            Plan::Run(timeout) => match &self.source {
                Ok(source) => self.run(source, job, timeout, cancel).await?,
                Err(reason) => Verdict::error(ErrorKind::Connection, reason.clone()),
            },
        };
        Ok(Some(Ended { verdict, started_at, duration: began.elapsed() }))
    }

    async fn run(
        &self,
        source: &Source,
        job: &Job,
        timeout: Duration,
        cancel: &CancellationToken,
    ) -> Result<Verdict, Cancelled> {
        let Job { alert_name, execution_id, query, options, .. } = job;
        let run = Run { alert_name, execution_id: *execution_id, query, options, timeout };
        let verdict = run_once(source, &run, cancel).await?;
        match &verdict.error {
            Some(error) if error.kind == ErrorKind::Connection => {
                self.reach.database(&self.name, Err(error.message.clone()))
            }
            // A refused query was not sent, and says nothing about the database.
            Some(error) if error.kind == ErrorKind::Refused => {}
            _ => self.reach.database(&self.name, Ok(())),
        }
        Ok(verdict)
    }

    /// Stores the outcome, then acks the job.
    async fn deliver(&self, delivery: &Delivery<Job>, Ended { verdict, started_at, duration }: Ended) {
        let job = &delivery.message;
        let mut outcome = OutcomeMessage {
            version: MESSAGE_VERSION,
            execution_id: job.execution_id,
            alert_name: job.alert_name.clone(),
            scheduled_for: job.scheduled_for,
            attempt: job.attempt,
            delivery: delivery.delivery,
            config_hash: job.config_hash.clone(),
            source: job.source.clone(),
            worker: self.node.clone(),
            started_at,
            duration_ms: milliseconds(duration),
            verdict,
        };
        let mut stored = self.publish(&outcome).await;
        if let Err(error @ BusError::Refused { .. }) = &stored {
            // The broker takes smaller messages than we do: say so, rather than run it again and again.
            outcome.verdict = Verdict::error(ErrorKind::Limit, format!("the outcome could not be stored: {error}"));
            stored = self.publish(&outcome).await;
        }
        match stored {
            // Invariant: the job is acked only after its outcome was stored, so that one of them always exists.
            Ok(()) => {
                let status = outcome.verdict.status;
                self.metrics.executed(&job.alert_name, &job.source, status, duration);
                tracing::info!(
                    alert_name = job.alert_name,
                    execution_id = %job.execution_id,
                    status = status.as_str(),
                    error_kind = outcome.verdict.error.as_ref().map(|error| error.kind.as_str()),
                    duration_ms = outcome.duration_ms,
                    attempt = outcome.attempt,
                    delivery = outcome.delivery,
                    "alert executed"
                );
                self.settle(delivery).await;
            }
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, alert_name = job.alert_name, execution_id = %job.execution_id, "stopping before the outcome was stored");
                if let Err(error) = delivery.nak(Duration::ZERO).await {
                    tracing::debug!(%error, "the job comes again by itself");
                }
            }
            Err(error) => {
                if let Err(error) = delivery.dead_letter(&error.to_string()).await {
                    tracing::debug!(%error, "the job comes again by itself");
                }
            }
        }
    }

    /// Publishes until it is confirmed, is refused for good, or this process has to end.
    async fn publish(&self, outcome: &OutcomeMessage) -> Result<(), BusError> {
        let mut pauses = patience().without_max_times().build();
        loop {
            let error = match self.bus.publish_outcome(outcome).await {
                Err(error) if error.is_retryable() => error,
                settled => return settled,
            };
            self.metrics.publish_failures.inc();
            tracing::warn!(%error, alert_name = outcome.alert_name, execution_id = %outcome.execution_id, "outcome not stored yet");
            tokio::select! {
                biased;
                () = self.stop.aborted.cancelled() => return Err(error),
                () = tokio::time::sleep(pauses.next().unwrap_or_default()) => {}
            }
        }
    }

    /// Acks; if that cannot be done, the job comes again and its next outcome finds the first one in the ledger.
    async fn settle(&self, delivery: &Delivery<Job>) {
        let mut pauses = patience().with_max_times(SETTLE_ATTEMPTS - 1).build();
        while let Err(error) = delivery.ack().await {
            let Some(pause) = pauses.next() else {
                let Job { alert_name, execution_id, .. } = &delivery.message;
                tracing::warn!(%error, alert_name, %execution_id, "job not acked, it will come again");
                return;
            };
            tokio::time::sleep(pause).await;
        }
    }
}

fn patience() -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(3))
        .with_jitter()
}
