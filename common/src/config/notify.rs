//! The entries of `notify`: which channel each is for, its settings, and the name of its route.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::channel::{Channel, ChannelConfig, ChannelLimits};
use super::channel_entry::{Channels, check_fallback, read_fallback, read_settings};
use super::keys::{self, shown, suggestion};
use super::raw::Value;
use super::section::{Item, Reader};
use super::{email, slack, webhook};
use crate::alert::{ChannelKind, ChannelName, Route, hex};

/// Where an alert's notifications go, in the file's order.
pub(super) type Routes = Vec<(Route, Arc<Channel>)>;

/// Reads the entries at `item`; those that something is wrong with are left out. An entry that is a text is the name of
/// one of `channels`.
pub(super) fn read(reader: &mut Reader<'_>, item: &Item<'_>, channels: &Channels) -> Routes {
    let mut routes = Routes::new();
    for item in reader.list(item) {
        if let Value::Text(_) = item.node.value {
            routes.extend(read_reference(reader, &item, channels, &routes));
            continue;
        }
        let Some(channel) = read_entry(reader, &item, channels) else { continue };
        let Some(base) = reader.accept(&item, route_key(&channel.config), "") else { continue };
        let taken = |key: &str| routes.iter().any(|(route, _)| route.key == key);
        let mut key = base.clone();
        let mut number = 2;
        while taken(&key) {
            key = format!("{base}-{number}");
            number += 1;
        }
        routes.push((Route { key, channel: channel.config.kind() }, Arc::new(channel)));
    }
    routes
}

fn read_reference(
    reader: &mut Reader<'_>,
    item: &Item<'_>,
    channels: &Channels,
    routes: &Routes,
) -> Option<(Route, Arc<Channel>)> {
    let text = reader.text(item)?;
    let (place, name) = (item.node.place, text.trim());
    let Some((_, channel)) = channels.iter().find(|(known, _)| known.as_str() == name) else {
        let names: Vec<&str> = channels.keys().map(ChannelName::as_str).collect();
        let help = if ChannelKind::ALL.iter().any(|kind| kind.as_str() == name) {
            format!("write `- channel: {name}`, or name a channel in `channels:`")
        } else if names.is_empty() {
            "name it in `channels:`, or write `- channel: email`, `slack` or `webhook`".to_owned()
        } else {
            suggestion(name, &names)
        };
        reader.missing(place, &item.path, format!("there is no channel `{}` in `channels`", shown(name)), help);
        return None;
    };
    if routes.iter().any(|(route, _)| route.key == name) {
        reader.problem(
            place,
            &item.path,
            format!("the channel `{}` is already there", shown(name)),
            "remove one of them",
        );
        return None;
    }
    let channel = channel.clone()?;
    Some((Route { key: name.to_owned(), channel: channel.config.kind() }, channel))
}

fn read_entry(reader: &mut Reader<'_>, item: &Item<'_>, channels: &Channels) -> Option<Channel> {
    if let Some(kind) = item.peek("channel")
        && let Value::Text(text) = &kind.node.value
        && channels.keys().any(|name| name.as_str() == text)
        && !ChannelKind::ALL.iter().any(|kind| kind.as_str() == text)
    {
        let message = format!("`{}` is one of `channels`, not a kind of channel", shown(text));
        reader.problem(kind.node.place, &kind.path, message, format!("write `- {}` to use it", shown(text)));
        return None;
    }
    for key in keys::LIMITS {
        if let Some(limit) = item.peek(key) {
            let message = format!("`{key}` belongs to a channel of `channels`, which alerts share");
            reader.problem(limit.node.place, &limit.path, message, "name the channel there, and use its name here");
            return None;
        }
    }
    let (section, config) = read_settings(reader, item, &[]);
    let fallback = section.and_then(|section| read_fallback(reader, &section));
    if let (Some(name), Some(at)) = (&fallback, item.peek("fallback")) {
        check_fallback(reader, name, (at.node.place, &at.path), channels);
    }
    Some(Channel { config: config?, limits: ChannelLimits::default(), fallback })
}

