//! A notification for the tests of the renderers, with everything in it that a receiver must not take for markup.

use std::collections::BTreeMap;

use sqlsentinel_common::alert::SourceName;
use sqlsentinel_common::ids::{ExecutionId, NotificationId};
use sqlsentinel_common::outcome::RunStatus;
use sqlsentinel_common::store::outbox::{Claim, NoticeKind};
use sqlsentinel_common::timestamp::Timestamp;

use super::Payload;

pub(crate) fn claim() -> Claim {
    let notification_id: NotificationId = "04440625-1cee-569a-85fa-71b910a8a865".parse().unwrap();
    let execution_id: ExecutionId = "cd6a4c67-f502-5b84-8250-f6373da36adb".parse().unwrap();
    Claim {
        notification_id,
        execution_id,
        alert_name: "revenue".to_owned(),
        instance: String::new(),
        route_key: "ops".to_owned(),
        channel: "email".to_owned(),
        kind: NoticeKind::Alert,
        sequence: 1,
        scheduled_for: Timestamp::from_micros(1_767_225_660_000_000),
        payload: String::new(),
        attempt: 1,
        possible_duplicate: false,
        created_at: Timestamp::from_micros(1_767_225_661_000_000),
        first_attempt_at: Timestamp::from_micros(1_767_225_662_000_000),
        fallback_for: None,
        claimed_at: Timestamp::from_micros(1_767_225_662_000_000),
        token: String::new(),
    }
}

pub(crate) fn payload() -> Payload {
    Payload {
        description: "Revenue below the floor".to_owned(),
        source: SourceName::default_source(),
        status: RunStatus::Alert,
        actual_value: serde_json::from_str("8500.10").unwrap(),
        threshold: Some(10_000.into()),
        context: [("region".to_owned(), "<b>eu</b> & <!channel>".into())].into_iter().collect(),
        truncated: false,
        error: None,
        consecutive_errors: 0,
        labels: BTreeMap::new(),
        severity: None,
        runbook: None,
    }
}
