//! What this worker can reach: its lanes on NATS (check `jobs`), its databases (check `alert_database`), and what it
//! could do there (check `read_only`).
//!
//! Lanes, runs and [`role`] report here; the health checks, and the figure `sqlsentinel_source_up`, are put together from
//! all of them. One source out of reach degrades a
//! worker that serves others; a worker that reaches none is unhealthy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::IntGaugeVec;
use sqlsentinel_common::alert::SourceName;
use sqlsentinel_common::health::{Check, Health};
use tokio_util::sync::CancellationToken;

use crate::role;
use crate::source::Role;

/// How the sources of a worker are. Clones are handles to the same states.
#[derive(Clone, Debug)]
pub struct Reach {
    health: Health,
    up: IntGaugeVec,
    /// When what holds this handle has nothing more to say: its source is gone, or another lane serves it.
    dismissed: CancellationToken,
    lanes: States,
    databases: States,
    roles: Arc<Mutex<BTreeMap<SourceName, Role>>>,
}

type States = Arc<Mutex<BTreeMap<SourceName, State>>>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Untried,
    Well,
    Broken(String),
}

impl Reach {
    /// Nothing has been tried yet. `up` has a label, `source`.
    pub fn new(health: Health, up: IntGaugeVec, sources: impl IntoIterator<Item = SourceName>) -> Self {
        let untried: BTreeMap<_, _> = sources.into_iter().map(|source| (source, State::Untried)).collect();
        let lanes = untried.keys().cloned().map(|source| (source, State::Broken("not opened yet".to_owned())));
        let reach = Self {
            health,
            up,
            dismissed: CancellationToken::new(),
            lanes: States::new(Mutex::new(lanes.collect())),
            databases: States::new(Mutex::new(untried)),
            roles: Arc::default(),
        };
        reach.health.report("jobs", check(&reach.lanes));
        reach.health.report("alert_database", check(&reach.databases));
        reach
    }

    /// A lane of `source` begins, of which nothing is known yet. What it is told here counts until `dismissed`.
    pub fn begin(&self, source: &SourceName, dismissed: CancellationToken) -> Self {
        let reach = Self { dismissed, ..self.clone() };
        lock(&reach.lanes).insert(source.clone(), State::Broken("not opened yet".to_owned()));
        lock(&reach.databases).insert(source.clone(), State::Untried);
        lock(&reach.roles).remove(source);
        reach.report();
        reach
    }

    /// There is no such source any more; whoever reported on it must have been dismissed.
    pub fn forget(&self, source: &SourceName) {
        lock(&self.lanes).remove(source);
        lock(&self.databases).remove(source);
        lock(&self.roles).remove(source);
        // There may have been no run yet.
        let _ = self.up.remove_label_values(&[source.as_str()]);
        self.report();
    }

    fn report(&self) {
        self.health.report("jobs", check(&self.lanes));
        self.health.report("alert_database", check(&self.databases));
        match role::check(&lock(&self.roles)) {
            Some(check) => self.health.report("read_only", check),
            None => self.health.forget("read_only"),
        }
    }

    /// Whether jobs of `source` can be pulled; if not, why, with its name.
    pub fn lane(&self, source: &SourceName, state: Result<(), String>) {
        if self.note(&self.lanes, source, state) {
            self.health.report("jobs", check(&self.lanes));
        }
    }

    /// Whether the database of `source` can be reached; if not, why, with its name.
    pub fn database(&self, source: &SourceName, state: Result<(), String>) {
        if self.note(&self.databases, source, state) {
            // Read again under the lock: of two runs that end together, the figure says what the check says.
            let well = lock(&self.databases).get(source).map(|state| *state == State::Well);
            self.up.with_label_values(&[source.as_str()]).set(i64::from(well == Some(true)));
            self.health.report("alert_database", check(&self.databases));
        }
    }

    /// Which role `source` connects as.
    pub fn role(&self, source: &SourceName, role: Role) {
        let mut roles = lock(&self.roles);
        if self.dismissed.is_cancelled() {
            return;
        }
        roles.insert(source.clone(), role);
        if let Some(check) = role::check(&roles) {
            self.health.report("read_only", check);
        }
    }

    /// Whether that is news.
    fn note(&self, states: &States, source: &SourceName, state: Result<(), String>) -> bool {
        let state = state.map_or_else(State::Broken, |()| State::Well);
        let mut states = lock(states);
        // Asked under the lock: what comes before the dismissal is overwritten by what comes after it.
        !self.dismissed.is_cancelled() && states.insert(source.clone(), state.clone()).as_ref() != Some(&state)
    }
}

