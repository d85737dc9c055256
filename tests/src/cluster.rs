//! A whole installation: coordinators, workers and notifiers as separate processes over one NATS and one state
//! database, each of which can be killed, frozen, stopped and started again by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::eventually::{SOON, eventually};
use crate::ledger::{Leadership, Ledger};
use crate::nats::Nats;
use crate::ports;
use crate::postgres::Postgres;
use crate::process::{Launch, Proc};
use crate::programs;
use crate::proxy::Proxy;

/// What a member of the cluster does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Plans.
    Coordinator,
    /// Runs queries.
    Worker,
    /// Judges outcomes and sends notifications.
    Notifier,
}

impl Role {
    /// As in the names of programs and members.
    pub fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Worker => "worker",
            Self::Notifier => "notifier",
        }
    }
}

/// Which state database a cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A file of the cluster's own.
    Sqlite,
    /// A database on the cluster's own server.
    Postgres,
}

/// What a member reaches over a road of its own, which a test may cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Far {
    /// The bus.
    Nats,
    /// The state database, on PostgreSQL.
    StateDatabase,
}

/// A plan of a cluster; [`Plan::servers`] makes it real.
#[derive(Clone, Debug)]
pub struct Plan {
    state: State,
    members: [(Role, usize); 3],
    env: Vec<(String, String)>,
}

impl Plan {
    /// One coordinator, one worker and one notifier over this kind of state database.
    pub fn new(state: State) -> Self {
        Self { state, members: [(Role::Coordinator, 1), (Role::Worker, 1), (Role::Notifier, 1)], env: Vec::new() }
    }

    /// Sets how many there are of one role.
    pub fn with(mut self, role: Role, count: usize) -> Self {
        for member in &mut self.members {
            if member.0 == role {
                member.1 = count;
            }
        }
        self
    }

    /// Adds a variable to every member's environment.
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// Starts the servers, and no member yet: what alerts query has to be there before the configuration.
    pub async fn servers(self) -> Result<Cluster> {
        let directory = tempfile::Builder::new().prefix("sqlsentinel-cluster-").tempdir()?;
        let nats = Nats::start().await?;
        let (state_url, reader_url, postgres) = match self.state {
            State::Sqlite => {
                let path = directory.path().join("state.db").display().to_string();
                (format!("sqlite:///{path}"), format!("sqlite://{path}?mode=rw"), None)
            }
            State::Postgres => {
                let server = Postgres::start().await?;
                // The server trusts everybody: the password is there to be found where it must not be.
                let url = server.create_database("state").await?.replacen('@', ":canary-state@", 1);
                (url.clone(), url, Some(server))
            }
        };
        let mut cluster = Cluster {
            members: BTreeMap::new(),
            ledger: Ledger::open(&reader_url)?,
            config: directory.path().join("alerts.yaml"),
            nats,
            postgres,
            directory,
        };
        for (role, count) in self.members {
            for number in 1..=count {
                cluster.add(role, number, &state_url, &self.env)?;
            }
        }
        Ok(cluster)
    }
}

#[derive(Debug)]
struct Member {
    role: Role,
    launch: Launch,
    address: String,
    process: Option<Proc>,
}

/// An installation under test. Its members are named `coordinator-1`, `worker-2` and so on; dropping it ends them all
/// and shows the end of their logs, which the test runner prints if the test has failed.
#[derive(Debug)]
pub struct Cluster {
    // Members end before the servers they talk to.
    members: BTreeMap<String, Member>,
    /// The state database, for assertions.
    pub ledger: Ledger,
    config: PathBuf,
    /// The NATS server.
    pub nats: Nats,
    /// The state database's server, if it has one.
    pub postgres: Option<Postgres>,
    directory: TempDir,
}

impl Cluster {
    fn add(&mut self, role: Role, number: usize, state_url: &str, env: &[(String, String)]) -> Result<()> {
        let name = format!("{}-{number}", role.name());
        let address = format!("127.0.0.1:{}", ports::free()?);
        let mut launch = Launch::new(&name, programs::ours(&format!("sqlsentinel-{}", role.name()))?, self.directory());
        for (key, value) in [
            ("CONFIG_PATH", self.config.display().to_string()),
            ("NATS_URL", self.nats.url()),
            ("STATE_DB_URL", state_url.to_owned()),
            ("SQLSENTINEL_NODE", name.clone()),
            ("LISTEN", address.clone()),
            ("LOG_LEVEL", "DEBUG".to_owned()),
            ("RUST_BACKTRACE", "1".to_owned()),
        ] {
            launch.env.push((key.to_owned(), value));
        }
        launch.env.extend(env.iter().cloned());
        self.members.insert(name, Member { role, launch, address, process: None });
        Ok(())
    }

