//! Real processes, each owned by the test that started it: started in a clean environment with its output in a file,
//! frozen, terminated or killed by pid, and gone when its owner is dropped.
//!
//! Three things see to it that none is left: the owner's `Drop`; the kernel, which signals a child when its test
//! process ends in any way (`setpriv --pdeathsig`); and a limit on every process's life.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use crate::eventually::{SOON, eventually};

/// No process lives longer than this, whatever its test does; in seconds.
static LIFE: AtomicU64 = AtomicU64::new(300);
/// How long a process may take to end by its own signal before it is killed.
const FAREWELL: Duration = Duration::from_secs(5);

/// Sets how long a process may live, whatever its test does: 300 s unless this is called. It holds for the whole test
/// process, also for what has been started already.
pub fn live_at_most(limit: Duration) {
    LIFE.store(limit.as_secs(), Ordering::Relaxed);
}

/// What to start, and how.
#[derive(Clone, Debug)]
pub struct Launch {
    /// What messages call it.
    pub name: String,
    /// The program's file.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment, apart from `PATH` and `HOME`.
    pub env: Vec<(String, String)>,
    /// Its working directory, and its `HOME`.
    pub directory: PathBuf,
    /// Where its output goes; a restart appends.
    pub log: PathBuf,
    /// The user it runs as, if not ours: servers that refuse to run as root.
    pub user: Option<String>,
    /// The signal that ends it for good when its owner goes away.
    pub end: Signal,
}

impl Launch {
    /// A program that runs in `directory`, logs to `<directory>/<name>.log` and is ended by SIGKILL.
    pub fn new(name: &str, program: PathBuf, directory: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program,
            args: Vec::new(),
            env: Vec::new(),
            directory: directory.to_path_buf(),
            log: directory.join(format!("{name}.log")),
            user: None,
            end: Signal::KILL,
        }
    }

    /// Adds arguments.
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Starts it.
    pub fn start(&self) -> Result<Proc> {
        let output = self.open_log()?;
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig").arg(if self.end == Signal::QUIT { "QUIT" } else { "KILL" });
        if let Some(user) = &self.user {
            command.arg(format!("--reuid={user}")).arg(format!("--regid={user}")).arg("--init-groups");
        }
        command.arg("--").arg(&self.program).args(&self.args);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", &self.directory);
        command.envs(self.env.iter().map(|(key, value)| (key, value))).current_dir(&self.directory);
        // A group of its own: an interrupt from the terminal reaches the test alone, whose end then reaches the child.
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = spawner().spawn(command).with_context(|| format!("cannot start {}", self.program.display()))?;
        let pid = i32::try_from(lock(&child).id()).ok().and_then(Pid::from_raw).context("a process without a pid")?;
        Ok(Proc { name: self.name.clone(), log: self.log.clone(), end: self.end, pid, child })
    }

    fn open_log(&self) -> Result<File> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("cannot write {}", self.log.display()))
    }
}

/// A process that was started. Dropping it ends it.
#[derive(Debug)]
pub struct Proc {
    name: String,
    log: PathBuf,
    end: Signal,
    pid: Pid,
    child: Arc<Mutex<Child>>,
}

