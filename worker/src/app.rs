//! Wiring: settings and configuration in, one loop a source out.

use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use clap::value_parser;
use sqlsentinel_common::alert::SourceName;
use sqlsentinel_common::api::{ProcessReport, Role, answer_health};
use sqlsentinel_common::bus::Bus;
use sqlsentinel_common::config::{Config, SourceConfig};
use sqlsentinel_common::process::{Process, VERSION};
use sqlsentinel_common::settings::NatsSettings;
use tokio::sync::Semaphore;

use crate::consume::Consumer;
use crate::execute::{Executor, Seats};
use crate::metrics::Metrics;
use crate::reach::Reach;
use crate::role;
use crate::source::Source;

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

/// Starts a worker in `process`: it serves every source of `config`, whether it can be reached now or not.
pub async fn start(settings: Settings, config: Config, process: &Process) -> anyhow::Result<()> {
    let bus = Bus::connect(&settings.nats, &format!("worker {}", process.node), &process.health).await?;
    let metrics = Metrics::register(&process.registry).context("cannot register the worker's metrics")?;
    let reach = Reach::new(process.health.clone(), config.sources.keys().cloned());
    let shared = Arc::new(Semaphore::new(usize::from(settings.concurrency)));
    let connections = usize::from(settings.source_connections);
    let sources: Vec<_> = config.sources.keys().cloned().collect();
    for (name, source) in config.sources {
        let source = open(&name, &source, connections);
        if let Err(reason) = &source {
            tracing::error!(source = %name, reason, "this database cannot be used; its alerts end as errors");
            reach.database(&name, Err(reason.clone()));
        }
        let executor = Executor {
            bus: bus.clone(),
            node: process.node.clone(),
            name,
            source,
            seats: Seats::new(Arc::clone(&shared)),
            metrics: metrics.clone(),
            reach: reach.clone(),
            stop: process.tasks.stop(),
        };
        let executor = Arc::new(executor);
        process.tasks.spawn("role watch", role::watch(Arc::clone(&executor)));
        process.tasks.spawn("worker lane", Consumer::new(executor, connections).run());
    }
    process.tasks.spawn("worker api", answer_operators(bus, sources, process));
    Ok(())
}

/// The source, or why it cannot be used: a bad URL or a missing variable costs this source's alerts alone.
fn open(name: &SourceName, config: &SourceConfig, connections: usize) -> Result<Source, String> {
    let named = |error: &dyn std::fmt::Display| format!("database `{name}`: {error}");
    let url = config.resolve().map_err(|error| named(&error))?;
    Source::open(name.clone(), &url, connections).map_err(|error| named(&error))
}

fn answer_operators(
    bus: Bus,
    sources: Vec<SourceName>,
    process: &Process,
) -> impl Future<Output = anyhow::Result<()>> + use<> {
    let (node, health, stop) = (process.node.clone(), process.health.clone(), process.tasks.stop());
    async move {
        let report = || ProcessReport {
            node: node.clone(),
            role: Role::Worker,
            version: VERSION.to_owned(),
            epoch: None,
            sources: sources.clone(),
            health: health.snapshot(),
        };
        tokio::select! {
            () = stop.requested.cancelled() => Ok(()),
            never = answer_health(bus, report) => match never {},
        }
    }
}
