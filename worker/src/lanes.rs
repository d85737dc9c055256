//! The lanes of a worker: one for each source of the configuration, begun, replaced and dismissed as it changes.
//!
//! Input: the configuration, now and later. Output: for each source a [`Consumer`] with connections of its own. A lane
//! whose source stays the same goes on undisturbed. One that is dismissed pulls no more jobs, and finishes those that it
//! holds with the connections that they have.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use sqlsentinel_common::alert::SourceName;
use sqlsentinel_common::bus::Bus;
use sqlsentinel_common::clock::ClusterClock;
use sqlsentinel_common::config::{Config, DatabaseUrl, SourceConfig};
use sqlsentinel_common::lifecycle::{Stop, Tasks};
use sqlsentinel_common::reload::LiveConfig;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::consume::Consumer;
use crate::execute::{Executor, Seats};
use crate::metrics::Metrics;
use crate::reach::Reach;
use crate::role;
use crate::source::Source;

/// What the lanes of a process share.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Where jobs come from.
    pub bus: Bus,
    /// This process's name.
    pub node: String,
    /// Where loops are spawned.
    pub tasks: Tasks,
    /// What is counted.
    pub metrics: Metrics,
    /// What is reported.
    pub reach: Reach,
    /// The seats that all lanes share.
    pub seats: Arc<Semaphore>,
    /// The most connections to one source, and jobs of it that are held, where the source does not say.
    pub connections: usize,
}

/// The lanes that are open.
#[derive(Debug)]
pub struct Lanes {
    surroundings: Surroundings,
    open: BTreeMap<SourceName, OpenLane>,
}

#[derive(Debug)]
struct OpenLane {
    config: SourceConfig,
    /// Where it leads; an error where that is not known.
    url: Result<DatabaseUrl, String>,
    dismissed: CancellationToken,
}

impl OpenLane {
    /// Whether it can go on where the configuration says `config`, which leads to `url`. What cannot be found out at the
    /// moment does not count against a lane that knows it.
    fn still_serves(&self, config: &SourceConfig, url: &Result<DatabaseUrl, String>) -> bool {
        self.config == *config && (self.url == *url || url.is_err())
    }
}

impl Lanes {
    /// No lane yet.
    pub fn new(surroundings: Surroundings) -> Self {
        Self { surroundings, open: BTreeMap::new() }
    }

    /// Follows `config` until a stop is requested.
    pub async fn follow(mut self, mut config: LiveConfig, stop: Stop) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                config = config.changed() => self.apply(&config),
                () = stop.requested.cancelled() => return Ok(()),
            }
        }
    }

    /// Opens, replaces and dismisses lanes until they are those of `config`.
    pub fn apply(&mut self, config: &Config) {
        let gone: Vec<_> = self.open.keys().filter(|name| !config.sources.contains_key(*name)).cloned().collect();
        for name in gone {
            tracing::info!(source = %name, "this database is not in the configuration any more");
            self.dismiss(&name);
            self.surroundings.reach.forget(&name);
        }
        for (name, source) in &config.sources {
            let url = source.resolve().map_err(|error| named(name, &error));
            if let Some(lane) = self.open.get(name) {
                if lane.still_serves(source, &url) {
                    if let (Err(reason), Ok(_)) = (&url, &lane.url) {
                        tracing::warn!(source = %name, reason, "not known any more, going on as before");
                    }
                    continue;
                }
                tracing::info!(source = %name, "this database is another one now: new jobs go there");
                self.dismiss(name);
            }
            self.begin(name, source.clone(), url);
        }
    }

    fn dismiss(&mut self, name: &SourceName) {
        if let Some(lane) = self.open.remove(name) {
            lane.dismissed.cancel();
        }
    }

    fn begin(&mut self, name: &SourceName, config: SourceConfig, url: Result<DatabaseUrl, String>) {
        let Surroundings { bus, node, tasks, metrics, reach, seats, connections } = &self.surroundings;
        let connections = config.pool_size.map_or(*connections, usize::from);
        let stop = tasks.stop();
        let dismissed = stop.requested.child_token();
        let reach = reach.begin(name, dismissed.clone());
        // A bad URL or a missing variable costs this source's alerts alone.
        let source = url
            .clone()
            .and_then(|url| Source::open(name.clone(), &url, connections).map_err(|error| named(name, &error)));
        if let Err(reason) = &source {
            tracing::error!(source = %name, reason, "this database cannot be used; its alerts end as errors");
            reach.database(name, Err(reason.clone()));
        }
        let executor = Arc::new(Executor {
            bus: bus.clone(),
            node: node.clone(),
            name: name.clone(),
            source,
            seats: Seats::new(Arc::clone(seats)),
            clock: ClusterClock::default(),
            metrics: metrics.clone(),
            reach,
            stop: Stop { requested: dismissed.clone(), aborted: stop.aborted },
        });
        tasks.spawn_until("role watch", dismissed.clone(), role::watch::run(Arc::clone(&executor)));
        tasks.spawn_until("worker lane", dismissed.clone(), Consumer::new(executor, connections).run());
        self.open.insert(name.clone(), OpenLane { config, url, dismissed });
    }
}

fn named(name: &SourceName, error: &dyn Display) -> String {
    format!("database `{name}`: {error}")
}

#[cfg(test)]
mod tests {
    use sqlsentinel_common::config::{load_str, normalise_database_url};

    use super::*;

    fn config(url: &str) -> SourceConfig {
        let yaml = format!(
            "database: {{url: '{url}'}}\nalerts:\n  - {{name: a, query: SELECT 1, schedule: '@daily', notify: []}}\n"
        );
        let mut config = load_str(&yaml, "alerts.yaml", &|_| None).unwrap();
        config.sources.remove(&SourceName::default_source()).unwrap()
    }

    #[test]
    fn a_lane_goes_on_until_its_source_is_known_to_be_another_one() {
        let url = |text: &str| normalise_database_url(text).map_err(|error| error.to_string());
        let (one, two) = (url("sqlite:////one.db"), url("sqlite:////two.db"));
        let unknown = || Err("`A` is not set".to_owned());
        let lane = |url| OpenLane { config: config("${A}"), url, dismissed: CancellationToken::new() };
        assert!(lane(one.clone()).still_serves(&config("${A}"), &one));
        assert!(!lane(one.clone()).still_serves(&config("${A}"), &two), "the variable or file says otherwise");
        assert!(!lane(one.clone()).still_serves(&config("${B}"), &one), "another setting");
        assert!(lane(one.clone()).still_serves(&config("${A}"), &unknown()), "perhaps it will be back");
        assert!(!lane(unknown()).still_serves(&config("${A}"), &one), "what was missing is there");
    }
}
