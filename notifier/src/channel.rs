//! The channels: from a route's name to a message sent.
//!
//! Input: a claimed notification and its payload. Output: how the attempt ended. Settings come from this process's
//! configuration and environment; secrets are resolved here, for each attempt, and go nowhere else.

mod addresses;
mod email;
mod http;
mod signature;
mod slack;
mod standing;
mod webhook;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use sqlsentinel_common::alert::{ChannelKind, Route};
use sqlsentinel_common::config::{ChannelConfig, Config};
use sqlsentinel_common::health::Check;
use sqlsentinel_common::settings::ChannelSettings;
use sqlsentinel_common::store::outbox::Claim;

use self::email::{Mailer, MailerError};
use self::standing::Standing;
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
    settings: ChannelSettings,
    http: reqwest::Client,
    /// None while no alert sends mails; an error where the environment does not say how.
    mailer: Option<Result<Mailer, MailerError>>,
    standing: Standing,
}

impl Channels {
    /// The routes of `config`, with what they fall back on. A crypto provider must have been installed.
    pub fn new(config: &Config, settings: &ChannelSettings) -> Result<Self, ChannelError> {
        let routes = config.alerts.iter().map(|alert| {
            let channels = alert.channels.iter().map(|(Route { key, .. }, channel)| (key.clone(), channel.clone()));
            (alert.definition.name.clone(), channels.collect())
        });
        let routes: HashMap<String, HashMap<String, ChannelConfig>> = routes.collect();
        let sends_mails = routes.values().flat_map(HashMap::values).any(|channel| channel.kind() == ChannelKind::Email);
        Ok(Self {
            routes,
            settings: settings.clone(),
            http: http::client()?,
            mailer: sends_mails.then(|| Mailer::new(settings.smtp.as_ref())),
            standing: Standing::default(),
        })
    }

    /// Makes one attempt, within [`SEND_TIMEOUT`].
    pub async fn send(&self, claim: &Claim, payload: &Payload) -> Sent {
        let routes = self.routes.get(&claim.alert_name);
        let Some(channel) = routes.and_then(|routes| routes.get(&claim.route_key)) else {
            // The configuration may be on its way to this process, so this is no reason to give up.
            return Sent::not_delivered(format!(
                "the configuration of this notifier has no route `{}` for the alert",
                claim.route_key
            ));
        };
        let sent = match channel {
            ChannelConfig::Email(email) => match &self.mailer {
                Some(Ok(mailer)) => mailer.send(email, claim, payload).await,
                Some(Err(error)) => Sent::not_delivered(format!("no mail can be sent: {error}")),
                None => Sent::not_delivered("no mail can be sent"),
            },
            ChannelConfig::Slack(slack) => slack::send(&self.http, slack, &self.settings, claim, payload).await,
            ChannelConfig::Webhook(webhook) => webhook::send(&self.http, webhook, &self.settings, claim, payload).await,
        };
        self.standing.note(channel.kind(), &claim.alert_name, &claim.route_key, &sent);
        sent
    }

    /// How each kind of channel is: what its settings lack, or else how the last attempts at its routes have ended.
    pub fn check(&self) -> Check {
        let check = |kind: ChannelKind| {
            let routes = self.of_kind(kind).count();
            let check = if routes == 0 {
                Check::not_configured("no alert notifies anybody this way")
            } else if let Some(lack) = self.of_kind(kind).find_map(|channel| self.lack(channel)) {
                Check::degraded(lack)
            } else {
                self.standing.check(kind, routes)
            };
            (kind.as_str().to_owned(), check)
        };
        Check::of_channels(ChannelKind::ALL.map(check).into_iter().collect::<BTreeMap<_, _>>())
    }

    fn of_kind(&self, kind: ChannelKind) -> impl Iterator<Item = &ChannelConfig> {
        self.routes.values().flat_map(HashMap::values).filter(move |channel| channel.kind() == kind)
    }

    /// The first thing that keeps this process from sending to `channel`.
    fn lack(&self, channel: &ChannelConfig) -> Option<String> {
        if let (ChannelConfig::Email(_), Some(Err(error))) = (channel, &self.mailer) {
            return Some(error.to_string());
        }
        let unresolved = || channel.unresolved_settings().into_iter().find_map(|setting| setting.resolve().err());
        missing(channel, &self.settings).map(str::to_owned).or_else(|| unresolved().map(|error| error.to_string()))
    }
}

/// What entries of `config` leave to `settings` and is not there, for `validate`: whoever validates need not be the one
/// who sends.
pub fn left_to_the_environment(config: &Config, settings: &ChannelSettings) -> BTreeSet<&'static str> {
    let channels = config.alerts.iter().flat_map(|alert| &alert.channels);
    channels.filter_map(|(_, channel)| missing(channel, settings)).collect()
}

fn missing(channel: &ChannelConfig, settings: &ChannelSettings) -> Option<&'static str> {
    match channel {
        ChannelConfig::Email(_) if settings.smtp.is_none() => {
            Some("SMTP_HOST is not set, and an entry of `notify` sends mails")
        }
        ChannelConfig::Slack(slack) if slack.webhook_url.is_none() && settings.slack_webhook_url.is_none() => {
            Some("SLACK_WEBHOOK_URL is not set, and an entry of `notify` has no `webhook_url`")
        }
        ChannelConfig::Webhook(webhook) if webhook.url.is_none() && settings.webhook_url.is_none() => {
            Some("WEBHOOK_URL is not set, and an entry of `notify` has no `url`")
        }
        _ => None,
    }
}
