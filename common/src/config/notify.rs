//! The entries of `notify`: which channel each is for, its settings, and the name of its route.

use sha2::{Digest, Sha256};

use super::channel::ChannelConfig;
use super::keys::{self, shown, suggestion};
use super::section::{Item, Reader, Section};
use super::{email, slack, webhook};
use crate::alert::{ChannelKind, Route, hex};

/// Reads the entries of the alert at `section`; those that something is wrong with are left out.
pub(super) fn read(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<(Route, ChannelConfig)> {
    let mut channels: Vec<(Route, ChannelConfig)> = Vec::new();
    let items = section.get("notify").map(|item| reader.list(&item)).unwrap_or_default();
    for item in items {
        let Some(channel) = read_entry(reader, &item) else { continue };
        let Some(base) = reader.accept(&item, route_key(&channel), "") else { continue };
        let taken = |key: &str| channels.iter().any(|(route, _)| route.key == key);
        let mut key = base.clone();
        let mut number = 2;
        while taken(&key) {
            key = format!("{base}-{number}");
            number += 1;
        }
        channels.push((Route { key, channel: channel.kind() }, channel));
    }
    channels
}

/// The channel decides which other keys there may be, so it is looked at first.
fn read_entry(reader: &mut Reader<'_>, item: &Item<'_>) -> Option<ChannelConfig> {
    let kind = match item.peek("channel") {
        Some(kind) => read_kind(reader, &kind)?,
        None => {
            let section = reader.section(item, &keys::ANY_CHANNEL)?;
            let names = keys::list(&ChannelKind::ALL.map(ChannelKind::as_str));
            reader.required(&section, "channel", &format!("write `channel:` and one of {names}"))?;
            return None;
        }
    };
    match kind {
        ChannelKind::Email => {
            let section = reader.section(item, &keys::EMAIL)?;
            email::read(reader, &section).map(ChannelConfig::Email)
        }
        ChannelKind::Slack => {
            let section = reader.section(item, &keys::SLACK)?;
            slack::read(reader, &section).map(ChannelConfig::Slack)
        }
        ChannelKind::Webhook => {
            let section = reader.section(item, &keys::WEBHOOK)?;
            webhook::read(reader, &section).map(ChannelConfig::Webhook)
        }
    }
}

fn read_kind(reader: &mut Reader<'_>, item: &Item<'_>) -> Option<ChannelKind> {
    let name = reader.text(item)?;
    let kind = ChannelKind::ALL.into_iter().find(|kind| kind.as_str() == name);
    if kind.is_none() {
        let known = ChannelKind::ALL.map(ChannelKind::as_str);
        let (message, help) = if keys::LATER_CHANNELS.contains(&name.as_str()) {
            (format!("the channel `{name}` is not supported yet"), format!("use one of {} for now", keys::list(&known)))
        } else {
            (format!("unknown channel `{}`", shown(&name)), suggestion(&name, &known))
        };
        reader.problem(item.node.place, &item.path, message, help);
    }
    kind
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
    use super::super::{Config, ConfigProblem, EmailConfig, Setting, SlackConfig, load_str};
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
        load(entry).unwrap_or_else(|problems| panic!("{entry}\n{problems:?}")).alerts[0].channels[0].clone()
    }

    #[test]
    fn a_mail_has_recipients_and_perhaps_a_subject() {
        let (route, read) = channel(
            "channel: email\nrecipients: [ops@example.com, 'Boss <boss@example.com>', \"${ON_CALL}\"]\nsubject: '$TEAM: {alert_name}'",
        );
        let ChannelConfig::Email(EmailConfig { recipients, subject }) = read else { panic!("{read:?}") };
        assert_eq!(route.channel, ChannelKind::Email);
        let expected = ["ops@example.com", "Boss <boss@example.com>", "${ON_CALL}"];
        assert_eq!(recipients, expected.map(|text| Setting::parse(text).unwrap()));
        assert_eq!(
            subject.map(|subject| subject.fill(|field| field.as_str().to_uppercase())).as_deref(),
            Some("Ops: ALERT_NAME")
        );
    }

    #[test]
    fn a_message_to_slack_needs_nothing() {
        let (route, read) = channel("channel: slack");
        assert_eq!(route.channel, ChannelKind::Slack);
        assert_eq!(read, ChannelConfig::Slack(SlackConfig { webhook_url: None, username: None, slack_channel: None }));
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
            ("channel: email\nrecipients: [a@b]\ntemplate: x", 9, 5, "template", "`template` is not supported yet"),
            ("channel: slack\nwebhook_url: canary", 8, 18, "webhook_url", "not an http or https URL"),
            ("channel: slack\nusername: ' '", 8, 15, "username", "is empty"),
            ("channel: slack\nslack_channel: [a]", 8, 20, "slack_channel", "found a list"),
            ("channel: slack\nfallback: x", 8, 5, "fallback", "`fallback` is not supported yet"),
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
