//! Messages taken from a work queue: read, then settled as acked, given back, or kept with the dead letters.
//!
//! Input: a durable pull consumer. Output: [`Delivery`] values whose message is decoded. What cannot be decoded never
//! reaches the caller: it goes to the `DEAD` stream with the reason, and is counted and terminated here.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::message::Message;
use bytes::Bytes;
use futures::{Stream, StreamExt};

use crate::alert::SourceName;
use crate::bus::{BUS_TIMEOUT, Bus, BusError};
use crate::messages::{Job, OutcomeMessage, Versioned, decode};
use crate::subjects::RESULTS_CONSUMER;

/// One work queue's share that this process takes messages from.
#[derive(Debug)]
pub struct Lane<M> {
    bus: Bus,
    queue: &'static str,
    consumer: PullConsumer,
    dead_letters: Arc<AtomicU64>,
    message: PhantomData<fn() -> M>,
}

/// One decoded message, to be settled exactly once.
#[derive(Debug)]
pub struct Delivery<M> {
    /// The payload.
    pub message: M,
    /// How often the broker has handed this message out, from 1.
    pub delivery: u32,
    raw: Message,
    bus: Bus,
    queue: &'static str,
}

impl Bus {
    /// The jobs of one source, to be worked.
    pub async fn jobs(&self, source: &SourceName) -> Result<Lane<Job>, BusError> {
        let (stream, durable) = (self.namespace().jobs_stream(), self.namespace().jobs_consumer(source));
        Ok(Lane::new(self.clone(), "jobs", self.consumer(stream, durable).await?))
    }

    /// All outcomes, to be recorded.
    pub async fn results(&self) -> Result<Lane<OutcomeMessage>, BusError> {
        let consumer = self.consumer(self.namespace().results_stream(), RESULTS_CONSUMER.to_owned()).await?;
        Ok(Lane::new(self.clone(), "results", consumer))
    }
}

impl<M: Versioned> Lane<M> {
    fn new(bus: Bus, queue: &'static str, consumer: PullConsumer) -> Self {
        Self { bus, queue, consumer, dead_letters: Arc::default(), message: PhantomData }
    }

    /// How many undecodable messages this lane has put away.
    pub fn dead_letters(&self) -> u64 {
        self.dead_letters.load(Ordering::Relaxed)
    }

    /// Up to `max` messages: at once if there are any, otherwise the first that come within `wait`; none if none came.
    ///
    /// The caller asks for no more than it can begin to work on now: a message that waits here is a message whose
    /// broker-side clock runs. After an error, drop the lane and open it again.
    pub async fn next_batch(&self, max: usize, wait: Duration) -> Result<Vec<Delivery<M>>, BusError> {
        let mut batch = self.stored(max).await?;
        if batch.is_empty() {
            batch = self.first(wait).await?;
            if !batch.is_empty() && max > 1 {
                batch.extend(self.stored(max - 1).await?);
            }
        }
        Ok(batch)
    }

    /// What is there now.
    async fn stored(&self, max: usize) -> Result<Vec<Delivery<M>>, BusError> {
        // No expiry: with one, the broker does not answer that there is nothing, but waits for it.
        let messages = self.consumer.fetch().max_messages(max).messages().await;
        self.collect(messages.map_err(pull_error)?, BUS_TIMEOUT * 2).await
    }

    /// The next message to come.
    async fn first(&self, wait: Duration) -> Result<Vec<Delivery<M>>, BusError> {
        // No heartbeat: async-nats 0.51 loses the wake-up of a batch whenever one arrives (`Batch::poll_next` returns
        // pending without having polled again), and the messages behind it. A short wait notices a lost node instead.
        let messages = self.consumer.batch().max_messages(1).expires(wait).messages().await;
        self.collect(messages.map_err(pull_error)?, wait + BUS_TIMEOUT).await
    }

    async fn collect<E: std::fmt::Display>(
        &self,
        messages: impl Stream<Item = Result<Message, E>>,
        limit: Duration,
    ) -> Result<Vec<Delivery<M>>, BusError> {
        let mut messages = std::pin::pin!(messages);
        let mut batch = Vec::new();
        let ended = tokio::time::timeout(limit, async {
            while let Some(message) = messages.next().await {
                batch.extend(self.read(message.map_err(pull_error)?).await);
            }
            Ok(())
        })
        .await;
        match ended {
            Ok(Ok(())) => Ok(batch),
            // What did arrive is worked; the fault shows again at the next call.
            _ if !batch.is_empty() => Ok(batch),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(BusError::unconfirmed("a pull", "no answer in time")),
        }
    }

    async fn read(&self, raw: Message) -> Option<Delivery<M>> {
        let delivery = raw.info().map(|info| u32::try_from(info.delivered).unwrap_or(u32::MAX)).unwrap_or(1);
        match decode(&raw.payload) {
            Ok(message) => Some(Delivery { message, delivery, raw, bus: self.bus.clone(), queue: self.queue }),
            Err(reason) => {
                self.dead_letters.fetch_add(1, Ordering::Relaxed);
                if let Err(error) = bury(&self.bus, self.queue, &raw, &reason.to_string()).await {
                    tracing::warn!(%error, subject = %raw.subject, "could not put an undecodable message away yet");
                }
                None
            }
        }
    }
}

impl<M> Delivery<M> {
    /// Done: the broker forgets the message.
    pub async fn ack(&self) -> Result<(), BusError> {
        settle(&self.raw, AckKind::Ack).await
    }

    /// Not done: the broker hands it out again after `delay`.
    pub async fn nak(&self, delay: Duration) -> Result<(), BusError> {
        settle(&self.raw, AckKind::Nak(Some(delay))).await
    }

    /// Still at work: the broker's clock for this message begins anew. Waits for the broker's answer, because whoever
    /// works on cannot tell otherwise that the broker is out of reach and has given the message to somebody else.
    pub async fn progress(&self) -> Result<(), BusError> {
        match tokio::time::timeout(BUS_TIMEOUT, self.raw.double_ack_with(AckKind::Progress)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(BusError::unconfirmed("a sign of life", error)),
            Err(_) => Err(BusError::unconfirmed("a sign of life", "no answer in time")),
        }
    }

    /// Never to be done: kept in the `DEAD` stream with the reason, then terminated.
    pub async fn dead_letter(&self, reason: &str) -> Result<(), BusError> {
        bury(&self.bus, self.queue, &self.raw, reason).await
    }
}

async fn settle(raw: &Message, kind: AckKind) -> Result<(), BusError> {
    match tokio::time::timeout(BUS_TIMEOUT, raw.ack_with(kind)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(BusError::unconfirmed("the settlement of a message", error)),
        Err(_) => Err(BusError::unconfirmed("the settlement of a message", "no answer in time")),
    }
}

/// Stores the message among the dead letters first, and terminates it only when that is confirmed.
async fn bury(bus: &Bus, queue: &'static str, raw: &Message, reason: &str) -> Result<(), BusError> {
    let letter = serde_json::json!({
        "subject": raw.subject.as_str(),
        "reason": reason,
        "payload": String::from_utf8_lossy(&raw.payload),
    });
    bus.publish("a dead letter", bus.namespace().dead(queue), Bytes::from(letter.to_string()), None).await?;
    tracing::error!(subject = %raw.subject, reason, "message put away as a dead letter");
    settle(raw, AckKind::Term).await
}

fn pull_error(error: impl std::fmt::Display) -> BusError {
    BusError::unconfirmed("a pull", error)
}
