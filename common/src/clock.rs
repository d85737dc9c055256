//! The cluster's clock: the state database's, carried forward by this machine's boot-time clock between samples. Workers,
//! who have no state database, sample the broker's.
//!
//! The boot-time clock goes on during suspend and is never stepped, so neither a laptop's lid nor a stepped wall clock
//! moves a fire. Wall time is read here and nowhere else.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::Utc;
use rustix::time::{ClockId, clock_gettime};

use crate::timestamp::Timestamp;

/// A sample whose round trip took longer says too little about the moment it was taken.
pub const MAX_ROUND_TRIP: Duration = Duration::from_millis(250);
/// A jump of the database's clock above this stops planning until somebody has looked.
pub const MAX_JUMP: Duration = Duration::from_secs(60);

/// A moment on the boot-time clock: for durations, time-outs and the lease's trust window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootInstant(Duration);

impl BootInstant {
    /// Now.
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::Boottime);
        Self(Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0)))
    }

    /// This moment moved forward.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }

    /// This moment moved back.
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by))
    }

    /// How long it is until this moment; zero if it is past.
    pub fn remaining(self) -> Duration {
        self.0.saturating_sub(Self::now().0)
    }

    /// How long ago this moment was; zero if it is to come.
    pub fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }

    fn micros(self) -> i64 {
        i64::try_from(self.0.as_micros()).unwrap_or(i64::MAX)
    }
}

/// This machine's wall clock: for what people read (logs, health), never for what is due.
#[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else asks")]
pub fn wall_now() -> Timestamp {
    Utc::now().into()
}

/// The cluster's clock as this process knows it.
#[derive(Debug, Default)]
pub struct ClusterClock {
    /// Database time minus boot time, in microseconds; zero before the first sample.
    offset_us: AtomicI64,
}

/// What a sample of the database's clock meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// The clock follows it.
    Taken,
    /// Its round trip took too long; the clock goes on as before.
    Dropped,
    /// It differs from the clock by this many microseconds, more than [`MAX_JUMP`]: the clock did not follow.
    Jumped(i64),
}

impl ClusterClock {
    /// Now, on the cluster's clock. Only meaningful after the first sample was taken.
    pub fn now(&self) -> Timestamp {
        self.at(BootInstant::now())
    }

    fn at(&self, instant: BootInstant) -> Timestamp {
        Timestamp::from_micros(instant.micros().saturating_add(self.offset_us.load(Ordering::Relaxed)))
    }

    /// Takes a sample that was just read from the database with this round trip.
    pub fn observe(&self, database_now: Timestamp, round_trip: Duration) -> Sample {
        self.observe_at(BootInstant::now(), database_now, round_trip)
    }

    fn observe_at(&self, received: BootInstant, database_now: Timestamp, round_trip: Duration) -> Sample {
        let known = self.offset_us.load(Ordering::Relaxed);
        // The first sample is taken however slow it was: a rough clock beats none, and the cursor's own guard holds.
        if known != 0 && round_trip > MAX_ROUND_TRIP {
            return Sample::Dropped;
        }
        let offset = database_now.plus(round_trip / 2).as_micros() - received.micros();
        let jump = offset.saturating_sub(known);
        if known != 0 && jump.unsigned_abs() > MAX_JUMP.as_micros() as u64 {
            return Sample::Jumped(jump);
        }
        self.offset_us.store(offset, Ordering::Relaxed);
        Sample::Taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
    const QUICK: Duration = Duration::from_millis(2);

    fn boot(seconds: u64) -> BootInstant {
        BootInstant(Duration::from_secs(seconds))
    }

    #[test]
    fn between_samples_the_clock_goes_on_by_itself() {
        let clock = ClusterClock::default();
        assert_eq!(clock.observe_at(boot(100), NOON, Duration::ZERO), Sample::Taken);
        assert_eq!(clock.at(boot(107)), NOON.plus(Duration::from_secs(7)));
    }

    #[test]
    fn a_slow_round_trip_says_nothing_but_the_first_is_better_than_none() {
        let clock = ClusterClock::default();
        assert_eq!(clock.observe_at(boot(100), NOON, Duration::from_secs(2)), Sample::Taken);
        let later = NOON.plus(Duration::from_secs(30));
        assert_eq!(clock.observe_at(boot(110), later, Duration::from_millis(251)), Sample::Dropped);
        assert_eq!(clock.at(boot(100)), NOON.plus(Duration::from_secs(1)));
    }

    #[test]
    fn a_small_drift_is_followed_and_a_jump_is_not() {
        let clock = ClusterClock::default();
        clock.observe_at(boot(100), NOON, QUICK);
        let drifted = NOON.plus(Duration::from_secs(10));
        assert_eq!(clock.observe_at(boot(105), drifted, Duration::ZERO), Sample::Taken);
        assert_eq!(clock.at(boot(105)), drifted);
        for moved in [drifted.plus(Duration::from_secs(61)), drifted.minus(Duration::from_secs(61))] {
            assert!(matches!(clock.observe_at(boot(105), moved, Duration::ZERO), Sample::Jumped(_)));
            assert_eq!(clock.at(boot(105)), drifted);
        }
    }
}
