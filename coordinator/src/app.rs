//! Wiring: settings in, running loops out; and the life of a candidate: campaign, claim, lead, again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use sqlsentinel_common::audit::Tolerance;
use sqlsentinel_common::bus::{Bus, BusShape};
use sqlsentinel_common::clock::ClusterClock;
use sqlsentinel_common::health::Check;
use sqlsentinel_common::ids::ClusterId;
use sqlsentinel_common::lifecycle::Stop;
use sqlsentinel_common::process::Process;
use sqlsentinel_common::reload::LiveConfig;
use sqlsentinel_common::settings::{NatsSettings, StateSettings};
use sqlsentinel_common::store::audit;
use sqlsentinel_common::store::leadership::Claimed;
use sqlsentinel_common::store::{Store, StoreError, StoreRole};
use tokio::sync::{Notify, watch};

use crate::agenda::Policy;
use crate::api;
use crate::auditor::{AuditRules, Auditor};
use crate::definitions::{self, Definitions};
use crate::election::{Campaign, Leader};
use crate::leader::{Ended, TermOfOffice};
use crate::lease::{Lease, LeaseKey, LeaseTimes};
use crate::metrics::Metrics;
use crate::office::{Office, Rules};
use crate::retention;

/// How long to wait before a step towards leading is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often the state database is looked at, by the leader and by those who may have to lead next.
const WATCH: Duration = Duration::from_secs(5);

/// Settings of a coordinator.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// Where NATS is
    #[command(flatten)]
    pub nats: NatsSettings,
    /// Where the state database is
    #[command(flatten)]
    pub state: StateSettings,
    /// How long the leader's lease lives; an unplanned fail-over takes at most a second more
    #[arg(long, env = "SQLSENTINEL_LEASE_TTL_SECONDS", value_name = "SECONDS", default_value_t = 5,
          value_parser = clap::value_parser!(u64).range(2..=60))]
    pub lease_ttl_seconds: u64,
    /// Copies of every NATS stream: 3 on a cluster of three servers
    #[arg(long, env = "SQLSENTINEL_NATS_REPLICAS", value_name = "COUNT", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=5))]
    pub nats_replicas: u64,
    /// The most jobs of one database on the bus; the rest wait in the ledger
    #[arg(long, env = "SQLSENTINEL_LANE_JOBS", value_name = "COUNT", default_value_t = 4_000,
          value_parser = clap::value_parser!(i64).range(1..=100_000))]
    pub lane_jobs: i64,
    /// The most jobs of one database that workers may hold at once, in the whole cluster
    #[arg(long, env = "SQLSENTINEL_LANE_RUNNING", value_name = "COUNT", default_value_t = 256,
          value_parser = clap::value_parser!(i64).range(1..=10_000))]
    pub lane_running: i64,
    /// How long a job may wait for a worker; its time-out comes on top
    #[arg(long, env = "SQLSENTINEL_QUEUE_ALLOWANCE_SECONDS", value_name = "SECONDS", default_value_t = 300,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub queue_allowance_seconds: u64,
    /// How often lost jobs and overdue fires are looked for
    #[arg(long, env = "SQLSENTINEL_RESCUE_SECONDS", value_name = "SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub rescue_seconds: u64,
    /// How many days history is kept; 0: for ever
    #[arg(long, env = "SQLSENTINEL_RETENTION_DAYS", value_name = "DAYS", default_value_t = 90, value_parser = retention::days)]
    pub retention_days: u32,
    /// How often the ledger is audited: whether it accounts for every fire that was due
    #[arg(long, env = "SQLSENTINEL_AUDIT_SECONDS", value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub audit_seconds: u64,
    /// How many hours back the audit looks
    #[arg(long, env = "SQLSENTINEL_AUDIT_HOURS", value_name = "HOURS", default_value_t = 24,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(audit::MOST_HOURS)))]
    pub audit_hours: u32,
    /// Take this file even if the cluster has replaced it before (to go back to an older version)
    #[arg(long, env = "SQLSENTINEL_ADOPT_SUPERSEDED")]
    pub adopt_superseded: bool,
}

