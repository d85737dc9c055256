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
mod table;
mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlsentinel_common::alert::ChannelKind;
use sqlsentinel_common::config::{Channel, ChannelConfig, Config, Rate};
use sqlsentinel_common::health::Check;
use sqlsentinel_common::settings::ChannelSettings;
use sqlsentinel_common::store::outbox::{Claim, Destination, StandIn};

use self::standing::{OpenCircuit, Standing};
use self::table::Table;
use crate::circuit::Turn;
use crate::render::Payload;
use crate::render::digest::Digest;
use crate::retry::{FALLBACK_AFTER, Sent, patience};

/// The longest that one attempt takes.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// How many attempts one notifier may have under way at a channel, if its settings say nothing: a receiver that hangs
/// keeps its own notifications waiting and nobody else's.
pub const ATTEMPTS_AT_ONCE: usize = 8;

/// A client that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the HTTP client: {0}")]
pub struct ChannelError(#[from] reqwest::Error);

/// Every route that this process can send to.
#[derive(Debug)]
pub struct Channels {
    /// Replaced as a whole; an attempt goes on with what it has begun with.
    table: Mutex<Arc<Table>>,
    settings: ChannelSettings,
    http: reqwest::Client,
    standing: Standing,
}

/// A destination that is not to be claimed for like all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Special {
    /// Where it is.
    pub destination: Destination,
    /// What its circuit allows.
    pub turn: Turn,
    /// How many attempts may be under way at once.
    pub at_once: usize,
    /// How many messages it may get.
    pub rate: Option<Rate>,
    /// How long something has to have been tried, or due, to be given up while no attempts are made.
    pub given_up_after: Duration,
    /// For how long every attempt has failed.
    pub failing_for: Duration,
}

/// What one message tells.
#[derive(Clone, Copy)]
enum News<'a> {
    One(&'a Claim, &'a Payload),
    Several(&'a Digest<'a>),
}

impl News<'_> {
    /// The message's name, which a receiver may know it by when it comes again.
    fn key(self) -> String {
        match self {
            Self::One(claim, _) => claim.notification_id.to_string(),
            Self::Several(digest) => digest.id.to_string(),
        }
    }

    fn possible_duplicate(self) -> bool {
        match self {
            Self::One(claim, _) => claim.possible_duplicate,
            Self::Several(digest) => digest.possible_duplicate(),
        }
    }
}

impl Channels {
    /// The routes of `config`, with what they fall back on. A crypto provider must have been installed.
    pub fn new(config: &Config, settings: &ChannelSettings) -> Result<Self, ChannelError> {
        Ok(Self {
            table: Mutex::new(Arc::new(Table::new(config, settings))),
            settings: settings.clone(),
            http: http::client()?,
            standing: Standing::default(),
        })
    }

    /// From now on, the routes of `config`. Attempts that are under way end as they have begun. What is not what it was
    /// is tried as if it had never failed.
    pub fn replace(&self, config: &Config) {
        let table = Arc::new(Table::new(config, &self.settings));
        let before = std::mem::replace(&mut *self.lock(), table.clone());
        self.standing.retain(|destination| before.get(destination) == table.get(destination));
    }

    /// Makes one attempt at one notification, within [`SEND_TIMEOUT`].
    pub async fn send(&self, claim: &Claim, payload: &Payload) -> Sent {
        self.tell(claim, News::One(claim, payload)).await
    }

    /// Makes one attempt to tell several notifications of one channel by one message. A digest that is refused condemns
    /// none of them: each may be taken by itself, or with others.
    pub async fn send_digest(&self, digest: &Digest<'_>) -> Sent {
        let Some((claim, _)) = digest.notices.first() else { return Sent::Delivered };
        match self.tell(claim, News::Several(digest)).await {
            Sent::Permanent(error) => Sent::not_delivered(format!("the digest was refused: {error}")),
            sent => sent,
        }
    }

    async fn tell(&self, claim: &Claim, news: News<'_>) -> Sent {
        let table = self.table();
        let Some((destination, channel)) = table.find(&claim.alert_name, &claim.route_key) else {
            // The configuration may be on its way to this process, so this is no reason to give up.
            return Sent::not_delivered(format!(
                "the configuration of this notifier has no route `{}` for the alert",
                claim.route_key
            ));
        };
        let sent = match &channel.config {
            ChannelConfig::Email(email) => match (&table.mailer, news) {
                (Some(Ok(mailer)), News::One(claim, payload)) => mailer.send(email, claim, payload).await,
                (Some(Ok(mailer)), News::Several(digest)) => mailer.send_digest(email, claim, digest).await,
                (Some(Err(error)), _) => Sent::not_delivered(format!("no mail can be sent: {error}")),
                (None, _) => Sent::not_delivered("no mail can be sent"),
            },
            ChannelConfig::Slack(slack) => slack::send(&self.http, slack, &self.settings, news).await,
            ChannelConfig::Webhook(webhook) => webhook::send(&self.http, webhook, &self.settings, news).await,
        };
        self.standing.note(&destination, &sent, rand::random());
        sent
    }

