//! The figures of reloading, under the names by which Prometheus counts its own.

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::timestamp::Timestamp;

/// What is counted of reloads. Clones are handles to the same figures.
#[derive(Clone, Debug)]
pub struct ReloadMetrics {
    successes: IntCounter,
    failures: IntCounter,
    last_successful: IntGauge,
    last_success: Gauge,
}

impl ReloadMetrics {
    /// Registers them; both results are there from the start.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let reloads = Opts::new("sqlsentinel_config_reloads_total", "Times the configuration was read again.");
        let reloads = IntCounterVec::new(reloads, &["result"])?;
        let last_successful = IntGauge::new(
            "sqlsentinel_config_last_reload_successful",
            "1 if the configuration was good when it was last read.",
        )?;
        let last_success = Gauge::new(
            "sqlsentinel_config_last_reload_success_timestamp_seconds",
            "When the configuration in force was read, since the Unix epoch.",
        )?;
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(last_successful.clone()))?;
        registry.register(Box::new(last_success.clone()))?;
        Ok(Self {
            successes: reloads.with_label_values(&["success"]),
            failures: reloads.with_label_values(&["failure"]),
            last_successful,
            last_success,
        })
    }

    /// The process has started with a good configuration.
    pub fn loaded(&self, at: Timestamp) {
        self.last_successful.set(1);
        self.last_success.set(at.as_seconds());
    }

    /// A good configuration has taken the place of the last.
    pub fn succeeded(&self, at: Timestamp) {
        self.successes.inc();
        self.loaded(at);
    }

    /// What was read has errors.
    pub fn failed(&self) {
        self.failures.inc();
        self.last_successful.set(0);
    }
}