impl Settings {
    fn audit_rules(&self) -> AuditRules {
        let Tolerance { planning, settling } = Tolerance::default();
        // What a fail-over and the rescuer may take comes on top.
        let (lease, rescue) = (Duration::from_secs(self.lease_ttl_seconds), Duration::from_secs(self.rescue_seconds));
        AuditRules {
            every: Duration::from_secs(self.audit_seconds),
            window: Duration::from_secs(u64::from(self.audit_hours) * 60 * 60),
            tolerance: Tolerance { planning: planning + 2 * lease, settling: settling + 2 * rescue },
        }
    }

    fn rules(&self) -> Rules {
        let rescue = Duration::from_secs(self.rescue_seconds);
        Rules {
            policy: Policy {
                queue_allowance: Duration::from_secs(self.queue_allowance_seconds),
                catchup_window: Duration::from_secs(24 * 3600),
            },
            lane: self.lane_jobs,
            lease_ttl: Duration::from_secs(self.lease_ttl_seconds),
            rescue_every: rescue,
            rescue_after: rescue,
            keep_history: retention::keep(self.retention_days),
            reconcile_every: Duration::from_secs(10),
            shape: BusShape {
                replicas: usize::try_from(self.nats_replicas).unwrap_or(1),
                max_ack_pending: self.lane_running,
            },
            adopt_superseded: self.adopt_superseded,
        }
    }
}

/// Starts a coordinator in this process; it follows the changes of `config`, whether it leads or stands by.
pub async fn start(settings: Settings, config: LiveConfig, process: &Process) -> anyhow::Result<()> {
    let (definitions, current) = Definitions::of(&config.current())?;
    let store = Store::connect(&settings.state.database, StoreRole::Leader)?;
    let bus = Bus::connect(&settings.nats, &format!("coordinator {}", process.node), &process.health).await?;
    let metrics = Metrics::register(&process.registry)?;
    let (epoch, epoch_seen) = watch::channel(None);
    let (seen, step_down) = (watch::Sender::new(Leader::default()), Arc::new(Notify::new()));
    let times = LeaseTimes { ttl: Duration::from_secs(settings.lease_ttl_seconds) };
    let stop = process.tasks.stop();

    let answers = {
        let (bus, store, health) = (bus.clone(), store.clone(), process.health.clone());
        let health_answers =
            api::answer_health(bus.clone(), process.node.clone(), definitions.clone(), epoch_seen.clone(), health);
        let stepping_down = api::StepDown {
            bus: bus.clone(),
            node: process.node.clone(),
            epoch: epoch_seen,
            seen: seen.subscribe(),
            ask: Arc::clone(&step_down),
            patience: times.ttl,
        };
        let lease = LeaseKey::new(bus.clone(), times);
        async move {
            tokio::select! {
                never = health_answers => match never {},
                never = api::answer_status(bus.clone(), store.clone()) => match never {},
                never = api::answer_leader(bus, store, lease) => match never {},
                never = stepping_down.answer() => match never {},
            }
        }
    };
    let stopped = stop.requested.clone();
    process.tasks.spawn("api", async move {
        tokio::select! {
            never = answers => never,
            () = stopped.cancelled() => Ok(()),
        }
    });

    let auditor = Auditor::new(store.clone(), settings.audit_rules(), process.health.clone(), metrics.clone());
    process.tasks.spawn("auditor", auditor.run(stop.clone()));
    process.tasks.spawn("definitions", definitions::follow(config, current, stop.clone()));
    let candidate = Candidate {
        process: process.clone(),
        rules: settings.rules(),
        definitions,
        store,
        bus,
        metrics,
        epoch,
        seen,
        step_down,
    };
    process.tasks.spawn("leadership", candidate.run(stop));
    Ok(())
}

/// One coordinator's share in the election.
struct Candidate {
    process: Process,
    rules: Rules,
    definitions: Definitions,
    store: Store,
    bus: Bus,
    metrics: Metrics,
    epoch: watch::Sender<Option<i64>>,
    seen: watch::Sender<Leader>,
    /// Told when an operator wants another leader.
    step_down: Arc<Notify>,
}

