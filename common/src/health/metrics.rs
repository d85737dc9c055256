//! The checks as figures, computed when they are asked for.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntGaugeVec, Opts, Registry};

use super::{Health, Status};

impl Health {
    /// Registers how each check stands, now and whenever somebody looks.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(Checks { health: self.clone(), shape: Gauges::new()? }))
    }
}

struct Gauges {
    status: IntGaugeVec,
    latency: GaugeVec,
}

impl Gauges {
    fn new() -> prometheus::Result<Self> {
        let status = "How a check of this process stands: 0 healthy or not in use, 1 degraded, 2 unhealthy.";
        let latency = "How long it took to find out, of checks that ask somebody.";
        Ok(Self {
            status: IntGaugeVec::new(Opts::new("sqlsentinel_health_status", status), &["check"])?,
            latency: GaugeVec::new(Opts::new("sqlsentinel_health_latency_seconds", latency), &["check"])?,
        })
    }
}

struct Checks {
    health: Health,
    shape: Gauges,
}

impl Collector for Checks {
    fn desc(&self) -> Vec<&Desc> {
        [self.shape.status.desc(), self.shape.latency.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // New ones each time: checks come and go, and two may look at once.
        let Ok(Gauges { status, latency }) = Gauges::new() else { return Vec::new() };
        for (name, check) in self.health.snapshot().checks {
            status.with_label_values(&[&name]).set(match check.status {
                Status::NotConfigured | Status::Healthy => 0,
                Status::Degraded => 1,
                Status::Unhealthy => 2,
            });
            if let Some(milliseconds) = check.latency_ms {
                latency.with_label_values(&[&name]).set(milliseconds / 1e3);
            }
        }
        [status.collect(), latency.collect()].concat()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::health::Check;

    #[test]
    fn the_figures_are_the_checks_as_they_stand_when_somebody_looks() -> prometheus::Result<()> {
        let (health, registry) = (Health::default(), Registry::new());
        health.register(&registry)?;
        let seen = || {
            let text = crate::metrics::render(&registry)?;
            let values = text.lines().filter_map(|line| line.strip_prefix("sqlsentinel_health_"));
            Ok::<_, prometheus::Error>(values.map(str::to_owned).collect::<Vec<_>>())
        };
        health.report("ledger", Check::degraded("slow"));
        health.report("nats", Check::unhealthy("gone"));
        health.report("outbox", Check::not_configured("not here"));
        assert_eq!(seen()?, ["status{check=\"ledger\"} 1", "status{check=\"nats\"} 2", "status{check=\"outbox\"} 0"]);
        health.forget("ledger");
        health.report("nats", Check::healthy("connected").with_latency(Duration::from_micros(2_500)));
        let after =
            ["latency_seconds{check=\"nats\"} 0.0025", "status{check=\"nats\"} 0", "status{check=\"outbox\"} 0"];
        assert_eq!(seen()?, after);
        Ok(())
    }
}
