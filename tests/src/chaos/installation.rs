//! What a chaos run breaks: three NATS nodes, PostgreSQL for the state, another one that alerts query, a webhook receiver,
//! and eight members, each with a road of its own to every server.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use anyhow::{Context, Result, bail};
use sqlsentinel_common::health::HealthReport;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::files::{SHARED, file_of};
use super::schedule::Link;
use crate::cluster::Role;
use crate::ledger::Ledger;
use crate::nats_cluster::{NODES, NatsCluster};
use crate::ports;
use crate::postgres::Postgres;
use crate::process::{Launch, Proc};
use crate::programs;
use crate::proxy::{Proxy, Road};
use crate::sink::Sink;
use crate::target::Target;

const MEMBERS: [(Role, usize); 3] = [(Role::Coordinator, 3), (Role::Worker, 3), (Role::Notifier, 2)];

/// Everything, and its surroundings.
#[derive(Debug)]
pub struct Installation {
    // Members end before the servers they talk to.
    /// Coordinators first, then workers, then notifiers.
    pub members: Vec<Member>,
    /// The bus. Whoever changes something about its nodes holds this.
    pub nats: Mutex<NatsCluster>,
    /// The state database's server. Whoever changes something about it, or about roads to it, holds this.
    pub state: Mutex<Postgres>,
    /// A pool on the state database, past all proxies.
    pub pool: PgPool,
    /// The same database, for what tests read of it.
    pub ledger: Ledger,
    /// The database that alerts query.
    pub target: Target,
    /// Its server.
    pub target_server: Postgres,
    /// Where notifications arrive. Whoever changes its answers holds this.
    pub sink: Mutex<Sink>,
    directory: TempDir,
}

/// One of our processes.
#[derive(Debug)]
pub struct Member {
    /// `coordinator-1` and so on.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// The process; whoever does something to it, to its roads or its clock holds this.
    pub process: Mutex<Option<Proc>>,
    /// Where its pages are.
    pub address: String,
    launch: Launch,
    roads: Vec<(Link, Proxy)>,
    clock: PathBuf,
    /// Of all the processes that it was.
    pids: std::sync::Mutex<Vec<i32>>,
}

impl Installation {
    /// Starts the servers, and no member yet.
    pub async fn set_up() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("sqlsentinel-chaos-").tempdir()?;
        let (nats, state, target_server) =
            tokio::try_join!(NatsCluster::start(directory.path()), Postgres::start(), Postgres::start())?;
        let sink = Sink::start().await?;
        let target = Target::postgres(&target_server).await?;
        let state_url = state.create_database("state").await?;
        let pool = PgPoolOptions::new().max_connections(4).connect_lazy(&state_url)?;
        let mut members = Vec::new();
        for (role, count) in MEMBERS {
            for number in 1..=count {
                let surroundings = Surroundings { nats: &nats, state: &state_url, target: target.url(), sink: &sink };
                members.push(Member::new(role, number, directory.path(), &surroundings).await?);
            }
        }
        Ok(Self {
            members,
            nats: Mutex::new(nats),
            state: Mutex::new(state),
            pool,
            ledger: Ledger::open(&state_url)?,
            target,
            target_server,
            sink: Mutex::new(sink),
            directory,
        })
    }

    /// The folder of configurations and logs.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Lets the folder outlive the run.
    pub fn keep(&mut self) {
        self.directory.disable_cleanup(true);
    }

    /// The names of a role's members.
    pub fn names(&self, role: Role) -> Vec<String> {
        self.members.iter().filter(|member| member.role == role).map(|member| member.name.clone()).collect()
    }

    /// Fails if a member that nobody holds has ended by itself.
    pub fn all_alive(&self) -> Result<()> {
        for member in &self.members {
            let Ok(process) = member.process.try_lock() else { continue };
            if let Some(process) = process.as_ref()
                && let Some(status) = process.ended()?
            {
                bail!("{} has ended by itself ({status}):\n{}", member.name, end_of(&process.log()?));
            }
        }
        Ok(())
    }

    /// Starts every member.
    pub async fn start(&self) -> Result<()> {
        for member in &self.members {
            *member.process.lock().await = Some(member.start()?);
        }
        Ok(())
    }
}

struct Surroundings<'a> {
    nats: &'a NatsCluster,
    state: &'a str,
    target: &'a str,
    sink: &'a Sink,
}

