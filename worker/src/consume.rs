//! The loop of one source: opens its lane, pulls no more jobs than it can hold, and opens the lane again when it broke.
//!
//! Input: the source's durable consumer on `JOBS`. Output: each delivered job, given to [`crate::execute`]. Each source
//! has its own loop, so that one that cannot be reached or is slow holds up nobody else.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use sqlsentinel_common::bus::{Bus, BusError};
use sqlsentinel_common::clock::{BootInstant, Sample};
use sqlsentinel_common::delivery::{Delivery, Lane};
use sqlsentinel_common::lifecycle::Stop;
use sqlsentinel_common::messages::Job;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};

use crate::execute::Executor;
use crate::metrics::Metrics;
use crate::reach::Reach;

/// How long one pull waits for a job: also how long a stop may wait for an idle lane.
const PULL_WAIT: Duration = Duration::from_secs(2);
/// How often the time is asked for: clocks drift by milliseconds in a minute.
const SAMPLE_EVERY: Duration = Duration::from_secs(60);

/// Pulls the jobs of one source until it is asked to stop.
#[derive(Debug)]
pub struct Consumer {
    bus: Bus,
    executor: Arc<Executor>,
    /// One permit for each job that is held, so that no job waits here while another worker could have it.
    permits: Arc<Semaphore>,
    metrics: Metrics,
    reach: Reach,
    stop: Stop,
}

impl Consumer {
    /// A loop that holds at most `jobs` jobs of `executor`'s source at once.
    pub fn new(executor: Arc<Executor>, jobs: usize) -> Self {
        let Executor { bus, metrics, reach, stop, .. } = &*executor;
        let (bus, metrics, reach, stop) = (bus.clone(), metrics.clone(), reach.clone(), stop.clone());
        Self { bus, executor, permits: Arc::new(Semaphore::new(jobs.max(1))), metrics, reach, stop }
    }

    /// Runs until a stop is requested and the jobs it holds have ended.
    pub async fn run(self) -> anyhow::Result<()> {
        let mut jobs = JoinSet::new();
        let mut pauses = patience();
        while !self.stop.requested.is_cancelled() {
            let Err(error) = self.serve(&mut jobs, &mut pauses).await else { break };
            self.report(&error);
            tokio::select! {
                () = self.stop.requested.cancelled() => {}
                () = tokio::time::sleep(pauses.next().unwrap_or_default()) => {}
            }
        }
        // Jobs end by themselves: finished before an abort, given back after it.
        while let Some(ended) = jobs.join_next().await {
            log_panic(ended);
        }
        Ok(())
    }

    /// Opens the lane and pulls from it: until the stop, or until it fails.
    async fn serve(&self, jobs: &mut JoinSet<()>, pauses: &mut ExponentialBackoff) -> Result<(), BusError> {
        let lane = self.bus.jobs(&self.executor.name).await?;
        // Invariant: no wall clock of a worker decides. Deadlines are judged by a clock that was sampled before.
        let mut sampled = self.sample_clock().await?;
        self.reach.lane(&self.executor.name, Ok(()));
        let mut dead_letters = 0;
        while let Some(permit) = self.permit(jobs).await {
            if sampled.elapsed() > SAMPLE_EVERY {
                sampled = self.sample_clock().await?;
            }
            let batch = lane.next_batch(permit.num_permits(), PULL_WAIT).await?;
            *pauses = patience();
            self.count_dead_letters(&lane, &mut dead_letters);
            self.begin(batch, permit, jobs).await;
        }
        Ok(())
    }

    /// Asks the broker for the time; returns when that was.
    async fn sample_clock(&self) -> Result<BootInstant, BusError> {
        let source = &self.executor.name;
        let (now, round_trip) = self.bus.clock(source).await?;
        if let Sample::Jumped(by_us) = self.executor.clock.observe(now, round_trip) {
            tracing::warn!(%source, by_us, "the clock of NATS jumped, going on by the time before");
        }
        Ok(BootInstant::now())
    }

    /// As many permits as there are, at least one; none if a stop was requested.
    async fn permit(&self, jobs: &mut JoinSet<()>) -> Option<OwnedSemaphorePermit> {
        while let Some(ended) = jobs.try_join_next() {
            log_panic(ended);
        }
        let mut permit = tokio::select! {
            biased;
            () = self.stop.requested.cancelled() => return None,
            permit = Arc::clone(&self.permits).acquire_owned() => permit.ok()?,
        };
        let free = u32::try_from(self.permits.available_permits()).unwrap_or(u32::MAX);
        if let Ok(more) = Arc::clone(&self.permits).try_acquire_many_owned(free) {
            permit.merge(more);
        }
        Some(permit)
    }

    async fn begin(&self, batch: Vec<Delivery<Job>>, mut permit: OwnedSemaphorePermit, jobs: &mut JoinSet<()>) {
        for delivery in batch {
            if self.stop.requested.is_cancelled() {
                // It came while the pull was ending: another worker can have it at once.
                if let Err(error) = delivery.nak(Duration::ZERO).await {
                    tracing::debug!(%error, "the job comes again by itself");
                }
                continue;
            }
            // A broker that sends more than was asked for gets the surplus held without a permit of its own.
            let permit = permit.split(1);
            let executor = Arc::clone(&self.executor);
            jobs.spawn(async move {
                executor.execute(delivery).await;
                drop(permit);
            });
        }
    }

    fn count_dead_letters(&self, lane: &Lane<Job>, counted: &mut u64) {
        let total = lane.dead_letters();
        self.metrics.dead_letters.inc_by(total.saturating_sub(*counted));
        *counted = total;
    }

    fn report(&self, error: &BusError) {
        let source = &self.executor.name;
        match error {
            BusError::Missing(_) => tracing::info!(%source, %error, "waiting"),
            error => {
                self.metrics.lane_failures.inc();
                tracing::warn!(%source, %error, "cannot pull jobs, trying again");
            }
        }
        self.reach.lane(source, Err(format!("database `{source}`: {error}")));
    }
}

fn patience() -> ExponentialBackoff {
    let builder = ExponentialBuilder::new().with_min_delay(Duration::from_millis(100));
    builder.with_max_delay(Duration::from_secs(2)).with_jitter().without_max_times().build()
}

/// A panic costs its own job: the broker hands it out again, and gives it up after some more.
fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a job ended by a fault of this program");
    }
}
