//! What an earlier version wrote, this one reads: files that were written down once and are never edited. A folder of
//! `tests/fixtures` for each version; in a `.jsonl` each line is one document. Its state databases: [`super::released`].

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlsentinel_common::alert::{AlertDefinition, ConfigHash};
use sqlsentinel_common::api::ProcessReport;
use sqlsentinel_common::messages::{Job, OutcomeMessage, decode};
use sqlsentinel_common::settings::ConfigSettings;
use sqlsentinel_coordinator::lease::LeaseValue;
use sqlsentinel_notifier::render::Payload;
use sqlsentinel_tests::released::{VERSIONS, file};

fn lines(version: &str, name: &str) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file(version, name)).with_context(|| format!("{version}/{name}"))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Reads each line, and checks that writing it again says everything that it said: during a rolling upgrade the earlier
/// version reads what this one writes. And the other way round: keys that a later version adds are passed over.
fn survives<T: DeserializeOwned + Serialize>(name: &str, read: impl Fn(&str) -> Result<T>) -> Result<()> {
    for version in VERSIONS {
        let lines = lines(version, name)?;
        assert!(!lines.is_empty(), "{version}/{name}");
        for line in lines {
            let value = read(&line).with_context(|| format!("{version}/{name}: {line}"))?;
            let (before, after): (Value, Value) = (serde_json::from_str(&line)?, serde_json::to_value(value)?);
            assert!(says_all_of(&after, &before), "{version}/{name}\n{before}\n{after}");
            let newer = with_later_keys(before).to_string();
            let passed_over =
                serde_json::to_value(read(&newer).with_context(|| format!("{version}/{name}: {newer}"))?)?;
            assert_eq!(passed_over, after, "{version}/{name}: keys that are not known are passed over");
        }
    }
    Ok(())
}

/// The document as a later version may write it: a key more wherever keys have a meaning of ours.
fn with_later_keys(document: Value) -> Value {
    /// What has users' names for keys.
    const MAPS: [&str; 4] = ["context", "labels", "checks", "channels"];
    let inside = |value| match value {
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, with_later_keys(value))).collect(),
        other => other,
    };
    match document {
        Value::Object(map) => {
            let each = |(key, value): (String, Value)| match MAPS.contains(&key.as_str()) {
                true => (key, inside(value)),
                false => (key, with_later_keys(value)),
            };
            map.into_iter().map(each).chain([("added_later".to_owned(), Value::from(vec![1]))]).collect()
        }
        Value::Array(values) => values.into_iter().map(with_later_keys).collect(),
        other => other,
    }
}

fn says_all_of(after: &Value, before: &Value) -> bool {
    match (after, before) {
        (Value::Object(after), Value::Object(before)) => {
            before.iter().all(|(key, value)| after.get(key).is_some_and(|after| says_all_of(after, value)))
        }
        (Value::Array(after), Value::Array(before)) => {
            after.len() == before.len() && after.iter().zip(before).all(|(after, before)| says_all_of(after, before))
        }
        _ => after == before,
    }
}

#[test]
fn jobs_and_outcomes_on_the_bus_outlive_an_upgrade() -> Result<()> {
    survives("jobs.jsonl", |line| Ok(decode::<Job>(line.as_bytes())?))?;
    survives("outcomes.jsonl", |line| Ok(decode::<OutcomeMessage>(line.as_bytes())?))
}

#[test]
fn the_lease_and_reports_of_processes_are_read_across_versions() -> Result<()> {
    survives::<LeaseValue>("leases.jsonl", |line| Ok(serde_json::from_str(line)?))?;
    survives::<ProcessReport>("reports.jsonl", |line| Ok(serde_json::from_str(line)?))
}

#[test]
fn notifications_that_wait_in_the_outbox_outlive_an_upgrade() -> Result<()> {
    survives::<Payload>("payloads.jsonl", |line| Ok(serde_json::from_str(line)?))
}

/// A definition whose text changed would be a new version of every alert, and end what is open under the former one.
#[test]
fn definitions_keep_their_text_and_with_it_their_hash() -> Result<()> {
    for version in VERSIONS {
        for line in lines(version, "definitions.jsonl")? {
            let definition: AlertDefinition = serde_json::from_str(&line)?;
            assert_eq!(definition.canonical_json()?, line, "{version}");
            assert_eq!(ConfigHash::of(&definition.canonical_json()?), ConfigHash::of(&line));
        }
    }
    Ok(())
}

/// The same for a configuration that nobody has touched.
#[test]
fn a_configuration_still_means_the_same_definitions() -> Result<()> {
    for version in VERSIONS {
        let config = ConfigSettings::from(file(version, "alerts.yaml").as_path()).load()?;
        let loaded = config.alerts.iter().map(|alert| Ok(alert.definition.canonical_json()?));
        let loaded = loaded.collect::<Result<BTreeSet<String>>>()?;
        assert_eq!(loaded, lines(version, "definitions.jsonl")?.into_iter().collect(), "{version}");
    }
    Ok(())
}
