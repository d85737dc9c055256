//! The figures of what is open in the ledger: the same on every coordinator.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::{
    GaugeVec, IntGaugeVec, Opts, Registry, register_gauge_vec_with_registry, register_int_gauge_vec_with_registry,
};
use sqlsentinel_common::alert::SourceName;
use sqlsentinel_common::store::backlog::OpenFires;

const STATUSES: [&str; 2] = ["waiting", "queued"];

/// Fires that have not ended, by the data source that they are to run on.
#[derive(Clone, Debug)]
pub(super) struct BacklogMetrics {
    fires: IntGaugeVec,
    wait: GaugeVec,
}

impl BacklogMetrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let fires = Opts::new("sqlsentinel_open_fires", "Fires that have not ended, by data source.");
        let wait = Opts::new(
            "sqlsentinel_open_fires_wait_seconds",
            "How long the fire that waits longest has waited, not counting the longest time that its run may take.",
        );
        Ok(Self {
            fires: register_int_gauge_vec_with_registry!(fires, &["source", "status"], registry)?,
            wait: register_gauge_vec_with_registry!(wait, &["source"], registry)?,
        })
    }

    /// Shows what is open, and zeros for other sources that are configured. `allowance` is how long before its deadline,
    /// less its time-out, a fire could have begun.
    pub(super) fn show<'a>(
        &self,
        open: &'a [OpenFires],
        configured: impl Iterator<Item = &'a SourceName>,
        allowance: Duration,
    ) {
        let mut waits: BTreeMap<&SourceName, f64> = configured.map(|source| (source, 0.0)).collect();
        for OpenFires { source, past_deadline_us, .. } in open {
            let wait = waits.entry(source).or_default();
            *wait = wait.max(*past_deadline_us as f64 / 1e6 + allowance.as_secs_f64());
        }
        // A source may be gone from the configuration.
        self.fires.reset();
        self.wait.reset();
        for (source, wait) in waits {
            self.wait.with_label_values(&[source.as_str()]).set(wait);
            for status in STATUSES {
                self.fires.with_label_values(&[source.as_str(), status]).set(0);
            }
        }
        for OpenFires { source, status, fires, .. } in open {
            self.fires.with_label_values(&[source.as_str(), &status.to_lowercase()]).set(*fires);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str) -> SourceName {
        SourceName::try_from(name.to_owned()).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    #[test]
    fn a_fire_waits_from_when_its_allowance_began_and_sources_without_one_do_not() -> prometheus::Result<()> {
        let registry = Registry::new();
        let metrics = BacklogMetrics::register(&registry)?;
        let open = |name: &str, status: &str, fires, past_deadline: i64| OpenFires {
            source: source(name),
            status: status.to_owned(),
            fires,
            past_deadline_us: past_deadline * 1_000_000,
        };
        let (shop, gone) = (source("shop"), source("gone"));
        let show = |open: &[OpenFires], configured: &[&SourceName]| {
            metrics.show(open, configured.iter().copied(), Duration::from_secs(300));
            sqlsentinel_common::metrics::render(&registry)
        };
        // One of `busy` has begun in time and may run for 20 s more; the other one has 100 s left.
        let text = show(
            &[open("busy", "QUEUED", 2, -320), open("busy", "WAITING", 7, -100), open("gone", "QUEUED", 1, 10)],
            &[&shop],
        )?;
        for expected in [
            "sqlsentinel_open_fires{source=\"busy\",status=\"queued\"} 2\n",
            "sqlsentinel_open_fires{source=\"busy\",status=\"waiting\"} 7\n",
            "sqlsentinel_open_fires{source=\"gone\",status=\"waiting\"} 0\n",
            "sqlsentinel_open_fires{source=\"shop\",status=\"queued\"} 0\n",
            "sqlsentinel_open_fires_wait_seconds{source=\"busy\"} 200\n",
            "sqlsentinel_open_fires_wait_seconds{source=\"gone\"} 310\n",
            "sqlsentinel_open_fires_wait_seconds{source=\"shop\"} 0\n",
        ] {
            assert!(text.contains(expected), "{expected} is missing in:\n{text}");
        }
        let text = show(&[open("busy", "QUEUED", 1, -320)], &[&shop])?;
        assert!(text.contains("sqlsentinel_open_fires_wait_seconds{source=\"busy\"} 0\n"), "a run in time:\n{text}");
        assert!(!text.contains(gone.as_str()), "it is not configured, and has nothing open:\n{text}");
        Ok(())
    }
}
