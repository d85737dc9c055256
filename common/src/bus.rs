//! NATS: connecting, publishing with the broker's confirmation, and looking at what the broker stores.
//!
//! Payloads come from [`crate::messages`], names from [`crate::subjects`]; messages are read in [`crate::delivery`].
//! The bus is transport: nothing here is the only copy of anything (the ledger is).

mod declare;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::context::traits::Publisher;
use async_nats::jetstream::context::{ContextBuilder, GetStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::ConsumerErrorKind;
use async_nats::jetstream::{self, ErrorCode, consumer, stream};
use async_nats::{Client, ConnectOptions, Event, Subject};
use bytes::Bytes;
use futures::TryStreamExt;

pub use self::declare::{BusShape, CONSUMER_ACK_WAIT, Lanes, OLDEST_SERVER};
use crate::alert::SourceName;
use crate::clock::BootInstant;
use crate::health::{Check, Health};
use crate::ids::ExecutionId;
use crate::messages::{Job, OutcomeMessage};
use crate::settings::{NatsLogin, NatsSettings};
use crate::subjects::{Namespace, RESULTS_CONSUMER, execution_of, message_id};
use crate::timestamp::Timestamp;

/// How long one request to the broker may take.
pub const BUS_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection to NATS and the names of this installation on it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bus {
    client: Client,
    jetstream: jetstream::Context,
    namespace: Namespace,
}

/// Why the bus did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The settings cannot make a connection.
    #[error("cannot connect to NATS: {0}; check --nats-url and the NATS credentials")]
    Connect(String),
    /// The broker did not confirm in time, or has no leader at the moment; the message may be stored all the same.
    #[error("NATS did not confirm {action}: {reason}")]
    Unconfirmed {
        /// What was asked.
        action: &'static str,
        /// The client's words.
        reason: String,
    },
    /// A stream or consumer does not exist (yet): the leader declares them.
    #[error("{0} does not exist on NATS yet: the leading coordinator declares it")]
    Missing(String),
    /// The broker will never take this message.
    #[error("NATS refused {action}: {reason}")]
    Refused {
        /// What was asked.
        action: &'static str,
        /// The client's words.
        reason: String,
    },
}

impl BusError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unconfirmed { .. } | Self::Missing(_))
    }

    pub(crate) fn unconfirmed(action: &'static str, reason: impl ToString) -> Self {
        Self::Unconfirmed { action, reason: reason.to_string() }
    }
}

/// How far a consumer is from having handed out and settled everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Messages not handed out yet.
    pub pending: u64,
    /// Messages handed out and not settled.
    pub unsettled: u64,
    /// Pull requests waiting for a message: zero means that nobody is there to work.
    pub waiting: u64,
}

impl Bus {
    /// Connects in the background: returns at once, and reports the connection's state as the health check `nats`.
    /// Publishing before the connection stands fails as unconfirmed. `name` is the connection's, at the server and in
    /// our log lines: one process may hold several.
    pub async fn connect(settings: &NatsSettings, name: &str, health: &Health) -> Result<Self, BusError> {
        let reporter = Reporter::new(name, settings.servers.join(", "), health.clone());
        let mut options = ConnectOptions::new()
            .name(format!("sqlsentinel {name}"))
            .custom_inbox_prefix(settings.login.inbox_prefix())
            .retry_on_initial_connect()
            .connection_timeout(BUS_TIMEOUT)
            .request_timeout(Some(BUS_TIMEOUT))
            .ping_interval(Duration::from_secs(5))
            .reconnect_delay_callback(|attempts| Duration::from_millis((50 * attempts as u64).min(1_000)))
            .event_callback(move |event| {
                reporter.report(&event);
                std::future::ready(())
            });
        options = match &settings.login {
            NatsLogin::Anonymous => options,
            NatsLogin::Password { user, password } => {
                options.user_and_password(user.clone(), password.expose().to_owned())
            }
            NatsLogin::Credentials(file) => options
                .credentials_file(file)
                .await
                .map_err(|error| BusError::Connect(format!("credentials file {}: {error}", file.display())))?,
        };
        if let Some(file) = &settings.ca_file {
            options = options.add_root_certificates(file.clone());
        }
        let client = options.connect(&settings.servers).await.map_err(|error| BusError::Connect(error.to_string()))?;
        let jetstream = ContextBuilder::new().timeout(BUS_TIMEOUT).ack_timeout(BUS_TIMEOUT).build(client.clone());
        Ok(Self { client, jetstream, namespace: settings.namespace.clone() })
    }

