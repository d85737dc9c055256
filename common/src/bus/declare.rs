//! Streams and consumers as they should be. The leading coordinator declares them, again and again, so that a deleted
//! one comes back, and drops what nobody needs any more; nobody else does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::{Config as StreamConfig, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, kv};
use futures::TryStreamExt;

use super::{BUS_TIMEOUT, Backlog, Bus, BusError};
use crate::alert::SourceName;
use crate::subjects::{Namespace, RESULTS_CONSUMER};

/// After this long without a sign of life from who holds it, a message is handed out again.
pub const CONSUMER_ACK_WAIT: Duration = Duration::from_secs(10);
/// Longer than any deadline: what is older is in nobody's interest, and rescue or expiry has settled its fire.
const STREAM_MAX_AGE: Duration = Duration::from_secs(48 * 3600);
const DEAD_MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
const DEAD_MAX_MESSAGES: i64 = 100_000;
/// The broker's own default: a message id is remembered for this long.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// The first server whose keys have a time to live of their own: major and minor version.
pub const OLDEST_SERVER: (i64, i64) = (2, 11);
/// How the client calls what nobody answers: in most cases there is no JetStream at all.
const NOBODY_ANSWERS: &str = "requested JetStream resource does not exist";

/// What the leader keeps declared.
#[derive(Clone, Debug)]
pub struct BusShape {
    /// Copies of every stream, 1 to 5.
    pub replicas: usize,
    /// The most jobs of one source that workers may hold at once, in the whole cluster.
    pub max_ack_pending: i64,
}

/// The sources, each with the most jobs of it that workers may hold at once, if its configuration says so.
pub type Lanes = BTreeMap<SourceName, Option<u16>>;

impl Bus {
    /// Creates the lease's bucket if it is missing. Every candidate may call it: without a bucket there is no leader.
    pub async fn declare_bucket(&self, replicas: usize) -> Result<(), BusError> {
        let bucket = self.namespace.bucket();
        if self.jetstream.get_stream(self.namespace.bucket_stream()).await.is_ok() {
            return Ok(());
        }
        let config = kv::Config {
            bucket,
            history: 1,
            num_replicas: replicas,
            storage: StorageType::File,
            // Without markers an expired key would leave no trace for the watch.
            limit_markers: Some(Duration::from_secs(60)),
            ..Default::default()
        };
        self.jetstream
            .create_key_value(config)
            .await
            .map(|_| ())
            .map_err(|error| BusError::unconfirmed("the lease's bucket", describe(&error)))
    }

    /// Fails if the server that we are connected to is too old for the lease: it would store it and let it live for ever.
    pub fn server_is_new_enough(&self) -> Result<(), BusError> {
        let (version, (major, minor)) = (self.client.server_info().version, OLDEST_SERVER);
        // There is none before the first connection.
        if version.is_empty() || self.client.is_server_compatible(major, minor, 0) {
            return Ok(());
        }
        let reason = format!("nats-server {version} has no keys that expire; {major}.{minor} or newer is needed");
        Err(BusError::Refused { action: "the lease", reason })
    }

    /// Makes streams and consumers as they should be: creates what is missing, updates what differs. Of each source, the
    /// most jobs that workers may hold at once, if it is not the shape's.
    pub async fn declare(&self, shape: &BusShape, sources: &Lanes) -> Result<(), BusError> {
        let names = &self.namespace;
        let work = |name: String, subject: String| StreamConfig {
            name,
            subjects: vec![subject],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            num_replicas: shape.replicas,
            max_age: STREAM_MAX_AGE,
            duplicate_window: DUPLICATE_WINDOW,
            ..Default::default()
        };
        self.declare_stream(work(names.jobs_stream(), names.all_jobs())).await?;
        self.declare_stream(work(names.results_stream(), names.all_results())).await?;
        self.declare_stream(StreamConfig {
            retention: RetentionPolicy::Limits,
            max_age: DEAD_MAX_AGE,
            max_messages: DEAD_MAX_MESSAGES,
            ..work(names.dead_stream(), names.all_dead())
        })
        .await?;

        let durable = |name: String, filter: String, max_ack_pending: i64| pull::Config {
            durable_name: Some(name),
            filter_subject: filter,
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: CONSUMER_ACK_WAIT,
            // An exhausted message would lie in a work queue for ever; the worker ends a job that nobody finishes.
            max_deliver: -1,
            max_ack_pending,
            ..Default::default()
        };
        for (source, max_concurrency) in sources {
            let most = max_concurrency.map_or(shape.max_ack_pending, i64::from);
            let config = durable(names.jobs_consumer(source), names.jobs_of(source), most);
            self.declare_consumer(&names.jobs_stream(), config).await?;
        }
        let config = durable(RESULTS_CONSUMER.to_owned(), names.all_results(), 10_000);
        self.declare_consumer(&names.results_stream(), config).await
    }

