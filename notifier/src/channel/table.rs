//! What one configuration says of channels: which one a notification's route leads to.
//!
//! Input: the configuration. Output: the [`Channel`] of a route, by the [`Destination`] that limits, circuits and the
//! health report know it by. A table never changes: whoever has begun to send by one goes on with it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sqlsentinel_common::alert::{ChannelKind, Route};
use sqlsentinel_common::config::{Channel, Config};
use sqlsentinel_common::settings::ChannelSettings;
use sqlsentinel_common::store::outbox::Destination;

use super::email::{Mailer, MailerError};

/// The channels of one configuration.
#[derive(Debug)]
pub(super) struct Table {
    named: BTreeMap<String, Arc<Channel>>,
    /// By alert, then by the route's key: the same key may stand for different secrets in different alerts.
    inline: HashMap<String, HashMap<String, Arc<Channel>>>,
    /// None while no channel sends mails; an error where the environment does not say how.
    pub(super) mailer: Option<Result<Mailer, MailerError>>,
}

impl Table {
    /// The channels of `config`, whose mails go the way that `settings` say.
    pub(super) fn new(config: &Config, settings: &ChannelSettings) -> Self {
        let named: BTreeMap<String, Arc<Channel>> =
            config.channels.iter().map(|(name, channel)| (name.as_str().to_owned(), channel.clone())).collect();
        let mut inline: HashMap<String, HashMap<String, Arc<Channel>>> = HashMap::new();
        for alert in &config.alerts {
            for (Route { key, .. }, channel) in &alert.channels {
                if !named.contains_key(key) {
                    let routes = inline.entry(alert.definition.name.clone()).or_default();
                    routes.insert(key.clone(), channel.clone());
                }
            }
        }
        let mut table = Self { named, inline, mailer: None };
        let sends_mails = table.all().any(|(_, channel)| channel.config.kind() == ChannelKind::Email);
        table.mailer = sends_mails.then(|| Mailer::new(settings.smtp.as_ref()));
        table
    }

    /// Where the route `key` of `alert` leads. A channel with a name is found by it, whether the alert lists it or not:
    /// it may stand in for another one.
    pub(super) fn find(&self, alert: &str, key: &str) -> Option<(Destination, &Arc<Channel>)> {
        if let Some(channel) = self.named.get(key) {
            return Some((Destination::Named(key.to_owned()), channel));
        }
        let channel = self.inline.get(alert)?.get(key)?;
        Some((Destination::Inline { alert_name: alert.to_owned(), route_key: key.to_owned() }, channel))
    }

    /// The channel at `destination`.
    pub(super) fn get(&self, destination: &Destination) -> Option<&Arc<Channel>> {
        match destination {
            Destination::Named(name) => self.named.get(name),
            Destination::Inline { alert_name, route_key } => self.inline.get(alert_name)?.get(route_key),
        }
    }

    /// The channels that have a name.
    pub(super) fn named(&self) -> impl Iterator<Item = (&String, &Arc<Channel>)> {
        self.named.iter()
    }

    /// All of them, each once.
    pub(super) fn all(&self) -> impl Iterator<Item = (Destination, &Arc<Channel>)> {
        let named = self.named.iter().map(|(name, channel)| (Destination::Named(name.clone()), channel));
        let inline = self.inline.iter().flat_map(|(alert, routes)| {
            routes.iter().map(|(key, channel)| {
                (Destination::Inline { alert_name: alert.clone(), route_key: key.clone() }, channel)
            })
        });
        named.chain(inline)
    }
}
