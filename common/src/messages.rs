//! Every payload on the bus: versioned JSON. A reader refuses a version it does not know and ignores keys it does
//! not know, so that a rolling upgrade may add keys.
//!
//! `Job` goes from the coordinator to a worker, `OutcomeMessage` from the worker to the notifier. Operators'
//! requests and answers are in [`crate::api`].

use serde::{Deserialize, Serialize};

use crate::alert::{ConfigHash, QueryOptions, SourceName};
use crate::ids::ExecutionId;
use crate::outcome::Verdict;
use crate::timestamp::Timestamp;

/// The version of both payloads that this build writes and reads.
pub const MESSAGE_VERSION: u32 = 1;

/// Largest encoded outcome, in bytes: what does not fit is cut and marked.
pub const MAX_OUTCOME_BYTES: usize = 256 * 1024;

/// One execution to be run: everything a stateless worker needs, and no secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// [`MESSAGE_VERSION`].
    pub version: u32,
    /// The execution's id; the last token of the job's subject.
    pub execution_id: ExecutionId,
    /// The alert's name.
    pub alert_name: String,
    /// The nominal time of the fire.
    pub scheduled_for: Timestamp,
    /// Which publication this is, from 1; rescue publishes again with the next number.
    pub attempt: u32,
    /// The version of the definition that `query` comes from.
    pub config_hash: ConfigHash,
    /// The data source to run on.
    pub source: SourceName,
    /// The SQL text.
    pub query: String,
    /// How it is run and its answer read.
    #[serde(default, skip_serializing_if = "QueryOptions::is_default")]
    pub options: QueryOptions,
    /// How long the run may take, in milliseconds.
    pub timeout_ms: u64,
    /// After this moment, on the cluster's clock, the run is worth nothing.
    pub deadline: Timestamp,
}

/// What became of one job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutcomeMessage {
    /// [`MESSAGE_VERSION`].
    pub version: u32,
    /// The execution's id; the last token of the outcome's subject.
    pub execution_id: ExecutionId,
    /// The alert's name.
    pub alert_name: String,
    /// The nominal time of the fire.
    pub scheduled_for: Timestamp,
    /// The job's publication number.
    pub attempt: u32,
    /// How often the broker had handed out that publication, from 1: runs at the target are never more than this.
    pub delivery: u32,
    /// The version of the definition that ran.
    pub config_hash: ConfigHash,
    /// The data source it ran on.
    pub source: SourceName,
    /// The worker's node name.
    pub worker: String,
    /// When the run began, on the worker's clock.
    pub started_at: Timestamp,
    /// How long the run took, in milliseconds.
    pub duration_ms: f64,
    /// What the run produced.
    pub verdict: Verdict,
}

/// A payload that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or not of this shape.
    #[error("not a readable message: {0}")]
    Json(#[from] serde_json::Error),
    /// Written by a newer (or broken) process.
    #[error("message version {found} is not readable here (this build reads {MESSAGE_VERSION}): upgrade this process")]
    Version {
        /// The version found.
        found: u32,
    },
}

/// Payloads that state their version.
pub trait Versioned: Serialize + serde::de::DeserializeOwned {
    /// The version stated in the payload.
    fn version(&self) -> u32;
}

impl Versioned for Job {
    fn version(&self) -> u32 {
        self.version
    }
}

impl Versioned for OutcomeMessage {
    fn version(&self) -> u32 {
        self.version
    }
}

/// Reads a payload and checks its version.
pub fn decode<M: Versioned>(payload: &[u8]) -> Result<M, DecodeError> {
    /// Read first, so that a newer message's new shape is reported as its version, not as a missing key.
    #[derive(Deserialize)]
    struct Envelope {
        version: u32,
    }
    let Envelope { version } = serde_json::from_slice(payload)?;
    if version != MESSAGE_VERSION {
        return Err(DecodeError::Version { found: version });
    }
    Ok(serde_json::from_slice(payload)?)
}

#[cfg(test)]
mod hostile;
