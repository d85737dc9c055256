//! One chaos run: sets everything up, lets faults happen while alerts fire, heals, waits until it is quiet, and hands
//! over what happened.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::alerts;
use super::collect;
use super::faults::Stage;
use super::files::Files;
use super::history::{Fault, History};
use super::installation::Installation;
use super::schedule::{Planned, plan};
use super::traffic::Traffic;
use super::watch::Watch;
use crate::cluster::Role;
use crate::eventually::{SOON, eventually};
use crate::process;
use crate::wall_clock::{SECOND, now};

/// How many alerts there are where nobody says.
pub const DEFAULT_ALERTS: usize = 300;
/// How long after a fault's end its effects may last.
const RECOVERY: Duration = Duration::from_secs(15);
/// How long there is nothing to recover from, at the end.
const CALM: Duration = Duration::from_secs(5);
/// How long everything may take to be at rest after the last fault: deadlines, resends and their pauses included.
const QUIET: Duration = Duration::from_secs(150);
/// What is due in this time before the end is still under way, and not judged.
const TAIL: i64 = SECOND;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides which faults there are.
    pub seed: u64,
    /// How long faults happen.
    pub length: Duration,
    /// How many alerts there are.
    pub alerts: usize,
    /// Whether configurations, logs and the history stay when it is over.
    pub keep: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Ran {
    /// For the checker.
    pub history: History,
    /// Where logs and history are, if they were to be kept.
    pub kept: Option<PathBuf>,
}

/// Runs, telling `progress` how far it has come.
pub async fn run(options: &Options, progress: &(dyn Fn(String) + Sync)) -> Result<Ran> {
    process::live_at_most(options.length + QUIET * 4);
    progress(format!("seed {}: starting servers and members for {} alerts", options.seed, options.alerts));
    let mut installation = Installation::set_up().await?;
    if options.keep {
        installation.keep();
        progress(format!("logs are in {}", installation.directory().display()));
    }
    let history = Run { options, installation: &installation, progress }.play().await?;
    let kept = options.keep.then(|| installation.directory().to_path_buf());
    if let Some(folder) = &kept {
        std::fs::write(folder.join("history.json"), serde_json::to_vec(&history)?)?;
        std::fs::copy(installation.state.lock().await.log_file(), folder.join("state.log"))?;
    }
    Ok(Ran { history, kept })
}

struct Run<'a> {
    options: &'a Options,
    installation: &'a Installation,
    progress: &'a (dyn Fn(String) + Sync),
}

impl Run<'_> {
    async fn play(&self) -> Result<History> {
        let (options, installation) = (self.options, self.installation);
        let names: Vec<String> = (0..options.alerts).map(alerts::name).collect();
        let traffic = Traffic::default();
        traffic.begin(&installation.target, &names).await?;
        let coordinators = installation.names(Role::Coordinator);
        let files = Files::write(installation.directory(), &coordinators, &installation.target, options.alerts)?;
        let files = Mutex::new(files);
        installation.start().await?;
        let watch = Watch::over(installation.pool.clone());

        let mut history = tokio::select! {
            history = self.acts(&names, &traffic, &files, &watch) => history?,
            ended = watch.run() => return ended.and(Err(anyhow::anyhow!("the watch has ended"))),
        };
        history.alerts = files.lock().await.history();
        history.signals = traffic.signals();
        history.leadership = watch.samples();
        collect::into(&mut history, installation).await?;
        Ok(history)
    }

    /// From the first fire to the end of the last: the moments, and the faults.
    async fn acts(&self, names: &[String], traffic: &Traffic, files: &Mutex<Files>, watch: &Watch) -> Result<History> {
        let (options, installation) = (self.options, self.installation);
        let mut states = watch.states();
        let judged = states
            .wait_for(|states| names.iter().all(|name| states.get(name).is_some_and(|state| state.status == "OK")));
        let judged = tokio::time::timeout(SOON * 2, judged).await;
        installation.all_alive()?;
        judged.context("no first verdict about every alert in time")??;
        collect::note_writes(&installation.pool).await?;
        traffic.begun();
        let begin = now();
        (self.progress)("every alert has its first verdict: faults begin".to_owned());

        // A fifth of them has its signals changed; the others have their definitions edited.
        let talking = options.alerts / 5;
        let stage = Stage { installation, watch, files, editable: talking, alerts: options.alerts };
        let stop = CancellationToken::new();
        let faults = async {
            let faults = self.faults(stage).await;
            (self.progress)("all faults are over: waiting until it is quiet".to_owned());
            stop.cancel();
            faults
        };
        let (faults, ()) =
            tokio::try_join!(faults, traffic.run(&installation.target, &names[..talking], watch, &stop))?;
        let until = now() - TAIL;
        self.quiet(until).await?;
        installation.all_alive()?;
        Ok(History { begin, until, recovery_us: i64::try_from(RECOVERY.as_micros())?, faults, ..History::default() })
    }

    async fn faults(&self, stage: Stage<'_>) -> Result<Vec<Fault>> {
        let began = tokio::time::Instant::now();
        let planned = plan(self.options.seed, self.options.length);
        let mut under_way: FuturesUnordered<_> =
            planned.iter().map(|planned| self.fault(stage, planned, began)).collect();
        let mut happened = Vec::new();
        while let Some(faults) = under_way.next().await {
            happened.extend(faults?);
        }
        happened.sort_by_key(|fault: &Fault| fault.from);
        // The last quiet window belongs to the run, and is one, however long faults have lasted.
        let quiet = tokio::time::Instant::now() + RECOVERY + CALM;
        tokio::time::sleep_until(quiet.max(began + self.options.length)).await;
        Ok(happened)
    }

    async fn fault(&self, stage: Stage<'_>, planned: &Planned, began: tokio::time::Instant) -> Result<Vec<Fault>> {
        tokio::time::sleep_until(began + planned.at).await;
        let faults = stage.happen(planned).await?;
        for fault in &faults {
            let (kind, lasted) = (serde_json::json!(fault.kind), (fault.until - fault.from) / 1_000);
            let ago = began.elapsed().as_secs_f64();
            (self.progress)(format!("{ago:6.1} s: {kind} {} {}, {lasted} ms", fault.subject, fault.detail));
        }
        Ok(faults)
    }

    /// Waits until everything due up to `until` is planned, has ended, and was told. What has not by then is for the
    /// checker to say.
    async fn quiet(&self, until: i64) -> Result<()> {
        let pool = &self.installation.pool;
        let seen = || async { collect::under_way(pool, until).await };
        if let Err(error) = eventually("it is quiet", QUIET, seen, |seen| *seen == Some((0, 0))).await {
            (self.progress)(format!("not quiet: {error}"));
        }
        Ok(())
    }
}