/// The name of the route: the same as long as the entry's public part is the same, and nothing of it can be undone
/// to a secret, because literals in secret positions don't enter.
fn route_key(channel: &ChannelConfig) -> Result<String, serde_json::Error> {
    let public = match channel {
        ChannelConfig::Email(email) => email::public_part(email)?,
        ChannelConfig::Slack(slack) => slack::public_part(slack)?,
        ChannelConfig::Webhook(webhook) => webhook::public_part(webhook)?,
    };
    let digest = Sha256::digest(public.as_bytes());
    Ok(format!("{}-{}", channel.kind(), hex(&digest[..8])))
}

#[cfg(test)]
mod tests {
    use super::super::{Config, ConfigProblem, EmailConfig, Setting, SlackConfig, Template, load_str};
    use super::*;

    fn environment(name: &str) -> Option<String> {
        (name == "TEAM").then(|| "Ops".to_owned())
    }

    /// An alert with one entry of `notify`, whose lines are `entry`.
    fn load(entry: &str) -> Result<Config, Vec<ConfigProblem>> {
        let text = format!(
            "database: {{url: 'sqlite:///t.db'}}\nalerts:\n- name: a\n  query: q\n  schedule: '@daily'\n  notify:\n{}",
            entry
                .lines()
                .enumerate()
                .map(|(n, line)| format!("  {} {line}\n", if n == 0 { '-' } else { ' ' }))
                .collect::<String>()
        );
        load_str(&text, "alerts.yaml", &environment).map_err(|errors| errors.0)
    }

    fn channel(entry: &str) -> (Route, ChannelConfig) {
        let config = load(entry).unwrap_or_else(|problems| panic!("{entry}\n{problems:?}"));
        let (route, channel) = &config.alerts[0].channels[0];
        (route.clone(), channel.config.clone())
    }

    #[test]
    fn a_mail_has_recipients_and_perhaps_a_subject() {
        let (route, read) = channel(
            "channel: email\nrecipients: [ops@example.com, 'Boss <boss@example.com>', \"${ON_CALL}\"]\nsubject: '$TEAM: {alert_name}'",
        );
        let ChannelConfig::Email(EmailConfig { recipients, subject, body: None }) = read else { panic!("{read:?}") };
        assert_eq!(route.channel, ChannelKind::Email);
        let expected = ["ops@example.com", "Boss <boss@example.com>", "${ON_CALL}"];
        assert_eq!(recipients, expected.map(|text| Setting::parse(text).unwrap()));
        assert_eq!(subject, Template::subject("Ops: {alert_name}").ok());
    }

    #[test]
    fn a_message_to_slack_needs_nothing() {
        let (route, read) = channel("channel: slack");
        assert_eq!(route.channel, ChannelKind::Slack);
        assert_eq!(read, ChannelConfig::Slack(SlackConfig::default()));
        let (_, read) = channel("channel: slack\nwebhook_url: ${HOOK}\nusername: $TEAM\nslack_channel: '#ops'");
        let ChannelConfig::Slack(slack) = read else { panic!("{read:?}") };
        assert_eq!(slack.webhook_url, Setting::parse("${HOOK}").ok());
        assert_eq!((slack.username.as_deref(), slack.slack_channel.as_deref()), (Some("Ops"), Some("#ops")));
    }

    #[test]
    fn a_webhook_may_leave_its_url_to_the_environment_and_be_signed() {
        let (_, read) = channel("channel: webhook\nsecret: ${KEY}");
        let ChannelConfig::Webhook(webhook) = read else { panic!("{read:?}") };
        assert_eq!((webhook.url, webhook.secret), (None, Setting::parse("${KEY}").ok()));
    }

