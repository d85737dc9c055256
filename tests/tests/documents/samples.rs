//! Samples of configurations, messages, health reports and log lines.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use sqlsentinel_common::config::{self, SlackConfig};
use sqlsentinel_common::health::HealthReport;
use sqlsentinel_common::messages::{Job, OutcomeMessage, Versioned, decode};
use sqlsentinel_common::store::outbox::{Claim, NoticeKind};
use sqlsentinel_common::timestamp::Timestamp;
use sqlsentinel_notifier::render::{Payload, email, slack, webhook_body};
use sqlsentinel_tests::programs::root;

use crate::markdown::{blocks, documents, files, read, texts_marked};

const LEVELS: [&str; 5] = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];

#[test]
fn every_example_is_a_valid_configuration() -> Result<()> {
    let examples = files(&root().join("examples"), "yaml")?;
    assert!(examples.len() >= 2, "{examples:?}");
    for path in examples {
        check(&path, &path.display().to_string())?;
    }
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
    match config::load(path) {
        Ok(config) if config.warnings.is_empty() => Ok(()),
        Ok(config) => bail!("{name}: {:?}", config.warnings),
        Err(errors) => bail!("{name}: {errors}"),
    }
}

#[test]
fn every_sample_in_json_says_what_it_is_a_sample_of() -> Result<()> {
    let known =
        ["json job", "json outcome", "json dead-letter", "json webhook", "json slack", "json health", "json log"];
    for document in documents()? {
        for block in blocks(&std::fs::read_to_string(&document)?) {
            let known = !block.mark.starts_with("json") || known.contains(&block.mark.as_str());
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

/// The notification of the first webhook, as the other channels tell it.
#[test]
fn messages_for_people_are_as_the_notifier_renders_them() -> Result<()> {
    let webhook = samples(&read("docs/reference/messages.md")?, "json webhook")?.remove(0);
    let (claim, payload) = (claim(&serde_json::from_str(&webhook)?)?, serde_json::from_str(&webhook)?);
    let document = read("docs/reference/channels.md")?;

    let mail = email::mail(None, &claim, &payload);
    assert_eq!(samples(&document, "text mail")?, [format!("Subject: {}\n\n{}", mail.subject, mail.text.trim_end())]);

    let settings = SlackConfig {
        webhook_url: None,
        username: Some("SQL Sentinel".to_owned()),
        slack_channel: Some("#payments".to_owned()),
    };
    let message: Value = serde_json::from_str(&slack::body(&settings, &claim, &payload)?)?;
    assert_eq!(serde_json::from_str::<Value>(&samples(&document, "json slack")?[0])?, message);
    Ok(())
}

fn claim(body: &Value) -> Result<Claim> {
    let text = |key: &str| body[key].as_str().map(str::to_owned).with_context(|| format!("`{key}` is not a text"));
    let kind = text("kind")?;
    Ok(Claim {
        notification_id: text("notification_id")?.parse()?,
        execution_id: text("execution_id")?.parse()?,
        alert_name: text("alert_name")?,
        instance: String::new(),
        route_key: String::new(),
        channel: "webhook".to_owned(),
        kind: NoticeKind::ALL.into_iter().find(|known| known.as_str() == kind).context("an unknown kind")?,
        sequence: 1,
        scheduled_for: text("scheduled_for")?.parse()?,
        payload: String::new(),
        attempt: serde_json::from_value(body["attempt"].clone())?,
        possible_duplicate: body["possible_duplicate"].as_bool().context("not a boolean")?,
        created_at: Timestamp::default(),
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
