//! One process, from its command line to its exit code: what the mains share.
//!
//! Input: arguments and environment. Output: exit code 0 (ended as asked), 1 (failed) or 2 (wrong usage), with the
//! reason on stderr. Before the service starts, settings and configuration are checked; while it runs, signals are
//! passed on, probes answered, and the configuration is read again when it changes; after it, every task has ended.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Command, FromArgMatches, ValueEnum};
use prometheus::Registry;
use tokio::runtime::{self, Runtime};
use tokio::sync::Notify;

use crate::admin::AdminListener;
use crate::config::ConfigErrors;
use crate::health::{self, Check, Health, HealthReport, Status};
use crate::lifecycle::{Signals, Tasks};
use crate::metrics;
use crate::reload::{ConfigSource, ConfigWatch, LiveConfig};
use crate::settings::{self, ConfigSettings, ListenSettings, LogSettings, ProcessSettings};
use crate::telemetry::{self, TelemetryError};

/// Wrong flags, variables or arguments.
const USAGE: u8 = 2;
/// How long blocking work that nobody waits for any more may hold up the end.
const LAST_WORK: Duration = Duration::from_secs(1);
/// The check that says how far the process is in its life.
const LIFE: &str = "process";

/// What a service is given of the process it runs in.
#[derive(Clone, Debug)]
pub struct Process {
    /// This process's name in the cluster.
    pub node: String,
    /// Where loops report how they are.
    pub health: Health,
    /// Where metrics are registered.
    pub registry: Registry,
    /// Where loops are spawned.
    pub tasks: Tasks,
}

/// What a program says about itself.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The name of its binary.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub about: &'static str,
}

/// The version of all our programs.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How a command prints what it found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// What a container's probe asks of the process that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Probe {
    /// Does it answer? No restart brings a NATS or a database back.
    Liveness,
    /// Can it work?
    Readiness,
}

#[derive(Debug, Args)]
struct ServiceArgs<S: Args> {
    #[command(flatten)]
    config: ConfigSettings,
    #[command(flatten)]
    service: S,
    #[command(flatten)]
    process: ProcessSettings,
}

