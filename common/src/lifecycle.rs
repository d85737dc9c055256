//! How a process begins to stop and how it ends: signals, stop tokens and the tracker of every long-lived task.
//!
//! Input: SIGINT and SIGTERM, or [`Tasks::request_stop`]. Output: two tokens that loops watch ([`Stop`]), and one
//! result for the whole process ([`Tasks::wait`]). A task that ends while nobody asked for it (by returning, failing
//! or panicking) stops the process with a failure that names it: a process without one of its loops is worse than none.
//! SIGHUP ends nothing: it is passed on to who reads the configuration ([`crate::reload`]).

use std::any::Any;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long tasks may take to obey [`Stop::aborted`] before the process ends without them.
const ABORT_PATIENCE: Duration = Duration::from_secs(5);

/// The two stages of stopping, as a loop sees them.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// First signal: take nothing new, finish what runs.
    pub requested: CancellationToken,
    /// Second signal, or the end of the grace: cancel what runs and give it back. Follows `requested`, always.
    pub aborted: CancellationToken,
}

/// Every long-lived task of a process. Clones are handles to the same set.
#[derive(Clone, Debug)]
pub struct Tasks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tracker: TaskTracker,
    stop: Stop,
    grace: Duration,
    book: Mutex<Book>,
}

/// What the end of the process will be reported from.
#[derive(Debug, Default)]
struct Book {
    /// How many tasks run, by name.
    running: BTreeMap<&'static str, usize>,
    /// The first failure: what came after it is usually its consequence.
    failure: Option<anyhow::Error>,
}

impl Tasks {
    /// An empty set; after a stop is requested, tasks have `grace` to finish before they are aborted.
    pub fn new(grace: Duration) -> Self {
        Self(Arc::new(Inner { tracker: TaskTracker::new(), stop: Stop::default(), grace, book: Mutex::default() }))
    }

