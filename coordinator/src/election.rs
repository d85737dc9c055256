//! The election: waits until this node holds the lease, and with it the right to take the next epoch.
//!
//! A candidate proves that it reaches the state database before it runs, so that one which cannot lead does not take the
//! lease from one which can.

use std::time::Duration;

use async_nats::jetstream::kv::Watch;
use futures::StreamExt;
use sqlsentinel_common::bus::Bus;
use sqlsentinel_common::clock::BootInstant;
use sqlsentinel_common::store::Store;
use sqlsentinel_common::store::leadership::Mark;
use tokio::sync::watch;

use crate::lease::{Found, Lease, LeaseError, LeaseKey, LeaseTimes, LeaseValue};

/// How long to wait after something that a candidate needs did not answer.
const BACKOFF: Duration = Duration::from_millis(500);

/// Who leads, as this node last saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leader {
    /// The holder of the lease; none if there was none.
    pub holder: Option<LeaseValue>,
    /// What kept this node from looking, or from running, the last time that it tried.
    pub obstacle: Option<String>,
}

/// One node's campaign.
#[derive(Debug)]
pub struct Campaign {
    bus: Bus,
    store: Store,
    key: LeaseKey,
    node: String,
    replicas: usize,
    /// The latest commit ever seen in the lease: without it, a database that went back in time would pass unnoticed.
    known: Mark,
    seen: watch::Sender<Leader>,
}

impl Campaign {
    /// A campaign of `node`; whoever it sees leading is published to `seen`.
    pub fn new(
        bus: Bus,
        store: Store,
        times: LeaseTimes,
        node: &str,
        replicas: usize,
        seen: watch::Sender<Leader>,
    ) -> Self {
        let key = LeaseKey::new(bus.clone(), times);
        Self { bus, store, key, node: node.to_owned(), replicas, known: Mark::default(), seen }
    }

    /// Waits until the lease is ours. May be dropped at any time: what was written then expires, or is read back as
    /// somebody else's and waited for.
    pub async fn win(&mut self) -> Lease {
        let mut watch = None;
        loop {
            match self.run_once().await {
                Ok(lease) => {
                    self.overcome();
                    match lease {
                        Some(lease) => return lease,
                        None => self.wait_for_change(&mut watch).await,
                    }
                }
                Err(error) => {
                    self.meet(error);
                    watch = None;
                    tokio::time::sleep(BACKOFF).await;
                }
            }
        }
    }

    /// Waits until somebody else holds the lease, without campaigning for it.
    pub async fn see_another(&mut self) {
        let mut watch = None;
        loop {
            match self.key.read().await {
                Ok(found) => {
                    self.overcome();
                    self.note(&found);
                    if found.holder.is_some_and(|holder| holder.node != self.node) {
                        return;
                    }
                    self.wait_for_change(&mut watch).await;
                }
                Err(error) => {
                    self.meet(error.to_string());
                    watch = None;
                    tokio::time::sleep(BACKOFF).await;
                }
            }
        }
    }

    /// Keeps a commit in mind.
    pub fn remember(&mut self, commit: Mark) {
        self.known = self.known.max(commit);
    }

    /// One attempt: the lease if it was free and we were first.
    async fn run_once(&mut self) -> Result<Option<Lease>, String> {
        let read = self.key.read().await;
        // Now that it has answered, its version is known.
        self.bus.server_is_new_enough().map_err(|error| error.to_string())?;
        let found = match read {
            Ok(found) => found,
            // Reading fails, too, where there is no bucket yet.
            Err(_) => {
                self.bus.declare_bucket(self.replicas).await.map_err(|error| error.to_string())?;
                self.key.read().await.map_err(|error| error.to_string())?
            }
        };
        self.note(&found);
        if found.holder.is_some() {
            return Ok(None);
        }
        self.store.now().await.map_err(|error| error.to_string())?;

        let value = LeaseValue::new(&self.node, self.known);
        let began = BootInstant::now();
        match self.key.write(&value, found.revision).await {
            Ok(revision) => Ok(Some(Lease::held(self.key.clone(), value, revision, began))),
            Err(LeaseError::Superseded) => Ok(None),
            // Stored or not: if it was, the next read finds a holder with our nonce.
            Err(LeaseError::Indeterminate(reason)) => match self.key.read().await.map_err(|error| error.to_string())? {
                Found { revision, holder: Some(holder) } if holder.nonce == value.nonce => {
                    Ok(Some(Lease::held(self.key.clone(), value, revision, began)))
                }
                _ => Err(reason),
            },
        }
    }

    fn note(&mut self, found: &Found) {
        if let Some(holder) = &found.holder {
            self.remember(holder.known());
        }
        self.seen.send_if_modified(|leader| {
            let changed = leader.holder != found.holder;
            leader.holder.clone_from(&found.holder);
            changed
        });
    }

    /// Keeps an obstacle in mind, and tells of it once: attempts follow each other several times a second.
    fn meet(&self, obstacle: String) {
        self.seen.send_if_modified(|leader| {
            let new = leader.obstacle.as_ref() != Some(&obstacle);
            if new {
                tracing::warn!(error = obstacle, "cannot campaign for the lease, trying on");
                leader.obstacle = Some(obstacle);
            }
            new
        });
    }

    fn overcome(&self) {
        self.seen.send_if_modified(|leader| leader.obstacle.take().is_some());
    }

    /// Until the watch speaks, or it is time to look anyway: a watch that lost its node is silent for long.
    async fn wait_for_change(&self, watch: &mut Option<Watch>) {
        let poll = tokio::time::sleep(self.key.times().poll_every());
        if watch.is_none() {
            *watch = self.open_watch().await;
        }
        let spoke = async {
            match watch {
                Some(open) => open.next().await.and_then(Result::ok),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = poll => {}
            event = spoke => if event.is_none() {
                *watch = None;
                tokio::time::sleep(self.key.times().poll_every()).await;
            },
        }
    }

    async fn open_watch(&self) -> Option<Watch> {
        let opened = async {
            let bucket = self.bus.jetstream().get_key_value(self.bus.namespace().bucket()).await.ok()?;
            bucket.watch(sqlsentinel_common::subjects::LEADER_KEY).await.ok()
        };
        tokio::time::timeout(BACKOFF, opened).await.ok().flatten()
    }
}
