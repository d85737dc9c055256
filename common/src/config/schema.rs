//! The JSON Schema of a configuration file, by which editors complete keys and explain them.
//!
//! Input: none. Output: a schema of draft 7, which is what editors read best. It says what can be said of one file
//! alone: which keys there are, what they mean and of what form values are. What refers to what, and what a cron
//! pattern or a URL may be, only [`super::check`] knows.

use serde_json::{Map, Value, json};

use super::channel::WebhookMethod;
use super::keys::LIMITS;
use crate::alert::{Misfire, OnEvent, Overlap, Severity};

/// A key, what it means, and the form of its value.
type Key = (&'static str, &'static str, Value);

/// A text that has a variable in it, whose value nobody knows yet.
const WITH_VARIABLE: &str = "\\$";
/// What names of databases and channels look like.
const NAME: &str = "^[A-Za-z0-9_-]{1,64}$";

/// The schema of a file.
pub fn schema() -> Value {
    let mut root = object(top(), &[]);
    root["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    root["title"] = json!("SQL Sentinel");
    root["description"] = json!("Alerts in SQL: data sources, channels, and queries that say ALERT or OK.");
    root["definitions"] = json!({
        "database": database(),
        "alert": object(alert(), &["name", "query", "schedule"]),
        "notify": notify(),
        "email": channel(email(), &["channel", "recipients"], false),
        "slack": channel(slack(), &["channel"], false),
        "webhook": channel(webhook(), &["channel"], false),
        "named_email": channel(email(), &["channel", "recipients"], true),
        "named_slack": channel(slack(), &["channel"], true),
        "named_webhook": channel(webhook(), &["channel"], true),
    });
    root
}

fn top() -> Vec<Key> {
    let by_name = |of: Value| json!({"type": "object", "propertyNames": {"pattern": NAME}, "additionalProperties": of});
    let named = ["#/definitions/named_email", "#/definitions/named_slack", "#/definitions/named_webhook"];
    vec![
        ("include", "Further files: paths or patterns such as `teams/*.yaml`, relative to this file.", list_of(text())),
        ("database", "The data source `default`.", refer("#/definitions/database")),
        ("databases", "Further data sources, by name.", by_name(refer("#/definitions/database"))),
        ("channels", "Channels that alerts refer to by name.", by_name(any_of(named.map(refer)))),
        (
            "timezone",
            "The zone of cron patterns of alerts that name none, such as `Europe/Berlin`. Default: TIMEZONE, else UTC.",
            text(),
        ),
        ("defaults", "What holds for alerts that say nothing else.", object(defaults(), &[])),
        ("alerts", "The alerts of this file.", list_of(refer("#/definitions/alert"))),
    ]
}

fn database() -> Value {
    let keys = vec![
        (
            "url",
            "Where it is: `postgresql://…`, `mysql://…`, `sqlite:///…`, or `${VARIABLE}`, which only workers look up.",
            json!({"type": "string", "pattern": format!("://|^sqlite::memory:|{WITH_VARIABLE}")}),
        ),
        ("url_file", "A file that holds the URL, such as `/run/secrets/warehouse`; workers read it.", text()),
        (
            "max_concurrency",
            "How many of its queries may run at once, in the whole cluster.",
            json!({"type": "integer", "minimum": 1, "maximum": 10_000}),
        ),
        (
            "pool_size",
            "How many connections one worker may have to it.",
            json!({"type": "integer", "minimum": 1, "maximum": 10_000}),
        ),
        ("timeout", "How long a run may take whose alert does not say, such as `30s`; at most one hour.", duration()),
    ];
    let mut database = object(keys, &[]);
    database["oneOf"] = json!([{"required": ["url"]}, {"required": ["url_file"]}]);
    database
}

fn defaults() -> Vec<Key> {
    [
        vec![
            ("timezone", "The same as `timezone` at the top; only one of them may be there.", text()),
            ("timeout", "How long a run may take, such as `30s`; at most one hour. Default: 30s.", duration()),
            (
                "notify",
                "Where notifications of alerts go that have no `notify` of their own.",
                refer("#/definitions/notify"),
            ),
        ],
        about(),
        planning(),
        judging(),
    ]
    .concat()
}

fn alert() -> Vec<Key> {
    [
        vec![
            (
                "name",
                "The alert's name, unique in the whole configuration; its state and history are kept by it.",
                json!({"type": "string", "minLength": 1, "maxLength": 200}),
            ),
            ("description", "What it means when it fires; shown in notifications.", string()),
            (
                "query",
                "A query that reads: it returns `status` (ALERT or OK), perhaps `actual_value` and `threshold`, and context.",
                text(),
            ),
            ("database", "The data source. Default: `default`, or the only one there is.", text()),
            (
                "schedule",
                "A cron pattern (`*/5 * * * *`, `0 9 * * MON-FRI`, `@daily`) or an interval (`every 30s`).",
                text(),
            ),
            ("timezone", "The zone of its cron pattern, such as `Europe/Berlin`. Default: the file's.", text()),
            ("timeout", "How long a run may take, such as `30s`; at most one hour. Default: 30s.", duration()),
            ("enabled", "Whether it is ever due. Default: true.", boolean()),
            ("notify", "Where its notifications go; each entry gets every one.", refer("#/definitions/notify")),
            (
                "instance_key",
                "The columns that tell rows apart: with it a query may return several rows, each with a state of its own.",
                any_of([
                    column(),
                    json!({"type": "array", "minItems": 1, "maxItems": 8, "uniqueItems": true, "items": column()}),
                ]),
            ),
            (
                "query_env",
                "Variables of the workers' environment that the query holds as `${NAME}`.",
                list_of(json!({"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"})),
            ),
            (
                "allow_unparsed",
                "Whether a query that our parser does not know may be sent all the same; never to SQLite. Default: false.",
                boolean(),
            ),
        ],
        about(),
        planning(),
        judging(),
    ]
    .concat()
}

fn about() -> Vec<Key> {
    let label = json!({"type": ["string", "number", "boolean"]});
    vec![
        (
            "labels",
            "Free names and values, such as `team: billing`; part of notifications.",
            json!({"type": "object", "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]{0,63}$"}, "additionalProperties": label}),
        ),
        ("severity", "How bad it is.", word(&Severity::ALL.map(Severity::as_str))),
        ("runbook", "Where it is written down what to do: a URL, sent along as a link.", text()),
    ]
}

