//! A notification, from being queued to its receipt, as the outbox's readers and writers see it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::ids::{DigestId, ExecutionId, NotificationId};
use crate::store::StoreError;
use crate::timestamp::Timestamp;

/// What a notification is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NoticeKind {
    /// The alert began.
    Alert,
    /// The alert goes on, and is told again after the interval that its definition names.
    Repeat,
    /// The alert has ended.
    Resolved,
    /// The query has failed as often in a row as the definition says.
    Error,
    /// The query is answered again, after an `Error` notification.
    ErrorResolved,
    /// The query has begun to return no row.
    NoData,
}

impl NoticeKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Alert, Self::Repeat, Self::Resolved, Self::Error, Self::ErrorResolved, Self::NoData];

    /// The name in SQL, JSON, logs and ids.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Repeat => "repeat",
            Self::Resolved => "resolved",
            Self::Error => "error",
            Self::ErrorResolved => "error_resolved",
            Self::NoData => "no_data",
        }
    }

    pub(super) fn from_stored(text: &str) -> Result<Self, StoreError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| StoreError::Corrupt(format!("`{text}` is no kind of notification")))
    }
}

/// How far a notification has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotificationStatus {
    /// To be sent, for the first time or again.
    Pending,
    /// Claimed by a sender.
    Sending,
    /// The channel has taken it.
    Sent,
    /// Given up.
    Dead,
    /// Not to be sent: what it follows up on never left.
    Skipped,
}

impl NotificationStatus {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Sending, Self::Sent, Self::Dead, Self::Skipped];

    /// The name in SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Sending => "SENDING",
            Self::Sent => "SENT",
            Self::Dead => "DEAD",
            Self::Skipped => "SKIPPED",
        }
    }
}

/// A notification to one route, to be queued.
#[derive(Clone, Debug, PartialEq)]
pub struct NewNotification {
    /// Its name.
    pub notification_id: NotificationId,
    /// The execution that caused it.
    pub execution_id: ExecutionId,
    /// The alert.
    pub alert_name: String,
    /// The instance; empty where the alert has none.
    pub instance: String,
    /// The route, as the definition names it.
    pub route_key: String,
    /// The kind of channel behind the route.
    pub channel: &'static str,
    /// What it is about.
    pub kind: NoticeKind,
    /// Its place among the alert's notifications.
    pub sequence: i64,
    /// The nominal time of the execution.
    pub scheduled_for: Timestamp,
    /// What there is to tell, as the notifier's renderer writes and reads it.
    pub payload: String,
}

impl NewNotification {
    pub(in crate::store) fn record(&self) -> Value {
        json!({
            "notification_id": self.notification_id,
            "execution_id": self.execution_id,
            "alert_name": self.alert_name,
            "instance": self.instance,
            "route_key": self.route_key,
            "channel": self.channel,
            "kind": self.kind.as_str(),
            "sequence": self.sequence,
            "scheduled_for": self.scheduled_for.as_micros(),
            "payload": self.payload,
        })
    }
}

/// Where notifications go, as limits and circuits know it.
///
/// A channel that has a name is one for all alerts. An entry of `notify` without a name is its alert's own: the key of
/// its route may stand for different secrets in different alerts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    /// A channel of the section `channels`; its name is the route's key.
    Named(String),
    /// An entry of one alert.
    Inline {
        /// The alert.
        alert_name: String,
        /// The route, as the definition names it.
        route_key: String,
    },
}

/// Which notifications to claim, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRequest<'a> {
    /// At most so many.
    pub limit: usize,
    /// After this time without a receipt, others may claim them.
    pub lease: Duration,
    /// Routes that have enough under way already, whichever alert they belong to.
    pub except_routes: &'a [String],
    /// Where nothing is to be sent at the moment, or not by this request.
    pub except: &'a [Destination],
    /// Only what goes there; everywhere if none.
    pub only: Option<&'a Destination>,
    /// Only those of these alerts; all if none.
    pub only_alerts: Option<&'a [String]>,
    /// Only what has been tried, or due, for so long.
    pub waited_for: Option<Duration>,
}

impl ClaimRequest<'_> {
    /// For up to `limit` of all, for `lease`.
    pub fn new(limit: usize, lease: Duration) -> Self {
        let (except_routes, except): (&[String], &[Destination]) = (&[], &[]);
        Self { limit, lease, except_routes, except, only: None, only_alerts: None, waited_for: None }
    }
}

/// Something that is due at a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Where it goes.
    pub destination: Destination,
    /// For how long the oldest has been tried, or due.
    pub waited: Duration,
}

/// One attempt at one notification, committed.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The notification's name.
    pub notification_id: NotificationId,
    /// The execution that caused it.
    pub execution_id: ExecutionId,
    /// The alert.
    pub alert_name: String,
    /// The instance; empty where the alert has none.
    pub instance: String,
    /// The route, as the definition names it.
    pub route_key: String,
    /// The kind of channel behind the route.
    pub channel: String,
    /// What it is about.
    pub kind: NoticeKind,
    /// Its place among the alert's notifications.
    pub sequence: i64,
    /// The nominal time of the execution.
    pub scheduled_for: Timestamp,
    /// What there is to tell.
    pub payload: String,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Whether an earlier attempt may have arrived.
    pub possible_duplicate: bool,
    /// When it was queued, on the database's clock.
    pub created_at: Timestamp,
    /// When it was first claimed, on the database's clock.
    pub first_attempt_at: Timestamp,
    /// The route that it stands in for, if that one has given it up.
    pub fallback_for: Option<String>,
    /// When this attempt was claimed, on the database's clock.
    pub claimed_at: Timestamp,
    /// Tells this attempt from every other one at the same notification.
    pub token: String,
}

/// What a look at the outbox found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims {
    /// What this sender may send now, in the order in which it became due.
    pub claims: Vec<Claim>,
    /// The digest that is to tell them together, if they are not to be sent one by one.
    pub digest: Option<DigestId>,
    /// When nothing was claimed: how long until something that waits is due.
    pub next_due: Option<Duration>,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// The channel has taken it.
    Sent,
    /// It is to be tried again.
    Retry {
        /// Not before this much time has passed.
        after: Duration,
        /// Why, without any secret.
        error: String,
        /// Whether this attempt may have arrived nevertheless.
        may_have_arrived: bool,
    },
    /// It is given up.
    Dead {
        /// Why, without any secret.
        error: String,
        /// Whether this attempt may have arrived nevertheless.
        may_have_arrived: bool,
    },
    /// It is not to be sent.
    Skipped {
        /// Why.
        reason: &'static str,
    },
}

/// What is to be written about an attempt.
#[derive(Clone, Copy, Debug)]
pub struct Settlement<'a> {
    /// The attempt.
    pub claim: &'a Claim,
    /// What became of it.
    pub receipt: &'a Receipt,
    /// Who is to be told instead.
    pub stand_in: Option<&'a StandIn>,
}

/// The channel that gets what another one has not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandIn {
    /// Its name, which is its routes' key.
    pub route_key: String,
    /// What kind of channel it is.
    pub channel: &'static str,
}

/// What the outbox holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// How many notifications have not ended.
    pub active: u64,
    /// How long the oldest of them has been queued.
    pub oldest: Duration,
}
