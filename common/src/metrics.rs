//! The registry of a process's own figures: what every process shows at `/metrics`, whatever it does.
//!
//! Services register theirs in the same registry; names are the ones that dashboards already use.

use std::collections::HashMap;
use std::time::Instant;

use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, Opts, Registry, TextEncoder};

/// A registry with the process's processor, memory, descriptors, uptime and build.
pub fn registry(component: &str, version: &str) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    registry.register(Box::new(ProcessCollector::for_self()))?;
    registry.register(Box::new(Uptime::from_now()?))?;

    let labels = [("component", component), ("version", version)].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let opts = Opts::new("sqlsentinel_build_info", "What is running; always 1.").const_labels(HashMap::from(labels));
    let build = Gauge::with_opts(opts)?;
    build.set(1.0);
    registry.register(Box::new(build))?;
    Ok(registry)
}

/// Everything in `registry`, in Prometheus' text format.
pub fn render(registry: &Registry) -> prometheus::Result<String> {
    TextEncoder::new().encode_to_string(&registry.gather())
}

/// Seconds since the process started, computed when asked.
struct Uptime {
    started: Instant,
    gauge: Gauge,
}

impl Uptime {
    fn from_now() -> prometheus::Result<Self> {
        let gauge = Gauge::new("sqlsentinel_uptime_seconds", "Seconds since this process started.")?;
        Ok(Self { started: Instant::now(), gauge })
    }
}

impl Collector for Uptime {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.gauge.set(self.started.elapsed().as_secs_f64());
        self.gauge.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_process_shows_its_build_its_uptime_and_its_resources() -> prometheus::Result<()> {
        let text = render(&registry("worker", "1.2.3")?)?;
        for expected in [
            "sqlsentinel_build_info{component=\"worker\",version=\"1.2.3\"} 1\n",
            "# HELP sqlsentinel_uptime_seconds ",
            "\nprocess_cpu_seconds_total ",
            "\nprocess_resident_memory_bytes ",
            "\nprocess_open_fds ",
        ] {
            assert!(text.contains(expected), "{expected:?} is missing in:\n{text}");
        }
        Ok(())
    }
}
