//! This coordinator's file, as the set of versions that the ledger takes.

use std::collections::BTreeMap;

use sqlsentinel_common::alert::{AlertDefinition, ConfigHash, SourceName};
use sqlsentinel_common::config::Config;

/// A validated set of definitions, each under its version's name.
#[derive(Clone, Debug)]
pub struct DefinitionSet {
    /// The name of the whole set.
    pub hash: ConfigHash,
    /// The versions.
    pub versions: BTreeMap<ConfigHash, AlertDefinition>,
    /// The data sources that are configured, whether or not an alert uses them: workers listen for all of them.
    pub sources: Vec<SourceName>,
}

impl DefinitionSet {
    /// The set that `config` holds.
    pub fn of(config: &Config) -> Result<Self, serde_json::Error> {
        let versions = config
            .alerts
            .iter()
            .map(|alert| Ok((ConfigHash::of(&alert.definition.canonical_json()?), alert.definition.clone())))
            .collect::<Result<_, serde_json::Error>>()?;
        Ok(Self { hash: config.set_hash()?, versions, sources: config.sources.keys().cloned().collect() })
    }

    /// The versions, to be written.
    pub fn by_hash(&self) -> BTreeMap<ConfigHash, &AlertDefinition> {
        self.versions.iter().map(|(hash, definition)| (hash.clone(), definition)).collect()
    }
}
