//! What the target says: some alerts' signals go to ALERT and back to OK again and again, each time after the cluster has
//! judged the one before.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use rand::Rng;
use tokio_util::sync::CancellationToken;

use super::history::Signal;
use super::watch::Watch;
use crate::target::Target;
use crate::wall_clock::now;

/// How long a signal may take to be followed once no fault is left; after that it is recorded as not followed.
const PATIENCE: Duration = Duration::from_secs(120);

/// What was said, and what came of it.
#[derive(Debug, Default)]
pub struct Traffic {
    signals: Mutex<Vec<Signal>>,
}

impl Traffic {
    /// Sets every signal to OK.
    pub async fn begin(&self, target: &Target, names: &[String]) -> Result<()> {
        for name in names {
            self.say(target, name, "OK", 0).await?;
        }
        Ok(())
    }

    /// Says of the signals set by [`Traffic::begin`] that they were followed now.
    pub fn begun(&self) {
        for signal in self.signals.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            signal.followed_at = Some(now());
        }
    }

    /// Raises alarms on each of `names`, and ends each of them, until it is asked to stop.
    pub async fn run(&self, target: &Target, names: &[String], watch: &Watch, stop: &CancellationToken) -> Result<()> {
        let rounds = names.iter().map(|name| async move {
            for value in 1.. {
                for status in ["ALERT", "OK"] {
                    let place = self.say(target, name, status, value).await?;
                    if !self.followed(place, watch, stop).await {
                        return Ok(());
                    }
                }
                let pause = Duration::from_millis(rand::rng().random_range(100..3_000));
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => return Ok(()),
                }
            }
            anyhow::Ok(())
        });
        futures::future::try_join_all(rounds).await.map(drop)
    }

    /// Everything that was said, in order.
    pub fn signals(&self) -> Vec<Signal> {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn say(&self, target: &Target, name: &str, status: &str, value: i64) -> Result<usize> {
        let set_before = now();
        target.set(name, status, value).await?;
        let signal = Signal {
            alert: name.to_owned(),
            status: status.to_owned(),
            value,
            set_before,
            set_after: now(),
            followed_at: None,
        };
        let mut signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
        signals.push(signal);
        Ok(signals.len() - 1)
    }

    /// Waits until the state says what the signal at `place` says, by a run that was due after it was said: a state
    /// that says the same for another reason does not count. Says whether it did.
    async fn followed(&self, place: usize, watch: &Watch, stop: &CancellationToken) -> bool {
        let signal = {
            let signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(signal) = signals.get(place) else { return false };
            signal.clone()
        };
        let mut states = watch.states();
        let follows = states.wait_for(|states| {
            let state = states.get(&signal.alert);
            state.is_some_and(|state| state.status == signal.status && state.scheduled_for > signal.set_after)
        });
        let seen = tokio::select! {
            seen = follows => seen.is_ok(),
            () = async {
                stop.cancelled().await;
                tokio::time::sleep(PATIENCE).await;
            } => false,
        };
        if seen {
            let mut signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(signal) = signals.get_mut(place) {
                signal.followed_at = Some(now());
            }
        }
        seen
    }
}