    /// The names of this installation.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The plain connection, for requests that are no work queue.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The JetStream context, for the lease.
    pub fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    /// Stores one job; the broker drops it if this attempt was published within the last two minutes.
    pub async fn publish_job(&self, job: &Job) -> Result<(), BusError> {
        let subject = self.namespace.job(&job.source, job.execution_id);
        self.publish("the job", subject, encode("the job", job)?, Some(message_id(job.execution_id, job.attempt))).await
    }

    /// Stores one outcome.
    pub async fn publish_outcome(&self, outcome: &OutcomeMessage) -> Result<(), BusError> {
        let subject = self.namespace.result(&outcome.source, outcome.execution_id);
        // No message id: the primary key in SQL drops what arrives twice, and a second run must be counted.
        self.publish("the outcome", subject, encode("the outcome", outcome)?, None).await
    }

    /// Publishes to a stream and waits for the broker's confirmation.
    pub(crate) async fn publish(
        &self,
        action: &'static str,
        subject: String,
        payload: Bytes,
        id: Option<String>,
    ) -> Result<(), BusError> {
        let mut message = PublishMessage::build().payload(payload);
        if let Some(id) = id {
            message = message.message_id(id);
        }
        let confirmed = async {
            let sent = self.jetstream.publish_message(message.outbound_message(subject)).await?;
            sent.await
        };
        match tokio::time::timeout(BUS_TIMEOUT * 2, confirmed).await {
            Err(_) => Err(BusError::unconfirmed(action, "no answer in time")),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(match error.kind() {
                PublishErrorKind::MaxPayloadExceeded => BusError::Refused { action, reason: error.to_string() },
                _ => BusError::unconfirmed(action, error),
            }),
        }
    }

    /// A durable consumer that the leader has declared.
    pub(crate) async fn consumer(&self, stream: String, durable: String) -> Result<consumer::PullConsumer, BusError> {
        self.jetstream.get_consumer_from_stream(&durable, &stream).await.map_err(|error| match error.kind() {
            ConsumerErrorKind::JetStream(cause)
                if [ErrorCode::CONSUMER_NOT_FOUND, ErrorCode::STREAM_NOT_FOUND].contains(&cause.error_code()) =>
            {
                BusError::Missing(format!("consumer {durable} of {stream}"))
            }
            _ => BusError::unconfirmed("the look-up of a consumer", error),
        })
    }