// Every entry is replaced whole, so a poisoned lock is still good.
fn lock<T>(states: &Mutex<T>) -> MutexGuard<'_, T> {
    states.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check(states: &States) -> Check {
    let states = lock(states);
    let broken: Vec<_> = states
        .values()
        .filter_map(|state| match state {
            State::Broken(reason) => Some(reason.as_str()),
            State::Untried | State::Well => None,
        })
        .collect();
    let message =
        format!("{} of {} sources in order; {}", states.len() - broken.len(), states.len(), broken.join("; "));
    match broken.len() {
        _ if states.is_empty() => Check::not_configured("the configuration names no database"),
        0 if states.values().all(|state| *state == State::Untried) => Check::healthy("no query was run yet"),
        0 => Check::healthy(format!("{} of {0} sources in order", states.len())),
        all if all == states.len() => Check::unhealthy(message),
        _ => Check::degraded(message),
    }
}

#[cfg(test)]
mod tests {
    use sqlsentinel_common::health::Status;

    use super::*;

    fn up() -> IntGaugeVec {
        IntGaugeVec::new(prometheus::Opts::new("sqlsentinel_source_up", "help"), &["source"]).unwrap()
    }

    #[test]
    fn one_lost_database_degrades_and_all_lost_are_unhealthy() -> Result<(), Box<dyn std::error::Error>> {
        let (eu, us) = (SourceName::try_from("eu".to_owned())?, SourceName::try_from("us".to_owned())?);
        let health = Health::default();
        let up = up();
        let reach = Reach::new(health.clone(), up.clone(), [eu.clone(), us.clone()]);
        let status = || {
            health
                .snapshot()
                .checks
                .remove("alert_database")
                .map(|check| (check.status, check.message.unwrap_or_default()))
        };

        assert_eq!(status(), Some((Status::Healthy, "no query was run yet".to_owned())));
        reach.database(&eu, Err("eu: refused".to_owned()));
        assert_eq!(status(), Some((Status::Degraded, "1 of 2 sources in order; eu: refused".to_owned())));
        assert_eq!(up.with_label_values(&["eu"]).get(), 0);
        reach.database(&us, Err("gone".to_owned()));
        assert_eq!(status().map(|(status, _)| status), Some(Status::Unhealthy));
        reach.database(&eu, Ok(()));
        reach.database(&us, Ok(()));
        assert_eq!(status(), Some((Status::Healthy, "2 of 2 sources in order".to_owned())));
        assert_eq!(up.with_label_values(&["eu"]).get(), 1);
        Ok(())
    }

    #[test]
    fn a_worker_without_lanes_is_not_ready() {
        let health = Health::default();
        let reach = Reach::new(health.clone(), up(), [SourceName::default_source()]);
        assert_eq!(health.snapshot().status, Status::Unhealthy);
        reach.lane(&SourceName::default_source(), Ok(()));
        assert_eq!(health.snapshot().status, Status::Healthy);
        Reach::new(health.clone(), up(), []);
        assert_eq!(health.snapshot().status, Status::Healthy);
    }

    #[test]
    fn a_lane_that_was_dismissed_has_no_say_any_more() {
        let (source, health) = (SourceName::default_source(), Health::default());
        let all = Reach::new(health.clone(), up(), [source.clone()]);
        let status = |name: &str| health.snapshot().checks.remove(name).map(|check| check.status);
        let dismissed = CancellationToken::new();
        let former = all.begin(&source, dismissed.clone());
        former.lane(&source, Ok(()));
        former.database(&source, Err("refused".to_owned()));
        assert_eq!(status("alert_database"), Some(Status::Unhealthy));

        dismissed.cancel();
        let next = all.begin(&source, CancellationToken::new());
        assert_eq!((status("jobs"), status("alert_database")), (Some(Status::Unhealthy), Some(Status::Healthy)));
        former.database(&source, Err("refused".to_owned()));
        former.role(&source, Role { name: "root".to_owned(), could_write: Some("it is a superuser".to_owned()) });
        next.lane(&source, Ok(()));
        assert_eq!(health.snapshot().status, Status::Healthy);
        all.forget(&source);
        assert_eq!((status("jobs"), status("read_only")), (Some(Status::NotConfigured), None));
    }
}
