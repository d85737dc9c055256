//! What a process knows about its own health: a named check for each thing it depends on or must keep doing.
//!
//! Loops report into [`Health`]; the HTTP listener, the `healthcheck` commands and the cluster's health request read
//! snapshots out of it. The JSON shape is the Python system's: `{status, timestamp, checks: {name: {status, …}}}`.

mod fetch;
mod metrics;
mod text;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use self::fetch::{ANSWER_TIMEOUT, FetchError, fetch, fetch_metrics};
use crate::audit;
use crate::timestamp::Timestamp;

/// How well something is, best first, so that the worst of several is their maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not in use, which is no fault.
    NotConfigured,
    /// In order.
    Healthy,
    /// Works, and somebody should look.
    Degraded,
    /// Does not work.
    Unhealthy,
}

impl Status {
    /// The name in JSON and on the screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotConfigured => "not_configured",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }

    /// The status of a whole with these parts: that of its worst, and healthy if no part is in use.
    pub fn of_parts(parts: impl IntoIterator<Item = Self>) -> Self {
        parts.into_iter().fold(Self::Healthy, Self::max)
    }
}

/// The state of one thing. Messages are for people and hold no secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// How well it is.
    pub status: Status,
    /// How long it took to find out, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// Why, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The channels that a check of notifications is made of.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub channels: BTreeMap<String, Check>,
}

impl Check {
    /// In order.
    pub fn healthy(message: impl Into<String>) -> Self {
        Self::new(Status::Healthy, Some(message.into()))
    }

    /// Works, and somebody should look.
    pub fn degraded(message: impl Into<String>) -> Self {
        Self::new(Status::Degraded, Some(message.into()))
    }

    /// Does not work.
    pub fn unhealthy(message: impl Into<String>) -> Self {
        Self::new(Status::Unhealthy, Some(message.into()))
    }

    /// Not in use.
    pub fn not_configured(message: impl Into<String>) -> Self {
        Self::new(Status::NotConfigured, Some(message.into()))
    }

    /// The check that `channels` make up together.
    pub fn of_channels(channels: BTreeMap<String, Self>) -> Self {
        let status = Status::of_parts(channels.values().map(|check| check.status));
        Self { channels, ..Self::new(status, None) }
    }

    /// This check, with the time that it took.
    #[must_use]
    pub fn with_latency(self, latency: Duration) -> Self {
        // Hundredths of a millisecond, as the Python system showed them.
        let latency_ms = (latency.as_secs_f64() * 1e5).round() / 1e2;
        Self { latency_ms: Some(latency_ms), ..self }
    }

    fn new(status: Status, message: Option<String>) -> Self {
        Self { status, latency_ms: None, message, channels: BTreeMap::new() }
    }
}

/// The health of one process (or one command's findings) at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthReport {
    /// The worst of `checks`.
    pub status: Status,
    /// When it was put together.
    pub timestamp: Timestamp,
    /// By name.
    pub checks: BTreeMap<String, Check>,
}

impl HealthReport {
    /// The report that `checks` make up.
    pub fn new(timestamp: Timestamp, checks: BTreeMap<String, Check>) -> Self {
        Self { status: Status::of_parts(checks.values().map(|check| check.status)), timestamp, checks }
    }

    /// Whether the process can work. The audit is about the past: an upgrade that mends the cause must not wait for it.
    pub fn is_ready(&self) -> bool {
        let present = self.checks.iter().filter(|(name, _)| *name != audit::CHECK);
        Status::of_parts(present.map(|(_, check)| check.status)) != Status::Unhealthy
    }
}

/// The checks of one process. Clones are handles to the same checks.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<BTreeMap<&'static str, Entry>>>);

#[derive(Debug)]
struct Entry {
    check: Check,
    reported: Instant,
    max_age: Option<Duration>,
}

impl Health {
    /// Replaces the check `name`, and renews it where it is expected to be renewed.
    pub fn report(&self, name: &'static str, check: Check) {
        self.report_at(name, check, Instant::now());
    }

    /// From now on the check `name` must be reported again within each `max_age`, or it counts as unhealthy: this
    /// is how a loop that hangs is seen from outside.
    pub fn expect(&self, name: &'static str, max_age: Duration) {
        self.expect_at(name, max_age, Instant::now());
    }

