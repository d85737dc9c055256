//! What an entry of `notify` and one of `channels` have in common: the kind of channel, its settings, and the name of the
//! channel to fall back on.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::channel::{Channel, ChannelConfig};
use super::keys::{self, shown, suggestion};
use super::raw::Place;
use super::section::{Item, Reader, Section};
use super::{email, slack, webhook};
use crate::alert::{ChannelKind, ChannelName};

/// The channels by name; none where something is wrong with one.
pub(super) type Channels = BTreeMap<ChannelName, Option<Arc<Channel>>>;

/// The settings at `item`, which may have `more` keys, and the section they were read from. The channel decides which
/// other keys there may be, so it is looked at first.
pub(super) fn read_settings<'n>(
    reader: &mut Reader<'_>,
    item: &Item<'n>,
    more: &[&str],
) -> (Option<Section<'n>>, Option<ChannelConfig>) {
    let Some(kind) = item.peek("channel") else {
        let section = reader.section(item, keys::ANY_CHANNEL);
        let names = keys::list(&ChannelKind::ALL.map(ChannelKind::as_str));
        if let Some(section) = section {
            reader.required(&section, "channel", &format!("write `channel:` and one of {names}"));
        }
        return (None, None);
    };
    let Some(kind) = read_kind(reader, &kind) else { return (None, None) };
    let known = match kind {
        ChannelKind::Email => keys::EMAIL,
        ChannelKind::Slack => keys::SLACK,
        ChannelKind::Webhook => keys::WEBHOOK,
    };
    let Some(section) = reader.section_with(item, known, more) else { return (None, None) };
    let config = match kind {
        ChannelKind::Email => email::read(reader, &section).map(ChannelConfig::Email),
        ChannelKind::Slack => slack::read(reader, &section).map(ChannelConfig::Slack),
        ChannelKind::Webhook => webhook::read(reader, &section).map(ChannelConfig::Webhook),
    };
    (Some(section), config)
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

/// The name at `fallback`, whatever it is the name of.
pub(super) fn read_fallback(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<String> {
    let item = section.get("fallback")?;
    Some(reader.text(&item)?.trim().to_owned())
}

/// Notes it if there is no channel called `name`.
pub(super) fn check_fallback(reader: &mut Reader<'_>, name: &str, (place, path): (Place, &str), channels: &Channels) {
    let names: Vec<&str> = channels.keys().map(ChannelName::as_str).collect();
    if !names.contains(&name) {
        let help = if names.is_empty() { "name one in `channels:` first".to_owned() } else { suggestion(name, &names) };
        reader.missing(place, path, format!("there is no channel `{}` in `channels`", shown(name)), help);
    }
}
