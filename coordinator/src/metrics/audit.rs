//! The figures of the audit: the same on every coordinator, but for when each has looked.

use prometheus::{
    Gauge, IntGauge, IntGaugeVec, Opts, Registry, register_gauge_with_registry, register_int_gauge_vec_with_registry,
    register_int_gauge_with_registry,
};
use sqlsentinel_common::audit::{Kind, Report};
use sqlsentinel_common::timestamp::Timestamp;

/// What the auditor has found.
#[derive(Clone, Debug)]
pub(super) struct AuditMetrics {
    due: IntGauge,
    differences: IntGaugeVec,
    planning_behind: Gauge,
    unplanned: IntGauge,
    overdue: IntGauge,
    last_success: Gauge,
}

impl AuditMetrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let int_gauge = |name: &str, help: &str| register_int_gauge_with_registry!(name, help, registry);
        let gauge = |name: &str, help: &str| register_gauge_with_registry!(name, help, registry);
        let differences = register_int_gauge_vec_with_registry!(
            Opts::new(
                "sqlsentinel_audit_differences",
                "Fires in the audited window that the ledger does not account for exactly once."
            ),
            &["kind"],
            registry
        )?;
        for kind in Kind::ALL {
            differences.with_label_values(&[kind.as_str()]);
        }
        Ok(Self {
            due: int_gauge("sqlsentinel_audit_due_fires", "Fires that were due in the audited window.")?,
            differences,
            planning_behind: gauge(
                "sqlsentinel_audit_planning_behind_seconds",
                "How far planning is behind; 0 within the tolerance.",
            )?,
            unplanned: int_gauge("sqlsentinel_audit_unplanned_fires", "Fires that were due since planning stopped.")?,
            overdue: int_gauge("sqlsentinel_audit_overdue_fires", "Fires that are open long after their deadline.")?,
            last_success: gauge(
                "sqlsentinel_audit_last_success_timestamp_seconds",
                "When the ledger was last audited, since the Unix epoch.",
            )?,
        })
    }

    pub(super) fn show(&self, report: &Report, now: Timestamp) {
        self.due.set(report.due);
        for (kind, fires) in &report.totals {
            self.differences.with_label_values(&[kind.as_str()]).set(*fires);
        }
        self.planning_behind.set(report.overdue.planning_behind_seconds);
        self.unplanned.set(report.overdue.unplanned);
        self.overdue.set(report.overdue.open);
        self.last_success.set(now.as_seconds());
    }
}
