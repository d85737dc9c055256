//! One term of one leader: plan, commit, publish, until deposed or asked to stop.
//!
//! Input: a claimed epoch. Output: ledger rows and jobs. Three loops run side by side and end together: planning (here),
//! rescue ([`crate::rescuer`]) and upkeep of bus and clock ([`crate::upkeep`]). They share nothing but the mark up to which
//! jobs have been published, and wake-ups.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlsentinel_common::alert::{AlertDefinition, ConfigHash};
use sqlsentinel_common::clock::BootInstant;
use sqlsentinel_common::health::Check;
use sqlsentinel_common::store::StoreError;
use sqlsentinel_common::store::definitions::{Adoption, InForce, Intent};
use sqlsentinel_common::store::fires::{Committed, Plan};
use sqlsentinel_common::store::leadership::{Claimed, Mark, Term};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::agenda::Agenda;
use crate::definitions::Current;
use crate::dispatch::{DispatchError, Dispatcher};
use crate::office::Office;
use crate::rescuer::{RescueError, Rescuer};
use crate::retention::Retention;
use crate::upkeep::Upkeep;

/// How long to wait before a step that failed is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// How often waiting fires are looked at while the lanes are full.
const WAITING_POLL: Duration = Duration::from_millis(250);

/// Why a term ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// This process was asked to stop.
    #[error("this process was asked to stop")]
    Stopped,
    /// An operator has asked for another leader.
    #[error("an operator has asked for another leader")]
    SteppedDown,
    /// Another coordinator has taken a later epoch.
    #[error("another coordinator may lead by now")]
    Deposed,
    /// The ledger has lost what was committed: this leader's memory of it is worth nothing, and a new term has to begin.
    #[error("the state database has gone back in time")]
    RolledBack,
    /// The ledger could not be written for one time to live of the lease.
    #[error("could not write the ledger: {0}")]
    CannotCommit(StoreError),
}

/// A term being served.
#[derive(Debug)]
pub struct TermOfOffice {
    office: Office,
    term: Term,
    published: watch::Sender<Mark>,
    wake: Notify,
    upkeep: Upkeep,
    /// When the definitions had been changed last when the term began: a change during the term is the newest there is.
    changed_before: Option<BootInstant>,
    /// Since when the ledger owes planning an answer; none while it owes none.
    asked: watch::Sender<Option<BootInstant>>,
}

impl TermOfOffice {
    /// The term that `claimed` is the right to.
    pub fn new(office: Office, claimed: Claimed) -> Self {
        Self {
            upkeep: Upkeep::of(&office),
            changed_before: office.definitions.changed_at(),
            office,
            term: claimed.term,
            published: watch::Sender::new(claimed.published),
            wake: Notify::new(),
            asked: watch::Sender::new(None),
        }
    }

    /// Leads until it must not or shall not any more.
    pub async fn serve(&self, stop: &CancellationToken) -> Ended {
        tokio::select! {
            ended = self.plan(stop) => ended,
            ended = self.rescue() => ended,
            ended = self.watch_ledger() => ended,
            () = self.retention().run() => Ended::Deposed,
            never = self.upkeep.run() => match never {},
        }
    }

