//! What a notifier counts. Labels are bounded: kinds of channel, names of channels
//! and the few words below, never an id, a URL or an error.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::{Gauge, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, Result};
use sqlsentinel_common::alert::ChannelKind;
use sqlsentinel_common::store::outbox::{Backlog, Receipt};

const SENT: &str = "sent";
const FAILED: &str = "failed";
const DEAD: &str = "dead";
const SKIPPED: &str = "skipped";

/// What became of an outcome that a notifier took from the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeResult {
    /// Recorded and judged.
    Recorded,
    /// Recorded after its fire had been given up as `EXPIRED`.
    Late,
    /// Recorded earlier.
    Duplicate,
    /// Put away with the dead letters.
    DeadLettered,
    /// Given back to the bus, to come again.
    GivenBack,
}

impl OutcomeResult {
    const ALL: [Self; 5] = [Self::Recorded, Self::Late, Self::Duplicate, Self::DeadLettered, Self::GivenBack];

    fn as_label(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Late => "late",
            Self::Duplicate => "duplicate",
            Self::DeadLettered => "dead_lettered",
            Self::GivenBack => "given_back",
        }
    }
}

/// The notifier's metrics. Clones are handles to the same ones.
#[derive(Clone, Debug)]
pub struct Metrics {
    notifications: IntCounterVec,
    duration: HistogramVec,
    outcomes: IntCounterVec,
    pending: IntGauge,
    oldest: Gauge,
    circuits: IntGaugeVec,
}

impl Metrics {
    /// Registers them; every series that can be named exists from the start.
    pub fn register(registry: &Registry) -> Result<Self> {
        let metrics = Self {
            notifications: IntCounterVec::new(
                Opts::new("sqlsentinel_notifications_total", "Attempts to send a notification, by how they ended."),
                &["channel", "status"],
            )?,
            duration: HistogramVec::new(
                HistogramOpts::new("sqlsentinel_notification_duration_seconds", "How long an attempt to send took.")
                    .buckets(vec![0.1, 0.5, 1.0, 2.5, 5.0]),
                &["channel"],
            )?,
            outcomes: IntCounterVec::new(
                Opts::new("sqlsentinel_outcomes_total", "Outcomes taken from the bus, by what became of them."),
                &["result"],
            )?,
            pending: IntGauge::new(
                "sqlsentinel_outbox_pending",
                "Notifications in the state database that have not ended (the same for every notifier).",
            )?,
            oldest: Gauge::new(
                "sqlsentinel_outbox_oldest_age_seconds",
                "How long the oldest notification that has not ended has been waiting; 0 if there is none.",
            )?,
            circuits: IntGaugeVec::new(
                Opts::new(
                    "sqlsentinel_channel_circuit_open",
                    "How many circuits this notifier has opened: of a named channel (0 or 1), or of alerts' own entries of a kind.",
                ),
                &["channel"],
            )?,
        };
        registry.register(Box::new(metrics.notifications.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.outcomes.clone()))?;
        registry.register(Box::new(metrics.pending.clone()))?;
        registry.register(Box::new(metrics.oldest.clone()))?;
        registry.register(Box::new(metrics.circuits.clone()))?;
        for channel in ChannelKind::ALL.map(ChannelKind::as_str) {
            metrics.duration.with_label_values(&[channel]);
            metrics.circuits.with_label_values(&[channel]);
            for status in [SENT, FAILED, DEAD, SKIPPED] {
                metrics.notifications.with_label_values(&[channel, status]);
            }
        }
        for result in OutcomeResult::ALL {
            metrics.outcomes.with_label_values(&[result.as_label()]);
        }
        Ok(metrics)
    }

    /// One attempt has ended with `receipt`; none was made where it says `Skipped`.
    pub fn attempt(&self, channel: &str, receipt: &Receipt, took: Duration) {
        let status = match receipt {
            Receipt::Sent => SENT,
            Receipt::Retry { .. } => FAILED,
            Receipt::Dead { .. } => DEAD,
            Receipt::Skipped { .. } => SKIPPED,
        };
        self.notifications.with_label_values(&[channel, status]).inc();
        if status != SKIPPED {
            self.duration.with_label_values(&[channel]).observe(took.as_secs_f64());
        }
    }

    /// One outcome has been settled.
    pub fn outcome(&self, result: OutcomeResult) {
        self.outcomes.with_label_values(&[result.as_label()]).inc();
    }

    /// Which circuits are open at the moment, by every label that there is.
    pub fn circuits(&self, open: &BTreeMap<String, i64>) {
        // A channel may be gone from the configuration.
        self.circuits.reset();
        for (channel, count) in open {
            self.circuits.with_label_values(&[channel]).set(*count);
        }
    }

    /// What the outbox holds at the moment.
    pub fn backlog(&self, backlog: Backlog) {
        self.pending.set(i64::try_from(backlog.active).unwrap_or(i64::MAX));
        self.oldest.set(backlog.oldest.as_secs_f64());
    }
}