    /// Deletes the consumers of sources that are not `needed`, unless somebody holds a job of one or still pulls: a worker
    /// whose file is older. Returns whose they were.
    ///
    /// Between the look and the end somebody may begin to need one. That loses nothing: jobs stay stored without a
    /// consumer, and are handed out when whoever leads has declared it again.
    pub async fn drop_lanes(&self, needed: &BTreeSet<SourceName>) -> Result<Vec<SourceName>, BusError> {
        let failed = |error: &dyn std::error::Error| BusError::unconfirmed("the end of a consumer", describe(error));
        let stream = self.stream(self.namespace.jobs_stream()).await?;
        let names = tokio::time::timeout(BUS_TIMEOUT * 3, stream.consumer_names().try_collect::<Vec<_>>()).await;
        let names = names.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        let mut dropped = Vec::new();
        for source in names.iter().filter_map(|name| Namespace::source_of(name)) {
            if needed.contains(&source) {
                continue;
            }
            if let Backlog { unsettled: 0, waiting: 0, .. } = self.jobs_backlog(&source).await? {
                let deleted = stream.delete_consumer(&self.namespace.jobs_consumer(&source)).await;
                deleted.map_err(|error| failed(&error))?;
                dropped.push(source);
            }
        }
        Ok(dropped)
    }

    async fn declare_stream(&self, config: StreamConfig) -> Result<(), BusError> {
        match self.jetstream.get_stream(&config.name).await {
            Ok(stream) if same_stream(&stream.cached_info().config, &config) => Ok(()),
            _ => self
                .jetstream
                .create_or_update_stream(config)
                .await
                .map(|_| ())
                .map_err(|error| BusError::unconfirmed("a stream", describe(&error))),
        }
    }

    async fn declare_consumer(&self, stream: &str, config: pull::Config) -> Result<(), BusError> {
        let name = config.durable_name.clone().unwrap_or_default();
        let existing: Result<jetstream::consumer::PullConsumer, _> =
            self.jetstream.get_consumer_from_stream(&name, stream).await;
        if let Ok(consumer) = existing {
            let found = &consumer.cached_info().config;
            if found.max_ack_pending == config.max_ack_pending && found.ack_wait == config.ack_wait {
                return Ok(());
            }
        }
        self.jetstream
            .create_consumer_on_stream(config, stream)
            .await
            .map(|_| ())
            .map_err(|error| BusError::unconfirmed("a consumer", describe(&error)))
    }
}

fn same_stream(found: &StreamConfig, wanted: &StreamConfig) -> bool {
    found.subjects == wanted.subjects
        && found.retention == wanted.retention
        && found.num_replicas == wanted.num_replicas
        && found.max_age == wanted.max_age
        && found.duplicate_window == wanted.duplicate_window
        && (wanted.max_messages == 0 || found.max_messages == wanted.max_messages)
}

/// An error with its causes, each said once, and what to do about the most frequent one: the client's outer words alone often
/// say nothing.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    if text.contains(NOBODY_ANSWERS) {
        text.push_str(" (is JetStream on, as with `nats-server -js`, and may this user use it?)");
    }
    text
}
