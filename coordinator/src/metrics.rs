//! The coordinator's own figures.

mod audit;
mod backlog;

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, register_histogram_with_registry,
    register_int_counter_vec_with_registry, register_int_counter_with_registry, register_int_gauge_with_registry,
};
use sqlsentinel_common::alert::SourceName;
use sqlsentinel_common::audit::Report;
use sqlsentinel_common::store::backlog::OpenFires;
use sqlsentinel_common::timestamp::Timestamp;

use self::audit::AuditMetrics;
use self::backlog::BacklogMetrics;

/// What can become of a fire by a coordinator's decision.
const DISPOSITIONS: [&str; 8] = [
    "planned",
    "skipped_overlap",
    "skipped_removed",
    "gap_misfire",
    "gap_catchup_window",
    "expired_no_worker",
    "expired_backlog",
    "expired_worker_lost",
];

/// Every figure of one coordinator.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// 1 while this coordinator leads.
    pub leader: IntGauge,
    /// The epoch it last led in.
    pub epoch: IntGauge,
    /// Terms that this coordinator began.
    pub terms: IntCounter,
    /// How often this coordinator found that the state database had gone back in time.
    pub state_rollbacks: IntCounter,
    /// Fires by what a coordinator has decided about them.
    fires: IntCounterVec,
    /// Alerts with a fire to come, while leading.
    pub scheduler_jobs: IntGauge,
    /// Fires planned to run, by alert.
    pub scheduler_job_runs: IntCounterVec,
    /// Fires covered by gap rows, by reason.
    pub gap_fires: IntCounterVec,
    /// Jobs that the broker confirmed.
    pub jobs_published: IntCounter,
    /// Fires published again because their job was lost.
    pub fires_rescued: IntCounter,
    /// Fires that ended as expired, by reason.
    pub fires_expired: IntCounterVec,
    /// Rows of old history that were deleted, by table.
    pub purged_rows: IntCounterVec,
    /// From when a fire was due to when its tick was committed.
    pub plan_lateness: Histogram,
    /// 1 while this coordinator's file is older than the definitions in force.
    pub definitions_drift: IntGauge,
    /// What is open in the ledger.
    backlog: BacklogMetrics,
    /// What this coordinator's auditor has found.
    audit: AuditMetrics,
}

impl Metrics {
    /// Registers them all.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| register_int_counter_with_registry!(name, help, registry);
        let gauge = |name: &str, help: &str| register_int_gauge_with_registry!(name, help, registry);
        let by = |name: &str, help: &str, label: &str| {
            register_int_counter_vec_with_registry!(Opts::new(name, help), &[label], registry)
        };
        let fires =
            by("sqlsentinel_fires_total", "Fires, by what a coordinator has decided about them.", "disposition")?;
        let gap_fires = by("sqlsentinel_gap_fires_total", "Fires that did not run one by one.", "reason")?;
        let fires_expired = by("sqlsentinel_fires_expired_total", "Fires that expired without an outcome.", "reason")?;
        // From the start: a series that begins with its first count has no increase.
        for disposition in DISPOSITIONS {
            fires.with_label_values(&[disposition]);
            match disposition.split_once('_') {
                Some(("gap", reason)) => drop(gap_fires.with_label_values(&[reason])),
                Some(("expired", reason)) => drop(fires_expired.with_label_values(&[reason])),
                _ => {}
            }
        }
        Ok(Self {
            fires,
            leader: gauge("sqlsentinel_leader", "1 while this coordinator leads.")?,
            epoch: gauge("sqlsentinel_leader_epoch", "The epoch this coordinator last led in.")?,
            terms: counter("sqlsentinel_leader_terms_total", "Terms that this coordinator began.")?,
            state_rollbacks: counter(
                "sqlsentinel_state_rollbacks_total",
                "How often the state database was found to have gone back in time.",
            )?,
            scheduler_jobs: gauge("sqlsentinel_scheduler_jobs", "Alerts with a fire to come, on the leader.")?,
            scheduler_job_runs: by("sqlsentinel_scheduler_job_runs_total", "Fires planned to run.", "alert_name")?,
            gap_fires,
            jobs_published: counter("sqlsentinel_jobs_published_total", "Jobs that the broker confirmed.")?,
            fires_rescued: counter(
                "sqlsentinel_fires_rescued_total",
                "Fires published again after their job was lost.",
            )?,
            fires_expired,
            purged_rows: by("sqlsentinel_purged_rows_total", "Rows of old history that were deleted.", "table")?,
            plan_lateness: register_histogram_with_registry!(
                HistogramOpts::new(
                    "sqlsentinel_plan_lateness_seconds",
                    "From when a fire was due to when it was in the ledger."
                )
                .buckets(vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0]),
                registry
            )?,
            definitions_drift: gauge(
                "sqlsentinel_definitions_drift",
                "1 while this coordinator's file is older than the definitions in force.",
            )?,
            backlog: BacklogMetrics::register(registry)?,
            audit: AuditMetrics::register(registry)?,
        })
    }

    /// Shows what an audit has found, at this moment.
    pub fn audited(&self, report: &Report, now: Timestamp) {
        self.audit.show(report, now);
    }

    /// Shows what is open in the ledger, which gives a fire so long an `allowance` to begin.
    pub fn backlog<'a>(
        &self,
        open: &'a [OpenFires],
        configured: impl Iterator<Item = &'a SourceName>,
        allowance: Duration,
    ) {
        self.backlog.show(open, configured, allowance);
    }

    /// Counts fires whose disposition was committed. The words are fixed: what the row is, and its reason.
    pub fn disposed(&self, disposition: &str, fires: u64) {
        self.fires.with_label_values(&[disposition]).inc_by(fires);
    }
}
