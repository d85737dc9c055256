//! The settings of a channel: what one entry of `notify` says, validated. Read by [`super::notify`], used by notifiers
//! and by nobody else.

use std::collections::BTreeMap;
use std::time::Duration;

use super::interpolate::Setting;
use super::template::Template;
use crate::alert::ChannelKind;

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// How it is sent to.
    pub config: ChannelConfig,
    /// How much of it at once; nothing is said of an entry of `notify`.
    pub limits: ChannelLimits,
    /// The name of the channel that gets what this one did not take; it is one of `channels`, and no circle comes of it.
    pub fallback: Option<String>,
}

impl From<ChannelConfig> for Channel {
    /// A channel with these settings, without limits and without another one behind it.
    fn from(config: ChannelConfig) -> Self {
        Self { config, limits: ChannelLimits::default(), fallback: None }
    }
}

/// How much may be sent to a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelLimits {
    /// How many attempts one notifier may have under way at once, at least 1.
    pub max_concurrency: Option<u16>,
    /// How many messages it may get, from all notifiers together.
    pub rate: Option<Rate>,
}

/// So many messages in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub messages: u32,
    /// At least a second.
    pub per: Duration,
}

/// The settings of one entry of `notify`, or of `channels`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelConfig {
    /// A mail.
    Email(EmailConfig),
    /// A message to Slack.
    Slack(SlackConfig),
    /// An HTTP request.
    Webhook(WebhookConfig),
}

impl ChannelConfig {
    /// What kind of channel it is.
    pub fn kind(&self) -> ChannelKind {
        match self {
            Self::Email(_) => ChannelKind::Email,
            Self::Slack(_) => ChannelKind::Slack,
            Self::Webhook(_) => ChannelKind::Webhook,
        }
    }

    /// Everything in it that the sending process has to resolve.
    pub fn unresolved_settings(&self) -> Vec<&Setting> {
        match self {
            Self::Email(email) => email.recipients.iter().collect(),
            Self::Slack(slack) => slack.webhook_url.iter().collect(),
            Self::Webhook(webhook) => {
                webhook.url.iter().chain(webhook.headers.values()).chain(&webhook.secret).collect()
            }
        }
    }
}

/// The settings of a mail. The mail server is a setting of the notifier's environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmailConfig {
    /// Who gets it, unresolved; never empty. A variable may hold several addresses, separated by commas.
    pub recipients: Vec<Setting>,
    /// What stands in the subject; a standard one if none.
    pub subject: Option<Template>,
    /// The text; a standard one if none.
    pub body: Option<Template>,
}

/// The settings of a message to Slack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlackConfig {
    /// The incoming webhook, unresolved; the notifier's `SLACK_WEBHOOK_URL` if none.
    pub webhook_url: Option<Setting>,
    /// The name that the message appears under, if not the webhook's own.
    pub username: Option<String>,
    /// Where it goes, if not to the webhook's own place.
    pub slack_channel: Option<String>,
    /// What stands between the headline and the last line; the standard text if none.
    pub body: Option<Template>,
}

/// The settings of a webhook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookConfig {
    /// Where it goes, unresolved; to the notifier's `WEBHOOK_URL` if none.
    pub url: Option<Setting>,
    /// How it is sent.
    pub method: WebhookMethod,
    /// Additional headers, unresolved; the names are valid, and unique whatever their case.
    pub headers: BTreeMap<String, Setting>,
    /// What the request is signed with, unresolved; it is not signed if none.
    pub secret: Option<Setting>,
    /// The request's body; the standard one if none.
    pub body: Option<Template>,
}

/// The methods that a webhook may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WebhookMethod {
    /// `POST`, the default.
    #[default]
    Post,
    /// `GET`, which sends no body.
    Get,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
}

impl WebhookMethod {
    /// The name in HTTP.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
        }
    }
}
