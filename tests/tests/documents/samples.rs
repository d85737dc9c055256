//! Samples of configurations, messages, health reports and log lines.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use sqlsentinel_common::config::SlackConfig;
use sqlsentinel_common::health::HealthReport;
use sqlsentinel_common::messages::{Job, OutcomeMessage, Versioned, decode};
use sqlsentinel_common::settings::ConfigSettings;
use sqlsentinel_common::store::outbox::{Claim, NoticeKind};
use sqlsentinel_common::timestamp::Timestamp;
use sqlsentinel_notifier::render::digest::Digest;
use sqlsentinel_notifier::render::{Payload, email, slack, webhook_body};
use sqlsentinel_tests::programs::root;

use crate::markdown::{blocks, documents, files, read, texts_marked};

const LEVELS: [&str; 5] = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];

#[test]
fn every_example_is_a_valid_configuration() -> Result<()> {
    let folder = root().join("examples");
    // What lies deeper is included by a file of its folder.
    let is_whole = |path: &PathBuf| path.parent() == Some(&folder) || path.ends_with("several-files/alerts.yaml");
    let examples: Vec<_> = files(&folder, "yaml")?.into_iter().filter(is_whole).collect();
    assert!(examples.len() >= 3, "{examples:?}");
    for path in examples {
        check(&path, &path.display().to_string())?;
    }
    Ok(())
}

#[test]
fn the_example_in_several_files_is_the_same_as_a_file_and_as_a_folder() -> Result<()> {
    let folder = root().join("examples/several-files");
    let load = |path: &Path| ConfigSettings::from(path).load().map(|config| (config.channels, config.alerts));
    let (channels, alerts) = load(&folder.join("alerts.yaml"))?;
    assert_eq!(load(&folder)?, (channels.clone(), alerts.clone()));
    assert_eq!(channels.len(), 3);
    let names: Vec<_> = alerts.iter().map(|alert| alert.definition.name.as_str()).collect();
    assert_eq!(names, ["payment_failures", "warehouse_freshness"]);
    Ok(())
}

/// A block marked `yaml` is a whole configuration; anything else in YAML is marked `yaml fragment`.
#[test]
fn every_configuration_in_the_documents_is_valid() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("block.yaml");
    let mut checked = 0;
    for document in documents()? {
        for block in blocks(&std::fs::read_to_string(&document)?).into_iter().filter(|block| block.mark == "yaml") {
            std::fs::write(&path, block.text)?;
            check(&path, &format!("{}, the block in line {}", document.display(), block.line))?;
            checked += 1;
        }
    }
    assert!(checked >= 4, "{checked}");
    Ok(())
}

fn check(path: &Path, name: &str) -> Result<()> {
    match ConfigSettings::from(path).load() {
        Ok(config) if config.warnings.is_empty() => Ok(()),
        Ok(config) => bail!("{name}: {:?}", config.warnings),
        Err(errors) => bail!("{name}: {errors}"),
    }
}

#[test]
fn every_sample_in_json_says_what_it_is_a_sample_of() -> Result<()> {
    let known = ["job", "outcome", "dead-letter", "webhook", "digest", "slack", "health", "log"]
        .map(|mark| format!("json {mark}"));
    for document in documents()? {
        for block in blocks(&std::fs::read_to_string(&document)?) {
            let known = !block.mark.starts_with("json") || known.contains(&block.mark);
            assert!(known, "{}:{}: `{}` is checked by nobody", document.display(), block.line, block.mark);
        }
    }
    Ok(())
}

#[test]
fn messages_are_as_the_product_writes_them() -> Result<()> {
    let document = read("docs/reference/messages.md")?;
    for sample in samples(&document, "json job")? {
        is_written_as::<Job>(&sample)?;
    }
    for sample in samples(&document, "json outcome")? {
        is_written_as::<OutcomeMessage>(&sample)?;
    }
    for sample in samples(&document, "json dead-letter")? {
        let letter: Value = serde_json::from_str(&sample)?;
        let payload = letter["payload"].as_str().context("a payload")?;
        let reason = decode::<Job>(payload.as_bytes()).err().context("it is readable")?;
        assert_eq!(letter["reason"], reason.to_string());
    }
    Ok(())
}

fn samples(document: &str, mark: &str) -> Result<Vec<String>> {
    let samples = texts_marked(document, mark);
    ensure!(!samples.is_empty(), "there is no sample marked `{mark}`");
    Ok(samples)
}

/// Nothing in it is ignored when it is read, and nothing is missing.
fn is_written_as<M: Versioned>(sample: &str) -> Result<()> {
    let message: M = decode(sample.as_bytes()).with_context(|| sample.to_owned())?;
    assert_eq!(serde_json::from_str::<Value>(sample)?, serde_json::to_value(&message)?);
    Ok(())
}

