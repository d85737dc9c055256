//! `run CONFIG`: alerts once, here and now, by the services' own code and without a cluster.
//!
//! A run goes the way of a job: the worker's guard, source and verdict; then, unless it is a rehearsal (`--dry-run`), the
//! notifier's transaction and its outbox, in the state database. What cannot be sent now stays in the outbox for the
//! next run, or for a notifier. Several go that way at once; what is shown is in the file's order.

mod progress;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use futures::{StreamExt, stream};
use sqlsentinel_common::alert::{AlertDefinition, ConfigHash, SourceName};
use sqlsentinel_common::clock;
use sqlsentinel_common::config::{Config, SourceConfig};
use sqlsentinel_common::ids::ExecutionId;
use sqlsentinel_common::messages::{MESSAGE_VERSION, OutcomeMessage};
use sqlsentinel_common::outcome::{ErrorKind, Verdict};
use sqlsentinel_common::process::Output;
use sqlsentinel_common::settings::{self, ConfigSettings, StateSettings};
use sqlsentinel_common::store::{Store, StoreRole};
use sqlsentinel_common::timestamp::milliseconds;
use sqlsentinel_notifier::channel::Channels;
use sqlsentinel_notifier::deliver::{Attempt, Deliverer};
use sqlsentinel_notifier::outbox::deliver_due;
use sqlsentinel_notifier::record::Recorder;
use sqlsentinel_worker::run::{Run, run_once};
use sqlsentinel_worker::source::Source;
use tokio_util::sync::CancellationToken;

use self::progress::Progress;
use self::report::Ran;
use crate::output::{print, print_json};
use crate::state;

/// How long a claimed notification is ours; longer than an attempt takes.
const CLAIM_LEASE: Duration = Duration::from_secs(60);

/// What to run.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    config: ConfigSettings,
    /// Only this alert, even if it is disabled
    #[arg(long, value_name = "NAME")]
    alert: Option<String>,
    /// Only run the queries: no state, no history, no notification
    #[arg(long)]
    dry_run: bool,
    /// How many alerts are run at once, and how many connections a database may see
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    concurrency: u8,
    #[command(flatten)]
    state: StateSettings,
    /// How to print the results
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs what was chosen. An ALERT is a failure of a sweep over all alerts, and a good answer where one is asked about.
pub async fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    let chosen = state::chosen_alerts(&config, args.alert.as_deref())?;
    let alerts = config.alerts.iter().map(|alert| &alert.definition);
    let alerts: Vec<_> =
        alerts.filter(|alert| chosen.contains(&alert.name) && (alert.enabled || args.alert.is_some())).collect();

    let ledger = if args.dry_run { None } else { Some(Ledger::open(&args.state, &config).await?) };
    let at_once = usize::from(args.concurrency).min(alerts.len()).max(1);
    let sources = open_sources(&config, &alerts, at_once);
    let cancel = CancellationToken::new();
    let progress = Progress::of(alerts.len());
    let runs = alerts.into_iter().map(async |alert| {
        let ran = run_one(alert, &sources, ledger.as_ref(), &cancel).await;
        progress.one_ended();
        ran
    });
    // None is dropped for the failure of another: it may be in the middle of a transaction.
    let all = async { stream::iter(runs).buffered(at_once).collect::<Vec<_>>().await.into_iter().collect() };
    let results: anyhow::Result<Vec<Ran>> = until_interrupted(all, &cancel).await;
    progress.end();
    let results = results?;
    match args.output {
        Output::Json => print_json(&results)?,
        Output::Text => print(&report::text(&results))?,
    }
    Ok(report::exit_code(&results, args.alert.is_some()))
}

/// Awaits `all`. Ctrl-C cancels the queries, and what follows from them is awaited then.
async fn until_interrupted<T>(
    all: impl Future<Output = anyhow::Result<T>>,
    cancel: &CancellationToken,
) -> anyhow::Result<T> {
    tokio::pin!(all);
    tokio::select! {
        results = &mut all => results,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.context("cannot wait for Ctrl-C")?;
            cancel.cancel();
            all.await
        }
    }
}

