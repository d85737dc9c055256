//! The section `channels`: channels that alerts refer to by name, with limits and a channel to fall back on.
//!
//! Input: the section. Output: [`Channels`] by name. A channel that has something wrong with it is kept by name without
//! its settings, so that the alerts that use it are not reproached with it too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::channel::{Channel, ChannelLimits, Rate};
use super::channel_entry::{Channels, check_fallback, read_fallback, read_settings};
use super::keys;
use super::raw::Place;
use super::section::{Item, Reader, Section};
use crate::alert::ChannelName;

/// The most attempts that one notifier may be allowed to have under way at one channel.
const MOST_AT_ONCE: u16 = 1_024;
/// The most messages that a rate may name.
const MOST_MESSAGES: u32 = 1_000_000;

/// Reads the sections, of which each file may have one.
pub(super) fn read(reader: &mut Reader<'_>, sections: &[Item<'_>]) -> Channels {
    let mut channels = Channels::new();
    let mut fallbacks = BTreeMap::new();
    for (entry, item) in reader.named_items_of(sections) {
        let Ok(name) = ChannelName::try_from(entry.key.clone()) else {
            let help = "use 1 to 64 letters, digits, `_` or `-`";
            reader.problem(entry.place, &item.path, "not a channel's name", help);
            continue;
        };
        if let Some(fallback) = item.peek("fallback") {
            fallbacks.insert(name.clone(), (fallback.node.place, fallback.path));
        }
        channels.insert(name, read_channel(reader, &item).map(Arc::new));
    }
    for channel in channels.values().flatten() {
        let Some(fallback) = &channel.fallback else { continue };
        if let Some((place, path)) = fallbacks.iter().find_map(|(name, at)| {
            (channels.get(name).and_then(Option::as_ref).is_some_and(|named| Arc::ptr_eq(named, channel))).then_some(at)
        }) {
            check_fallback(reader, fallback, (*place, path), &channels);
        }
    }
    refuse_circles(reader, &channels, &fallbacks);
    channels
}

fn read_channel(reader: &mut Reader<'_>, item: &Item<'_>) -> Option<Channel> {
    let (section, config) = read_settings(reader, item, keys::LIMITS);
    let limits = section.as_ref().map(|section| read_limits(reader, section));
    let fallback = section.and_then(|section| read_fallback(reader, &section));
    Some(Channel { config: config?, limits: limits?, fallback })
}

fn read_limits(reader: &mut Reader<'_>, section: &Section<'_>) -> ChannelLimits {
    ChannelLimits {
        max_concurrency: section.get("max_concurrency").and_then(|item| {
            let text = reader.scalar(&item, "a whole number")?;
            let count = text.trim().parse().ok().filter(|count| (1..=MOST_AT_ONCE).contains(count));
            if count.is_none() {
                let message = format!("not a whole number from 1 to {MOST_AT_ONCE}");
                reader.problem(item.node.place, &item.path, message, "");
            }
            count
        }),
        rate: section.get("rate").and_then(|item| {
            let text = reader.scalar(&item, "a rate such as `30/1m`")?;
            let rate = parse_rate(&text);
            if rate.is_none() {
                let help = "write `30/1m`: so many messages, in at least one second and at most one day";
                reader.problem(item.node.place, &item.path, "not a rate", help);
            }
            rate
        }),
    }
}

/// `30/1m`, `100/h`.
fn parse_rate(text: &str) -> Option<Rate> {
    let (messages, per) = text.split_once('/')?;
    let per = per.trim();
    let per = if per.starts_with(|c: char| c.is_ascii_digit()) { per.to_owned() } else { format!("1{per}") };
    let (second, day) = (std::time::Duration::from_secs(1), std::time::Duration::from_secs(86_400));
    Some(Rate {
        messages: messages.trim().parse().ok().filter(|count| (1..=MOST_MESSAGES).contains(count))?,
        per: humantime::parse_duration(&per).ok().filter(|per| (second..=day).contains(per))?,
    })
}

