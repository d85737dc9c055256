//! The lease: one key in a NATS bucket that expires unless its holder renews it.
//!
//! Input: the key's messages. Output: a [`Lease`] that says how long it may be trusted. Every write is published raw to the
//! key's subject with a time to live and the revision it expects to replace, because the client's own calls drop the
//! time to live, and a lease built on them never expires after the first failover.
//!
//! Terms. *Trusted*: on the boot-time clock, from the start of the last confirmed renewal, for the time to live less a
//! margin; after that the broker may have given the lease away. *Indeterminate*: a write that timed out, which may be
//! stored all the same; it is read back before anything is believed.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::context::traits::Publisher;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use serde::{Deserialize, Serialize};
use sqlsentinel_common::bus::Bus;
use sqlsentinel_common::clock::{BootInstant, wall_now};
use sqlsentinel_common::store::leadership::{Mark, Term};
use sqlsentinel_common::timestamp::Timestamp;
use uuid::Uuid;

/// What the key holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseValue {
    /// The holder's unique name.
    pub node: String,
    /// The holder's version.
    pub version: String,
    /// Tells this acquisition from every other, of the same node too.
    pub nonce: Uuid,
    /// When it was acquired, on the holder's wall clock: for people.
    pub acquired_at: Timestamp,
    /// The greatest epoch that the holder knows of; its own, once it has taken one.
    pub epoch: i64,
    /// The last transaction of that epoch that was committed, as far as the holder knows: a ledger that stands before it
    /// has gone back in time.
    #[serde(default)]
    pub seq: i64,
}

impl LeaseValue {
    /// A new acquisition by `node`, which knows of the commit `known`.
    pub fn new(node: &str, known: Mark) -> Self {
        Self {
            node: node.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            nonce: Uuid::new_v4(),
            acquired_at: wall_now(),
            epoch: known.epoch,
            seq: known.seq,
        }
    }

    /// The latest commit that the holder knew of.
    pub fn known(&self) -> Mark {
        Mark { epoch: self.epoch, seq: self.seq }
    }
}

/// What is under the key now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The revision that the next write must expect; 0 if there never was one.
    pub revision: u64,
    /// The holder; none if the lease expired or was given back.
    pub holder: Option<LeaseValue>,
}

/// Why a write did not succeed for certain.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Somebody else wrote first.
    #[error("somebody else wrote the lease first")]
    Superseded,
    /// Nobody knows: it must be read back.
    #[error("NATS did not confirm the lease: {0}")]
    Indeterminate(String),
}

/// How long the lease lives, and how the time-outs follow from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    /// The time to live; whole seconds, at least 2.
    pub ttl: Duration,
}

impl LeaseTimes {
    /// How often it is renewed.
    pub fn renew_every(self) -> Duration {
        self.ttl / 3
    }

    /// How long one request may take: shorter than the interval, so that there is time for another.
    pub fn request_timeout(self) -> Duration {
        self.ttl / 4
    }

    /// How long it may be trusted after a confirmed write began.
    pub fn trusted_for(self) -> Duration {
        self.ttl - self.ttl / 10
    }

    /// How often a standby looks; the watch only makes it faster.
    pub fn poll_every(self) -> Duration {
        (self.ttl / 10).max(Duration::from_millis(200))
    }
}

/// The key, as one process reads and writes it.
#[derive(Clone, Debug)]
pub struct LeaseKey {
    bus: Bus,
    times: LeaseTimes,
}

impl LeaseKey {
    /// The key on this bus.
    pub fn new(bus: Bus, times: LeaseTimes) -> Self {
        Self { bus, times }
    }

    /// How long it lives.
    pub fn times(&self) -> LeaseTimes {
        self.times
    }