impl Member {
    async fn new(role: Role, number: usize, directory: &Path, around: &Surroundings<'_>) -> Result<Self> {
        let name = format!("{}-{number}", role.name());
        let mut roads = Vec::new();
        let mut nats_urls = Vec::new();
        for node in 0..NODES {
            let proxy = Proxy::to(&around.nats.address(node)).await?;
            nats_urls.push(format!("nats://{}", proxy.address()));
            roads.push((Link::Nats, proxy));
        }
        let clock = directory.join(format!("{name}.clock"));
        std::fs::write(&clock, "+0\n")?;
        let address = format!("127.0.0.1:{}", ports::free()?);
        let file = if role == Role::Coordinator { file_of(&name) } else { SHARED.to_owned() };
        let mut env = vec![
            ("CONFIG_PATH", directory.join(file).display().to_string()),
            ("NATS_URL", nats_urls.join(",")),
            ("SQLSENTINEL_NODE", name.clone()),
            ("LISTEN", address.clone()),
            ("RUST_BACKTRACE", "1".to_owned()),
            // Short, so that a run has many terms, and what is lost is found again within its quiet windows.
            ("SQLSENTINEL_LEASE_TTL_SECONDS", "2".to_owned()),
            ("SQLSENTINEL_RESCUE_SECONDS", "2".to_owned()),
            ("SQLSENTINEL_CLAIM_LEASE_SECONDS", "15".to_owned()),
            ("SQLSENTINEL_QUEUE_ALLOWANCE_SECONDS", "60".to_owned()),
            ("SQLSENTINEL_NATS_REPLICAS", NODES.to_string()),
            ("LD_PRELOAD", programs::libfaketime()?.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
            // The file is looked at once a second. Clocks that measure durations are never stepped on a real machine.
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        if role == Role::Worker {
            let (url, proxy) = by_proxy(around.target).await?;
            env.push(("TARGET_URL", url));
            roads.push((Link::Target, proxy));
        } else {
            let (url, proxy) = by_proxy(around.state).await?;
            env.push(("STATE_DB_URL", url));
            roads.push((Link::State, proxy));
        }
        if role == Role::Notifier {
            env.push(("SINK_URL", around.sink.url("hook")));
        }
        let mut launch = Launch::new(&name, programs::ours(&format!("sqlsentinel-{}", role.name()))?, directory);
        launch.env = env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(Self {
            name,
            role,
            process: Mutex::default(),
            address,
            launch,
            roads,
            clock,
            pids: std::sync::Mutex::default(),
        })
    }

    /// Starts it; its output goes on in the same log.
    pub fn start(&self) -> Result<Proc> {
        let process = self.launch.start()?;
        self.pids.lock().unwrap_or_else(PoisonError::into_inner).push(process.pid());
        Ok(process)
    }

    /// Whether it has a road of this kind.
    pub fn has(&self, link: Link) -> bool {
        self.roads.iter().any(|(kind, _)| *kind == link)
    }

    /// Sets what becomes of its traffic to one kind of server.
    pub fn set(&self, link: Link, road: Road) {
        self.roads.iter().filter(|(kind, _)| *kind == link).for_each(|(_, proxy)| proxy.set(road));
    }

    /// How often its traffic to one kind of server was hindered so far.
    pub fn hindered(&self, link: Link) -> u64 {
        self.roads.iter().filter(|(kind, _)| *kind == link).map(|(_, proxy)| proxy.hindered()).sum()
    }

    /// Sets its wall clock off by so many seconds, within a second or two.
    pub fn set_clock(&self, seconds: i64) -> Result<()> {
        let fresh = self.clock.with_extension("new");
        std::fs::write(&fresh, format!("{seconds:+}\n"))?;
        Ok(std::fs::rename(&fresh, &self.clock)?)
    }

    /// What its pages say the time is, in microseconds since the Unix epoch.
    pub async fn wall_clock(&self) -> Result<i64> {
        // The first of a process installs it; the others find it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let text = reqwest::get(format!("http://{}/health", self.address)).await?.text().await?;
        let report: HealthReport = serde_json::from_str(&text)?;
        Ok(report.timestamp.as_micros())
    }
}

impl Drop for Member {
    /// Removes what the faked clocks of killed processes leave in shared memory.
    fn drop(&mut self) {
        *self.process.get_mut() = None;
        for pid in self.pids.get_mut().unwrap_or_else(PoisonError::into_inner) {
            for file in [format!("faketime_shm_{pid}"), format!("sem.faketime_sem_{pid}")] {
                // A process that ended by itself has removed its own.
                let _ = std::fs::remove_file(Path::new("/dev/shm").join(file));
            }
        }
    }
}

/// The last lines of a log.
pub fn end_of(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// A URL's server by way of a proxy, and the proxy.
async fn by_proxy(url: &str) -> Result<(String, Proxy)> {
    let (login, rest) = url.split_once('@').context("a URL without a user")?;
    let (server, database) = rest.split_once('/').context("a URL without a database")?;
    let proxy = Proxy::to(server).await?;
    Ok((format!("{login}@{}/{database}", proxy.address()), proxy))
}
