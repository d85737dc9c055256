//! One entry of `notify` with `channel: webhook`, and the name of its route.

use std::collections::BTreeMap;

use serde::Serialize;
use url::Url;

use super::channel::{WebhookConfig, WebhookMethod};
use super::interpolate::Setting;
use super::keys;
use super::raw::Value;
use super::section::{Item, Reader, Section};
use super::text;

/// Reads the settings; none if something is wrong with them.
pub(super) fn read(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<WebhookConfig> {
    let url = optional(reader.setting_or_file(section, "url", read_url));
    let method = match section.get("method") {
        Some(item) => read_method(reader, &item),
        None => Some(WebhookMethod::default()),
    };
    let headers = match section.get("headers") {
        Some(item) => read_headers(reader, &item),
        None => Some(BTreeMap::new()),
    };
    let secret = optional(reader.setting_or_file(section, "secret", |reader, item| reader.setting(item)));
    let body = text::json_body(reader, section);
    if let (Some(WebhookMethod::Get), Some(item)) = (method, section.get("body")) {
        let help = "remove it, or use another method";
        reader.problem(item.node.place, &item.path, "a request with the method `GET` has no body", help);
        return None;
    }
    Some(WebhookConfig { url: url?, method: method?, headers: headers?, secret: secret?, body: body? })
}

/// A setting that may be left out, and is none if something is wrong with it.
pub(super) fn optional(read: Option<Option<Setting>>) -> Option<Option<Setting>> {
    match read {
        Some(read) => read.map(Some),
        None => Some(None),
    }
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
        let Some(value) = read_header_value(reader, &item) else { continue };
        if value.literals().any(|text| !text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))) {
            let message = "a header's value cannot hold line breaks, control characters or characters outside ASCII";
            reader.problem(item.node.place, &item.path, message, "");
        }
        headers.insert(name.to_owned(), value);
    }
    (reader.problems.len() == before).then_some(headers)
}

/// A text, or `{file: path}`.
fn read_header_value(reader: &mut Reader<'_>, item: &Item<'_>) -> Option<Setting> {
    if !matches!(item.node.value, Value::Map(_)) {
        return reader.setting(item);
    }
    let section = reader.section(item, keys::HEADER)?;
    let file = reader.required(&section, "file", "write a text, or `{file: /run/secrets/name}`")?;
    reader.secret_file(&file)
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
        url: webhook.url.as_ref().and_then(Setting::public_form),
        method: webhook.method.as_str(),
        headers: webhook.headers.iter().map(|(name, value)| (name.as_str(), value.public_form())).collect(),
        secret: webhook.secret.as_ref().map(Setting::public_form),
    })
}
