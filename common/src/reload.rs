//! The configuration of a running process: loaded when it starts, watched while it runs, and replaced as a whole.
//!
//! Input: the files that [`ConfigSettings`] names, looked at every second and at once on SIGHUP, and compared by their
//! contents: an edit in place, a renamed file and a swapped link are all the same to it (docs/adr/0007). Output: the
//! newest good [`Config`], to whoever holds a [`LiveConfig`]; a log line, metrics and the check `configuration`. Files with
//! an error change nothing but these.

mod metrics;

use std::fmt;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::Registry;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::sleep;

pub use self::metrics::ReloadMetrics;
use crate::clock::wall_now;
use crate::config::{Config, ConfigErrors, ConfigProblem, Reading, Watched, any_query, from_environment};
use crate::health::{Check, Health};
use crate::lifecycle::Stop;
use crate::secret::Secret;
use crate::settings::ConfigSettings;
use crate::timestamp::Timestamp;

/// The check that says how the files are.
pub const CHECK: &str = "configuration";
/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Where looking takes long, it takes at most one part in this many of the time.
const SHARE: u32 = 20;
/// How long changed files must stay as they are before they count: of two quick edits, the last one wins.
const SETTLE: Duration = Duration::from_millis(300);
/// After so many looks at files that were never the same, somebody is told.
const RESTLESS: u32 = 20;

/// Where variables come from, each time that they are needed.
pub type Variables = dyn Fn(&str) -> Option<String> + Send + Sync;

/// A configuration that can be read again and again.
#[derive(Clone)]
pub struct ConfigSource {
    settings: ConfigSettings,
    variables: Arc<Variables>,
    default_database: Option<Secret>,
}

impl ConfigSource {
    /// What `settings` name, with the variables of the process.
    pub fn new(settings: ConfigSettings) -> Self {
        Self::with_variables(settings, Arc::new(from_environment))
    }

    /// What `settings` name, with these variables.
    pub fn with_variables(settings: ConfigSettings, variables: Arc<Variables>) -> Self {
        Self { settings, variables, default_database: None }
    }

    /// The same, with this URL in the place of the one that the files give the database `default`.
    pub fn with_default_database(self, url: Option<Secret>) -> Self {
        Self { default_database: url, ..self }
    }

    /// Opening a pipe again would wait for somebody to write.
    fn is_pipe(&self) -> bool {
        fs::metadata(&self.settings.path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
    }

    async fn read(&self) -> Result<Reading, JoinError> {
        let source = self.clone();
        spawn_blocking(move || source.settings.read(&*source.variables)).await
    }

    async fn check(&self, reading: Reading) -> Result<Config, ConfigErrors> {
        let source = self.clone();
        let checked = spawn_blocking(move || reading.check(&*source.variables, &any_query)).await;
        let mut config = checked.unwrap_or_else(|fault| Err(self.fault(&fault)))?;
        if let Some(url) = &self.default_database
            && !config.set_default_database(url)
        {
            let message = "there is no database `default` that another URL could be given to";
            return Err(self.problem(message.to_owned()));
        }
        Ok(config)
    }

    /// A fault of this program, as an error of the file that it fell over.
    fn fault(&self, fault: &JoinError) -> ConfigErrors {
        self.problem(format!("cannot be read by a fault of this program: {fault}"))
    }

    fn problem(&self, message: String) -> ConfigErrors {
        ConfigErrors(vec![ConfigProblem {
            file: self.settings.path.display().to_string(),
            line: 0,
            column: 0,
            path: String::new(),
            message,
            help: String::new(),
        }])
    }
}

impl fmt::Debug for ConfigSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigSource").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The newest good configuration. Clones follow the same one.
#[derive(Clone, Debug)]
pub struct LiveConfig(watch::Receiver<Arc<Config>>);

impl LiveConfig {
    /// A configuration that stays as it is.
    pub fn fixed(config: Config) -> Self {
        Self(watch::channel(Arc::new(config)).1)
    }

    /// As it is now.
    pub fn current(&self) -> Arc<Config> {
        Arc::clone(&self.0.borrow())
    }

    /// Waits for one that this handle has not returned here or seen when it was made; it may be equal to the last, after
    /// a SIGHUP: what follows from variables and other files shall be found out again.
    pub async fn changed(&mut self) -> Arc<Config> {
        if self.0.changed().await.is_err() {
            // Nobody is left who could replace it.
            std::future::pending::<()>().await;
        }
        Arc::clone(&self.0.borrow_and_update())
    }
}

/// Why the files are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// It was time: only what has changed is read.
    Time,
    /// Somebody has asked for it, and has finished writing.
    Signal,
}

/// The watch over one configuration.
#[derive(Debug)]
pub struct ConfigWatch {
    source: ConfigSource,
    /// What was read last, good or bad.
    watched: Watched,
    current: watch::Sender<Arc<Config>>,
    loaded_at: Timestamp,
}

/// A [`ConfigWatch`] that tells how it is doing.
#[derive(Debug)]
pub struct ReportingWatch {
    watch: ConfigWatch,
    health: Health,
    metrics: ReloadMetrics,
}

