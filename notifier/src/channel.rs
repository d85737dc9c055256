//! The channels: from a route's name to a message sent.
//!
//! Input: a claimed notification and its payload. Output: how the attempt ended. Settings come from this process's
//! configuration; secrets are resolved here, for each attempt, and go nowhere else.

mod addresses;
mod webhook;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use sqlsentinel_common::alert::{ChannelKind, Route};
use sqlsentinel_common::config::{ChannelConfig, Config};
use sqlsentinel_common::health::Check;
use sqlsentinel_common::store::outbox::Claim;

use crate::render::Payload;
use crate::retry::Sent;

/// The longest that one attempt takes.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the HTTP client: {0}")]
pub struct ChannelError(#[from] reqwest::Error);

/// Every route that this process can send to.
#[derive(Debug)]
pub struct Channels {
    /// By alert, then by the route's key: the same key may stand for different secrets in different alerts.
    routes: HashMap<String, HashMap<String, ChannelConfig>>,
    http: reqwest::Client,
}

impl Channels {
    /// The routes of `config`. A crypto provider must have been installed.
    pub fn new(config: &Config) -> Result<Self, ChannelError> {
        let routes = config.alerts.iter().map(|alert| {
            let channels = alert.channels.iter().map(|(Route { key, .. }, channel)| (key.clone(), channel.clone()));
            (alert.definition.name.clone(), channels.collect())
        });
        Ok(Self { routes: routes.collect(), http: webhook::client()? })
    }

    /// Makes one attempt, within [`SEND_TIMEOUT`].
    pub async fn send(&self, claim: &Claim, payload: &Payload) -> Sent {
        match self.routes.get(&claim.alert_name).and_then(|routes| routes.get(&claim.route_key)) {
            Some(ChannelConfig::Webhook(webhook)) => webhook::send(&self.http, webhook, claim, payload).await,
            // The configuration may be on its way to this process, so this is no reason to give up.
            None => Sent::not_delivered(format!(
                "the configuration of this notifier has no route `{}` for the alert",
                claim.route_key
            )),
        }
    }

    /// Whether the routes can be used as they are, for each kind of channel.
    pub fn check(&self) -> Check {
        let mut webhooks = self.routes.values().flat_map(HashMap::values).peekable();
        let check = if webhooks.peek().is_none() {
            Check::not_configured("no alert notifies anybody this way")
        } else {
            let unresolved = webhooks.find_map(|ChannelConfig::Webhook(webhook)| webhook::unresolved(webhook));
            unresolved.map_or_else(|| Check::healthy("configured"), |error| Check::degraded(error.to_string()))
        };
        Check::of_channels(BTreeMap::from([(ChannelKind::Webhook.as_str().to_owned(), check)]))
    }
}
