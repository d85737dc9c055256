//! The connections of one source: at most so many at once, kept for the next run while they are young.
//!
//! Not the driver's pool, because a pool that waits for a database hides why it could not connect, tests connections
//! that the next statement tests anyway, and takes back connections that have not answered. Here a connection is
//! put back only by the run that saw it answer, and everything else is closed by being dropped.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

/// A connection that nobody used for this long is closed: firewalls forget it.
const MAX_IDLE: Duration = Duration::from_secs(5 * 60);
/// A connection is replaced at this age, so that a moved database is found again.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);

/// The kept connections of one source.
#[derive(Debug)]
pub(super) struct Stock<C> {
    idle: Mutex<Vec<Kept<C>>>,
    seats: Semaphore,
}

/// A connection and its age.
#[derive(Debug)]
pub(super) struct Kept<C> {
    pub(super) connection: C,
    opened: Instant,
    used: Instant,
}

impl<C> Kept<C> {
    /// A connection that was just opened.
    pub(super) fn new(connection: C) -> Self {
        let now = Instant::now();
        Self { connection, opened: now, used: now }
    }

    fn is_fresh(&self, now: Instant) -> bool {
        now.duration_since(self.opened) < MAX_AGE && now.duration_since(self.used) < MAX_IDLE
    }
}

impl<C> Stock<C> {
    pub(super) fn new(connections: usize) -> Self {
        Self { idle: Mutex::default(), seats: Semaphore::new(connections.max(1)) }
    }

    /// The right to hold one connection; nobody holds one without it.
    pub(super) async fn seat(&self) -> Option<SemaphorePermit<'_>> {
        // None only if the semaphore were closed, which nothing does.
        self.seats.acquire().await.ok()
    }

    /// The connection that was used last, so that the others can grow old.
    pub(super) fn take(&self) -> Option<Kept<C>> {
        let now = Instant::now();
        let mut idle = self.idle();
        idle.retain(|kept| kept.is_fresh(now));
        idle.pop()
    }

    /// Keeps a connection that is known to be ready for its next statement.
    pub(super) fn put(&self, kept: Kept<C>) {
        self.idle().push(Kept { used: Instant::now(), ..kept });
    }

    // A list of connections is whole at every moment, so a poisoned lock is still good.
    fn idle(&self) -> MutexGuard<'_, Vec<Kept<C>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_used_connection_is_taken_first() {
        let stock = Stock::new(2);
        stock.put(Kept::new("a"));
        stock.put(Kept::new("b"));
        assert_eq!(stock.take().map(|kept| kept.connection), Some("b"));
        assert_eq!(stock.take().map(|kept| kept.connection), Some("a"));
        assert!(stock.take().is_none());
    }

    #[test]
    fn old_and_idle_connections_are_not_taken() {
        let now = Instant::now();
        let kept = Kept::new("a");
        assert!(kept.is_fresh(now));
        assert!(!kept.is_fresh(now + MAX_IDLE + Duration::from_secs(1)));
        let used_just_now = Kept { used: now + MAX_AGE, ..kept };
        assert!(!used_just_now.is_fresh(now + MAX_AGE + Duration::from_secs(1)));
    }

    #[tokio::test]
    async fn there_are_only_so_many_seats() {
        let stock: Stock<()> = Stock::new(1);
        let seat = stock.seat().await;
        assert!(seat.is_some());
        assert!(futures::FutureExt::now_or_never(stock.seat()).is_none());
        drop(seat);
        assert!(stock.seat().await.is_some());
    }
}