    async fn plan(&self, stop: &CancellationToken) -> Ended {
        loop {
            let error = match self.plan_until_error(stop).await {
                Ok(()) => return Ended::Stopped,
                Err(StoreError::Deposed) => return Ended::Deposed,
                Err(StoreError::RolledBack { .. }) => return Ended::RolledBack,
                Err(error) => error,
            };
            tracing::warn!(%error, "cannot write the ledger, trying again");
            self.office.health.report("ledger", Check::degraded(error.to_string()));
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The leader's loop, from what the ledger says now: whatever failed before, or whether it was committed after all, is
    /// in there.
    async fn plan_until_error(&self, stop: &CancellationToken) -> Result<(), StoreError> {
        let Office { store, bus, clock, rules, health, .. } = &self.office;
        self.ask(BootInstant::now());
        let (mut agenda, in_force) = self.restore().await?;
        let mut definitions = self.office.definitions.clone();
        agenda = self.begin_definitions(agenda, definitions.take()).await?;
        let mut committed = BootInstant::now();
        let mut dispatcher = Dispatcher::new(store.clone(), bus.clone(), by_hash(in_force));
        let (mut changed, mut answered) = (false, BootInstant::now());

        loop {
            // What was not asked was not answered either: the time since the last answer counts, as far as this loop ever
            // pauses, so that a ledger which is cut off is missed in time. A process that was frozen has to ask first.
            self.ask(answered.max(BootInstant::now().minus(rules.lease_ttl / 2)));
            if std::mem::take(&mut changed) {
                agenda = self.begin_definitions(agenda, definitions.take()).await?;
                committed = BootInstant::now();
            }
            let heartbeat = rules.lease_ttl / 2;
            if agenda.next_due().is_some_and(|due| due <= clock.now()) || committed.elapsed() >= heartbeat {
                agenda = self.tick(agenda).await?;
                committed = BootInstant::now();
            }
            let waiting = store.next_waiting().await?;
            if waiting.is_some_and(|from| from <= clock.now()) {
                store.queue_waiting(&self.term, rules.lane).await?;
            }
            self.answered();
            answered = BootInstant::now();
            health.report("ledger", Check::healthy("planning"));
            let dispatched = self.dispatch(&mut dispatcher).await?;

            let mut pause = heartbeat.saturating_sub(committed.elapsed());
            if let Some(due) = agenda.next_due()
                && self.upkeep.clock_holds()
            {
                pause = pause.min(due.since(clock.now()));
            }
            if let Some(from) = waiting {
                pause = pause.min(from.since(clock.now()).max(WAITING_POLL));
            }
            if !dispatched {
                pause = pause.min(RETRY);
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
                () = self.wake.notified() => {}
                () = definitions.changed() => changed = true,
            }
        }
    }

    /// From now on the ledger owes an answer, and has since `since`, unless it has for longer.
    fn ask(&self, since: BootInstant) {
        self.asked.send_if_modified(|asked| asked.replace(asked.unwrap_or(since)).is_none());
    }

    fn answered(&self) {
        self.asked.send_replace(None);
    }

    /// Ends the term when the ledger has owed an answer for one time to live of the lease, whatever planning waits for: a
    /// leader that is cut off from the ledger shall make room for one that is not.
    async fn watch_ledger(&self) -> Ended {
        let (limit, mut asked) = (self.office.rules.lease_ttl, self.asked.subscribe());
        loop {
            let since = *asked.borrow_and_update();
            let overdue = async {
                match since {
                    Some(since) => tokio::time::sleep(since.plus(limit).remaining()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = overdue => return Ended::CannotCommit(StoreError::Timeout(limit)),
                // The sender is ours: it does not go away.
                _ = asked.changed() => {}
            }
        }
    }

    async fn restore(&self) -> Result<(Agenda, Vec<InForce>), StoreError> {
        let row = self.office.store.leadership().await?.ok_or(StoreError::Deposed)?;
        let in_force = self.office.store.definitions_in_force().await?;
        Ok((Agenda::new(in_force.clone(), row.planned_through), in_force))
    }

    /// Plans what is due and commits it; without anything due, the commit proves that this leader still can.
    async fn tick(&self, agenda: Agenda) -> Result<Agenda, StoreError> {
        if !self.upkeep.clock_holds() {
            return Ok(agenda);
        }
        let Office { clock, cluster, rules, .. } = &self.office;
        let (now, cluster, policy) = (clock.now(), *cluster, rules.policy);
        // After an outage this counts every missed fire: off the threads that renew the lease, and on nobody's patience.
        let (asked, began) = (self.asked.send_replace(None), BootInstant::now());
        let planning = tokio::task::spawn_blocking(move || {
            let mut agenda = agenda;
            let plan = agenda.plan(cluster, now, policy);
            (agenda, plan)
        });
        let (agenda, plan) = planning.await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        self.ask(asked.unwrap_or(began).plus(began.elapsed()));
        let published = *self.published.borrow();
        let committed = self.office.store.commit_plan(&self.term, &plan, published, rules.lane).await?;
        self.count(&plan, &committed);
        Ok(agenda)
    }

    fn count(&self, plan: &Plan, committed: &Committed) {
        let now = self.office.clock.now();
        self.office.metrics.disposed("planned", committed.planned);
        self.office.metrics.disposed("skipped_overlap", committed.skipped);
        for (reason, fires) in &committed.in_gaps {
            self.office.metrics.disposed(&format!("gap_{reason}"), *fires);
        }
        for fire in &plan.fires {
            self.office.metrics.scheduler_job_runs.with_label_values(&[&fire.alert_name]).inc();
            self.office.metrics.plan_lateness.observe(now.since(fire.scheduled_for).as_secs_f64());
        }
        for gap in &plan.gaps {
            let fires = u64::try_from(gap.fires).unwrap_or(0);
            self.office.metrics.gap_fires.with_label_values(&[gap.reason]).inc_by(fires);
            tracing::warn!(
                alert_name = gap.alert_name,
                fires,
                reason = gap.reason,
                "fires were missed and accounted for as a gap"
            );
        }
    }

    /// Offers this coordinator's set to the ledger. Returns the agenda of what is in force then.
    async fn begin_definitions(&self, agenda: Agenda, current: Current) -> Result<Agenda, StoreError> {
        // The definitions in force account for everything due up to now; only then does this coordinator's set begin.
        let mut agenda = self.tick(agenda).await?;
        if matches!(self.adopt(&current).await?, Adoption::Adopted { .. }) {
            agenda = self.restore().await?.0;
        }
        self.office.metrics.scheduler_jobs.set(i64::try_from(agenda.scheduled()).unwrap_or(i64::MAX));
        self.upkeep.declare_soon();
        Ok(agenda)
    }

    async fn adopt(&self, Current { set, changed }: &Current) -> Result<Adoption, StoreError> {
        let Office { store, rules, clock, health, metrics, .. } = &self.office;
        let intent = match changed {
            _ if rules.adopt_superseded || *changed != self.changed_before => Intent::Wanted,
            Some(at) => Intent::Changed(clock.now().minus(at.elapsed())),
            None => Intent::Found,
        };
        let adoption = store.adopt(&self.term, &set.hash, &set.by_hash(), intent).await?;
        metrics.definitions_drift.set(i64::from(adoption == Adoption::Superseded));
        match adoption {
            Adoption::InForce => health.report("definitions", Check::healthy("in force")),
            Adoption::Adopted { removed } => {
                metrics.disposed("skipped_removed", removed);
                tracing::info!(alerts = set.versions.len(), set_hash = %set.hash, "definitions in force from now on");
                health.report("definitions", Check::healthy("in force"));
            }
            Adoption::Superseded => {
                let message = "this coordinator's file was replaced by a newer one, which stays in force: update the \
                               file here, or start once with --adopt-superseded to go back to it";
                tracing::error!(set_hash = %set.hash, "{message}");
                health.report("definitions", Check::degraded(message));
            }
        }
        Ok(adoption)
    }

    /// Publishes what is queued. Returns whether it could: the broker's being away stops no planning.
    async fn dispatch(&self, dispatcher: &mut Dispatcher) -> Result<bool, StoreError> {
        let published = *self.published.borrow();
        match dispatcher.run_once(published).await {
            Ok((mark, jobs)) => {
                self.published.send_replace(mark);
                self.office.metrics.jobs_published.inc_by(jobs as u64);
                self.office.health.report("publishing", Check::healthy("up to date"));
                Ok(true)
            }
            Err(DispatchError::Store(error)) => Err(error),
            Err(DispatchError::Bus(error)) => {
                tracing::warn!(%error, "cannot publish jobs, trying again");
                self.office.health.report("publishing", Check::degraded(error.to_string()));
                self.upkeep.declare_soon();
                Ok(false)
            }
        }
    }

    fn retention(&self) -> Retention {
        let Office { store, rules, metrics, .. } = &self.office;
        let (store, metrics) = (store.clone(), metrics.clone());
        Retention { store, term: self.term.clone(), keep: rules.keep_history, metrics }
    }

    async fn rescue(&self) -> Ended {
        let Office { store, bus, rules, metrics, .. } = &self.office;
        let rescuer = Rescuer {
            store: store.clone(),
            bus: bus.clone(),
            term: self.term.clone(),
            rescue_after: rules.rescue_after,
            metrics: metrics.clone(),
        };
        loop {
            tokio::time::sleep(rules.rescue_every).await;
            let published = *self.published.borrow();
            match rescuer.run_once(published).await {
                Ok(0) => {}
                Ok(_) => self.wake.notify_one(),
                Err(RescueError::Store(StoreError::Deposed)) => return Ended::Deposed,
                Err(RescueError::Store(StoreError::RolledBack { .. })) => return Ended::RolledBack,
                Err(error) => tracing::warn!(%error, "rescue pass not finished, trying again"),
            }
        }
    }
}

fn by_hash(in_force: Vec<InForce>) -> HashMap<ConfigHash, Arc<AlertDefinition>> {
    in_force.into_iter().map(|version| (version.hash, Arc::new(version.definition))).collect()
}