impl Candidate {
    async fn run(self, stop: Stop) -> anyhow::Result<()> {
        tokio::select! {
            result = self.campaign_and_lead(&stop) => result,
            () = stop.aborted.cancelled() => Ok(()),
        }
    }

    async fn campaign_and_lead(&self, stop: &Stop) -> anyhow::Result<()> {
        let Some(cluster) = self.prepare(stop).await? else { return Ok(()) };
        tokio::select! {
            never = self.watch_database() => match never {},
            result = self.hold_office(cluster, stop) => result,
        }
    }

    async fn hold_office(&self, cluster: ClusterId, stop: &Stop) -> anyhow::Result<()> {
        let office = Office {
            store: self.store.clone(),
            bus: self.bus.clone(),
            clock: Arc::new(ClusterClock::default()),
            cluster,
            definitions: self.definitions.clone(),
            rules: self.rules.clone(),
            health: self.process.health.clone(),
            metrics: self.metrics.clone(),
        };
        let times = LeaseTimes { ttl: self.rules.lease_ttl };
        let mut campaign = Campaign::new(
            self.bus.clone(),
            self.store.clone(),
            times,
            &self.process.node,
            self.rules.shape.replicas,
            self.seen.clone(),
        );
        loop {
            let lease = tokio::select! {
                lease = campaign.win() => lease,
                () = self.report_standby(self.seen.subscribe()) => continue,
                () = stop.requested.cancelled() => return Ok(()),
            };
            match self.hold_lease(lease, &mut campaign, &office, stop).await {
                Ended::Stopped => return Ok(()),
                Ended::Deposed | Ended::RolledBack => {}
                // Another one shall have it, if there is one.
                Ended::SteppedDown => {
                    self.process.health.report("leadership", Check::healthy("has stepped down"));
                    tokio::select! {
                        _ = tokio::time::timeout(self.rules.lease_ttl, campaign.see_another()) => {}
                        () = stop.requested.cancelled() => return Ok(()),
                    }
                }
                // Whoever reaches the ledger shall have the time to win.
                Ended::CannotCommit(error) => {
                    tracing::error!(%error, "sitting out one time to live of the lease");
                    tokio::select! {
                        () = tokio::time::sleep(self.rules.lease_ttl) => {}
                        () = stop.requested.cancelled() => return Ok(()),
                    }
                }
            }
        }
    }