fn planning() -> Vec<Key> {
    vec![
        (
            "misfire",
            "Which fires run that were missed while nothing ran: the latest (`once`, the default), `all`, or none (`skip`).",
            word(&Misfire::ALL.map(Misfire::as_str)),
        ),
        ("catchup_window", "How old a missed fire may be that still runs; at most 7 days. Default: 24h.", duration()),
        (
            "overlap",
            "What happens to a fire that is due while the one before it runs: `skip` (the default), `queue_one` or `allow`.",
            word(&Overlap::ALL.map(Overlap::as_str)),
        ),
        (
            "jitter",
            "How far fires of different alerts are spread, such as `5m`; at most 24 hours. Default: 0.",
            duration(),
        ),
    ]
}

fn judging() -> Vec<Key> {
    let action = || word(&OnEvent::ALL.map(OnEvent::as_str));
    let on_error = vec![
        ("action", "What a run of errors is. Default: notify.", action()),
        ("after", "How many errors in a row it takes. Default: 3.", count(1_000_000)),
    ];
    vec![
        ("for", "How long the query must have said ALERT before it is told, such as `5m`. Default: 0.", duration()),
        ("consecutive", "How many ALERT in a row it takes before it is told. Default: 1.", count(1_000_000)),
        (
            "repeat_interval",
            "After how long an alert that goes on is told again, such as `4h`, or `never` (the default).",
            duration(),
        ),
        ("send_resolved", "Whether the end of an alert is told. Default: false.", boolean()),
        (
            "on_error",
            "What errors in a row are: told (`notify`, the default), an `alert`, `ok`, or nothing (`keep`).",
            any_of([action(), object(on_error, &[])]),
        ),
        ("on_no_data", "What an answer without a row is: `notify` (the default), `alert`, `ok` or `keep`.", action()),
    ]
}

