//! The checks as figures, computed when they are asked for.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts, Registry};

use super::{Health, Status};

impl Health {
    /// Registers how each check stands, now and whenever somebody looks.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(Checks { health: self.clone(), shape: gauges()? }))
    }
}

fn gauges() -> prometheus::Result<IntGaugeVec> {
    let help = "How a check of this process stands: 0 healthy or not in use, 1 degraded, 2 unhealthy.";
    IntGaugeVec::new(Opts::new("sqlsentinel_health_status", help), &["check"])
}

struct Checks {
    health: Health,
    shape: IntGaugeVec,
}

impl Collector for Checks {
    fn desc(&self) -> Vec<&Desc> {
        self.shape.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // New ones each time: checks come and go, and two may look at once.
        let Ok(gauges) = gauges() else { return Vec::new() };
        for (name, check) in self.health.snapshot().checks {
            gauges.with_label_values(&[&name]).set(match check.status {
                Status::NotConfigured | Status::Healthy => 0,
                Status::Degraded => 1,
                Status::Unhealthy => 2,
            });
        }
        gauges.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Check;

    #[test]
    fn the_figures_are_the_checks_as_they_stand_when_somebody_looks() -> prometheus::Result<()> {
        let (health, registry) = (Health::default(), Registry::new());
        health.register(&registry)?;
        let seen = || {
            let text = crate::metrics::render(&registry)?;
            let values = text.lines().filter_map(|line| line.strip_prefix("sqlsentinel_health_status"));
            Ok::<_, prometheus::Error>(values.map(str::to_owned).collect::<Vec<_>>())
        };
        health.report("ledger", Check::degraded("slow"));
        health.report("nats", Check::unhealthy("gone"));
        health.report("outbox", Check::not_configured("not here"));
        assert_eq!(seen()?, ["{check=\"ledger\"} 1", "{check=\"nats\"} 2", "{check=\"outbox\"} 0"]);
        health.forget("ledger");
        health.report("nats", Check::healthy("connected"));
        assert_eq!(seen()?, ["{check=\"nats\"} 0", "{check=\"outbox\"} 0"]);
        Ok(())
    }
}