    /// Runs `task` until it ends, which it may only do after a stop was requested.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.spawn_until(name, self.0.stop.requested.clone(), task);
    }

    /// Runs `task` until it ends, which it may only do after `dismissed` was cancelled or a stop was requested.
    pub fn spawn_until<F>(&self, name: &'static str, dismissed: CancellationToken, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        *self.book().running.entry(name).or_default() += 1;
        let tasks = self.clone();
        self.0.tracker.spawn(async move {
            let ended = AssertUnwindSafe(task).catch_unwind().await;
            tasks.ended(name, &dismissed, ended);
        });
    }

    /// The tokens that loops watch.
    pub fn stop(&self) -> Stop {
        self.0.stop.clone()
    }

    /// Asks every task to take nothing new and to finish.
    pub fn request_stop(&self) {
        self.0.stop.requested.cancel();
    }

    /// Asks every task to give up what it is doing.
    pub fn abort(&self) {
        self.request_stop();
        self.0.stop.aborted.cancel();
    }

    /// Waits for a stop to be requested and for every task to end; the result is the process's.
    pub async fn wait(&self) -> anyhow::Result<()> {
        let Inner { tracker, stop, grace, .. } = &*self.0;
        stop.requested.cancelled().await;
        tracker.close();
        tokio::select! {
            () = tracker.wait() => {}
            () = stop.aborted.cancelled() => {}
            () = tokio::time::sleep(*grace) => {
                tracing::warn!(tasks = self.running(), grace_seconds = grace.as_secs_f64(), "grace ended, aborting tasks");
            }
        }
        stop.aborted.cancel();
        if tokio::time::timeout(ABORT_PATIENCE, tracker.wait()).await.is_err() {
            self.fail(anyhow!("did not end within {ABORT_PATIENCE:?} of being aborted: {}", self.running()));
        }
        self.book().failure.take().map_or(Ok(()), Err)
    }

    fn ended(
        &self,
        name: &'static str,
        dismissed: &CancellationToken,
        ended: Result<anyhow::Result<()>, Box<dyn Any + Send>>,
    ) {
        {
            let mut book = self.book();
            if let Some(count) = book.running.get_mut(name) {
                *count -= 1;
            }
            book.running.retain(|_, count| *count > 0);
        }
        match ended {
            Ok(Ok(())) if dismissed.is_cancelled() || self.0.stop.requested.is_cancelled() => {}
            Ok(Ok(())) => self.fail(anyhow!("task `{name}` ended, although nobody asked it to")),
            Ok(Err(error)) => self.fail(error.context(format!("task `{name}` failed"))),
            Err(panic) => self.fail(anyhow!("task `{name}` panicked: {}", panic_text(&*panic))),
        }
    }

    fn fail(&self, error: anyhow::Error) {
        tracing::error!(error = format!("{error:#}"), "process is stopping after a failure");
        self.book().failure.get_or_insert(error);
        self.request_stop();
    }

    fn running(&self) -> String {
        self.book().running.keys().copied().collect::<Vec<_>>().join(", ")
    }

    // The book holds plain values that no panic can leave half-written, so a poisoned lock is still good.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// SIGINT, SIGTERM and SIGHUP, caught from the moment this is made.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Catches them; fails only where the kernel refuses a handler.
    pub fn catch() -> anyhow::Result<Self> {
        let catch = |kind| -> io::Result<Signal> { signal(kind) };
        let interrupt = catch(SignalKind::interrupt()).context("cannot catch SIGINT")?;
        let terminate = catch(SignalKind::terminate()).context("cannot catch SIGTERM")?;
        let hangup = catch(SignalKind::hangup()).context("cannot catch SIGHUP")?;
        Ok(Self { interrupt, terminate, hangup })
    }

    /// Waits for the first signal that asks for an end; says which.
    pub async fn end(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }

    /// Passes signals on for ever: SIGHUP to `hangup`; of the others, the first requests a stop of `tasks` and any later
    /// one aborts them.
    pub async fn drive(mut self, tasks: &Tasks, hangup: &Notify) -> Infallible {
        loop {
            let name = tokio::select! {
                _ = self.interrupt.recv() => "SIGINT",
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.hangup.recv() => {
                    hangup.notify_one();
                    continue;
                }
            };
            if tasks.0.stop.requested.is_cancelled() {
                tracing::warn!(signal = name, "second signal, aborting tasks");
                tasks.abort();
            } else {
                tracing::info!(signal = name, "stopping: finishing what runs");
                tasks.request_stop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn message(result: anyhow::Result<()>) -> String {
        result.err().map(|error| format!("{error:#}")).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_requested_end_is_no_failure_and_waits_for_what_runs() {
        let tasks = Tasks::new(LONG);
        let (stop, done) = (tasks.stop(), CancellationToken::new());
        let finished = done.clone();
        tasks.spawn("loop", async move {
            stop.requested.cancelled().await;
            tokio::task::yield_now().await;
            finished.cancel();
            Ok(())
        });
        tasks.request_stop();
        assert!(tasks.wait().await.is_ok());
        assert!(done.is_cancelled());
    }

    #[tokio::test]
    async fn a_loop_that_fails_panics_or_just_ends_stops_the_process_and_is_named() {
        let tasks = Tasks::new(LONG);
        tasks.spawn("quiet", async { Ok(()) });
        assert_eq!(message(tasks.wait().await), "task `quiet` ended, although nobody asked it to");

        let tasks = Tasks::new(LONG);
        let stop = tasks.stop();
        tasks.spawn("bystander", async move {
            stop.requested.cancelled().await;
            Ok(())
        });
        tasks.spawn("broken", async { Err(anyhow!("disk full").context("cannot write")) });
        assert_eq!(message(tasks.wait().await), "task `broken` failed: cannot write: disk full");

        let tasks = Tasks::new(LONG);
        tasks.spawn("wild", async { panic!("index {} is out of bounds", 7) });
        assert_eq!(message(tasks.wait().await), "task `wild` panicked: index 7 is out of bounds");
    }

    #[tokio::test]
    async fn a_dismissed_task_may_end_but_not_fail_while_the_others_go_on() {
        let (tasks, dismissed) = (Tasks::new(LONG), CancellationToken::new());
        let (asked, ended) = (dismissed.clone(), CancellationToken::new());
        let guard = ended.clone().drop_guard();
        tasks.spawn_until("lane", dismissed.clone(), async move {
            let _guard = guard;
            asked.cancelled().await;
            Ok(())
        });
        dismissed.cancel();
        ended.cancelled().await;
        tokio::task::yield_now().await;
        assert!(!tasks.stop().requested.is_cancelled());
        tasks.spawn_until("lane", dismissed, async { Err(anyhow!("no connection")) });
        assert_eq!(message(tasks.wait().await), "task `lane` failed: no connection");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_grace_aborts_what_still_runs() {
        let tasks = Tasks::new(LONG);
        let (stop, began) = (tasks.stop(), tokio::time::Instant::now());
        tasks.spawn("slow", async move {
            stop.aborted.cancelled().await;
            Ok(())
        });
        tasks.request_stop();
        assert!(tasks.wait().await.is_ok());
        assert_eq!(began.elapsed(), LONG);
    }

    #[tokio::test]
    async fn a_second_request_does_not_wait_for_the_grace() {
        let tasks = Tasks::new(LONG);
        let stop = tasks.stop();
        tasks.spawn("slow", async move {
            stop.aborted.cancelled().await;
            Ok(())
        });
        tasks.request_stop();
        tasks.abort();
        assert!(tasks.wait().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ignores_everything_is_left_behind_by_name() {
        let tasks = Tasks::new(LONG);
        tasks.spawn("deaf", std::future::pending());
        tasks.abort();
        assert_eq!(message(tasks.wait().await), "did not end within 5s of being aborted: deaf");
    }
}
