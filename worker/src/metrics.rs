//! The worker's figures. The first two keep the names and labels that existing dashboards use.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use sqlsentinel_common::alert::SourceName;
use sqlsentinel_common::outcome::RunStatus;

/// What a worker counts. Clones are handles to the same figures.
#[derive(Clone, Debug)]
pub struct Metrics {
    alerts: IntCounterVec,
    alert_duration: HistogramVec,
    source_runs: IntCounterVec,
    source_duration: HistogramVec,
    in_flight: IntGauge,
    /// Whether the last run at a source reached its database, once there was one.
    pub source_up: IntGaugeVec,
    /// Jobs that came a second time or later.
    pub redeliveries: IntCounter,
    /// Jobs that came after their deadline and were not run.
    pub overdue: IntCounter,
    /// Runs that were cancelled because NATS was out of reach or the worker had to stop.
    pub cancelled: IntCounter,
    /// Attempts to publish an outcome that were not confirmed.
    pub publish_failures: IntCounter,
    /// Times a lane had to be opened again.
    pub lane_failures: IntCounter,
    /// Messages that could not be read.
    pub dead_letters: IntCounter,
}

impl Metrics {
    /// Registers everything, so that every figure without labels exists from the start.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            prometheus::Result::Ok(counter)
        };
        let alerts = IntCounterVec::new(
            Opts::new("sqlsentinel_alerts_total", "Executions of alerts, by how they ended."),
            &["alert_name", "status"],
        )?;
        let source_runs = IntCounterVec::new(
            Opts::new("sqlsentinel_source_runs_total", "Executions on a data source, by how they ended."),
            &["source", "status"],
        )?;
        let durations = |name: &str, help: &str, label: &str| {
            let buckets = vec![0.1, 0.5, 1.0, 2.5, 5.0, 10.0];
            HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), &[label])
        };
        let alert_duration =
            durations("sqlsentinel_alert_duration_seconds", "How long executions of alerts took.", "alert_name")?;
        let source_duration = durations(
            "sqlsentinel_source_run_duration_seconds",
            "How long executions on a data source took.",
            "source",
        )?;
        let in_flight = IntGauge::new("sqlsentinel_worker_jobs_in_flight", "Jobs that this worker holds.")?;
        let source_up = IntGaugeVec::new(
            Opts::new("sqlsentinel_source_up", "1 if the last run at a data source reached its database."),
            &["source"],
        )?;
        registry.register(Box::new(source_up.clone()))?;
        registry.register(Box::new(alerts.clone()))?;
        registry.register(Box::new(alert_duration.clone()))?;
        registry.register(Box::new(source_runs.clone()))?;
        registry.register(Box::new(source_duration.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        Ok(Self {
            alerts,
            alert_duration,
            source_runs,
            source_duration,
            in_flight,
            source_up,
            redeliveries: counter(
                "sqlsentinel_worker_redeliveries_total",
                "Jobs that the broker handed out a second time or later.",
            )?,
            overdue: counter(
                "sqlsentinel_worker_overdue_jobs_total",
                "Jobs not run because their deadline had passed.",
            )?,
            cancelled: counter(
                "sqlsentinel_worker_cancelled_runs_total",
                "Runs cancelled because NATS was out of reach or the worker had to stop.",
            )?,
            publish_failures: counter(
                "sqlsentinel_worker_publish_failures_total",
                "Attempts to publish an outcome that NATS did not confirm.",
            )?,
            lane_failures: counter(
                "sqlsentinel_worker_lane_failures_total",
                "Times that pulling jobs of a source failed and was begun anew.",
            )?,
            dead_letters: counter(
                "sqlsentinel_worker_dead_letters_total",
                "Jobs that could not be read and were put away.",
            )?,
        })
    }

    /// Counts one job as held until the result is dropped, be it by a panic.
    pub fn hold(&self) -> impl Drop + use<> {
        self.in_flight.inc();
        Held(self.in_flight.clone())
    }

    /// Counts one execution whose outcome is safe with the broker.
    pub fn executed(&self, alert_name: &str, source: &SourceName, status: RunStatus, duration: Duration) {
        let (source, status, seconds) = (source.as_str(), status.as_label(), duration.as_secs_f64());
        self.alerts.with_label_values(&[alert_name, status]).inc();
        self.alert_duration.with_label_values(&[alert_name]).observe(seconds);
        self.source_runs.with_label_values(&[source, status]).inc();
        self.source_duration.with_label_values(&[source]).observe(seconds);
    }
}

/// One job in flight.
struct Held(IntGauge);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashboards_find_their_names_labels_and_buckets() -> prometheus::Result<()> {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry)?;
        metrics.executed("revenue", &SourceName::default_source(), RunStatus::NoData, Duration::from_millis(300));
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather())?;
        for expected in [
            "sqlsentinel_alerts_total{alert_name=\"revenue\",status=\"no_data\"} 1\n",
            "sqlsentinel_alert_duration_seconds_bucket{alert_name=\"revenue\",le=\"0.1\"} 0\n",
            "sqlsentinel_alert_duration_seconds_bucket{alert_name=\"revenue\",le=\"0.5\"} 1\n",
            "sqlsentinel_alert_duration_seconds_bucket{alert_name=\"revenue\",le=\"10\"} 1\n",
            "sqlsentinel_source_runs_total{source=\"default\",status=\"no_data\"} 1\n",
            "sqlsentinel_source_run_duration_seconds_count{source=\"default\"} 1\n",
            "sqlsentinel_worker_publish_failures_total 0\n",
        ] {
            assert!(text.contains(expected), "{expected:?} is missing in:\n{text}");
        }
        Ok(())
    }
}