#[derive(Debug, Args)]
struct HealthcheckArgs {
    #[command(flatten)]
    listen: ListenSettings,
    /// Judge as a container's probe does: does it answer, as /health, or can it work, as /ready
    #[arg(long, value_enum)]
    probe: Option<Probe>,
    /// How to print the report
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// The `main` of a service: without a command it runs, with `healthcheck` it asks the process that runs.
pub fn service_main<S, F>(program: Program, start: F) -> ExitCode
where
    S: Args,
    F: AsyncFnOnce(S, LiveConfig, &Process) -> anyhow::Result<()>,
{
    let parsed = settings::parse_with(service_command::<S>(program), std::env::args_os(), |matches| {
        match matches.subcommand() {
            Some((_, matches)) => HealthcheckArgs::from_arg_matches(matches).map(Err),
            None => ServiceArgs::<S>::from_arg_matches(matches).map(Ok),
        }
    });
    match parsed {
        Err(error) => usage(&error),
        Ok(Err(args)) => healthcheck(&args),
        Ok(Ok(args)) => {
            let source = ConfigSource::new(args.config);
            run(program, &args.process, source, async |config, process: &Process| {
                start(args.service, config, process).await
            })
        }
    }
}

fn service_command<S: Args>(program: Program) -> Command {
    let healthcheck = Command::new("healthcheck").about("Ask the running process how it is; exit 1 if it is unhealthy");
    ServiceArgs::<S>::augment_args(Command::new(program.name))
        .version(VERSION)
        .about(program.about)
        .subcommand(HealthcheckArgs::augment_args(healthcheck))
        .args_conflicts_with_subcommands(true)
        .subcommand_negates_reqs(true)
}

/// Why a process ended badly.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Configuration(#[from] ConfigErrors),
    #[error(transparent)]
    Life(#[from] anyhow::Error),
}

/// Runs `start` in a process of its own with the configuration of `source`, and then what it spawned, until the end.
pub fn run<F>(program: Program, settings: &ProcessSettings, source: ConfigSource, start: F) -> ExitCode
where
    F: AsyncFnOnce(LiveConfig, &Process) -> anyhow::Result<()>,
{
    if let Err(error) = prepare(&settings.log) {
        return usage_text(&error.to_string());
    }
    let runtime = Runtime::new().context("cannot start the runtime");
    let ended = runtime.map_err(Failure::from).and_then(|runtime| {
        let ended = runtime.block_on(load_and_live(program, settings, source, start));
        runtime.shutdown_timeout(LAST_WORK);
        ended
    });
    match ended {
        Ok(()) => {
            tracing::info!(program = program.name, "stopped");
            ExitCode::SUCCESS
        }
        Err(Failure::Configuration(errors)) => {
            fail(&format!("{errors}\nThe configuration has errors; nothing was started."))
        }
        Err(Failure::Life(error)) => {
            tracing::error!(critical = true, program = program.name, "stopped by a failure: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What a process does before anything else: the crypto that TLS uses, and its log lines.
pub fn prepare(log: &LogSettings) -> Result<(), TelemetryError> {
    // An error says that a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    telemetry::init(log)
}

/// Signals are caught before the configuration is read: reading a large one takes a while, and SIGHUP ends no process.
async fn load_and_live<F>(
    program: Program,
    settings: &ProcessSettings,
    source: ConfigSource,
    start: F,
) -> Result<(), Failure>
where
    F: AsyncFnOnce(LiveConfig, &Process) -> anyhow::Result<()>,
{
    let mut signals = Signals::catch()?;
    let watch = tokio::select! {
        watch = ConfigWatch::load(source) => watch?,
        _ = signals.end() => return Ok(()),
    };
    Ok(live(program, settings, signals, watch, start).await?)
}

async fn live<F>(
    program: Program,
    settings: &ProcessSettings,
    signals: Signals,
    watch: ConfigWatch,
    start: F,
) -> anyhow::Result<()>
where
    F: AsyncFnOnce(LiveConfig, &Process) -> anyhow::Result<()>,
{
    let component = program.name.trim_start_matches("sqlsentinel-");
    let process = Process {
        node: settings.node.clone(),
        health: Health::default(),
        registry: metrics::registry(component, VERSION).context("cannot register metrics")?,
        tasks: Tasks::new(settings.grace),
    };
    process.health.register(&process.registry).context("cannot register metrics")?;
    process.health.report(LIFE, Check::unhealthy("starting"));
    let listener = match &settings.listen.address {
        Some(address) => Some(AdminListener::bind(address).await?),
        None => None,
    };
    let address = listener.as_ref().map(|listener| listener.address().to_string());
    tracing::info!(program = program.name, version = VERSION, node = process.node, "starting");
    if let Some(address) = &address {
        tracing::info!(address, "listening");
    }
    let (config, hangup) = (watch.live(), Arc::new(Notify::new()));
    let watch = watch.reporting_to(process.health.clone(), &process.registry).context("cannot register metrics")?;
    process.tasks.spawn("configuration", watch.run(Arc::clone(&hangup), process.tasks.stop()));
    let answering = async {
        match listener {
            Some(listener) => listener.serve(process.health.clone(), process.registry.clone()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = start_and_wait(&process, async |process: &Process| start(config, process).await) => ended,
        never = signals.drive(&process.tasks, &hangup) => match never {},
        never = answering => match never {},
    }
}

/// Probes are answered until the last task has ended, so that a process that is finishing its work is not killed for it.
async fn start_and_wait<F>(process: &Process, start: F) -> anyhow::Result<()>
where
    F: AsyncFnOnce(&Process) -> anyhow::Result<()>,
{
    let requested = process.tasks.stop().requested;
    let started = tokio::select! {
        started = start(process) => started,
        () = requested.cancelled() => Ok(()),
    };
    if started.is_ok() {
        process.health.report(LIFE, Check::healthy("running"));
        requested.cancelled().await;
    }
    process.health.report(LIFE, Check::unhealthy("stopping"));
    process.tasks.request_stop();
    let ended = process.tasks.wait().await;
    started.and(ended)
}

fn healthcheck(args: &HealthcheckArgs) -> ExitCode {
    let address = match args.listen.local_address() {
        Ok(address) => address,
        Err(error) => return usage_text(&error.to_string()),
    };
    // One thread: a probe runs every few seconds, beside every process.
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let fetched =
        runtime.map_err(anyhow::Error::from).and_then(|runtime| Ok(runtime.block_on(health::fetch(&address))?));
    match fetched {
        Err(error) => fail(&format!("{error:#}")),
        Ok(report) => {
            let text = match args.output {
                Output::Text => report.to_string(),
                Output::Json => serde_json::to_string_pretty(&report).unwrap_or_default() + "\n",
            };
            // Whoever closed stdout does not want the text; the exit code still says it.
            let _ = io::stdout().write_all(text.as_bytes());
            if passes(args.probe, &report) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

fn passes(probe: Option<Probe>, report: &HealthReport) -> bool {
    match probe {
        Some(Probe::Liveness) => true,
        Some(Probe::Readiness) => report.is_ready(),
        None => report.status != Status::Unhealthy,
    }
}

/// Shows what clap has to say: its own errors, and `--help` and `--version`, which are none.
pub fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}

fn usage_text(message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "error: {message}");
    ExitCode::from(USAGE)
}

/// Says why a process failed before it could log.
pub fn fail(message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "error: {message}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    fn process() -> Process {
        Process {
            node: "n".to_owned(),
            health: Health::default(),
            registry: Registry::new(),
            tasks: Tasks::new(Duration::from_secs(3600)),
        }
    }

    #[tokio::test]
    async fn a_start_that_fails_half_way_takes_down_what_it_had_started() {
        let process = process();
        let ended = start_and_wait(&process, async |process: &Process| {
            let stop = process.tasks.stop();
            process.tasks.spawn("first", async move {
                stop.requested.cancelled().await;
                Ok(())
            });
            Err(anyhow!("no database"))
        });
        assert_eq!(ended.await.unwrap_err().to_string(), "no database");
    }

    #[tokio::test]
    async fn a_stop_does_not_wait_for_a_start_that_hangs() {
        let process = process();
        process.tasks.request_stop();
        assert!(start_and_wait(&process, async |_: &Process| std::future::pending().await).await.is_ok());
        assert_eq!(process.health.snapshot().status, Status::Unhealthy);
    }

    #[tokio::test]
    async fn a_process_is_ready_only_between_its_start_and_its_stop() {
        let process = process();
        process.health.report(LIFE, Check::unhealthy("starting"));
        let (health, tasks) = (process.health.clone(), process.tasks.clone());
        let ended = start_and_wait(&process, async move |process: &Process| {
            assert_eq!(health.snapshot().status, Status::Unhealthy);
            process.tasks.spawn("probe", async move {
                // Runs only after the start has returned: there is one thread.
                tokio::task::yield_now().await;
                assert_eq!(health.snapshot().status, Status::Healthy);
                tasks.request_stop();
                Ok(())
            });
            Ok(())
        });
        assert!(ended.await.is_ok());
        assert_eq!(process.health.snapshot().status, Status::Unhealthy);
    }

    #[test]
    fn a_process_without_its_database_is_alive_and_not_ready_and_what_the_audit_finds_keeps_it_ready() {
        let judged = |name: &'static str| {
            let health = Health::default();
            health.report(name, Check::unhealthy("gone"));
            let report = health.snapshot();
            [Some(Probe::Liveness), Some(Probe::Readiness), None].map(|probe| passes(probe, &report))
        };
        assert_eq!(judged("state_database"), [true, false, false]);
        assert_eq!(judged(crate::audit::CHECK), [true, true, false]);
    }

    #[test]
    fn a_probe_needs_none_of_the_services_settings() {
        #[derive(Debug, Args)]
        struct Needy {
            #[arg(long)]
            needed: String,
        }
        let command = service_command::<Needy>(Program { name: "test", about: "" });
        assert!(command.clone().try_get_matches_from(["test", "a.yaml"]).is_err());
        assert!(command.clone().try_get_matches_from(["test", "a.yaml", "--needed", "x"]).is_ok());
        let matches = command.try_get_matches_from(["test", "healthcheck", "--port", "8080"]);
        assert!(matches.is_ok_and(|matches| matches.subcommand_name() == Some("healthcheck")));
    }
}
