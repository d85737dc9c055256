//! What can be seen from here: the state database, the alert databases, the channels.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sqlsentinel_common::alert::{ChannelKind, QueryOptions, SourceName};
use sqlsentinel_common::clock;
use sqlsentinel_common::config::{Config, DatabaseUrl, SourceUrlError, normalise_database_url};
use sqlsentinel_common::health::{Check, HealthReport};
use sqlsentinel_common::ids::ExecutionId;
use sqlsentinel_common::outcome::RunStatus;
use sqlsentinel_common::secret::Secret;
use sqlsentinel_common::settings::{self, StateSettings};
use sqlsentinel_notifier::channel::Channels;
use sqlsentinel_worker::role;
use sqlsentinel_worker::run::{Run, run_once};
use sqlsentinel_worker::source::Source;
use tokio_util::sync::CancellationToken;

use crate::{database, state};

/// How long an alert database may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// An answer that shows that queries work, by the same road as an alert's.
const PROBE: &str = "SELECT 'OK' AS status";

/// Checks everything that `config` names, with `database_url` as its database `default` if that is given. Without a
/// configuration, `database_url` or DATABASE_URL alone.
pub(super) async fn report(
    config: Option<&Config>,
    state: &StateSettings,
    database_url: Option<&Secret>,
) -> HealthReport {
    let mut checks = BTreeMap::from([("state_database".to_owned(), state_database(state).await)]);
    let mut roles = BTreeMap::new();
    for (name, url) in databases(config, database_url) {
        let check = match url {
            Some(Ok(url)) => match Source::open(name.clone(), &url, 1) {
                Ok(source) => {
                    roles.extend(role::of(&source).await.map(|role| (name.clone(), role)));
                    alert_database(&source).await
                }
                Err(error) => Check::unhealthy(error.to_string()),
            },
            Some(Err(error)) => Check::unhealthy(error.to_string()),
            None => Check::not_configured("DATABASE_URL not set"),
        };
        let name = if name == SourceName::default_source() { String::new() } else { format!("_{name}") };
        checks.insert(format!("alert_database{name}"), check);
    }
    checks.extend(role::check(&roles).map(|check| ("read_only".to_owned(), check)));
    checks.insert("notifications".to_owned(), notifications(config));
    HealthReport::new(clock::wall_now(), checks)
}

/// The databases to check. A URL on the command line stands for the default one.
fn databases(
    config: Option<&Config>,
    database_url: Option<&Secret>,
) -> BTreeMap<SourceName, Option<Result<DatabaseUrl, SourceUrlError>>> {
    let sources = config.map(|config| config.sources.iter()).into_iter().flatten();
    let mut databases: BTreeMap<_, _> = sources.map(|(name, source)| (name.clone(), Some(source.resolve()))).collect();
    let of_variable = || database::variable(database::VARIABLE, None).filter(|url| !url.is_empty()).map(Secret::new);
    let url = match (database_url, config) {
        (Some(url), _) => Some(url.clone()),
        (None, None) => of_variable(),
        (None, Some(_)) => return databases,
    };
    let url = url.map(|url| normalise_database_url(url.expose()).map_err(SourceUrlError::from));
    databases.insert(SourceName::default_source(), url);
    databases
}

async fn state_database(settings: &StateSettings) -> Check {
    let started = Instant::now();
    let asked = async { anyhow::Ok(state::open_existing(settings)?.now().await?) };
    match asked.await {
        Ok(_) => Check::healthy("Database connection OK").with_latency(started.elapsed()),
        Err(error) => Check::unhealthy(format!("{error:#}")),
    }
}

async fn alert_database(source: &Source) -> Check {
    let started = Instant::now();
    let run = Run {
        alert_name: "healthcheck",
        execution_id: ExecutionId::manual(),
        query: PROBE,
        options: &QueryOptions::default(),
        timeout: TIMEOUT,
    };
    match run_once(source, &run, &CancellationToken::new()).await {
        Ok(verdict) if verdict.status == RunStatus::Ok => {
            Check::healthy("Database connection OK").with_latency(started.elapsed())
        }
        Ok(verdict) => Check::unhealthy(verdict.error.map_or_else(|| "unexpected answer".to_owned(), |e| e.message)),
        Err(cancelled) => Check::unhealthy(cancelled.to_string()),
    }
}

fn notifications(config: Option<&Config>) -> Check {
    // Existing dashboards look for every kind of channel.
    let Some(config) = config else {
        let check = |kind: ChannelKind| (kind.as_str().to_owned(), Check::not_configured("no configuration given"));
        return Check::of_channels(ChannelKind::ALL.map(check).into());
    };
    let settings = match settings::of_environment() {
        Ok(settings) => settings,
        Err(error) => return Check::unhealthy(error.to_string()),
    };
    Channels::new(config, &settings)
        .map_or_else(|error| Check::unhealthy(error.to_string()), |channels| channels.check())
}