    /// A folder that lives as long as the cluster.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes the configuration that all members read when they start.
    pub fn configure(&self, yaml: &str) -> Result<()> {
        std::fs::write(&self.config, yaml).context("cannot write the configuration")
    }

    /// Writes a configuration for one member alone, which reads it from its next start on.
    pub fn configure_one(&mut self, name: &str, yaml: &str) -> Result<()> {
        let path = self.directory().join(format!("{name}.yaml"));
        std::fs::write(&path, yaml).context("cannot write the configuration")?;
        let member = self.members.get_mut(name).with_context(|| format!("no member {name}"))?;
        member.launch.env.retain(|(name, _)| name != "CONFIG_PATH");
        member.launch.env.push(("CONFIG_PATH".to_owned(), path.display().to_string()));
        Ok(())
    }

    /// Puts a proxy between one member and a server, from the member's next start on.
    pub async fn far(&mut self, name: &str, server: Far) -> Result<Proxy> {
        let variable = match server {
            Far::Nats => "NATS_URL",
            Far::StateDatabase => "STATE_DB_URL",
        };
        let member = self.members.get_mut(name).with_context(|| format!("no member {name}"))?;
        let url = member.launch.env.iter_mut().find(|(name, _)| name == variable).map(|(_, url)| url);
        let url = url.with_context(|| format!("{name} has no {variable}"))?;
        let begin = url.rfind("127.0.0.1:").with_context(|| format!("{variable} names no server of this machine"))?;
        let end = url[begin..].find('/').map_or(url.len(), |length| begin + length);
        let proxy = Proxy::to(&url[begin..end]).await?;
        url.replace_range(begin..end, &proxy.address());
        Ok(proxy)
    }

    /// From its next start on, lets a member have so many megabytes of memory of its own: it is refused any more.
    pub fn limit_memory(&mut self, name: &str, megabytes: u64) -> Result<()> {
        let member = self.members.get_mut(name).with_context(|| format!("no member {name}"))?;
        let program = std::mem::replace(&mut member.launch.program, PathBuf::from("prlimit"));
        let limit = [format!("--data={}", megabytes << 20).into(), "--".into(), program.into_os_string()];
        member.launch.args.splice(0..0, limit);
        Ok(())
    }