/// Where runs are recorded, and notifications sent from.
struct Ledger {
    store: Store,
    recorder: Recorder,
    deliverer: Deliverer,
}

impl Ledger {
    async fn open(settings: &StateSettings, config: &Config) -> anyhow::Result<Self> {
        let store = Store::connect(&settings.database, StoreRole::Member)?;
        store.migrate().await.context("cannot prepare the state database")?;
        let (recorder, channels) = (Recorder::new(store.clone()), Channels::new(config, &settings::of_environment()?)?);
        let deliverer = Deliverer { store: store.clone(), channels, metrics: None };
        Ok(Self { store, recorder, deliverer })
    }

    /// Records `outcome`, and sends what is due for its alert: what follows from it, and what earlier runs left.
    async fn record_and_send(&self, alert: &AlertDefinition, outcome: &OutcomeMessage) -> anyhow::Result<Vec<Attempt>> {
        self.recorder.record_manual(alert, outcome).await.context("cannot record the run")?;
        let sent = deliver_due(&self.deliverer, std::slice::from_ref(&alert.name), CLAIM_LEASE).await;
        sent.context("cannot read the outbox")
    }
}

/// The sources that `alerts` need; why one cannot be used is told by the alerts that need it.
fn open_sources(
    config: &Config,
    alerts: &[&AlertDefinition],
    connections: usize,
) -> BTreeMap<SourceName, Result<Source, String>> {
    let needed: BTreeSet<_> = alerts.iter().map(|alert| &alert.source).collect();
    let needed = config.sources.iter().filter(|(name, _)| needed.contains(name));
    let open = |(name, source): (&SourceName, &SourceConfig)| {
        let url = source.resolve().map_err(|error| error.to_string());
        let opened =
            url.and_then(|url| Source::open(name.clone(), &url, connections).map_err(|error| error.to_string()));
        (name.clone(), opened.map_err(|error| format!("database `{name}`: {error}")))
    };
    needed.map(open).collect()
}

async fn run_one(
    alert: &AlertDefinition,
    sources: &BTreeMap<SourceName, Result<Source, String>>,
    ledger: Option<&Ledger>,
    cancel: &CancellationToken,
) -> anyhow::Result<Ran> {
    let execution_id = ExecutionId::manual();
    // States move forward in nominal time, which is the state database's: this machine's clock may be behind it.
    let scheduled_for = match ledger {
        Some(ledger) => ledger.store.now().await?.0,
        None => clock::wall_now(),
    };
    let (started_at, started) = (clock::wall_now(), Instant::now());
    let verdict = match sources.get(&alert.source) {
        Some(Ok(source)) => {
            let run = Run {
                alert_name: &alert.name,
                execution_id,
                query: &alert.query,
                options: &alert.options,
                timeout: alert.timeout(),
            };
            run_once(source, &run, cancel).await?
        }
        Some(Err(reason)) => Verdict::error(ErrorKind::Connection, reason.as_str()),
        None => Verdict::error(ErrorKind::Connection, format!("there is no database `{}`", alert.source)),
    };
    let outcome = OutcomeMessage {
        version: MESSAGE_VERSION,
        execution_id,
        alert_name: alert.name.clone(),
        scheduled_for,
        attempt: 1,
        delivery: 1,
        config_hash: ConfigHash::of(&alert.canonical_json()?),
        source: alert.source.clone(),
        worker: "ctl".to_owned(),
        started_at,
        duration_ms: milliseconds(started.elapsed()),
        verdict,
    };
    let attempts = match ledger {
        Some(ledger) => ledger.record_and_send(alert, &outcome).await?,
        None => Vec::new(),
    };
    Ok(Ran::new(outcome, &attempts))
}
