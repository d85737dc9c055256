//! What it takes to lead: the rules, which are the same for all terms, and what a term works with.

use std::sync::Arc;
use std::time::Duration;

use sqlsentinel_common::bus::{Bus, BusShape};
use sqlsentinel_common::clock::ClusterClock;
use sqlsentinel_common::health::Health;
use sqlsentinel_common::ids::ClusterId;
use sqlsentinel_common::store::Store;

use crate::agenda::Policy;
use crate::definitions::Definitions;
use crate::metrics::Metrics;

/// How a coordinator leads; the same for all of its terms.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Deadlines and catching up.
    pub policy: Policy,
    /// The most jobs of one source on the bus.
    pub lane: i64,
    /// A leader that could not commit for this long stands down.
    pub lease_ttl: Duration,
    /// How often lost jobs and overdue fires are looked for.
    pub rescue_every: Duration,
    /// A job is looked for only when it was queued longer ago than this.
    pub rescue_after: Duration,
    /// How old history may be; none: it is kept for ever.
    pub keep_history: Option<Duration>,
    /// How often streams, consumers and the clock are looked after.
    pub reconcile_every: Duration,
    /// What is kept declared on the bus.
    pub shape: BusShape,
    /// Take what this coordinator's files define even if it was replaced before.
    pub adopt_superseded: bool,
}

/// What leading takes, besides a term.
#[derive(Clone, Debug)]
pub struct Office {
    /// The ledger.
    pub store: Store,
    /// The broker.
    pub bus: Bus,
    /// The cluster's clock.
    pub clock: Arc<ClusterClock>,
    /// The installation.
    pub cluster: ClusterId,
    /// What this coordinator's files define, now and later.
    pub definitions: Definitions,
    /// How to lead.
    pub rules: Rules,
    /// Where to report.
    pub health: Health,
    /// The figures.
    pub metrics: Metrics,
}