    /// Brings the schema up to date, as often as it takes for the database to be there.
    async fn prepare(&self, stop: &Stop) -> anyhow::Result<Option<ClusterId>> {
        self.process.health.report("state_database", Check::unhealthy("not reached yet"));
        loop {
            match self.store.migrate().await {
                Ok(cluster) => return Ok(Some(cluster)),
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, "cannot prepare the state database yet, trying again");
                    self.process.health.report("state_database", Check::unhealthy(error.to_string()));
                }
                Err(error) => return Err(anyhow::Error::new(error).context("cannot prepare the state database")),
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = stop.requested.cancelled() => return Ok(None),
            }
        }
    }

    async fn watch_database(&self) -> Infallible {
        loop {
            let check = match self.look_at_database().await {
                Ok(round_trip) => Check::healthy("Database connection OK").with_latency(round_trip),
                Err(error) => Check::unhealthy(error.to_string()),
            };
            self.process.health.report("state_database", check);
            tokio::time::sleep(WATCH).await;
        }
    }

    /// Measures what is open in the ledger. Returns how long the database takes to answer.
    async fn look_at_database(&self) -> Result<Duration, StoreError> {
        let (_, round_trip) = self.store.now().await?;
        let (open, configured) = (self.store.open_fires().await?, self.definitions.sources());
        self.metrics.backlog(&open, configured.keys(), self.rules.policy.queue_allowance);
        Ok(round_trip)
    }

    /// Says in the health report whom this standby sees leading, until it leads itself.
    async fn report_standby(&self, mut seen: watch::Receiver<Leader>) {
        loop {
            let check = match &*seen.borrow_and_update() {
                Leader { obstacle: Some(obstacle), .. } => {
                    Check::unhealthy(format!("cannot campaign for the lease: {obstacle}"))
                }
                Leader { holder: Some(holder), .. } => Check::healthy(format!("standby; {} leads", holder.node)),
                Leader { .. } => Check::degraded("no leader seen"),
            };
            self.process.health.report("leadership", check);
            if seen.changed().await.is_err() {
                return;
            }
        }
    }

    /// Leads while the lease is ours, in one term or, if the state database goes back in time, in several.
    async fn hold_lease(&self, mut lease: Lease, campaign: &mut Campaign, office: &Office, stop: &Stop) -> Ended {
        loop {
            let ended = match self.claim(&lease, office).await {
                Ok(claimed) => {
                    let (epoch, term) = (claimed.term.epoch, claimed.term.clone());
                    // Reads the lease back by renewing it: whoever lost it between winning and claiming must not begin.
                    if let Err(error) = lease.state_term(&term).await {
                        tracing::warn!(%error, epoch, "the lease was lost before the term began");
                        lease.release().await;
                        return Ended::Deposed;
                    }
                    let ended = self.lead(&mut lease, claimed, office, stop).await;
                    campaign.remember(term.last_commit());
                    ended
                }
                Err(error) => Ended::CannotCommit(error),
            };
            match ended {
                // Nobody else knows as well what was lost: the lease stays, and with it the next epoch is taken.
                Ended::RolledBack => {}
                Ended::Deposed => return ended,
                Ended::Stopped | Ended::SteppedDown | Ended::CannotCommit(_) => {
                    lease.release().await;
                    self.bus.flush().await;
                    return ended;
                }
            }
        }
    }

    async fn claim(&self, lease: &Lease, office: &Office) -> Result<Claimed, StoreError> {
        let (now, round_trip) = self.store.now().await?;
        office.clock.observe(now, round_trip);
        let claimed = self.store.claim_leadership(&self.process.node, lease.known()).await?;
        if let Some(rollback) = &claimed.rolled_back {
            self.metrics.state_rollbacks.inc();
            tracing::error!(
                critical = true,
                epoch = claimed.term.epoch,
                known_epoch = rollback.known.epoch,
                known_seq = rollback.known.seq,
                found_epoch = rollback.found.epoch,
                found_seq = rollback.found.seq,
                uncertain_from = %rollback.uncertain_from,
                uncertain_until = %rollback.uncertain_until,
                notifications = rollback.notifications,
                "the state database has gone back in time: fires and notifications since then may run or be sent again"
            );
        }
        Ok(claimed)
    }

    async fn lead(&self, lease: &mut Lease, claimed: Claimed, office: &Office, stop: &Stop) -> Ended {
        let epoch = claimed.term.epoch;
        tracing::info!(epoch, "leading");
        self.metrics.terms.inc();
        self.metrics.epoch.set(epoch);
        self.metrics.leader.set(1);
        self.epoch.send_replace(Some(epoch));
        self.process.health.report("leadership", Check::healthy(format!("leads in epoch {epoch}")));

        let term = TermOfOffice::new(office.clone(), claimed);
        let ended = tokio::select! {
            () = self.step_down.notified() => Ended::SteppedDown,
            ended = term.serve(&stop.requested) => ended,
            error = lease.keep() => {
                tracing::warn!(%error, epoch, "the lease may not be trusted any more");
                Ended::Deposed
            }
        };
        // First of all nobody must take us for the leader; then the next one may have it.
        self.epoch.send_replace(None);
        self.metrics.leader.set(0);
        self.metrics.scheduler_jobs.set(0);
        for check in ["ledger", "publishing", "clock"] {
            self.process.health.forget(check);
        }
        match ended {
            Ended::Stopped | Ended::SteppedDown => tracing::info!(epoch, "handing over"),
            _ => tracing::warn!(epoch, reason = %ended, "not leading any more"),
        }
        ended
    }
}
