//! `daemon CONFIG`: the three services in one process, for one machine.
//!
//! The same code on the same bus as in a cluster: without `--nats-url` the daemon starts a `nats-server` of its own
//! (`nats_server.rs`), in a folder beside the state database. The services end first, then the server.

mod nats_server;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use sqlsentinel_common::lifecycle::{Stop, Tasks};
use sqlsentinel_common::process::{self, Process, Program};
use sqlsentinel_common::reload::{ConfigSource, LiveConfig};
use sqlsentinel_common::settings::{self, ConfigSettings, NatsSettings, ProcessSettings, StateSettings};
use sqlsentinel_coordinator as coordinator;
use sqlsentinel_notifier as notifier;
use sqlsentinel_worker as worker;

use self::nats_server::NatsServer;
use crate::database::{self, DatabaseArgs};
use crate::state::sqlite_path;

const PROGRAM: Program = Program { name: "sqlsentinel-daemon", about: "Runs everything in one process" };

/// How the daemon runs. What only one of the services knows is read from the environment.
#[derive(Debug, Args)]
pub struct DaemonArgs {
    #[command(flatten)]
    config: ConfigSettings,
    #[command(flatten)]
    state: StateSettings,
    #[command(flatten)]
    nats: Option<NatsSettings>,
    #[command(flatten)]
    process: ProcessSettings,
    #[command(flatten)]
    database: DatabaseArgs,
    /// The zone of schedules that name none
    #[arg(long, env = "TIMEZONE", value_name = "ZONE")]
    timezone: Option<String>,
    /// Reload the configuration when it changes: always on, taken so that old command lines go on working
    #[arg(long)]
    reload: bool,
}

/// The settings of the services.
struct Services {
    coordinator: coordinator::app::Settings,
    worker: worker::app::Settings,
    notifier: notifier::app::Settings,
}

impl Services {
    fn of_environment() -> Result<Self, clap::Error> {
        Ok(Self {
            coordinator: settings::of_environment()?,
            worker: settings::of_environment()?,
            notifier: settings::of_environment()?,
        })
    }

    fn with(mut self, nats: &NatsSettings, state: &StateSettings) -> Self {
        self.coordinator.nats = nats.clone();
        self.coordinator.state = state.clone();
        self.worker.nats = nats.clone();
        self.notifier.nats = nats.clone();
        self.notifier.state = state.clone();
        self
    }

    /// All of them follow one configuration.
    async fn start(self, config: LiveConfig, process: &Process) -> anyhow::Result<()> {
        coordinator::app::start(self.coordinator, config.clone(), process)
            .await
            .context("cannot start the coordinator")?;
        worker::app::start(self.worker, config.clone(), process).await.context("cannot start the worker")?;
        notifier::app::start(self.notifier, config, process).await.context("cannot start the notifier")
    }
}

/// Runs until a signal, or until a part fails.
pub fn run(args: DaemonArgs) -> ExitCode {
    let services = match Services::of_environment() {
        Ok(services) => services,
        Err(error) => return process::usage(&error),
    };
    let database = match args.database.url() {
        Ok(url) => url,
        Err(error) => return process::usage(&error),
    };
    let (timezone, default_database) = (args.timezone, database.clone());
    let variables = move |name: &str| match name {
        "TIMEZONE" => timezone.clone(),
        name => database::variable(name, database.as_ref()),
    };
    let source = ConfigSource::with_variables(args.config, Arc::new(variables)).with_default_database(default_database);
    let (state, nats, grace) = (args.state, args.nats, args.process.grace);
    process::run(PROGRAM, &args.process, source, async move |config: LiveConfig, process: &Process| {
        let (server, nats) = match nats {
            Some(nats) => (None, nats),
            None => {
                let server = NatsServer::start(&server_folder(&state)).await?;
                let nats = server.settings();
                (Some(server), nats)
            }
        };
        start(services.with(&nats, &state), config, server, process, grace).await
    })
}

/// Starts the services on tasks of their own, so that the server can outlive them.
async fn start(
    services: Services,
    config: LiveConfig,
    server: Option<NatsServer>,
    process: &Process,
    grace: Duration,
) -> anyhow::Result<()> {
    let inner = Process { tasks: Tasks::new(grace), ..process.clone() };
    let started = services.start(config, &inner).await;
    if started.is_err() {
        inner.tasks.request_stop();
    }
    process.tasks.spawn("services", serve(inner.tasks, process.tasks.stop(), server));
    started
}

/// Waits for the services to end, and then for the server. The server's end before that is a failure.
async fn serve(services: Tasks, stop: Stop, mut server: Option<NatsServer>) -> anyhow::Result<()> {
    let server_ended = async {
        match &mut server {
            Some(server) => server.ended().await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        ended = services.wait() => ended,
        never = follow(&stop, &services) => match never {},
        error = server_ended => {
            tracing::error!(%error, "ending the services");
            services.abort();
            services.wait().await.and(Err(error))
        }
    };
    if let Some(server) = server {
        server.stop().await;
    }
    ended
}

/// Passes the stages of `stop` on.
async fn follow(stop: &Stop, services: &Tasks) -> Infallible {
    stop.requested.cancelled().await;
    services.request_stop();
    stop.aborted.cancelled().await;
    services.abort();
    std::future::pending().await
}

/// Beside a SQLite state database, named after it; in the working folder otherwise.
fn server_folder(state: &StateSettings) -> PathBuf {
    let file = sqlite_path(&state.database).unwrap_or_else(|| Path::new("sqlsentinel").to_owned());
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".nats");
    file.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use sqlsentinel_common::config::normalise_database_url;

    use super::*;

    #[test]
    fn two_state_databases_in_one_folder_have_two_servers() {
        let folder = |url: &str| {
            let database = normalise_database_url(url).unwrap();
            server_folder(&StateSettings { database }).display().to_string()
        };
        assert_eq!(folder("sqlite:///a.db"), "a.db.nats");
        assert_eq!(folder("sqlite:////data/b.db"), "/data/b.db.nats");
        assert_eq!(folder("postgresql://host/state"), "sqlsentinel.nats");
    }

    #[tokio::test]
    async fn a_service_that_fails_ends_the_daemon_with_its_reason() {
        let services = Tasks::new(Duration::from_secs(3600));
        services.spawn("planner", async { anyhow::bail!("no ledger") });
        let error = serve(services, Stop::default(), None).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "task `planner` failed: no ledger");
    }

    #[tokio::test]
    async fn both_stages_of_a_stop_reach_the_services() {
        let (services, stop) = (Tasks::new(Duration::from_secs(3600)), Stop::default());
        let inner = services.stop();
        services.spawn("slow", async move {
            inner.aborted.cancelled().await;
            Ok(())
        });
        stop.requested.cancel();
        stop.aborted.cancel();
        assert!(serve(services, stop, None).await.is_ok());
    }
}
