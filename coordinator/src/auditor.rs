//! Whether the ledger accounts for every fire that was due: every coordinator looks, whether it leads or stands by, so that
//! a leader's fault is not judged by itself alone.
//!
//! Input: the state database, read only. Output: the check `audit`, figures, and a line in the log when something differs.
//! A pass looks at what was planned since the last one. Every so often, and for as long as something differs, it looks back
//! over the whole window, and so finds what was accounted for once and is not any more.

use std::time::Duration;

use sqlsentinel_common::audit::{CHECK, Kind, Overdue, Report, Tolerance};
use sqlsentinel_common::clock::{self, BootInstant};
use sqlsentinel_common::health::{Check, Health};
use sqlsentinel_common::lifecycle::Stop;
use sqlsentinel_common::store::audit::{self, Look};
use sqlsentinel_common::store::{Store, StoreError};

use crate::metrics::Metrics;

/// Every so many passes, one looks back over the whole window.
const WHOLE: u32 = 10;
/// What is late is told when it has been seen to be for so long: coordinators that have just started, or were suspended,
/// find planning behind and catch up.
const LATE_FOR: Duration = Duration::from_secs(30);
/// How soon a pass comes again that did not come to its end, or that saw something late and did not tell it yet.
const SOON: Duration = Duration::from_secs(10);

/// How soon a new state database is looked at again.
const RETRY: Duration = Duration::from_secs(1);

/// How to look.
#[derive(Clone, Copy, Debug)]
pub struct AuditRules {
    /// From the end of a pass to the next one; at least as long as a pass took.
    pub every: Duration,
    /// How far back. History is kept for longer.
    pub window: Duration,
    /// What is late.
    pub tolerance: Tolerance,
}

/// One coordinator's auditor.
#[derive(Debug)]
pub struct Auditor {
    auditor: audit::Auditor,
    rules: AuditRules,
    health: Health,
    metrics: Metrics,
    /// What the last look over the whole window has found, and those after it.
    report: Option<Report>,
    passes: u32,
    late_since: Option<BootInstant>,
    /// What was told last.
    told: String,
}

impl Auditor {
    /// An auditor of `store` that reports here.
    pub fn new(store: Store, rules: AuditRules, health: Health, metrics: Metrics) -> Self {
        let (auditor, told) = (audit::Auditor::of(store), String::new());
        Self { auditor, rules, health, metrics, report: None, passes: 0, late_since: None, told }
    }

    /// Looks now and then, until a stop is requested.
    pub async fn run(mut self, stop: Stop) -> anyhow::Result<()> {
        loop {
            let began = BootInstant::now();
            let passed = tokio::select! {
                passed = self.run_once() => passed,
                () = stop.requested.cancelled() => return Ok(()),
            };
            let again = match passed {
                Ok(()) if self.late_since.is_some() => self.rules.every.min(SOON),
                Ok(()) => self.rules.every,
                // The schema is about to be there.
                Err(StoreError::Schema(_)) => RETRY,
                Err(error) => {
                    self.not_audited(&error);
                    self.rules.every.min(SOON)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(again.max(began.elapsed())) => {}
                () = stop.requested.cancelled() => return Ok(()),
            }
        }
    }

    /// One pass.
    pub async fn run_once(&mut self) -> Result<(), StoreError> {
        let known = self.report.take_if(|report| self.passes < WHOLE && report.is_complete());
        let look = Look {
            window: self.rules.window,
            after: known.as_ref().map(|report| report.through),
            tolerance: self.rules.tolerance,
        };
        let found = self.auditor.audit(look).await?;
        self.passes = if known.is_some() { self.passes + 1 } else { 0 };
        let Some(found) = found else {
            self.health.report(CHECK, Check::healthy("nothing has been planned yet"));
            return Ok(());
        };
        let mut report = match known {
            // A ledger that went back in time is looked at anew.
            Some(known) if known.through <= found.through => known.followed_by(found),
            _ => found,
        };
        self.wait_with_what_is_late(&mut report);
        self.tell(&report);
        self.report = Some(report);
        Ok(())
    }

    /// Takes what is late out of the report until it has been late for a while.
    fn wait_with_what_is_late(&mut self, report: &mut Report) {
        if report.overdue.is_nothing() {
            self.late_since = None;
        } else if self.late_since.get_or_insert_with(BootInstant::now).elapsed() < LATE_FOR {
            report.overdue = Overdue::default();
        }
    }

    fn tell(&mut self, report: &Report) {
        self.metrics.audited(report, clock::wall_now());
        let check = if report.is_in_order() { Check::healthy } else { Check::unhealthy };
        self.health.report(CHECK, check(report.to_string()));
        let news = news(report);
        if news == self.told {
            return;
        }
        if report.is_in_order() {
            tracing::info!("the ledger accounts for every fire again");
        } else {
            let differing = |kind| report.totals.get(&kind).copied().unwrap_or_default();
            let first = report.differences.first();
            tracing::error!(
                alert_name = first.map(|difference| difference.alert_name.as_str()),
                missed = differing(Kind::Missed),
                doubled = differing(Kind::Doubled),
                stray = differing(Kind::Stray),
                miscounted = differing(Kind::Miscounted),
                unplanned = report.overdue.unplanned,
                overdue = report.overdue.open,
                differences = report.told(),
                "the audit finds the ledger not in order"
            );
        }
        self.told = news;
    }

    /// The ledger could not be read: nothing is known about it, and what was known to differ differs still.
    fn not_audited(&self, error: &StoreError) {
        if self.told.is_empty() {
            self.health.report(CHECK, Check::degraded(format!("the ledger could not be audited: {error}")));
        }
        tracing::warn!(%error, "the ledger could not be audited, trying again");
    }
}

/// What of a report is worth a line in the log when it changes; empty where everything is in order.
fn news(report: &Report) -> String {
    let Overdue { planning_behind_seconds, open, .. } = report.overdue;
    let mut news: Vec<String> = Vec::new();
    if !report.is_complete() {
        let totals = report.totals.values().map(i64::to_string);
        news.extend(totals.chain([report.told()]));
    }
    // That it is late is news once, and by how much is not.
    news.extend((planning_behind_seconds > 0.0).then(|| "planning".to_owned()));
    news.extend((open > 0).then(|| "open".to_owned()));
    news.join(" ")
}
