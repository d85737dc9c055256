//! A notification, from being queued to its receipt, as the outbox's readers and writers see it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::ids::{ExecutionId, NotificationId};
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

/// Which notifications to claim, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRequest<'a> {
    /// At most so many.
    pub limit: usize,
    /// After this time without a receipt, others may claim them.
    pub lease: Duration,
    /// Routes that have enough under way already.
    pub except_routes: &'a [String],
    /// Only those of these alerts; all if none.
    pub only_alerts: Option<&'a [String]>,
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

/// What the outbox holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// How many notifications have not ended.
    pub active: u64,
    /// How long the oldest of them has been queued.
    pub oldest: Duration,
}
