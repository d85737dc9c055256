//! One entry of `notify` with `channel: slack`, and the name of its route.

use serde::Serialize;

use super::channel::SlackConfig;
use super::interpolate::Setting;
use super::section::{Item, Reader, Section};
use super::template::Escape;
use super::text;
use super::webhook::{optional, read_url};

/// Reads the settings; none if something is wrong with them.
pub(super) fn read(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<SlackConfig> {
    let webhook_url = optional(reader.setting_or_file(section, "webhook_url", read_url));
    let username = read_name(reader, section.get("username"));
    let slack_channel = read_name(reader, section.get("slack_channel"));
    let body = text::body(reader, section, Escape::Slack);
    Some(SlackConfig { webhook_url: webhook_url?, username: username?, slack_channel: slack_channel?, body: body? })
}

/// A text that may be missing, and may not be empty.
fn read_name(reader: &mut Reader<'_>, item: Option<Item<'_>>) -> Option<Option<String>> {
    let Some(item) = item else { return Some(None) };
    let text = reader.text(&item)?;
    if text.trim().is_empty() {
        reader.problem(item.node.place, &item.path, "is empty", "leave it out for the webhook's own");
        return None;
    }
    Some(Some(text.trim().to_owned()))
}

/// What the name of the route is made of.
pub(super) fn public_part(slack: &SlackConfig) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct Public<'a> {
        channel: &'static str,
        webhook_url: Option<String>,
        slack_channel: &'a Option<String>,
    }
    serde_json::to_string(&Public {
        channel: "slack",
        webhook_url: slack.webhook_url.as_ref().and_then(Setting::public_form),
        slack_channel: &slack.slack_channel,
    })
}