    /// Reads the key from the stream's leader: any other read may be stale.
    pub async fn read(&self) -> Result<Found, LeaseError> {
        let names = self.bus.namespace();
        let read = async {
            let stream = self.bus.jetstream().get_stream_no_info(names.bucket_stream()).await;
            let stream = stream.map_err(|error| LeaseError::Indeterminate(error.to_string()))?;
            match stream.get_last_raw_message_by_subject(&names.leader_subject()).await {
                Ok(message) => Ok(Found {
                    revision: message.sequence,
                    // A marker of deletion or expiry has headers that say so, and no payload.
                    holder: serde_json::from_slice(&message.payload).ok(),
                }),
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                    Ok(Found { revision: 0, holder: None })
                }
                Err(error) => Err(LeaseError::Indeterminate(error.to_string())),
            }
        };
        match tokio::time::timeout(self.times.request_timeout(), read).await {
            Ok(found) => found,
            Err(_) => Err(LeaseError::Indeterminate("no answer in time".to_owned())),
        }
    }

    /// Writes `value` over `revision`, to live for one time to live. Returns its revision.
    pub async fn write(&self, value: &LeaseValue, revision: u64) -> Result<u64, LeaseError> {
        let payload = serde_json::to_vec(value).map_err(|error| LeaseError::Indeterminate(error.to_string()))?;
        let message = PublishMessage::build().payload(payload.into()).ttl(self.times.ttl);
        self.publish(message, revision).await
    }

    /// Gives the lease back, if it is still at `revision`: standbys see it at once.
    pub async fn delete(&self, revision: u64) -> Result<(), LeaseError> {
        let mut headers = HeaderMap::new();
        headers.insert("KV-Operation", "DEL");
        self.publish(PublishMessage::build().headers(headers), revision).await.map(|_| ())
    }

    async fn publish(&self, message: PublishMessage, revision: u64) -> Result<u64, LeaseError> {
        let message =
            message.expected_last_subject_sequence(revision).outbound_message(self.bus.namespace().leader_subject());
        let confirmed = async {
            let sent = self.bus.jetstream().publish_message(message).await?;
            sent.await
        };
        match tokio::time::timeout(self.times.request_timeout(), confirmed).await {
            Ok(Ok(stored)) => Ok(stored.sequence),
            Ok(Err(error)) if error.kind() == PublishErrorKind::WrongLastSequence => Err(LeaseError::Superseded),
            Ok(Err(error)) => Err(LeaseError::Indeterminate(error.to_string())),
            Err(_) => Err(LeaseError::Indeterminate("no answer in time".to_owned())),
        }
    }
}

/// A lease that this process holds.
#[derive(Debug)]
pub struct Lease {
    key: LeaseKey,
    value: LeaseValue,
    revision: u64,
    trusted_until: BootInstant,
    /// The term that the holder has taken, once it has.
    term: Option<Term>,
}

impl Lease {
    /// A lease whose write was confirmed at `revision` and had begun at `began`.
    pub fn held(key: LeaseKey, value: LeaseValue, revision: u64, began: BootInstant) -> Self {
        let trusted_until = began.plus(key.times.trusted_for());
        Self { key, value, revision, trusted_until, term: None }
    }

    /// The latest commit that the holder knows of.
    pub fn known(&self) -> Mark {
        self.term.as_ref().map_or(self.value.known(), Term::last_commit)
    }

    /// States the term that the holder has taken, and thereby proves that the lease is still its own. Each renewal states
    /// the term's last commit.
    pub async fn state_term(&mut self, term: &Term) -> Result<(), LeaseError> {
        self.term = Some(term.clone());
        self.renew().await
    }

    /// Renews until the lease may no longer be trusted; returns why.
    pub async fn keep(&mut self) -> LeaseError {
        let times = self.key.times;
        loop {
            tokio::time::sleep(times.renew_every()).await;
            loop {
                match self.renew().await {
                    Ok(()) => break,
                    Err(LeaseError::Superseded) => return LeaseError::Superseded,
                    // The boot-time clock decides, also after this process was frozen.
                    Err(error) if self.trusted_until.remaining().is_zero() => return error,
                    Err(error) => {
                        tracing::warn!(%error, trusted_ms = self.trusted_until.remaining().as_millis() as u64, "lease not renewed yet");
                        tokio::time::sleep(times.request_timeout().min(self.trusted_until.remaining()) / 4).await;
                    }
                }
            }
        }
    }

    async fn renew(&mut self) -> Result<(), LeaseError> {
        let began = BootInstant::now();
        (self.value.epoch, self.value.seq) = (self.known().epoch, self.known().seq);
        match self.key.write(&self.value, self.revision).await {
            Ok(revision) => {
                self.revision = revision;
                self.trusted_until = began.plus(self.key.times.trusted_for());
                Ok(())
            }
            // Perhaps by ourselves: an earlier renewal that timed out and was stored after all.
            Err(LeaseError::Superseded) => {
                let found = self.key.read().await?;
                match found.holder {
                    Some(holder) if holder.nonce == self.value.nonce => {
                        self.revision = found.revision;
                        Err(LeaseError::Indeterminate("an earlier renewal was stored late".to_owned()))
                    }
                    _ => Err(LeaseError::Superseded),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Gives it back.
    pub async fn release(self) {
        match self.key.delete(self.revision).await {
            Ok(()) => tracing::info!("lease given back"),
            Err(error) => tracing::warn!(%error, "lease not given back: it expires by itself"),
        }
    }
}