impl ConfigWatch {
    /// Loads the configuration for the first time.
    pub async fn load(source: ConfigSource) -> Result<Self, ConfigErrors> {
        let reading = source.read().await.map_err(|fault| source.fault(&fault))?;
        let watched = reading.watched().clone();
        let config = source.check(reading).await?;
        Ok(Self { source, watched, current: watch::Sender::new(Arc::new(config)), loaded_at: wall_now() })
    }

    /// The configuration in force, now and later.
    pub fn live(&self) -> LiveConfig {
        LiveConfig(self.current.subscribe())
    }

    /// From now on, health and metrics say how the files are.
    pub fn reporting_to(self, health: Health, registry: &Registry) -> prometheus::Result<ReportingWatch> {
        let metrics = ReloadMetrics::register(registry)?;
        metrics.loaded(self.loaded_at);
        let watching = ReportingWatch { watch: self, health, metrics };
        log_warnings(&watching.watch.current.borrow());
        watching.report_healthy();
        Ok(watching)
    }
}

impl ReportingWatch {
    /// Watches until a stop is requested; whatever comes by `hangup` is done at once.
    pub async fn run(mut self, hangup: Arc<Notify>, stop: Stop) -> anyhow::Result<()> {
        let watching = async {
            let mut pause = LOOK_EVERY;
            loop {
                let occasion = tokio::select! {
                    () = hangup.notified() => Occasion::Signal,
                    () = sleep(pause) => Occasion::Time,
                };
                let took = self.run_once(occasion).await;
                pause = LOOK_EVERY.max(took * SHARE);
            }
        };
        tokio::select! {
            () = watching => Ok(()),
            () = stop.requested.cancelled() => Ok(()),
        }
    }

    /// One look, and what follows from it. Returns how long the look took.
    pub async fn run_once(&mut self, occasion: Occasion) -> Duration {
        let began = Instant::now();
        let wanted = match occasion {
            Occasion::Time => has_changed(&self.watch.watched).await,
            Occasion::Signal => Ok(true),
        };
        let took = began.elapsed();
        if occasion == Occasion::Signal && self.watch.source.is_pipe() {
            tracing::warn!("the configuration was read from a pipe, which cannot be read again: it stays as it is");
            return took;
        }
        let read = match wanted {
            Ok(false) => return took,
            Ok(true) => self.read_settled(occasion).await,
            Err(fault) => Err(fault),
        };
        let checked = match read {
            Ok(reading) => {
                self.watch.watched = reading.watched().clone();
                self.watch.source.check(reading).await
            }
            Err(fault) => Err(self.watch.source.fault(&fault)),
        };
        match checked {
            Ok(config) => self.take(config),
            Err(errors) => self.refuse(&errors),
        }
        took
    }

    /// What the files hold when they have come to rest.
    async fn read_settled(&self, occasion: Occasion) -> Result<Reading, JoinError> {
        let mut looks = 0;
        loop {
            let reading = self.watch.source.read().await?;
            looks += 1;
            if looks > 1 || occasion == Occasion::Time {
                sleep(SETTLE).await;
            }
            if !has_changed(reading.watched()).await? {
                return Ok(reading);
            }
            if looks == RESTLESS {
                let message = "the configuration changes all the time: waiting until it stays as it is";
                tracing::warn!("{message}");
                self.health.report(CHECK, Check::degraded(message));
            }
        }
    }

    fn take(&mut self, config: Config) {
        let ConfigWatch { current, loaded_at, .. } = &mut self.watch;
        *loaded_at = wall_now();
        let differs = **current.borrow() != config;
        let (alerts, sources) = (config.alerts.len(), config.sources.len());
        tracing::info!(alerts, sources, differs, "configuration loaded");
        if differs {
            log_warnings(&config);
        }
        self.metrics.succeeded(*loaded_at);
        current.send_replace(Arc::new(config));
        self.report_healthy();
    }

    fn refuse(&self, errors: &ConfigErrors) {
        let problems = errors.0.len();
        tracing::error!(problems, "the configuration has errors, and the one before stays in force:\n{errors}");
        self.metrics.failed();
        let first = errors.0.first().map(|problem| problem.to_string().replace('\n', " ")).unwrap_or_default();
        let more = match problems {
            0 | 1 => String::new(),
            more => format!(" (and {} more)", more - 1),
        };
        let since = self.watch.loaded_at;
        self.health.report(CHECK, Check::degraded(format!("{first}{more}; the one of {since} stays in force")));
    }

    fn report_healthy(&self) {
        let alerts = self.watch.current.borrow().alerts.len();
        let since = self.watch.loaded_at;
        self.health.report(CHECK, Check::healthy(format!("{alerts} alerts, loaded at {since}")));
    }
}

async fn has_changed(watched: &Watched) -> Result<bool, JoinError> {
    let watched = watched.clone();
    spawn_blocking(move || watched.has_changed()).await
}

/// Logs what is worth knowing of a configuration that is valid.
fn log_warnings(config: &Config) {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
}

#[cfg(test)]
mod tests;