impl Proc {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Everything it (and what ran before it under this name) has written.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.log)?).into_owned())
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Result<Option<ExitStatus>> {
        Ok(lock(&self.child).try_wait()?)
    }

    /// Sends a signal, unless it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // Under the lock nobody else reaps the child, so the pid is still this process's.
        let mut child = lock(&self.child);
        match child.try_wait()? {
            Some(status) => Err(anyhow!("{} has ended already ({status})", self.name)),
            None => Ok(kill_process(self.pid, signal)?),
        }
    }

    /// Stops it where it stands (SIGSTOP), and waits until it does stand.
    pub async fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let state = || async { Ok(std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?) };
        eventually("the process stands still", SOON, state, |stat| stat.contains(") T ")).await?;
        Ok(())
    }

    /// Lets it go on after [`Proc::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub async fn kill(&self) -> Result<ExitStatus> {
        self.signal(Signal::KILL)?;
        self.wait(SOON).await
    }

    /// Asks it to stop (SIGTERM) and waits until it has.
    pub async fn terminate(&self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(SOON).await
    }

    /// Waits for its end.
    pub async fn wait(&self, deadline: Duration) -> Result<ExitStatus> {
        let awaited = format!("{} ends", self.name);
        let status = eventually(&awaited, deadline, || async { self.ended() }, Option::is_some).await?;
        status.with_context(|| format!("{} did not end", self.name))
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        let mut child = lock(&self.child);
        if let Ok(Some(_)) = child.try_wait() {
            return;
        }
        if self.end != Signal::KILL && kill_process(self.pid, self.end).is_ok() {
            let began = Instant::now();
            while began.elapsed() < FAREWELL {
                if let Ok(Some(_)) = child.try_wait() {
                    return;
                }
                std::thread::park_timeout(Duration::from_millis(5));
            }
        }
        // Nothing can be done about a failure here, and the kernel's own signal follows at the test's end.
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn lock(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread that starts all processes. The kernel signals a child when the *thread* that started it ends, so it has
/// to be one that ends with the test process and not before.
struct Spawner {
    requests: Mutex<SyncSender<Request>>,
}

struct Request {
    command: Command,
    answer: SyncSender<io::Result<Arc<Mutex<Child>>>>,
}

impl Spawner {
    fn spawn(&self, command: Command) -> Result<Arc<Mutex<Child>>> {
        let (answer, answered) = sync_channel(1);
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        requests.send(Request { command, answer }).map_err(|_| anyhow!("the starting thread has ended"))?;
        Ok(answered.recv().context("the starting thread has ended")??)
    }
}

#[expect(clippy::disallowed_methods, reason = "this thread must outlive every test and every runtime of the process")]
fn spawner() -> &'static Spawner {
    static SPAWNER: OnceLock<Spawner> = OnceLock::new();
    SPAWNER.get_or_init(|| {
        let (requests, incoming) = sync_channel(16);
        std::thread::spawn(move || serve(&incoming));
        Spawner { requests: Mutex::new(requests) }
    })
}

fn serve(incoming: &Receiver<Request>) {
    let mut children: Vec<(Instant, Weak<Mutex<Child>>)> = Vec::new();
    loop {
        match incoming.recv_timeout(Duration::from_secs(1)) {
            Ok(Request { mut command, answer }) => {
                let child = command.spawn().map(|child| Arc::new(Mutex::new(child)));
                if let Ok(child) = &child {
                    children.push((Instant::now(), Arc::downgrade(child)));
                }
                // Nobody waits any more: the child is dropped, and its limit of life was noted.
                let _ = answer.send(child);
            }
            Err(RecvTimeoutError::Timeout) => children.retain(|(began, child)| within_life(*began, child)),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Ends a process whose life is over; says whether it still has to be watched.
fn within_life(began: Instant, child: &Weak<Mutex<Child>>) -> bool {
    let Some(child) = child.upgrade() else { return false };
    if began.elapsed().as_secs() < LIFE.load(Ordering::Relaxed) {
        return true;
    }
    // It may have ended just now; a killed child is reaped by its owner.
    let _ = lock(&child).kill();
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(directory: &Path, script: &str) -> Launch {
        Launch::new("shell", PathBuf::from("/bin/sh"), directory).args(["-c", script])
    }

    fn exists(pid: i32) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[tokio::test]
    async fn output_goes_to_the_log_and_a_restart_appends() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let launch = shell(directory.path(), "echo once; echo twice >&2; exit 3");
        assert_eq!(launch.start()?.wait(SOON).await?.code(), Some(3));
        let second = launch.start()?;
        second.wait(SOON).await?;
        assert_eq!(second.log()?, "once\ntwice\nonce\ntwice\n");
        Ok(())
    }

    #[tokio::test]
    async fn a_process_is_gone_when_its_owner_is_dropped_even_if_it_was_frozen() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let process = shell(directory.path(), "exec sleep 100").start()?;
        let pid = process.pid();
        process.freeze().await?;
        assert!(exists(pid));
        drop(process);
        assert!(!exists(pid));
        Ok(())
    }

    #[tokio::test]
    async fn a_frozen_process_goes_on_when_it_is_thawed_and_then_obeys() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let process = shell(directory.path(), "trap 'exit 7' TERM; while :; do sleep 0.01; done").start()?;
        process.freeze().await?;
        process.signal(Signal::TERM)?;
        assert!(process.ended()?.is_none());
        process.thaw()?;
        // The trap may not have been set before the freeze: the default is to die by the signal.
        assert!(process.wait(SOON).await?.code().is_none_or(|code| code == 7));
        assert!(process.signal(Signal::TERM).is_err(), "a process that ended must not be signalled");
        Ok(())
    }

    #[tokio::test]
    async fn nothing_of_our_environment_leaks_into_a_process() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let mut launch = shell(directory.path(), "env");
        launch.env = vec![("GIVEN".to_owned(), "yes".to_owned())];
        let process = launch.start()?;
        process.wait(SOON).await?;
        let mut names: Vec<String> =
            process.log()?.lines().filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect();
        names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(&name.as_str()));
        names.sort();
        assert_eq!(names, ["GIVEN", "HOME", "PATH"]);
        Ok(())
    }
}
