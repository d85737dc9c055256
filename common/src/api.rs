//! Operators' requests over NATS: who asks, on which verb, and what comes back.
//!
//! A verb answered by *every* process (`health`) is gathered: one request, many answers, within a time. A verb answered by
//! *one* coordinator (`status`, `leader`) is asked as a queue group. What changes something (`step-down`) names its user in
//! the subject. Both sides are here, so that they cannot drift apart.

use std::convert::Infallible;
use std::time::Duration;

use async_nats::{Message, Subject, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::alert::SourceName;
use crate::bus::{Bus, BusError};
use crate::health::HealthReport;
use crate::timestamp::Timestamp;

/// Every process answers with its [`ProcessReport`].
pub const HEALTH: &str = "health";
/// One coordinator answers with the state of every alert.
pub const STATUS: &str = "status";

/// One coordinator answers with a [`LeaderReport`].
pub const LEADER: &str = "leader";
/// The leader, and nobody else, answers a [`StepDownRequest`] with a [`StepDownAnswer`].
pub const STEP_DOWN: &str = "step-down";

/// Answers of one gathering that come after this long without another one are not waited for.
const QUIET: Duration = Duration::from_millis(300);
/// How long to wait before subscribing again after the subscription ended.
const RESUBSCRIBE: Duration = Duration::from_secs(1);

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Plans and publishes, when it leads.
    Coordinator,
    /// Runs queries.
    Worker,
    /// Records outcomes and sends notifications.
    Notifier,
}

impl Role {
    /// The name in JSON, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Worker => "worker",
            Self::Notifier => "notifier",
        }
    }
}

/// What one process says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessReport {
    /// Its unique name.
    pub node: String,
    /// What it is.
    pub role: Role,
    /// Its version.
    pub version: String,
    /// The epoch it leads in; none for standbys and everybody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// The data sources that its alerts need (coordinator), or that it serves (worker).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceName>,
    /// Its checks.
    pub health: HealthReport,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeaderReport {
    /// The node that took the epoch in force.
    pub node: String,
    /// The epoch.
    pub epoch: i64,
    /// How many transactions it has committed in it.
    pub seq: i64,
    /// Since when, on the state database's clock.
    pub since: Timestamp,
    /// The schedule cursor: every fire due up to here is accounted for.
    pub planned_through: Timestamp,
    /// The node that holds the lease now; none while there is an election.
    pub lease: Option<String>,
}

/// Asks the leader to make room for another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepDownRequest {
    /// Even if nobody stands by.
    #[serde(default)]
    pub force: bool,
}

/// What became of a [`StepDownRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepDownAnswer {
    /// The node that was asked.
    pub former: String,
    /// Whether it has stepped down.
    pub stepped_down: bool,
    /// Who holds the lease now; none if nobody had taken it in time.
    pub leader: Option<String>,
    /// Why it has not stepped down, or what to expect now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Answers every [`HEALTH`] request with what `report` says at that moment, until dropped.
pub async fn answer_health(bus: Bus, report: impl Fn() -> ProcessReport) -> Infallible {
    let mut requests = Requests::to(&bus, HEALTH, None);
    loop {
        let request = requests.next().await;
        request.answer(&report()).await;
    }
}

/// The requests on one verb, without end: a subscription that ends is made again.
#[derive(Debug)]
pub struct Requests {
    bus: Bus,
    subject: String,
    group: Option<&'static str>,
    subscription: Option<Subscriber>,
}

/// One request of an operator.
#[derive(Debug)]
pub struct Request {
    bus: Bus,
    reply: Subject,
    subject: Subject,
    payload: Bytes,
}

impl Requests {
    /// Requests on `verb`; the members of a queue group share them, without one everybody gets every request.
    pub fn to(bus: &Bus, verb: &'static str, group: Option<&'static str>) -> Self {
        Self { bus: bus.clone(), subject: bus.namespace().api_read(verb), group, subscription: None }
    }

    /// Requests of any user on a `verb` that changes something; everybody gets every one.
    pub fn of_admins(bus: &Bus, verb: &'static str) -> Self {
        Self { bus: bus.clone(), subject: bus.namespace().api_admin_of_all(verb), group: None, subscription: None }
    }