    /// Forgets the check `name`: what it was about is no longer this process's business.
    pub fn forget(&self, name: &'static str) {
        self.entries().remove(name);
    }

    /// All checks as they stand.
    pub fn snapshot(&self) -> HealthReport {
        self.snapshot_at(Instant::now())
    }

    fn report_at(&self, name: &'static str, check: Check, now: Instant) {
        let mut entries = self.entries();
        let max_age = entries.get(name).and_then(|entry| entry.max_age);
        entries.insert(name, Entry { check, reported: now, max_age });
    }

    fn expect_at(&self, name: &'static str, max_age: Duration, now: Instant) {
        let entry = Entry { check: Check::healthy("starting"), reported: now, max_age: None };
        self.entries().entry(name).or_insert(entry).max_age = Some(max_age);
    }

    fn snapshot_at(&self, now: Instant) -> HealthReport {
        let checks = self.entries().iter().map(|(name, entry)| ((*name).to_owned(), entry.at(now))).collect();
        HealthReport::new(crate::clock::wall_now(), checks)
    }

    // Every entry is replaced whole, so a poisoned lock still guards good values.
    fn entries(&self) -> MutexGuard<'_, BTreeMap<&'static str, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn at(&self, now: Instant) -> Check {
        let age = now.saturating_duration_since(self.reported);
        match self.max_age {
            Some(max_age) if age > max_age => {
                let (age, max_age) = (age.as_secs_f64(), max_age.as_secs_f64());
                Check::unhealthy(format!("no sign of life for {age:.1} s (at most {max_age:.1} s expected)"))
            }
            _ => self.check.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_has_the_shape_that_existing_probes_parse() -> Result<(), serde_json::Error> {
        let channels =
            [("email", Check::new(Status::NotConfigured, None)), ("slack", Check::new(Status::Healthy, None))];
        let checks = BTreeMap::from([
            (
                "state_database".to_owned(),
                Check::healthy("Database connection OK").with_latency(Duration::from_micros(4_876)),
            ),
            ("notifications".to_owned(), Check::of_channels(channels.map(|(k, v)| (k.to_owned(), v)).into())),
        ]);
        let report = HealthReport::new(Timestamp::from_micros(1_762_571_186_510_640), checks);
        let json = serde_json::to_value(&report)?;
        let expected = serde_json::json!({
            "status": "healthy",
            "timestamp": "2025-11-08T03:06:26.510640Z",
            "checks": {
                "state_database": {"status": "healthy", "latency_ms": 4.88, "message": "Database connection OK"},
                "notifications": {
                    "status": "healthy",
                    "channels": {"email": {"status": "not_configured"}, "slack": {"status": "healthy"}}
                }
            }
        });
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<HealthReport>(json)?, report);
        Ok(())
    }

    #[test]
    fn the_whole_is_as_well_as_its_worst_part() {
        use Status::*;
        for (parts, whole) in [
            (vec![], Healthy),
            (vec![NotConfigured], Healthy),
            (vec![Healthy, NotConfigured], Healthy),
            (vec![Healthy, Degraded, NotConfigured], Degraded),
            (vec![Unhealthy, Degraded, Healthy], Unhealthy),
        ] {
            assert_eq!(Status::of_parts(parts.clone()), whole, "{parts:?}");
        }
    }

    #[test]
    fn a_wedged_loop_turns_unhealthy_and_recovers_when_it_reports_again() {
        let (health, start) = (Health::default(), Instant::now());
        let second = Duration::from_secs(1);
        let status_at = |seconds: u32| health.snapshot_at(start + second * seconds).status;

        health.expect_at("leader_loop", second * 10, start);
        assert_eq!(status_at(10), Status::Healthy);
        assert_eq!(status_at(11), Status::Unhealthy);
        health.report_at("leader_loop", Check::healthy("planning"), start + second * 11);
        assert_eq!(status_at(21), Status::Healthy);
        assert_eq!(status_at(22), Status::Unhealthy);
        health.forget("leader_loop");
        assert_eq!(status_at(99), Status::Healthy);
    }

    #[test]
    fn a_check_that_nobody_promised_to_renew_does_not_age() {
        let (health, start) = (Health::default(), Instant::now());
        health.report_at("nats", Check::degraded("reconnecting"), start);
        assert_eq!(health.snapshot_at(start + Duration::from_secs(86_400)).status, Status::Degraded);
    }
}