fn notify() -> Value {
    let inline = ["#/definitions/email", "#/definitions/slack", "#/definitions/webhook"].map(refer);
    let name = json!({"type": "string", "minLength": 1, "description": "The name of one of `channels`."});
    list_of(any_of([vec![name], inline.to_vec()].concat()))
}

fn email() -> Vec<Key> {
    vec![
        ("channel", "A mail.", json!({"const": "email"})),
        (
            "recipients",
            "Addresses: `name@example.com`, `Name <name@example.com>`, or `${VARIABLE}`.",
            json!({"type": "array", "minItems": 1, "items": text()}),
        ),
        (
            "subject",
            "The subject, with places such as `{alert_name}`, or a template such as `{{ alert_name }}`. Default: a standard one.",
            text(),
        ),
        ("body", "The text, as a template such as `{{ alert_name }}`. Default: the standard one.", text()),
    ]
}

fn slack() -> Vec<Key> {
    vec![
        ("channel", "A message to Slack.", json!({"const": "slack"})),
        ("webhook_url", "The incoming webhook. Default: the notifier's SLACK_WEBHOOK_URL.", url()),
        ("webhook_url_file", "A file that holds it, such as `/run/secrets/slack`; notifiers read it.", text()),
        ("username", "The name that the message appears under. Default: the webhook's own.", text()),
        ("slack_channel", "Where the message goes, such as `#payments`. Default: the webhook's own.", text()),
        (
            "body",
            "What stands under the headline, as a template such as `{{ alert_name }}`. Default: the standard text.",
            text(),
        ),
    ]
}

fn webhook() -> Vec<Key> {
    let header =
        vec![("file", "A file that holds the value, such as `/run/secrets/token`; notifiers read it.", text())];
    let value = any_of([string(), object(header, &["file"])]);
    let methods = [WebhookMethod::Post, WebhookMethod::Get, WebhookMethod::Put, WebhookMethod::Patch];
    vec![
        ("channel", "An HTTP request.", json!({"const": "webhook"})),
        ("url", "Where it goes, `http` or `https`. Default: the notifier's WEBHOOK_URL.", url()),
        ("url_file", "A file that holds the URL; notifiers read it.", text()),
        ("method", "How it is sent. Default: POST.", word(&methods.map(WebhookMethod::as_str))),
        ("headers", "Additional headers.", json!({"type": "object", "additionalProperties": value})),
        ("secret", "What requests are signed with (HMAC-SHA256).", text()),
        ("secret_file", "A file that holds it; notifiers read it.", text()),
        (
            "body",
            "The request's body, as a template such as `{\"text\": {{ description|tojson }}}`. Default: the standard one.",
            text(),
        ),
    ]
}

/// An entry of `notify`, or one of `channels`, which may have limits too.
fn channel(mut keys: Vec<Key>, required: &[&str], named: bool) -> Value {
    keys.push(("fallback", "The name of the channel that gets what this one did not take.", text()));
    if named {
        let limits = vec![
            ("max_concurrency", "How many attempts one notifier may have under way at once.", count(1_024)),
            (
                "rate",
                "How many messages it may get, from all notifiers together, such as `30/1m`; the rest come as a digest.",
                json!({"type": "string", "pattern": format!("/|{WITH_VARIABLE}")}),
            ),
        ];
        debug_assert!(limits.iter().map(|(name, ..)| name).eq(LIMITS));
        keys.extend(limits);
    }
    let pairs: Vec<_> = keys.iter().filter_map(|(name, ..)| Some((name.strip_suffix("_file")?, *name))).collect();
    let mut channel = object(keys, required);
    if !pairs.is_empty() {
        let both = |(key, file): &(&str, &str)| json!({"not": {"required": [key, file]}});
        channel["allOf"] = pairs.iter().map(both).collect();
    }
    channel
}

