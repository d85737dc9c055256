//! One entry of `notify` with `channel: webhook`, and the name of its route.

use std::collections::BTreeMap;

use serde::Serialize;
use url::Url;

use super::channel::{WebhookConfig, WebhookMethod};
use super::interpolate::Setting;
use super::keys;
use super::section::{Item, Reader, Section};

/// Reads the settings; none if something is wrong with them.
pub(super) fn read(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<WebhookConfig> {
    let url = match section.get("url") {
        Some(item) => read_url(reader, &item).map(Some),
        None => Some(None),
    };
    let method = match section.get("method") {
        Some(item) => read_method(reader, &item),
        None => Some(WebhookMethod::default()),
    };
    let headers = match section.get("headers") {
        Some(item) => read_headers(reader, &item),
        None => Some(BTreeMap::new()),
    };
    let secret = match section.get("secret") {
        Some(item) => reader.setting(&item).map(Some),
        None => Some(None),
    };
    Some(WebhookConfig { url: url?, method: method?, headers: headers?, secret: secret? })
}

/// A URL in a secret position, `http` or `https`.
pub(super) fn read_url(reader: &mut Reader<'_>, item: &Item<'_>) -> Option<Setting> {
    let setting = reader.setting(item)?;
    if let Some(literal) = setting.as_literal() {
        let usable = |url: Url| matches!(url.scheme(), "http" | "https");
        if !Url::parse(literal.trim()).is_ok_and(usable) {
            let help = "write `https://host/path`, or `${VARIABLE}`";
            reader.problem(item.node.place, &item.path, "not an http or https URL", help);
            return None;
        }
    }
    Some(setting)
}

fn read_method(reader: &mut Reader<'_>, item: &Item<'_>) -> Option<WebhookMethod> {
    let text = reader.text(item)?;
    let all = [WebhookMethod::Post, WebhookMethod::Get, WebhookMethod::Put, WebhookMethod::Patch];
    let method = all.into_iter().find(|method| method.as_str().eq_ignore_ascii_case(text.trim()));
    if method.is_none() {
        let help = format!("use one of {}", keys::list(&all.map(WebhookMethod::as_str)));
        reader.problem(item.node.place, &item.path, format!("unknown method `{}`", keys::shown(&text)), help);
    }
    method
}

fn read_headers(reader: &mut Reader<'_>, item: &Item<'_>) -> Option<BTreeMap<String, Setting>> {
    let mut headers: BTreeMap<String, Setting> = BTreeMap::new();
    let before = reader.problems.len();
    for (entry, item) in reader.named_items(item) {
        let name = entry.key.as_str();
        if !is_header_name(name) {
            let help = "a name has letters, digits and any of !#$%&'*+-.^_`|~";
            reader.problem(entry.place, &item.path, "not a valid header name", help);
        } else if headers.keys().any(|known| known.eq_ignore_ascii_case(name) && known != name) {
            let message = "the same header is already there in other letters";
            reader.problem(entry.place, &item.path, message, "remove one of them");
        }
        let Some(value) = reader.setting(&item) else { continue };
        if value.literals().any(|text| !text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))) {
            let message = "a header's value cannot hold line breaks, control characters or characters outside ASCII";
            reader.problem(item.node.place, &item.path, message, "");
        }
        headers.insert(name.to_owned(), value);
    }
    (reader.problems.len() == before).then_some(headers)
}

/// A token of RFC 9110.
fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// What the name of the route is made of.
pub(super) fn public_part(webhook: &WebhookConfig) -> Result<String, serde_json::Error> {
    // Invariant: what was added later stays out where it isn't used, so that routes in running installations keep their
    // names.
    #[derive(Serialize)]
    struct Public<'a> {
        channel: &'static str,
        url: Option<String>,
        method: &'static str,
        headers: BTreeMap<&'a str, Option<String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        secret: Option<Option<String>>,
    }
    serde_json::to_string(&Public {
        channel: "webhook",
        url: webhook.url.as_ref().and_then(Setting::as_single_variable),
        method: webhook.method.as_str(),
        headers: webhook.headers.iter().map(|(name, value)| (name.as_str(), value.as_single_variable())).collect(),
        secret: webhook.secret.as_ref().map(Setting::as_single_variable),
    })
}
