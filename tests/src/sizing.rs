//! What an installation needs of the machine under a load: processor time and memory of each process, and bytes in the
//! state database. `./scripts/sizing` runs it with programs that are built for release.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::cluster::{Cluster, Plan, Role, State};
use crate::eventually::eventually;
use crate::process;
use crate::scene::Scene;
use crate::usage;

/// The load.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many alerts there are.
    pub alerts: u32,
    /// How many seconds lie between two fires of each.
    pub every: u32,
    /// For how long it is measured.
    pub length: Duration,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// How many alerts there were.
    pub alerts: u32,
    /// For how many seconds it was measured.
    pub seconds: f64,
    /// Runs in that time.
    pub runs: i64,
    /// Runs a second.
    pub runs_per_second: f64,
    /// Each process by its name, the servers among them.
    pub processes: BTreeMap<String, Use>,
    /// By how many bytes the state database grew for each run, indexes included.
    pub state_bytes_per_run: f64,
}

/// What one process used.
#[derive(Debug, Serialize)]
pub struct Use {
    /// Milliseconds of processor time, its children's included, for a thousand runs of the whole cluster.
    pub cpu_ms_per_1000_runs: f64,
    /// The most memory that it had, in megabytes, its children's excluded.
    pub memory_mb: u64,
}

/// Runs the load on two of each service, over PostgreSQL and one NATS server, and measures.
pub async fn run(options: &Options, progress: &(dyn Fn(String) + Sync)) -> Result<Report> {
    // The first fires are due within one period; the rest is for a slow machine.
    let patience = Duration::from_secs(u64::from(options.every) + 120);
    process::live_at_most(options.length + patience * 2);
    let plan = [Role::Coordinator, Role::Worker, Role::Notifier]
        .iter()
        .fold(Plan::new(State::Postgres), |plan, role| plan.with(*role, 2));
    let mut scene = Scene::set_apart(plan.env("LOG_LEVEL", "INFO")).await?;
    scene.target.set("load", "OK", 1).await?;
    let (schedule, jitter) = (format!("every {}s", options.every), format!("{}s", options.every));
    let configuration = (0..options.alerts).fold(scene.configuration(), |configuration, number| {
        let keys = [("jitter", jitter.as_str())];
        configuration.alert_with(&format!("alert_{number:06}"), &schedule, &scene.target.query("load"), &keys)
    });
    scene.play(&configuration)?;

    progress(format!("waiting until {} alerts have run once", options.alerts));
    let ran = || async { runs(&scene.cluster).await };
    eventually("every alert has run", patience, ran, |ran| *ran >= i64::from(options.alerts)).await?;
    progress(format!("measuring for {} s", options.length.as_secs()));
    let (began, before) = (Instant::now(), Seen::of(&scene.cluster).await?);
    tokio::time::sleep(options.length).await;
    let after = Seen::of(&scene.cluster).await?;
    scene.cluster.all_alive()?;
    before.until(after, began.elapsed(), options.alerts)
}

async fn runs(cluster: &Cluster) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT COUNT(*) FROM sqlsentinel_executions").fetch_one(cluster.ledger.pool()).await?)
}

/// The cluster at one moment.
struct Seen {
    runs: i64,
    state_bytes: i64,
    /// By name: processor time so far, and the most memory in megabytes.
    processes: BTreeMap<String, (Duration, u64)>,
}

impl Seen {
    async fn of(cluster: &Cluster) -> Result<Self> {
        let mut pids = BTreeMap::new();
        for name in cluster.names(None) {
            let pid = cluster.process(&name)?.pid();
            pids.insert(name, pid);
        }
        pids.insert("nats-server".to_owned(), cluster.nats.pid().context("NATS runs")?);
        let state = cluster.postgres.as_ref().context("state is on PostgreSQL")?;
        pids.insert("postgres (state)".to_owned(), state.pid().context("PostgreSQL runs")?);
        let processes = pids.into_iter().map(|(name, pid)| Ok((name, (usage::cpu(pid)?, usage::memory(pid)?.most))));
        let size = "SELECT pg_database_size(current_database())";
        Ok(Self {
            processes: processes.collect::<Result<_>>()?,
            runs: runs(cluster).await?,
            state_bytes: sqlx::query_scalar(size).fetch_one(cluster.ledger.pool()).await?,
        })
    }

    fn until(&self, after: Self, length: Duration, alerts: u32) -> Result<Report> {
        let runs = after.runs - self.runs;
        ensure!(runs > 0, "nothing ran while it was measured");
        let mut processes = BTreeMap::new();
        for (name, (cpu, memory_mb)) in after.processes {
            let (before, _) = self.processes.get(&name).with_context(|| format!("{name} was not there before"))?;
            let cpu = cpu.saturating_sub(*before).as_secs_f64();
            processes.insert(name, Use { cpu_ms_per_1000_runs: cpu * 1e6 / runs as f64, memory_mb });
        }
        Ok(Report {
            alerts,
            seconds: length.as_secs_f64(),
            runs,
            runs_per_second: runs as f64 / length.as_secs_f64(),
            processes,
            state_bytes_per_run: (after.state_bytes - self.state_bytes) as f64 / runs as f64,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { alerts, seconds, runs, runs_per_second, state_bytes_per_run, .. } = self;
        writeln!(f, "{alerts} alerts, {runs} runs in {seconds:.0} s ({runs_per_second:.1} a second)")?;
        writeln!(f, "state database: {state_bytes_per_run:.0} bytes a run")?;
        writeln!(f, "{:<20} {:>22} {:>12}", "process", "CPU ms per 1,000 runs", "memory MB")?;
        for (name, Use { cpu_ms_per_1000_runs, memory_mb }) in &self.processes {
            writeln!(f, "{name:<20} {cpu_ms_per_1000_runs:>22.0} {memory_mb:>12}")?;
        }
        Ok(())
    }
}