fn object(keys: Vec<Key>, required: &[&str]) -> Value {
    let described = |(name, about, form): Key| {
        // What stands beside a reference is ignored in draft 7.
        let mut form = if form.get("$ref").is_some() { json!({"allOf": [form]}) } else { form };
        form["description"] = json!(about);
        (name.to_owned(), form)
    };
    let properties: Map<String, Value> = keys.into_iter().map(described).collect();
    let mut object = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

fn refer(definition: &str) -> Value {
    json!({"$ref": definition})
}

fn any_of(forms: impl IntoIterator<Item = Value>) -> Value {
    json!({"anyOf": forms.into_iter().collect::<Vec<_>>()})
}

fn list_of(form: Value) -> Value {
    json!({"type": "array", "items": form})
}

/// A text that may be empty.
fn string() -> Value {
    json!({"type": "string"})
}

fn text() -> Value {
    json!({"type": "string", "minLength": 1})
}

/// A column's name.
fn column() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 64})
}

fn url() -> Value {
    json!({"type": "string", "pattern": format!("^\\s*[Hh][Tt][Tt][Pp][Ss]?:|{WITH_VARIABLE}")})
}

fn duration() -> Value {
    json!({"type": ["string", "number"], "minLength": 1, "minimum": 0})
}

fn count(most: u32) -> Value {
    any_of([
        json!({"type": "integer", "minimum": 1, "maximum": most}),
        json!({"type": "string", "pattern": format!("^\\s*[0-9]+\\s*$|{WITH_VARIABLE}")}),
    ])
}

fn boolean() -> Value {
    any_of([
        json!({"type": "boolean"}),
        json!({"enum": [0, 1, "yes", "no", "on", "off", "true", "false"]}),
        json!({"type": "string", "pattern": WITH_VARIABLE}),
    ])
}

/// One of `words`; capitals are as good where they are read so.
fn word(words: &[&str]) -> Value {
    any_of([json!({"enum": words}), json!({"type": "string", "pattern": WITH_VARIABLE})])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::keys;
    use super::*;

    /// Every kind of section, with where the schema describes it, and the keys that it has beside its own.
    #[test]
    fn every_key_that_works_is_described_and_no_other() {
        let schema = schema();
        let limited = |keys: &[&'static str]| [keys, LIMITS].concat();
        for (place, known) in [
            ("", keys::TOP.to_vec()),
            ("/definitions/database", keys::DATABASE.to_vec()),
            ("/properties/defaults", keys::DEFAULTS.to_vec()),
            ("/definitions/alert", keys::ALERT.to_vec()),
            ("/definitions/alert/properties/on_error/anyOf/1", keys::ON_ERROR.to_vec()),
            ("/definitions/email", keys::EMAIL.to_vec()),
            ("/definitions/slack", keys::SLACK.to_vec()),
            ("/definitions/webhook", keys::WEBHOOK.to_vec()),
            ("/definitions/webhook/properties/headers/additionalProperties/anyOf/1", keys::HEADER.to_vec()),
            ("/definitions/named_email", limited(keys::EMAIL)),
            ("/definitions/named_slack", limited(keys::SLACK)),
            ("/definitions/named_webhook", limited(keys::WEBHOOK)),
        ] {
            let properties = schema.pointer(&format!("{place}/properties")).and_then(Value::as_object).expect(place);
            let described: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
            assert_eq!(described, known.into_iter().collect(), "{place}");
            for (key, property) in properties {
                let about = property["description"].as_str().unwrap_or_default();
                assert!(about.ends_with('.') && about.len() > 6, "{place}: {key}: {about}");
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
            match value {
                Value::Object(map) => {
                    found.extend(map.get("$ref").and_then(Value::as_str));
                    map.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let schema = schema();
        let mut found = Vec::new();
        references(&schema, &mut found);
        assert!(found.len() > 8, "{found:?}");
        for reference in found {
            assert!(schema.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    }
}
