//! This coordinator's files, as the set of versions that the ledger takes; and what becomes of the set when they change.
//!
//! Input: the configuration, now and later. Output: [`Definitions`], which the leader's loops follow. A set that somebody
//! has just changed is news to the cluster; one that was found at the start need not be.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use sqlsentinel_common::alert::{AlertDefinition, ConfigHash, SourceName};
use sqlsentinel_common::bus::Lanes;
use sqlsentinel_common::clock::BootInstant;
use sqlsentinel_common::config::{Config, SourceConfig};
use sqlsentinel_common::lifecycle::Stop;
use sqlsentinel_common::reload::LiveConfig;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

/// A validated set of definitions, each under its version's name.
#[derive(Clone, Debug, PartialEq)]
pub struct DefinitionSet {
    /// The name of the whole set.
    pub hash: ConfigHash,
    /// The versions.
    pub versions: BTreeMap<ConfigHash, AlertDefinition>,
    /// The data sources that are configured, whether or not an alert uses them: workers listen for all of them.
    pub sources: Lanes,
}

impl DefinitionSet {
    /// The set that `config` holds.
    pub fn of(config: &Config) -> Result<Self, serde_json::Error> {
        let versions = config
            .alerts
            .iter()
            .map(|alert| Ok((ConfigHash::of(&alert.definition.canonical_json()?), alert.definition.clone())))
            .collect::<Result<_, serde_json::Error>>()?;
        let lane = |(name, source): (&SourceName, &SourceConfig)| (name.clone(), source.max_concurrency);
        Ok(Self { hash: config.set_hash()?, versions, sources: config.sources.iter().map(lane).collect() })
    }

    /// The versions, to be written.
    pub fn by_hash(&self) -> BTreeMap<ConfigHash, &AlertDefinition> {
        self.versions.iter().map(|(hash, definition)| (hash.clone(), definition)).collect()
    }
}

/// The set as it is at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Current {
    /// The set.
    pub set: Arc<DefinitionSet>,
    /// When the definitions were changed into it while this process ran; none if they are those of its start. Another
    /// URL of a database changes no definition.
    pub changed: Option<BootInstant>,
}

impl Current {
    /// What was found when the process started.
    pub fn found(set: DefinitionSet) -> Self {
        Self { set: Arc::new(set), changed: None }
    }

    /// What follows when the files hold `set` from `now` on.
    fn followed_by(&self, set: DefinitionSet, now: BootInstant) -> Self {
        let changed = if set.hash == self.set.hash { self.changed } else { Some(now) };
        Self { set: Arc::new(set), changed }
    }
}

/// This coordinator's set, now and later. Clones follow the same one.
#[derive(Clone, Debug)]
pub struct Definitions(watch::Receiver<Current>);

impl Definitions {
    /// Those of `config` now, and who is to [`follow`] it.
    pub fn of(config: &Config) -> Result<(Self, watch::Sender<Current>), serde_json::Error> {
        let sender = watch::Sender::new(Current::found(DefinitionSet::of(config)?));
        Ok((Self(sender.subscribe()), sender))
    }

    /// As they are now; [`Definitions::changed`] waits for later ones.
    pub fn take(&mut self) -> Current {
        self.0.borrow_and_update().clone()
    }

    /// When they were changed last, while this process ran.
    pub fn changed_at(&self) -> Option<BootInstant> {
        self.0.borrow().changed
    }

    /// The data sources that are configured now.
    pub fn sources(&self) -> Lanes {
        self.0.borrow().set.sources.clone()
    }

    /// Waits for others than those that were taken.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody follows the files any more: the process is about to end.
            std::future::pending::<()>().await;
        }
    }
}

/// Keeps `current` as `config` says, until a stop is requested.
pub async fn follow(mut config: LiveConfig, current: watch::Sender<Current>, stop: Stop) -> anyhow::Result<()> {
    loop {
        let config = tokio::select! {
            config = config.changed() => config,
            () = stop.requested.cancelled() => return Ok(()),
        };
        // Many definitions take a while to be hashed: off the threads that renew the lease.
        let set = spawn_blocking(move || DefinitionSet::of(&config)).await?.context("cannot name the definitions")?;
        let next = current.borrow().followed_by(set, BootInstant::now());
        current.send_if_modified(|current| {
            let differs = *current != next;
            *current = next;
            differs
        });
    }
}

#[cfg(test)]
mod tests {
    use sqlsentinel_common::config::load_str;

    use super::*;

    fn set(query: &str, database: &str) -> DefinitionSet {
        let yaml = format!(
            "database: {{url: 'sqlite:///{database}.db'}}\nalerts:\n  \
             - {{name: a, query: {query}, schedule: '@daily', notify: []}}\n"
        );
        DefinitionSet::of(&load_str(&yaml, "alerts.yaml", &|_| None).unwrap()).unwrap()
    }

    #[test]
    fn only_changed_definitions_are_news_for_the_cluster() {
        let (start, later) = (BootInstant::now(), BootInstant::now());
        let found = Current::found(set("SELECT 1", "a"));
        assert_eq!(found.followed_by(set("SELECT 1", "b"), start).changed, None, "another database's URL");
        let changed = found.followed_by(set("SELECT 2", "a"), start);
        assert_eq!(changed.changed, Some(start));
        assert_eq!(changed.followed_by(set("SELECT 2", "b"), later).changed, Some(start), "it was changed then");
        assert_eq!(changed.followed_by(set("SELECT 1", "a"), later).changed, Some(later), "changed back is changed");
    }
}
