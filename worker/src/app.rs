//! Wiring: settings and configuration in, running loops out.

use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use clap::value_parser;
use sqlsentinel_common::api::{ProcessReport, Role, answer_health};
use sqlsentinel_common::bus::Bus;
use sqlsentinel_common::process::{Process, VERSION};
use sqlsentinel_common::reload::LiveConfig;
use sqlsentinel_common::settings::NatsSettings;
use tokio::sync::Semaphore;

use crate::lanes::{Lanes, Surroundings};
use crate::metrics::Metrics;
use crate::reach::Reach;

/// What a worker can be told.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// Where NATS is.
    #[command(flatten)]
    pub nats: NatsSettings,
    /// Queries that this process runs at once, beside one for each database
    #[arg(
        long, env = "SQLSENTINEL_WORKER_CONCURRENCY", value_name = "QUERIES", default_value_t = 16,
        value_parser = value_parser!(u16).range(1..)
    )]
    pub concurrency: u16,
    /// Connections that this process opens to one database, and jobs of it that it holds at once
    #[arg(
        long, env = "SQLSENTINEL_WORKER_SOURCE_CONNECTIONS", value_name = "CONNECTIONS", default_value_t = 8,
        value_parser = value_parser!(u16).range(1..)
    )]
    pub source_connections: u16,
}

/// Starts a worker in `process`: it serves every source of `config`, whether it can be reached now or not, and follows
/// its changes.
pub async fn start(settings: Settings, config: LiveConfig, process: &Process) -> anyhow::Result<()> {
    let bus = Bus::connect(&settings.nats, &format!("worker {}", process.node), &process.health).await?;
    let metrics = Metrics::register(&process.registry).context("cannot register the worker's metrics")?;
    let now = config.current();
    let mut lanes = Lanes::new(Surroundings {
        bus: bus.clone(),
        node: process.node.clone(),
        tasks: process.tasks.clone(),
        reach: Reach::new(process.health.clone(), metrics.source_up.clone(), now.sources.keys().cloned()),
        metrics,
        seats: Arc::new(Semaphore::new(usize::from(settings.concurrency))),
        connections: usize::from(settings.source_connections),
    });
    lanes.apply(&now);
    process.tasks.spawn("worker lanes", lanes.follow(config.clone(), process.tasks.stop()));
    process.tasks.spawn("worker api", answer_operators(bus, config, process));
    Ok(())
}

fn answer_operators(
    bus: Bus,
    config: LiveConfig,
    process: &Process,
) -> impl Future<Output = anyhow::Result<()>> + use<> {
    let (node, health, stop) = (process.node.clone(), process.health.clone(), process.tasks.stop());
    async move {
        let report = || ProcessReport {
            node: node.clone(),
            role: Role::Worker,
            version: VERSION.to_owned(),
            epoch: None,
            sources: config.current().sources.keys().cloned().collect(),
            health: health.snapshot(),
        };
        tokio::select! {
            () = stop.requested.cancelled() => Ok(()),
            never = answer_health(bus, report) => match never {},
        }
    }
}