    /// Changes a variable of every member, which has it from its next start on.
    pub fn change_env(&mut self, name: &str, value: &str) {
        for member in self.members.values_mut() {
            member.launch.env.retain(|(known, _)| known != name);
            member.launch.env.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Starts every member that is not running.
    pub fn start(&mut self) -> Result<()> {
        for name in self.names(None) {
            if self.member(&name)?.process.is_none() {
                self.start_one(&name)?;
            }
        }
        Ok(())
    }

    /// Starts one member; its output goes on in the same log.
    pub fn start_one(&mut self, name: &str) -> Result<()> {
        let member = self.members.get_mut(name).with_context(|| format!("no member {name}"))?;
        if member.process.is_some() {
            bail!("{name} is running already");
        }
        member.process = Some(member.launch.start()?);
        Ok(())
    }

    /// The names of all members, or of one role's.
    pub fn names(&self, role: Option<Role>) -> Vec<String> {
        let of_role = self.members.iter().filter(|(_, member)| role.is_none_or(|role| member.role == role));
        of_role.map(|(name, _)| name.clone()).collect()
    }

    /// A running member's process.
    pub fn process(&self, name: &str) -> Result<&Proc> {
        self.member(name)?.process.as_ref().with_context(|| format!("{name} is not running"))
    }

    /// Whether a member was started and not ended by the test.
    pub fn is_running(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|member| member.process.is_some())
    }

    /// Fails if a member that was started has ended by itself.
    pub fn all_alive(&self) -> Result<()> {
        for (name, member) in &self.members {
            if let Some(status) = member.process.as_ref().map(Proc::ended).transpose()?.flatten() {
                bail!("{name} has ended by itself ({status})");
            }
        }
        Ok(())
    }

    /// Kills a member (SIGKILL).
    pub async fn kill(&mut self, name: &str) -> Result<ExitStatus> {
        self.take(name)?.kill().await
    }

    /// Kills all members of a role at the same time.
    pub async fn kill_all(&mut self, role: Role) -> Result<()> {
        let names = self.names(Some(role)).into_iter().filter(|name| self.is_running(name)).collect::<Vec<_>>();
        let processes = names.iter().map(|name| self.take(name)).collect::<Result<Vec<_>>>()?;
        for process in &processes {
            process.signal(crate::process::Signal::KILL)?;
        }
        for process in &processes {
            process.wait(SOON).await?;
        }
        Ok(())
    }

    /// Asks a member to stop (SIGTERM) and waits until it has.
    pub async fn terminate(&mut self, name: &str) -> Result<ExitStatus> {
        self.take(name)?.terminate().await
    }

    /// Lets go of a member that has ended by itself, so that it can be started again.
    pub fn forget(&mut self, name: &str) -> Result<()> {
        if self.process(name)?.ended()?.is_none() {
            bail!("{name} is still running");
        }
        self.take(name).map(drop)
    }

    /// What a member has written, restarts included.
    pub fn log(&self, name: &str) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.member(name)?.launch.log)?).into_owned())
    }

    /// Runs a member's program once more, with these arguments and the member's environment, and waits for its end.
    pub async fn run(&self, name: &str, args: &[&str]) -> Result<Ended> {
        once(self.member(name)?.launch.clone(), args).await
    }

    /// Runs `sqlsentinel-ctl` in the environment of an operator of this cluster.
    pub async fn ctl(&self, args: &[&str]) -> Result<Ended> {
        let (_, member) = self.members.first_key_value().context("a cluster without members")?;
        let mut launch = member.launch.clone();
        launch.program = programs::ours("sqlsentinel-ctl")?;
        launch.env.retain(|(name, _)| name != "LISTEN" && name != "SQLSENTINEL_NODE");
        once(launch, args).await
    }

    /// Where a member's HTTP listener is: `host:port`.
    pub fn address(&self, name: &str) -> Result<&str> {
        Ok(&self.member(name)?.address)
    }

    /// A page of a member's HTTP listener: status and text.
    pub async fn page(&self, name: &str, path: &str) -> Result<(u16, String)> {
        // The first of a process installs it; the others find it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let answer = reqwest::get(format!("http://{}{path}", self.address(name)?)).await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// A member's health report.
    pub async fn health(&self, name: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.page(name, "/health").await?.1)?)
    }

    /// Waits until some running coordinator leads, and returns its name and the ledger's row.
    pub async fn leader(&self) -> Result<(String, Leadership)> {
        let running = self.names(Some(Role::Coordinator));
        let running: Vec<_> = running.into_iter().filter(|name| self.is_running(name)).collect();
        let row = || async { self.ledger.leadership().await };
        let row = eventually("a coordinator leads", SOON, row, |row| running.contains(&row.holder)).await?;
        Ok((row.holder.clone(), row))
    }

    /// Waits until another coordinator than `former` leads, in a later epoch.
    pub async fn successor_of(&self, former: &Leadership) -> Result<(String, Leadership)> {
        let row = || async { self.ledger.leadership().await };
        let row = eventually("another coordinator leads", SOON, row, |row| row.epoch > former.epoch).await?;
        Ok((row.holder.clone(), row))
    }

    fn member(&self, name: &str) -> Result<&Member> {
        self.members.get(name).with_context(|| format!("no member {name}"))
    }

    fn take(&mut self, name: &str) -> Result<Proc> {
        let member = self.members.get_mut(name).with_context(|| format!("no member {name}"))?;
        member.process.take().with_context(|| format!("{name} is not running"))
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none if it died by a signal.
    pub code: Option<i32>,
    /// What it wrote, errors included.
    pub output: String,
}

async fn once(mut launch: Launch, args: &[&str]) -> Result<Ended> {
    let output = tempfile::NamedTempFile::new()?;
    launch.log = output.path().to_path_buf();
    let status = launch.args(args.iter().copied()).start()?.wait(SOON).await?;
    Ok(Ended { code: status.code(), output: std::fs::read_to_string(output.path())? })
}

impl Drop for Cluster {
    #[expect(clippy::print_stderr, reason = "the test runner shows it if the test has failed")]
    fn drop(&mut self) {
        for (name, member) in &self.members {
            let log = std::fs::read(&member.launch.log).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains(r#""level":"DEBUG""#)).collect();
            let end = lines.len().saturating_sub(25);
            eprintln!("--- {name}: the last of {} lines above DEBUG\n{}", lines.len(), lines[end..].join("\n"));
        }
    }
}
