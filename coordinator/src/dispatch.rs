//! Ledger rows to jobs: publishes what is queued and not published yet, and says how far it came.
//!
//! There is one path for normal running and for recovery: whatever is stamped after the mark is published, whoever
//! queued it. Publishing twice is harmless: the broker drops a message id that it knows, and the ledger takes an outcome
//! once.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{TryStreamExt, stream};
use sqlsentinel_common::alert::{AlertDefinition, ConfigHash};
use sqlsentinel_common::bus::{Bus, BusError};
use sqlsentinel_common::messages::{Job, MESSAGE_VERSION};
use sqlsentinel_common::store::fires::QueuedFire;
use sqlsentinel_common::store::leadership::Mark;
use sqlsentinel_common::store::{Store, StoreError};

/// How many confirmations may be awaited at once.
const IN_FLIGHT: usize = 128;

/// Why publishing stopped.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// The ledger could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker did not take a job (yet).
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// Publishes one term's jobs.
#[derive(Debug)]
pub struct Dispatcher {
    store: Store,
    bus: Bus,
    versions: HashMap<ConfigHash, Arc<AlertDefinition>>,
}

impl Dispatcher {
    /// A dispatcher that knows these versions already and asks the ledger for others.
    pub fn new(store: Store, bus: Bus, versions: HashMap<ConfigHash, Arc<AlertDefinition>>) -> Self {
        Self { store, bus, versions }
    }

    /// Publishes everything stamped after `published`. Returns the new mark and the number of jobs; on an error nothing
    /// is lost, since the mark stays and the next call publishes the same again.
    pub async fn run_once(&mut self, published: Mark) -> Result<(Mark, usize), DispatchError> {
        let fires = self.store.unpublished(published).await?;
        let (Some(last), count) = (fires.last().map(|fire| fire.mark), fires.len()) else { return Ok((published, 0)) };
        let mut jobs = Vec::with_capacity(count);
        for fire in fires {
            match self.version(&fire.config_hash).await? {
                Some(version) => jobs.push(job(fire, &version)),
                // Not fatal for the others: the fire expires with a reason.
                None => {
                    tracing::error!(execution_id = %fire.execution_id, config_hash = %fire.config_hash, "the ledger does not know this version")
                }
            }
        }
        let bus = &self.bus;
        stream::iter(jobs.iter().map(Ok))
            .try_for_each_concurrent(IN_FLIGHT, |job| async move {
                match bus.publish_job(job).await {
                    // The broker will never take this one; it costs only itself, and expires with a reason.
                    Err(error) if !error.is_retryable() => {
                        tracing::error!(%error, execution_id = %job.execution_id, alert_name = job.alert_name, "job refused");
                        Ok(())
                    }
                    published => published,
                }
            })
            .await?;
        Ok((last, count))
    }

    async fn version(&mut self, hash: &ConfigHash) -> Result<Option<Arc<AlertDefinition>>, StoreError> {
        if let Some(known) = self.versions.get(hash) {
            return Ok(Some(Arc::clone(known)));
        }
        let Some(found) = self.store.definition(hash).await?.map(Arc::new) else { return Ok(None) };
        self.versions.insert(hash.clone(), Arc::clone(&found));
        Ok(Some(found))
    }
}

fn job(fire: QueuedFire, version: &AlertDefinition) -> Job {
    Job {
        version: MESSAGE_VERSION,
        execution_id: fire.execution_id,
        alert_name: fire.alert_name,
        scheduled_for: fire.scheduled_for,
        attempt: fire.attempt,
        config_hash: fire.config_hash,
        source: fire.source,
        query: version.query.clone(),
        options: version.options.clone(),
        timeout_ms: version.timeout_ms,
        deadline: fire.deadline,
    }
}
