//! The sweep: looks for alerts whose silence is over and that are not told as they are.
//!
//! Input: the states, looked at once a second. Output: notifications in the outbox, by the same transaction as those of
//! outcomes ([`crate::record`]). Any number of notifiers may sweep: the state's row lets one of them tell.

use std::sync::Arc;
use std::time::Duration;

use sqlsentinel_common::health::{Check, Health};
use sqlsentinel_common::lifecycle::Stop;
use tokio::sync::Notify;

use crate::record::Recorder;

/// The check of this loop.
pub const CHECK: &str = "silences";
/// The time between two looks: what the end of a silence may be late by.
const POLL: Duration = Duration::from_secs(1);

/// What the loop needs.
#[derive(Debug)]
pub struct Sweep {
    /// Writes what is found.
    pub recorder: Arc<Recorder>,
    /// Tells the outbox that something was queued.
    pub wake: Arc<Notify>,
    /// Where the loop says how it is.
    pub health: Health,
}

impl Sweep {
    /// Sweeps until a stop is requested.
    pub async fn run(self, stop: Stop) -> anyhow::Result<()> {
        while !stop.requested.is_cancelled() {
            self.run_once().await;
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = stop.requested.cancelled() => {}
            }
        }
        Ok(())
    }

    /// One look.
    async fn run_once(&self) {
        match self.recorder.record_untold().await {
            Ok(notifications) => {
                self.health.report(CHECK, Check::healthy("telling what ended silences kept back"));
                if notifications > 0 {
                    self.wake.notify_one();
                }
            }
            Err(error) => {
                tracing::warn!(%error, "could not look for silences that have ended");
                self.health.report(CHECK, Check::unhealthy(error.to_string()));
            }
        }
    }
}