    #[test]
    fn every_mistake_has_its_place_and_shows_no_secret() {
        for (entry, line, column, path, said) in [
            (
                "recipients: [a@b]",
                7,
                5,
                "channel",
                "`channel` is missing\n  help: write `channel:` and one of `email`, `slack`, `webhook`",
            ),
            ("channel: emial", 7, 14, "channel", "did you mean `email`?"),
            ("channel: email", 7, 5, "recipients", "`recipients` is missing"),
            ("channel: email\nrecipients: []", 8, 17, "recipients", "there is no recipient"),
            ("channel: email\nrecipients: a@b", 8, 17, "recipients", "expected a list"),
            ("channel: email\nrecipients: [a@b, canary]", 8, 23, "recipients[1]", "not a mail address"),
            ("channel: email\nrecipients: [\"a@b\\nBcc: canary@d\"]", 8, 18, "recipients[0]", "not a mail address"),
            ("channel: email\nrecipients: [a@b]\nsubject: ''", 9, 14, "subject", "the subject is empty"),
            ("channel: email\nrecipients: [a@b]\nsubject: \"x\\r\\nBcc: canary\"", 9, 14, "subject", "line breaks"),
            (
                "channel: email\nrecipients: [a@b]\nsubject: '{name}'",
                9,
                14,
                "subject",
                "`{name}` is nothing that can be filled in",
            ),
            ("channel: email\nrecipients: [a@b]\nsubjet: x", 9, 5, "subjet", "did you mean `subject`?"),
            ("channel: slack\nwebhook_url: canary", 8, 18, "webhook_url", "not an http or https URL"),
            ("channel: slack\nusername: ' '", 8, 15, "username", "is empty"),
            ("channel: slack\nslack_channel: [a]", 8, 20, "slack_channel", "found a list"),
            ("channel: slack\nfallback: x", 8, 15, "fallback", "there is no channel `x` in `channels`"),
            ("channel: slack\nchannel: '#ops'", 8, 5, "channel", "where a message to Slack goes is `slack_channel`"),
            ("channel: webhook\nsecret: ''", 8, 13, "secret", "is empty"),
            ("channel: webhook\nrecipients: [a@b]", 8, 5, "recipients", "unknown key `recipients`"),
        ] {
            let problems = load(entry).expect_err(entry);
            let fits = |problem: &ConfigProblem| {
                (problem.line, problem.column) == (line, column)
                    && problem.path == format!("alerts[0].notify[0].{path}")
                    && problem.to_string().contains(said)
            };
            assert!(problems.iter().any(fits), "{entry}\n{problems:?}");
            assert!(!format!("{problems:?}").contains("canary"), "{problems:?}");
        }
    }

    #[test]
    fn a_routes_key_follows_what_is_public_of_it() {
        let key = |entry: &str| channel(entry).0.key;
        // Written down because they name state in running installations: they must not change.
        assert_eq!(key("channel: email\nrecipients: [a@b]"), "email-68b56be2c878c4cf");
        assert_eq!(key("channel: slack\nwebhook_url: https://h"), "slack-2ee5ee84dd9a494e");
        assert_eq!(key("channel: email\nrecipients: [a@b]\nsubject: x"), key("channel: email\nrecipients: [a@b]"));
        assert_ne!(key("channel: email\nrecipients: [a@c]"), key("channel: email\nrecipients: [a@b]"));
        assert_eq!(key("channel: slack\nwebhook_url: https://other"), key("channel: slack\nwebhook_url: https://h"));
        assert_ne!(key("channel: slack\nwebhook_url: ${A}"), key("channel: slack\nwebhook_url: ${B}"));
        assert_eq!(
            key("channel: webhook\nurl: https://h\nsecret: one"),
            key("channel: webhook\nurl: https://h\nsecret: two")
        );
        assert_ne!(key("channel: webhook\nurl: https://h\nsecret: one"), key("channel: webhook\nurl: https://h"));
    }
}
