//! Asking a cluster over NATS.

use std::time::Duration;

use anyhow::{Context, anyhow};
use sqlsentinel_common::api::{self, LeaderReport, ProcessReport, StepDownAnswer, StepDownRequest};
use sqlsentinel_common::bus::Bus;
use sqlsentinel_common::health::Health;
use sqlsentinel_common::settings::NatsSettings;
use sqlsentinel_common::store::history::AlertStatus;

/// How long to wait for NATS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for the first answer; the others come soon after it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// How long to wait for a leader that steps down: it waits for its successor for one time to live of the lease.
const STEP_DOWN_TIMEOUT: Duration = Duration::from_secs(70);

/// A connection that stands.
async fn connect(settings: &NatsSettings) -> anyhow::Result<Bus> {
    let health = Health::default();
    let node = format!("ctl-{}", std::process::id());
    let bus = Bus::connect(settings, &node, &health).await?;
    let reached = tokio::time::timeout(CONNECT_TIMEOUT, bus.client().flush()).await;
    reached.ok().and_then(Result::ok).ok_or_else(|| {
        let check = health.snapshot().checks.remove("nats").and_then(|check| check.message).unwrap_or_default();
        anyhow!(
            "cannot reach NATS at {} within {} s ({check}): check --nats-url (NATS_URL) and the credentials",
            settings.servers.join(", "),
            CONNECT_TIMEOUT.as_secs()
        )
    })?;
    Ok(bus)
}

/// The state of every alert, from a coordinator.
pub async fn statuses(settings: &NatsSettings) -> anyhow::Result<Vec<AlertStatus>> {
    let bus = connect(settings).await?;
    let answer = api::ask_one(&bus, api::STATUS, ANSWER_TIMEOUT).await?;
    answer.context("no coordinator answers: is one running on this NATS, in this --namespace?")
}

/// Who leads, from a coordinator.
pub async fn leader(settings: &NatsSettings) -> anyhow::Result<LeaderReport> {
    leader_on(&connect(settings).await?).await
}

async fn leader_on(bus: &Bus) -> anyhow::Result<LeaderReport> {
    let answer = api::ask_one(bus, api::LEADER, ANSWER_TIMEOUT).await?;
    answer.context("no coordinator answers: is one running on this NATS, in this --namespace, with its state database?")
}

/// Asks the leader, as `user`, to hand over.
pub async fn step_down(settings: &NatsSettings, user: &str, force: bool) -> anyhow::Result<StepDownAnswer> {
    let bus = connect(settings).await?;
    let report = leader_on(&bus).await?;
    anyhow::ensure!(report.lease.is_some(), "nobody leads now, there is an election: nothing to step down from");
    let answer = api::ask_as(&bus, user, api::STEP_DOWN, &StepDownRequest { force }, STEP_DOWN_TIMEOUT).await?;
    answer.context("the leader does not answer: it may have lost its office just now, or be of an older version")
}

/// What every process says of itself, in a stable order.
pub async fn reports(settings: &NatsSettings) -> anyhow::Result<Vec<ProcessReport>> {
    let bus = connect(settings).await?;
    let mut reports: Vec<ProcessReport> = api::gather(&bus, api::HEALTH, ANSWER_TIMEOUT).await?;
    reports.sort_by(|a, b| (a.role, &a.node).cmp(&(b.role, &b.node)));
    Ok(reports)
}
