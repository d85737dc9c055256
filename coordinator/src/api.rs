//! What a coordinator answers to operators over NATS.

use std::convert::Infallible;

use std::sync::Arc;
use std::time::Duration;

use sqlsentinel_common::api::{self, LeaderReport, ProcessReport, Requests, Role, StepDownAnswer, StepDownRequest};
use sqlsentinel_common::bus::Bus;
use sqlsentinel_common::health::{Health, Status};
use sqlsentinel_common::process::VERSION;
use sqlsentinel_common::store::Store;
use tokio::sync::{Notify, watch};

use crate::definitions::Definitions;
use crate::election::Leader;
use crate::lease::LeaseKey;

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

/// Answers [`api::LEADER`] from the ledger and the lease; where one of them cannot be read, the asker hears nothing.
pub async fn answer_leader(bus: Bus, store: Store, lease: LeaseKey) -> Infallible {
    let mut requests = Requests::to(&bus, api::LEADER, Some(GROUP));
    loop {
        let request = requests.next().await;
        match (store.leadership().await, lease.read().await) {
            (Ok(Some(row)), Ok(found)) => {
                let report = LeaderReport {
                    node: row.holder,
                    epoch: row.epoch,
                    seq: row.seq,
                    since: row.acquired_at,
                    planned_through: row.planned_through,
                    lease: found.holder.map(|holder| holder.node),
                };
                request.answer(&report).await;
            }
            (Ok(None), _) => tracing::debug!("nobody has led yet"),
            (Err(error), _) => tracing::warn!(%error, "cannot read the leadership for an operator"),
            (_, Err(error)) => tracing::warn!(%error, "cannot read the lease for an operator"),
        }
    }
}

/// How long to wait for the other coordinators to say that they are there.
const STANDBY_WAIT: Duration = Duration::from_secs(1);

/// What stepping down takes.
#[derive(Debug)]
pub struct StepDown {
    /// Where requests come from.
    pub bus: Bus,
    /// This node.
    pub node: String,
    /// The epoch it leads in.
    pub epoch: watch::Receiver<Option<i64>>,
    /// Whom it sees leading.
    pub seen: watch::Receiver<Leader>,
    /// Ends the term.
    pub ask: Arc<Notify>,
    /// How long another coordinator has to take over.
    pub patience: Duration,
}

impl StepDown {
    /// Answers [`api::STEP_DOWN`] while this node leads.
    pub async fn answer(mut self) -> Infallible {
        let mut requests = Requests::of_admins(&self.bus, api::STEP_DOWN);
        loop {
            let request = requests.next().await;
            let Some(epoch) = *self.epoch.borrow() else { continue };
            let StepDownRequest { force } = request.content();
            let answer = self.step_down(force).await;
            let (user, stepped_down) = (request.user(), answer.stepped_down);
            tracing::warn!(user, force, epoch, stepped_down, leader = answer.leader, "asked to step down");
            request.answer(&answer).await;
        }
    }

    async fn step_down(&mut self, force: bool) -> StepDownAnswer {
        let refused = |node: &str, reason: String| StepDownAnswer {
            former: node.to_owned(),
            stepped_down: false,
            leader: Some(node.to_owned()),
            reason: Some(reason),
        };
        match self.standbys().await {
            Ok(0) if !force => {
                return refused(&self.node, "no other coordinator is ready to take over: nobody would plan".to_owned());
            }
            Err(error) if !force => return refused(&self.node, error),
            _ => {}
        }
        self.ask.notify_waiters();
        let node = self.node.clone();
        let another = |leader: &Leader| leader.holder.as_ref().is_some_and(|holder| holder.node != node);
        let leader = match tokio::time::timeout(self.patience, self.seen.wait_for(another)).await {
            Ok(Ok(leader)) => leader.holder.as_ref().map(|holder| holder.node.clone()),
            _ => None,
        };
        let reason = leader.is_none().then(|| "nobody has taken over: it leads again as soon as it may".to_owned());
        StepDownAnswer { former: self.node.clone(), stepped_down: true, leader, reason }
    }

    /// How many other coordinators are ready to lead.
    async fn standbys(&self) -> Result<usize, String> {
        let reports: Vec<ProcessReport> =
            api::gather(&self.bus, api::HEALTH, STANDBY_WAIT).await.map_err(|error| error.to_string())?;
        let is_ready = |report: &&ProcessReport| {
            let healthy = |check: &str| report.health.checks.get(check).is_some_and(|c| c.status == Status::Healthy);
            report.role == Role::Coordinator && report.node != self.node && healthy("state_database") && healthy("nats")
        };
        Ok(reports.iter().filter(is_ready).count())
    }
}