/// A notification that nobody takes must come to an end.
fn refuse_circles(reader: &mut Reader<'_>, channels: &Channels, places: &BTreeMap<ChannelName, (Place, String)>) {
    let fallback_of = |name: &str| {
        let channel = channels.iter().find(|(known, _)| known.as_str() == name)?.1.as_ref()?;
        channel.fallback.as_deref()
    };
    for (name, (place, path)) in places {
        let (mut seen, mut next) = (BTreeSet::new(), fallback_of(name.as_str()));
        while let Some(step) = next.filter(|step| seen.insert(*step)) {
            if step == name.as_str() {
                let message = format!("`{name}` falls back on itself in the end");
                reader.problem(*place, path, message, "a fallback must lead to a channel that has none");
                break;
            }
            next = fallback_of(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{ChannelConfig, Config, ConfigProblem, load_str};
    use super::*;

    fn load(channels: &str, notify: &str) -> Result<Config, Vec<ConfigProblem>> {
        let text = format!(
            "database: {{url: 'sqlite:///t.db'}}\nchannels:\n{channels}alerts:\n- {{name: a, query: q, schedule: '@daily', notify: {notify}}}\n"
        );
        load_str(&text, "alerts.yaml", &|_| None).map_err(|errors| errors.0)
    }

    const OPS: &str = "  ops: {channel: webhook, url: 'https://h', rate: 30/m, max_concurrency: 2, fallback: boss}\n  boss: {channel: email, recipients: [b@x]}\n";

    #[test]
    fn an_alert_refers_to_a_channel_by_name_and_gets_it_whole() {
        let config = load(OPS, "[ops, {channel: slack, fallback: boss}]").unwrap();
        let [(named, ops), (_, inline)] = config.alerts[0].channels.as_slice() else { panic!("{config:?}") };
        assert_eq!(named.key, "ops");
        assert!(matches!(ops.config, ChannelConfig::Webhook(_)));
        assert_eq!(ops.limits.max_concurrency, Some(2));
        assert_eq!(ops.limits.rate, Some(Rate { messages: 30, per: Duration::from_secs(60) }));
        assert_eq!((ops.fallback.as_deref(), inline.fallback.as_deref()), (Some("boss"), Some("boss")));
        assert_eq!(config.channels.keys().map(ChannelName::as_str).collect::<Vec<_>>(), ["boss", "ops"]);
    }

    #[test]
    fn a_rate_is_messages_in_a_time() {
        for (text, rate) in [
            ("30/1m", Some((30, 60))),
            (" 5 / h ", Some((5, 3_600))),
            ("1/90s", Some((1, 90))),
            ("0/1m", None),
            ("5/100ms", None),
            ("5/2d", None),
            ("30", None),
            ("30/", None),
            ("-1/m", None),
        ] {
            let read = parse_rate(text).map(|rate| (rate.messages, rate.per.as_secs()));
            assert_eq!(read, rate, "{text}");
        }
    }

    #[test]
    fn every_mistake_has_its_place() {
        for (channels, notify, line, path, said) in [
            ("  a b: {channel: slack}\n", "[]", 3, "channels.a…", "not a channel's name"),
            (
                "  ops: {channel: slack, fallback: nobody}\n",
                "[]",
                3,
                "channels.ops.fallback",
                "there is no channel `nobody`",
            ),
            ("  ops: {channel: slack, fallback: ops}\n", "[]", 3, "channels.ops.fallback", "falls back on itself"),
            (
                "  a: {channel: slack, fallback: b}\n  b: {channel: slack, fallback: a}\n",
                "[]",
                4,
                "channels.b.fallback",
                "falls back on itself",
            ),
            ("  ops: {channel: slack, rate: often}\n", "[]", 3, "channels.ops.rate", "not a rate"),
            (
                "  ops: {channel: slack, max_concurrency: 0}\n",
                "[]",
                3,
                "channels.ops.max_concurrency",
                "from 1 to 1024",
            ),
            ("  ops: {channel: slack}\n", "[opps]", 5, "alerts[0].notify[0]", "did you mean `ops`?"),
            ("  ops: {channel: slack}\n", "[ops, ops]", 5, "alerts[0].notify[1]", "is already there"),
            ("  ops: {channel: slack}\n", "[{channel: ops}]", 5, "alerts[0].notify[0].channel", "write `- ops`"),
            (
                "  ops: {channel: slack}\n",
                "[{channel: slack, rate: 1/m}]",
                5,
                "alerts[0].notify[0].rate",
                "belongs to a channel of `channels`",
            ),
        ] {
            let problems = load(channels, notify).expect_err(channels);
            let fits = |problem: &ConfigProblem| {
                problem.line == line && problem.path == path && problem.to_string().contains(said)
            };
            assert!(problems.iter().any(fits), "{channels}{notify}\n{problems:?}");
        }
    }

    #[test]
    fn an_alert_is_not_reproached_with_what_is_wrong_with_its_channel() {
        let problems = load("  ops: {channel: slack, webhook_url: 7}\n", "[ops]").unwrap_err();
        assert_eq!(
            problems.iter().map(|problem| problem.path.as_str()).collect::<Vec<_>>(),
            ["channels.ops.webhook_url"]
        );
    }
}
