//! What a coordinator answers to operators over NATS.

use std::convert::Infallible;

use sqlsentinel_common::api::{self, ProcessReport, Requests, Role};
use sqlsentinel_common::bus::Bus;
use sqlsentinel_common::health::Health;
use sqlsentinel_common::process::VERSION;
use sqlsentinel_common::store::Store;
use tokio::sync::watch;

use crate::definitions::Definitions;

/// The coordinators share the requests that one of them is to answer.
const GROUP: &str = "coordinators";

/// Answers [`api::HEALTH`].
pub async fn answer_health(
    bus: Bus,
    node: String,
    definitions: Definitions,
    epoch: watch::Receiver<Option<i64>>,
    health: Health,
) -> Infallible {
    api::answer_health(bus, || ProcessReport {
        node: node.clone(),
        role: Role::Coordinator,
        version: VERSION.to_owned(),
        epoch: *epoch.borrow(),
        sources: definitions.sources().into_keys().collect(),
        health: health.snapshot(),
    })
    .await
}

/// Answers [`api::STATUS`] from the ledger; where that cannot be read, the asker hears nothing and says so.
pub async fn answer_status(bus: Bus, store: Store) -> Infallible {
    let mut requests = Requests::to(&bus, api::STATUS, Some(GROUP));
    loop {
        let request = requests.next().await;
        match store.alert_statuses(None).await {
            Ok(alerts) => request.answer(&alerts).await,
            Err(error) => tracing::warn!(%error, "cannot read the status for an operator"),
        }
    }
}