#[test]
fn webhooks_are_as_the_notifier_renders_them() -> Result<()> {
    for sample in samples(&read("docs/reference/messages.md")?, "json webhook")? {
        let body: Value = serde_json::from_str(&sample)?;
        let payload: Payload = serde_json::from_str(&sample)?;
        let rendered = webhook_body(&claim(&body)?, &payload)?;
        assert_eq!(serde_json::from_str::<Value>(&rendered)?, body);
        // Receivers of 0.1.x see their keys first, and in the order that the document shows.
        let keys = |json: &str| -> Vec<String> {
            json.split('"').map(str::to_owned).filter(|key| body.get(key).is_some()).collect()
        };
        assert_eq!(keys(&rendered), keys(&sample));
    }
    Ok(())
}

/// The notifications of the webhooks, as one message.
#[test]
fn a_digest_is_as_the_notifier_renders_it() -> Result<()> {
    let sample: Value = serde_json::from_str(&samples(&read("docs/reference/channels.md")?, "json digest")?.remove(0))?;
    let webhooks = samples(&read("docs/reference/messages.md")?, "json webhook")?;
    let notice =
        |webhook: &String| anyhow::Ok((claim(&serde_json::from_str(webhook)?)?, serde_json::from_str(webhook)?));
    let notices = webhooks.iter().take(2).map(notice).collect::<Result<Vec<_>>>()?;
    let id = sample["digest_id"].as_str().unwrap_or_default().parse()?;
    let rendered: Value = serde_json::from_str(&Digest { id, notices: &notices }.webhook_body()?)?;
    assert_eq!(rendered, sample, "{rendered:#}");
    Ok(())
}

/// The notification of the first webhook, as the other channels tell it.
#[test]
fn messages_for_people_are_as_the_notifier_renders_them() -> Result<()> {
    let webhook = samples(&read("docs/reference/messages.md")?, "json webhook")?.remove(0);
    let (claim, payload) = (claim(&serde_json::from_str(&webhook)?)?, serde_json::from_str(&webhook)?);
    let document = read("docs/reference/channels.md")?;

    let mail = email::mail(None, None, &claim, &payload);
    assert_eq!(samples(&document, "text mail")?, [format!("Subject: {}\n\n{}", mail.subject, mail.text.trim_end())]);

    let settings = SlackConfig {
        username: Some("SQL Sentinel".to_owned()),
        slack_channel: Some("#payments".to_owned()),
        ..SlackConfig::default()
    };
    let message: Value = serde_json::from_str(&slack::body(&settings, &claim, &payload)?)?;
    assert_eq!(serde_json::from_str::<Value>(&samples(&document, "json slack")?[0])?, message);
    Ok(())
}

pub(crate) fn claim(body: &Value) -> Result<Claim> {
    let text = |key: &str| body[key].as_str().map(str::to_owned).with_context(|| format!("`{key}` is not a text"));
    let kind = text("kind")?;
    Ok(Claim {
        notification_id: text("notification_id")?.parse()?,
        execution_id: text("execution_id")?.parse()?,
        alert_name: text("alert_name")?,
        instance: body["instance"].as_str().unwrap_or_default().to_owned(),
        route_key: String::new(),
        channel: "webhook".to_owned(),
        kind: NoticeKind::ALL.into_iter().find(|known| known.as_str() == kind).context("an unknown kind")?,
        sequence: 1,
        scheduled_for: text("scheduled_for")?.parse()?,
        payload: String::new(),
        attempt: serde_json::from_value(body["attempt"].clone())?,
        possible_duplicate: body["possible_duplicate"].as_bool().context("not a boolean")?,
        created_at: Timestamp::default(),
        first_attempt_at: Timestamp::default(),
        fallback_for: body["fallback_for"].as_str().map(str::to_owned),
        claimed_at: Timestamp::default(),
        token: String::new(),
    })
}

#[test]
fn health_reports_are_as_processes_give_them() -> Result<()> {
    for sample in samples(&read("docs/reference/health.md")?, "json health")? {
        let report: HealthReport = serde_json::from_str(&sample)?;
        assert_eq!(serde_json::to_value(&report)?, serde_json::from_str::<Value>(&sample)?);
        assert_eq!(report, HealthReport::new(report.timestamp, report.checks.clone()), "its status is not its worst");
    }
    Ok(())
}

/// That real lines have this shape is shown by the tests of the processes.
#[test]
fn log_lines_have_the_shape_that_is_described() -> Result<()> {
    let document = read("docs/reference/logging.md")?;
    for line in samples(&document, "json log")? {
        let entry: serde_json::Map<String, Value> = serde_json::from_str(&line)?;
        assert_eq!(entry.keys().collect::<Vec<_>>(), ["context", "level", "logger", "message", "timestamp"]);
        entry["timestamp"].as_str().context("no time")?.parse::<Timestamp>()?;
        assert!(LEVELS.iter().any(|level| entry["level"] == *level), "{line}");
        assert!(entry["context"].is_object(), "{line}");
    }
    for line in samples(&document, "text log")? {
        let mut parts = line.splitn(4, ' ').map(|part| part.trim_start_matches('[').trim_end_matches(']'));
        parts.next().context("no time")?.parse::<Timestamp>()?;
        assert!(parts.next().is_some_and(|level| LEVELS.contains(&level)), "{line}");
        assert!(parts.next().is_some_and(|logger| logger.starts_with("sqlsentinel.")), "{line}");
    }
    Ok(())
}
