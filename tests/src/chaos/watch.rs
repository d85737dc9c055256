//! Looks at the state database all the time, past all proxies: who leads, and what state alerts are in.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use sqlx::{PgPool, Row};
use tokio::sync::watch;

use super::history::Sample;
use crate::wall_clock::now;

const EVERY: Duration = Duration::from_millis(60);
/// States are looked at once in so many samples.
const STATES_EVERY: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(2);

/// An alert's state, and the nominal time of the newest run that it takes into account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// `OK`, `PENDING` or `ALERT`; empty while it is unknown.
    pub status: String,
    /// In microseconds.
    pub scheduled_for: i64,
}

/// What was seen last, and every sample of who led.
#[derive(Debug)]
pub struct Watch {
    pool: PgPool,
    samples: Mutex<Vec<Sample>>,
    states: watch::Sender<HashMap<String, State>>,
}

impl Watch {
    /// A watch over the database of `pool`.
    pub fn over(pool: PgPool) -> Self {
        Self { pool, samples: Mutex::default(), states: watch::Sender::default() }
    }

    /// Watches until it is dropped. A database that does not answer gives no sample.
    pub async fn run(&self) -> Result<()> {
        for turn in (0..STATES_EVERY).cycle() {
            if let Ok(Ok(Some(sample))) = tokio::time::timeout(PATIENCE, self.sample()).await {
                self.samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
            }
            if turn == 0
                && let Ok(Ok(states)) = tokio::time::timeout(PATIENCE, self.look_at_states()).await
            {
                self.states.send_replace(states);
            }
            tokio::time::sleep(EVERY).await;
        }
        Ok(())
    }

    /// The node that led when it was looked last; none before the first.
    pub fn leader(&self) -> Option<String> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.last().map(|sample| sample.holder.clone())
    }

    /// All samples so far, in order.
    pub fn samples(&self) -> Vec<Sample> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What state alerts are in, now and later.
    pub fn states(&self) -> watch::Receiver<HashMap<String, State>> {
        self.states.subscribe()
    }

    async fn sample(&self) -> Result<Option<Sample>> {
        let row = sqlx::query("SELECT epoch, holder, acquired_at FROM sqlsentinel_leadership")
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Sample { at: now(), epoch: row.try_get(0)?, holder: row.try_get(1)?, acquired_at: row.try_get(2)? }))
    }

    async fn look_at_states(&self) -> Result<HashMap<String, State>> {
        let rows = sqlx::query(
            "SELECT alert_name, COALESCE(current_status, ''), COALESCE(last_scheduled_for, 0) FROM sqlsentinel_state",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| Ok((row.try_get(0)?, State { status: row.try_get(1)?, scheduled_for: row.try_get(2)? })))
            .collect()
    }
}
