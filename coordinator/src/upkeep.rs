//! What a leader keeps in order beside planning: the streams and consumers on the bus, and the cluster's clock.
//!
//! Now and then, and soon after somebody found the bus wanting.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlsentinel_common::bus::{Bus, BusError, BusShape, Lanes};
use sqlsentinel_common::clock::{ClusterClock, Sample};
use sqlsentinel_common::health::{Check, Health};
use sqlsentinel_common::store::Store;
use tokio::sync::Notify;

use crate::definitions::Definitions;
use crate::office::Office;

/// How soon after a call the bus is declared again: calls come in bursts.
const SOON: Duration = Duration::from_millis(200);

/// The upkeep of one term.
#[derive(Debug)]
pub struct Upkeep {
    store: Store,
    bus: Bus,
    shape: BusShape,
    every: Duration,
    definitions: Definitions,
    clock: Arc<ClusterClock>,
    health: Health,
    soon: Notify,
    clock_holds: AtomicBool,
}

impl Upkeep {
    /// The upkeep that this office needs.
    pub fn of(office: &Office) -> Self {
        Self {
            store: office.store.clone(),
            bus: office.bus.clone(),
            shape: office.rules.shape.clone(),
            every: office.rules.reconcile_every,
            definitions: office.definitions.clone(),
            clock: Arc::clone(&office.clock),
            health: office.health.clone(),
            soon: Notify::new(),
            clock_holds: AtomicBool::new(true),
        }
    }

    /// Whether the clock may be planned by: not after a jump that nobody has looked at.
    pub fn clock_holds(&self) -> bool {
        self.clock_holds.load(Ordering::Relaxed)
    }

    /// Asks for the bus to be declared again soon.
    pub fn declare_soon(&self) {
        self.soon.notify_one();
    }

    /// Keeps order until dropped.
    pub async fn run(&self) -> Infallible {
        loop {
            if let Err(error) = self.declare().await {
                tracing::warn!(%error, "cannot declare streams and consumers, trying again");
                self.declare_soon();
            }
            self.follow_clock().await;
            tokio::select! {
                () = tokio::time::sleep(self.every) => {}
                () = self.soon.notified() => tokio::time::sleep(SOON).await,
            }
        }
    }

    /// Declares what is needed: the lanes of the sources that workers of this configuration listen for, and of those that
    /// definitions in force still name. If the ledger can say that nobody needs another one, that is dropped.
    async fn declare(&self) -> Result<(), BusError> {
        let (in_force, open) = (self.store.definitions_in_force().await, self.store.open_fires().await);
        let named = in_force.iter().flatten().map(|version| (version.definition.source.clone(), None));
        let mut lanes: Lanes = named.collect();
        lanes.extend(self.definitions.sources());
        self.bus.declare(&self.shape, &lanes).await?;
        let (Ok(_), Ok(open)) = (in_force, open) else { return Ok(()) };
        let needed = lanes.into_keys().chain(open.into_iter().map(|fires| fires.source)).collect();
        for source in self.bus.drop_lanes(&needed).await? {
            tracing::info!(%source, "no file names this database any more: its consumer was dropped");
        }
        Ok(())
    }

    async fn follow_clock(&self) {
        let Ok((now, round_trip)) = self.store.now().await else { return };
        match self.clock.observe(now, round_trip) {
            Sample::Taken => {
                self.clock_holds.store(true, Ordering::Relaxed);
                self.health.report("clock", Check::healthy("follows the state database"));
            }
            Sample::Dropped => {}
            Sample::Jumped(micros) => {
                self.clock_holds.store(false, Ordering::Relaxed);
                let message = format!(
                    "the state database's clock jumped by {} s: planning has stopped; mend the clock, or restart the \
                     coordinators to accept it",
                    micros / 1_000_000
                );
                tracing::error!(critical = true, "{message}");
                self.health.report("clock", Check::unhealthy(message));
            }
        }
    }
}