    /// The broker's clock, as it stood when it answered about the lane of `source`, and how long the answer took. A worker
    /// has no state database to ask, and its own wall clock may be anywhere.
    pub async fn clock(&self, source: &SourceName) -> Result<(Timestamp, Duration), BusError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            ts: Timestamp,
        }
        let (stream, durable) = (self.namespace.jobs_stream(), self.namespace.jobs_consumer(source));
        let asked = BootInstant::now();
        // The client's own call leaves the time out, and its raw one sends `null`, which the broker refuses.
        let subject = format!("$JS.API.CONSUMER.INFO.{stream}.{durable}");
        let failed = |error: &dyn std::fmt::Display| BusError::unconfirmed("the time", error);
        let answer = self.client.request(subject, Bytes::new()).await.map_err(|error| failed(&error))?;
        let answer: Answer = serde_json::from_slice(&answer.payload).map_err(|error| failed(&error))?;
        Ok((answer.ts, asked.elapsed()))
    }

    /// The executions whose jobs the broker still stores, read from the stream's leader.
    pub async fn stored_jobs(&self) -> Result<HashSet<ExecutionId>, BusError> {
        let stream = self.stream(self.namespace.jobs_stream()).await?;
        let stored = async {
            let subjects = stream.info_with_subjects(self.namespace.all_jobs()).await.map_err(|e| e.to_string())?;
            subjects
                .try_filter_map(|(subject, _)| async move { Ok(execution_of(&subject)) })
                .try_collect()
                .await
                .map_err(|e| e.to_string())
        };
        match tokio::time::timeout(BUS_TIMEOUT * 3, stored).await {
            Ok(result) => result.map_err(|reason| BusError::unconfirmed("the list of stored jobs", reason)),
            Err(_) => Err(BusError::unconfirmed("the list of stored jobs", "no answer in time")),
        }
    }

    /// How far the workers of one source are.
    pub async fn jobs_backlog(&self, source: &SourceName) -> Result<Backlog, BusError> {
        self.backlog(self.namespace.jobs_stream(), self.namespace.jobs_consumer(source)).await
    }

    /// The number of the last outcome stored, read from the stream's leader.
    pub async fn last_result(&self) -> Result<u64, BusError> {
        Ok(self.stream(self.namespace.results_stream()).await?.cached_info().state.last_sequence)
    }

    /// Whether the notifiers have settled every outcome up to `sequence`.
    pub async fn results_settled(&self, sequence: u64) -> Result<bool, BusError> {
        let consumer = self.consumer(self.namespace.results_stream(), RESULTS_CONSUMER.to_owned()).await?;
        let info = consumer.cached_info();
        Ok(info.ack_floor.stream_sequence >= sequence || (info.num_pending == 0 && info.num_ack_pending == 0))
    }

    async fn backlog(&self, stream: String, durable: String) -> Result<Backlog, BusError> {
        let consumer = self.consumer(stream, durable).await?;
        let info = consumer.cached_info();
        Ok(Backlog {
            pending: info.num_pending,
            unsettled: info.num_ack_pending as u64,
            waiting: info.num_waiting as u64,
        })
    }

    async fn stream(&self, name: String) -> Result<stream::Stream, BusError> {
        self.jetstream.get_stream(&name).await.map_err(|error| match error.kind() {
            GetStreamErrorKind::JetStream(cause) if cause.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                BusError::Missing(format!("stream {name}"))
            }
            _ => BusError::unconfirmed("the look-up of a stream", error),
        })
    }

    /// Hands everything that was written to the socket, waiting at most one time-out: called before a process ends.
    pub async fn flush(&self) {
        if let Ok(Err(error)) = tokio::time::timeout(BUS_TIMEOUT, self.client.flush()).await {
            tracing::warn!(%error, "could not flush to NATS");
        }
    }

    /// Publishes without storing, for answers to operators.
    pub async fn answer(&self, reply: Subject, payload: Bytes) -> Result<(), BusError> {
        self.client.publish(reply, payload).await.map_err(|error| BusError::unconfirmed("the answer", error))
    }
}

fn encode(action: &'static str, message: &impl serde::Serialize) -> Result<Bytes, BusError> {
    serde_json::to_vec(message)
        .map(Bytes::from)
        .map_err(|error| BusError::Refused { action, reason: error.to_string() })
}

/// Says what happens to one connection.
struct Reporter {
    connection: String,
    servers: String,
    health: Health,
    /// Whether the log has said that the servers are out of reach: every attempt fails alike, several times a second.
    told: AtomicBool,
}

impl Reporter {
    fn new(connection: &str, servers: String, health: Health) -> Self {
        health.report("nats", Check::unhealthy(format!("not connected to {servers} yet")));
        Self { connection: connection.to_owned(), servers, health, told: AtomicBool::new(false) }
    }

    fn report(&self, event: &Event) {
        let (connection, servers) = (self.connection.as_str(), self.servers.as_str());
        match event {
            Event::Connected => {
                self.told.store(false, Ordering::Relaxed);
                tracing::info!(connection, "connected to NATS");
                self.health.report("nats", Check::healthy("connected"));
            }
            Event::Disconnected => {
                tracing::warn!(connection, "lost the connection to NATS");
                self.health.report("nats", Check::unhealthy(format!("lost the connection to {servers}")));
            }
            Event::ClientError(_) if self.told.swap(true, Ordering::Relaxed) => {}
            Event::ClientError(error) => {
                tracing::warn!(
                    connection,
                    servers,
                    %error,
                    "cannot reach NATS, trying on: check that it runs and that --nats-url (NATS_URL) names it"
                );
            }
            Event::Closed => tracing::debug!(connection, "closed the connection to NATS"),
            Event::LameDuckMode | Event::Draining => tracing::info!(connection, %event, "NATS"),
            other => tracing::warn!(connection, event = %other, "NATS"),
        }
    }
}
