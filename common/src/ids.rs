//! The names of things: every id is derived here, and nowhere else.
//!
//! Invariant 4 (one name): a fire's id follows from the cluster, the alert and the nominal time, so that two
//! leaders that plan the same fire write the same row, and a notification's id follows from the fire and the
//! transition, so that a repeated batch inserts nothing twice.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::timestamp::Timestamp;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id!(
    /// One installation: random, born with the state database.
    ClusterId
);
uuid_id!(
    /// One execution of one alert: a fire (version 5) or a manual run (version 7).
    ExecutionId
);
uuid_id!(
    /// One notification to one route; also the webhook's `Idempotency-Key`.
    NotificationId
);
uuid_id!(
    /// One attempt to tell several notifications by one message; also that webhook's `Idempotency-Key`. Random: which
    /// notifications the next attempt tells together is anybody's guess.
    DigestId
);
uuid_id!(
    /// One term of one leader: random, drawn when the epoch is taken.
    TermId
);

impl ClusterId {
    /// A new installation's id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl TermId {
    /// A new term's id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl DigestId {
    /// A new digest's id.
    pub fn random() -> Self {
        Self(Uuid::now_v7())
    }
}

impl ExecutionId {
    /// The id of the fire of `alert_name` that was nominally due at `scheduled_for`.
    pub fn of_fire(cluster: ClusterId, alert_name: &str, scheduled_for: Timestamp) -> Self {
        let name = format!("{alert_name}\n{}", scheduled_for.as_micros());
        Self(Uuid::new_v5(&cluster.0, name.as_bytes()))
    }

    /// The id of a run that a person asked for, now.
    pub fn manual() -> Self {
        Self(Uuid::now_v7())
    }
}

impl NotificationId {
    /// The id of the notification that `execution` caused by the transition `kind` numbered `sequence`, for one
    /// `instance` (empty where the alert has none) and one route.
    pub fn of(execution: ExecutionId, kind: &str, sequence: i64, instance: &str, route_key: &str) -> Self {
        let name = format!("{kind}\n{sequence}\n{instance}\n{route_key}");
        Self(Uuid::new_v5(&execution.0, name.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fire_has_one_id_whoever_plans_it_and_no_other_fire_has_it() {
        let cluster = ClusterId(Uuid::from_u128(7));
        let noon = Timestamp::from_micros(1_000_000);
        let id = ExecutionId::of_fire(cluster, "revenue", noon);
        assert_eq!(id, ExecutionId::of_fire(cluster, "revenue", noon));
        assert_ne!(id, ExecutionId::of_fire(cluster, "revenue2", noon));
        assert_ne!(id, ExecutionId::of_fire(cluster, "revenue", noon.plus(std::time::Duration::from_micros(1))));
        assert_ne!(id, ExecutionId::of_fire(ClusterId(Uuid::from_u128(8)), "revenue", noon));
    }

    #[test]
    fn each_part_of_a_notification_tells_it_from_the_others() {
        let execution = ExecutionId(Uuid::from_u128(1));
        let id = NotificationId::of(execution, "alert", 1, "", "ops");
        assert_eq!(id, NotificationId::of(execution, "alert", 1, "", "ops"));
        for other in [
            NotificationId::of(ExecutionId(Uuid::from_u128(2)), "alert", 1, "", "ops"),
            NotificationId::of(execution, "resolved", 1, "", "ops"),
            NotificationId::of(execution, "alert", 2, "", "ops"),
            NotificationId::of(execution, "alert", 1, "eu", "ops"),
            NotificationId::of(execution, "alert", 1, "", "mail"),
        ] {
            assert_ne!(id, other);
        }
    }
}
