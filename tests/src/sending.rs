//! One notification that is due, and what sends it: a notifier's outbox in this process, without a cluster.

use anyhow::{Context, Result, ensure};
use sqlsentinel_common::alert::AlertDefinition;
use sqlsentinel_common::config::{ChannelConfig, Config};
use sqlsentinel_common::outcome::{RunStatus, Verdict};
use sqlsentinel_common::settings::ChannelSettings;
use sqlsentinel_common::store::outbox::Receipt;
use sqlsentinel_notifier::channel::{Channels, SEND_TIMEOUT};
use sqlsentinel_notifier::deliver::{Attempt, Deliverer};
use sqlsentinel_notifier::outbox::deliver_due;
use tokio::sync::Notify;

use crate::bench::{Bench, LEASE, alert, sending_by, verdict};

/// The name of the alert that is on.
pub const ALERT: &str = "revenue";

/// An alert that is on, and what sends its notification.
pub struct Sending {
    /// The state database.
    pub bench: Bench,
    /// The alert.
    pub definition: AlertDefinition,
    /// The sender.
    pub deliverer: Deliverer,
}

impl Sending {
    /// By `channel`, with `settings` from the environment.
    pub async fn by(channel: ChannelConfig, settings: &ChannelSettings) -> Result<Self> {
        Self::saying(verdict(RunStatus::Alert), channel, settings).await
    }

    /// The same, of what `verdict` says.
    pub async fn saying(verdict: Verdict, channel: ChannelConfig, settings: &ChannelSettings) -> Result<Self> {
        let mut definition = alert(ALERT, &["ops"])?;
        for route in &mut definition.notify {
            route.channel = channel.kind();
        }
        let config = sending_by(&definition, channel);
        Self::set(definition, &config, settings, verdict).await
    }

    /// The notification that `verdict` causes, sent as `config` says.
    pub async fn set(
        definition: AlertDefinition,
        config: &Config,
        settings: &ChannelSettings,
        verdict: Verdict,
    ) -> Result<Self> {
        // An error says that another test has installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let bench = Bench::sqlite().await?;
        bench.define(&definition).await?;
        let outcome = bench.fire(&definition, 1, verdict).await?;
        ensure!(bench.recorder.record(&[&outcome]).await.notifications == 1);
        let channels = Channels::new(config, settings)?;
        let deliverer = Deliverer { store: bench.store.clone(), channels, metrics: None };
        Ok(Self { bench, definition, deliverer })
    }

    /// Sends what is due.
    pub async fn deliver(&self) -> Result<Vec<Attempt>> {
        Ok(deliver_due(&self.deliverer, std::slice::from_ref(&self.definition.name), LEASE).await?)
    }

    /// The next attempt, as if its pause were over.
    pub async fn attempt(&self) -> Result<Receipt> {
        self.bench.let_time_pass().await?;
        let attempt = self.deliver().await?.pop().context("nothing was due")?;
        ensure!(attempt.stored, "the receipt was not stored");
        attempt.receipt.context("nothing was sent")
    }

    /// The same, where the receiver falls silent, which `silent` tells: the time for the attempt is over then.
    pub async fn attempt_until_it_is_late(&self, silent: &Notify) -> Result<Receipt> {
        let time_passes = async {
            silent.notified().await;
            tokio::time::pause();
            tokio::time::advance(SEND_TIMEOUT).await;
            tokio::time::resume();
        };
        let (receipt, ()) = tokio::join!(self.attempt(), time_passes);
        receipt
    }

    /// How far the notification has come.
    pub async fn status(&self) -> Result<String> {
        self.bench.text("SELECT status FROM sqlsentinel_notifications").await
    }

    /// Its name.
    pub async fn notification_id(&self) -> Result<String> {
        self.bench.text("SELECT notification_id FROM sqlsentinel_notifications").await
    }

    /// Everything that the outbox and the history say of errors.
    pub async fn stored_errors(&self) -> Result<String> {
        let outbox = self.bench.text("SELECT last_error FROM sqlsentinel_notifications").await?;
        let history = self.bench.text("SELECT notification_error FROM sqlsentinel_executions").await?;
        Ok(format!("{outbox}\n{history}"))
    }
}

/// The error in a receipt; empty if there is none.
pub fn error_of(receipt: &Receipt) -> &str {
    match receipt {
        Receipt::Retry { error, .. } | Receipt::Dead { error, .. } => error,
        Receipt::Sent | Receipt::Skipped { .. } => "",
    }
}
