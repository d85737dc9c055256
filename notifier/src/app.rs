//! The notifier's wiring: settings and configuration in, running loops out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use sqlsentinel_common::api::{ProcessReport, Role, answer_health};
use sqlsentinel_common::bus::Bus;
use sqlsentinel_common::health::{Check, Health};
use sqlsentinel_common::lifecycle::Stop;
use sqlsentinel_common::process::{Process, VERSION};
use sqlsentinel_common::reload::LiveConfig;
use sqlsentinel_common::settings::{ChannelSettings, NatsSettings, StateSettings};
use sqlsentinel_common::store::{Store, StoreRole};
use tokio::sync::Notify;

use crate::channel::{Channels, SEND_TIMEOUT};
use crate::deliver::Deliverer;
use crate::metrics::Metrics;
use crate::outbox::{self, Outbox};
use crate::outcomes::{self, Outcomes};
use crate::record::Recorder;
use crate::sweep::{self, Sweep};

/// A loop that has not shown itself for this long hangs.
const SIGN_OF_LIFE: Duration = Duration::from_secs(60);
/// How often the outbox is measured, and the state database with it.
const WATCH: Duration = Duration::from_secs(5);
/// The same while it is away: who waits for this process to be ready waits no longer than needed.
const WATCH_AWAY: Duration = Duration::from_secs(1);
/// The shortest lease: an attempt, and time to bring its receipt back.
const SHORTEST_LEASE_SECONDS: u64 = SEND_TIMEOUT.as_secs() + 5;

/// How the notifier runs.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// Where outcomes come from.
    #[command(flatten)]
    pub nats: NatsSettings,
    /// Where history, states and the outbox are.
    #[command(flatten)]
    pub state: StateSettings,
    /// How the loops work.
    #[command(flatten)]
    pub limits: Limits,
    /// What channels need and the file does not say.
    #[command(flatten)]
    pub channels: ChannelSettings,
}

/// How much the notifier does at once.
#[derive(Clone, Debug, Args)]
pub struct Limits {
    /// How many outcomes one transaction may hold
    #[arg(long, env = "SQLSENTINEL_BATCH", value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub batch: u16,
    /// How many notifications may be under way at once
    #[arg(long, env = "SQLSENTINEL_SENDER_CONCURRENCY", value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub sender_concurrency: u16,
    /// After how many seconds without a receipt another notifier may send a notification again
    #[arg(long, env = "SQLSENTINEL_CLAIM_LEASE_SECONDS", value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(SHORTEST_LEASE_SECONDS..=3600))]
    pub claim_lease_seconds: u64,
}

/// Connects and spawns the loops. What is not there yet (NATS, its streams, the database) is waited for, and reported.
/// The routes follow the changes of `config`.
pub async fn start(settings: Settings, config: LiveConfig, process: &Process) -> anyhow::Result<()> {
    let metrics = Metrics::register(&process.registry).context("cannot register the notifier's metrics")?;
    let store =
        Store::connect(&settings.state.database, StoreRole::Member).context("cannot open the state database")?;
    let channels = Channels::new(&config.current(), &settings.channels)?;
    let bus = Bus::connect(&settings.nats, &format!("notifier {}", process.node), &process.health).await?;
    process.health.report("notifications", channels.check());

    let wake = Arc::new(Notify::new());
    let stop = process.tasks.stop();
    let recorder = Arc::new(Recorder::new(store.clone()));
    let sweep = Sweep { recorder: recorder.clone(), wake: wake.clone(), health: process.health.clone() };
    let outcomes = Outcomes {
        bus: bus.clone(),
        recorder,
        wake: wake.clone(),
        batch: settings.limits.batch.into(),
        health: process.health.clone(),
        metrics: metrics.clone(),
    };
    let deliverer = Arc::new(Deliverer { store: store.clone(), channels, metrics: Some(metrics.clone()) });
    let outbox = Outbox {
        deliverer: deliverer.clone(),
        concurrency: settings.limits.sender_concurrency.into(),
        lease: Duration::from_secs(settings.limits.claim_lease_seconds),
        wake,
        health: process.health.clone(),
    };
    process.health.expect(outcomes::CHECK, SIGN_OF_LIFE);
    process.health.expect(outbox::CHECK, SIGN_OF_LIFE);
    process.health.expect(sweep::CHECK, SIGN_OF_LIFE);
    process.tasks.spawn("outcomes", outcomes.run(stop.clone()));
    process.tasks.spawn("outbox", outbox.run(stop.clone()));
    process.tasks.spawn("sweep", sweep.run(stop.clone()));
    let routes = follow_routes(config, deliverer.clone(), process.health.clone(), stop.clone());
    process.tasks.spawn("routes", routes);
    process.tasks.spawn("outbox watch", watch(deliverer, process.health.clone(), metrics, stop.clone()));
    process
        .tasks
        .spawn("health requests", answer_health_requests(bus, process.node.clone(), process.health.clone(), stop));
    Ok(())
}

/// Sends by the routes of the newest configuration. Attempts that are under way end as they have begun.
async fn follow_routes(
    mut config: LiveConfig,
    deliverer: Arc<Deliverer>,
    health: Health,
    stop: Stop,
) -> anyhow::Result<()> {
    loop {
        let config = tokio::select! {
            config = config.changed() => config,
            () = stop.requested.cancelled() => return Ok(()),
        };
        deliverer.channels.replace(&config);
        health.report("notifications", deliverer.channels.check());
    }
}

/// Tells operators how this notifier is.
async fn answer_health_requests(bus: Bus, node: String, health: Health, stop: Stop) -> anyhow::Result<()> {
    let report = || ProcessReport {
        node: node.clone(),
        role: Role::Notifier,
        version: VERSION.to_owned(),
        epoch: None,
        sources: Vec::new(),
        health: health.snapshot(),
    };
    tokio::select! {
        never = answer_health(bus, report) => match never {},
        () = stop.requested.cancelled() => Ok(()),
    }
}

/// Measures the outbox and how long the state database takes to say so, and tells how the channels are.
async fn watch(deliverer: Arc<Deliverer>, health: Health, metrics: Metrics, stop: Stop) -> anyhow::Result<()> {
    while !stop.requested.is_cancelled() {
        let asked = Instant::now();
        health.report("notifications", deliverer.channels.check());
        metrics.circuits(&deliverer.channels.open_circuits());
        let pause = match deliverer.store.outbox_backlog().await {
            Ok(backlog) => {
                metrics.backlog(backlog);
                health.report("state_database", Check::healthy("Database connection OK").with_latency(asked.elapsed()));
                WATCH
            }
            Err(error) => {
                health.report("state_database", Check::unhealthy(error.to_string()));
                WATCH_AWAY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.requested.cancelled() => {}
        }
    }
    Ok(())
}