    /// Who is to be told if the route of `claim` gives it up.
    pub fn stand_in(&self, claim: &Claim) -> Option<StandIn> {
        let table = self.table();
        let (_, channel) = table.find(&claim.alert_name, &claim.route_key)?;
        let name = channel.fallback.as_ref()?;
        let (_, stand_in) = table.named().find(|(known, _)| *known == name)?;
        Some(StandIn { route_key: name.clone(), channel: stand_in.config.kind().as_str() })
    }

    /// The destinations that have limits of their own, and those that have been failing.
    pub fn special(&self) -> Vec<Special> {
        let table = self.table();
        let mut open: BTreeMap<Destination, OpenCircuit> =
            self.standing.open().into_iter().map(|open| (open.destination.clone(), open)).collect();
        let mut special = Vec::new();
        let limited = table
            .named()
            .filter(|(_, channel)| channel.limits.max_concurrency.is_some() || channel.limits.rate.is_some());
        for (name, channel) in limited {
            let destination = Destination::Named(name.clone());
            let circuit = open.remove(&destination);
            special.push(as_special(destination, channel, circuit));
        }
        special.extend(open.into_iter().filter_map(|(destination, circuit)| {
            let channel = table.get(&destination)?;
            Some(as_special(destination, channel, Some(circuit)))
        }));
        special
    }

    /// How many circuits are open, for every label that there is: the names of channels, and the kinds for the entries
    /// of alerts.
    pub fn open_circuits(&self) -> BTreeMap<String, i64> {
        let table = self.table();
        let mut open: BTreeMap<String, i64> =
            ChannelKind::ALL.iter().map(|kind| (kind.as_str().to_owned(), 0)).collect();
        for (name, _) in table.named() {
            open.entry(name.clone()).or_default();
        }
        for OpenCircuit { destination, .. } in self.standing.open() {
            let Some(channel) = table.get(&destination) else { continue };
            let label = match destination {
                Destination::Named(name) => name,
                Destination::Inline { .. } => channel.config.kind().as_str().to_owned(),
            };
            *open.entry(label).or_default() += 1;
        }
        open
    }

    /// How each kind of channel is, and each channel that has a name: what its settings lack, or else how the last
    /// attempts have ended. A name that is a kind's too is shown as `channel <name>`.
    pub fn check(&self) -> Check {
        let table = self.table();
        let mut checks = BTreeMap::new();
        for kind in ChannelKind::ALL {
            let of_kind = || table.all().filter(|(_, channel)| channel.config.kind() == kind);
            let destinations: Vec<Destination> = of_kind().map(|(destination, _)| destination).collect();
            let check = if destinations.is_empty() {
                Check::not_configured("no alert notifies anybody this way")
            } else if let Some(lack) = of_kind().find_map(|(_, channel)| self.lack(&table, channel)) {
                Check::degraded(lack)
            } else {
                self.standing.check_all(&destinations)
            };
            checks.insert(kind.as_str().to_owned(), check);
        }
        for (name, channel) in table.named() {
            let check = match self.lack(&table, channel) {
                Some(lack) => Check::degraded(lack),
                None => self.standing.check(&Destination::Named(name.clone())),
            };
            let taken = checks.contains_key(name);
            checks.insert(if taken { format!("channel {name}") } else { name.clone() }, check);
        }
        Check::of_channels(checks)
    }

    /// The first thing that keeps this process from sending to `channel`.
    fn lack(&self, table: &Table, channel: &Channel) -> Option<String> {
        let config = &channel.config;
        if let (ChannelConfig::Email(_), Some(Err(error))) = (config, &table.mailer) {
            return Some(error.to_string());
        }
        let unresolved = || config.unresolved_settings().into_iter().find_map(|setting| setting.resolve().err());
        missing(config, &self.settings).map(str::to_owned).or_else(|| unresolved().map(|error| error.to_string()))
    }

    fn table(&self) -> Arc<Table> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Table>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn as_special(destination: Destination, channel: &Channel, circuit: Option<OpenCircuit>) -> Special {
    let (turn, failing_for) = circuit.map_or((Turn::Closed, Duration::ZERO), |open| (open.turn, open.failing_for));
    let patience = patience(channel.fallback.is_some());
    Special {
        destination,
        turn,
        at_once: channel.limits.max_concurrency.map_or(ATTEMPTS_AT_ONCE, usize::from),
        rate: channel.limits.rate,
        // Where the channel has failed for that long, what is new need not wait as long again for its stand-in.
        given_up_after: if patience == FALLBACK_AFTER && failing_for >= patience { Duration::ZERO } else { patience },
        failing_for,
    }
}

/// What entries of `config` leave to `settings` and is not there, for `validate`: whoever validates need not be the one
/// who sends.
pub fn left_to_the_environment(config: &Config, settings: &ChannelSettings) -> BTreeSet<&'static str> {
    let entries = config.alerts.iter().flat_map(|alert| &alert.channels).map(|(_, channel)| channel);
    // One of `channels` may be told as another one's fallback alone.
    entries.chain(config.channels.values()).filter_map(|channel| missing(&channel.config, settings)).collect()
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
