//! The definitions that outcomes are judged by: the versions that the fires belong to, whatever the files say by now.
//!
//! Input: the ledger, by hash. Output: [`AlertDefinition`]s, kept here since a version never changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use sqlsentinel_common::alert::{AlertDefinition, ConfigHash};
use sqlsentinel_common::store::StoreError;
use sqlsentinel_common::store::outcomes::OutcomeTx;

/// How many versions are kept; when there are more, all are read again.
const CAPACITY: usize = 20_000;

/// Versions by hash: the definition, or why it cannot be read.
pub type Definitions = BTreeMap<ConfigHash, Result<Arc<AlertDefinition>, String>>;

/// The versions that this process has read.
#[derive(Debug, Default)]
pub struct DefinitionCache(Mutex<BTreeMap<ConfigHash, Arc<AlertDefinition>>>);

impl DefinitionCache {
    /// The versions named by `hashes`; what is not known yet is read within `tx`.
    pub async fn get(
        &self,
        tx: &mut OutcomeTx,
        hashes: impl Iterator<Item = &ConfigHash>,
    ) -> Result<Definitions, StoreError> {
        let mut found = Definitions::new();
        let mut missing = BTreeSet::new();
        {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            for hash in hashes {
                match known.get(hash) {
                    Some(definition) => {
                        found.insert(hash.clone(), Ok(definition.clone()));
                    }
                    None => {
                        missing.insert(hash);
                    }
                }
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let stored = tx.definitions(&missing).await?;
        for hash in missing {
            found.insert(hash.clone(), Err(format!("the ledger has no definition {hash}")));
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > CAPACITY {
            known.clear();
        }
        for (hash, json) in stored {
            let read = serde_json::from_str::<AlertDefinition>(&json).map(Arc::new);
            if let Ok(definition) = &read {
                known.insert(hash.clone(), definition.clone());
            }
            // A newer coordinator may have written what only newer notifiers read.
            let read = read.map_err(|error| format!("this notifier cannot read definition {hash}: {error}"));
            found.insert(hash, read);
        }
        Ok(found)
    }
}