    /// The next request.
    pub async fn next(&mut self) -> Request {
        loop {
            let Some(subscription) = &mut self.subscription else {
                self.subscribe().await;
                continue;
            };
            match subscription.next().await {
                Some(Message { reply: Some(reply), subject, payload, .. }) => {
                    return Request { bus: self.bus.clone(), reply, subject, payload };
                }
                // Nobody waits for an answer.
                Some(_) => {}
                None => self.subscription = None,
            }
        }
    }

    async fn subscribe(&mut self) {
        let subject = self.subject.clone();
        let subscribed = match self.group {
            Some(group) => self.bus.client().queue_subscribe(subject, group.to_owned()).await,
            None => self.bus.client().subscribe(subject).await,
        };
        match subscribed {
            Ok(subscription) => self.subscription = Some(subscription),
            Err(error) => {
                tracing::warn!(%error, subject = self.subject, "cannot listen for operators' requests");
                tokio::time::sleep(RESUBSCRIBE).await;
            }
        }
    }
}

impl Request {
    /// The user that a request on a verb of admins names.
    pub fn user(&self) -> &str {
        self.subject.rsplit('.').nth(1).unwrap_or_default()
    }

    /// What is asked; the default where nothing readable is said.
    pub fn content<T: DeserializeOwned + Default>(&self) -> T {
        serde_json::from_slice(&self.payload).unwrap_or_default()
    }

    /// Answers it; an answer that cannot be sent is the asker's time-out.
    pub async fn answer(self, answer: &impl Serialize) {
        let payload = serde_json::to_vec(answer).map_err(|error| error.to_string());
        let sent = match payload {
            Ok(payload) => self.bus.answer(self.reply, payload.into()).await.map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            tracing::warn!(error, "could not answer an operator");
        }
    }
}

/// Asks every process and takes the answers that come within `wait`; unreadable ones are left out with a warning.
pub async fn gather<T: DeserializeOwned>(bus: &Bus, verb: &str, wait: Duration) -> Result<Vec<T>, BusError> {
    let mut gathered = Vec::new();
    // A subscription of our own, not `request()`: that one takes a single answer, and leaks when nobody answers.
    let mut answers = ask(bus, bus.namespace().api_read(verb), Bytes::new()).await?;
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        let until = if gathered.is_empty() { deadline } else { deadline.min(tokio::time::Instant::now() + QUIET) };
        let Ok(Some(answer)) = tokio::time::timeout_at(until, answers.next()).await else { return Ok(gathered) };
        match serde_json::from_slice(&answer.payload) {
            Ok(report) => gathered.push(report),
            // NATS itself says so when nobody listens at all.
            Err(_) if answer.payload.is_empty() => return Ok(gathered),
            Err(error) => tracing::warn!(%error, verb, "a process gave an unreadable answer"),
        }
    }
}

/// Asks the group behind `verb` and takes the first answer; none if nobody answers within `wait`.
pub async fn ask_one<T: DeserializeOwned>(bus: &Bus, verb: &str, wait: Duration) -> Result<Option<T>, BusError> {
    first(ask(bus, bus.namespace().api_read(verb), Bytes::new()).await?, wait).await
}

/// Asks, as `user`, for something to be changed, and takes the first answer; none if nobody answers within `wait`.
pub async fn ask_as<T: DeserializeOwned>(
    bus: &Bus,
    user: &str,
    verb: &str,
    content: &impl Serialize,
    wait: Duration,
) -> Result<Option<T>, BusError> {
    let content = serde_json::to_vec(content).map_err(|error| BusError::unconfirmed("the request", error))?;
    first(ask(bus, bus.namespace().api_admin(user, verb), content.into()).await?, wait).await
}

async fn first<T: DeserializeOwned>(mut answers: Subscriber, wait: Duration) -> Result<Option<T>, BusError> {
    match tokio::time::timeout(wait, answers.next()).await {
        Ok(Some(answer)) if !answer.payload.is_empty() => serde_json::from_slice(&answer.payload)
            .map(Some)
            .map_err(|error| BusError::unconfirmed("the answer of a coordinator", error)),
        _ => Ok(None),
    }
}

async fn ask(bus: &Bus, subject: String, content: Bytes) -> Result<Subscriber, BusError> {
    let failed = |error: &dyn std::fmt::Display| BusError::unconfirmed("the request", error);
    let inbox = bus.client().new_inbox();
    let answers = bus.client().subscribe(inbox.clone()).await.map_err(|error| failed(&error))?;
    bus.client().publish_with_reply(subject, inbox, content).await.map_err(|error| failed(&error))?;
    Ok(answers)
}
