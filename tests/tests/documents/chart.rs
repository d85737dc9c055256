//! The guide to Kubernetes and the chart: the same values with the same defaults, and samples that Helm takes.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sqlsentinel_tests::helm::{chart, manifests, set};

use crate::markdown::{codes, read, section, texts_marked};

const GUIDE: &str = "docs/guides/deploy-kubernetes.md";
/// What stands in the guide for each of [`COMPONENTS`].
const ANY: &str = "COMPONENT";
const COMPONENTS: [&str; 3] = ["coordinator", "worker", "notifier"];

type Values = BTreeMap<String, Value>;

fn yaml(text: &str) -> Result<Value> {
    serde_saphyr::from_str(text).with_context(|| text.to_owned())
}

/// The keys that the schema knows below `schema`, by their whole names; what may hold anything is one key.
fn known<'s>(whole: &'s Value, mut schema: &'s Value, name: &str, keys: &mut BTreeSet<String>) -> Result<()> {
    if let Some(reference) = schema["$ref"].as_str() {
        schema = whole.pointer(reference.trim_start_matches('#')).context("a definition")?;
    }
    match schema["properties"].as_object().filter(|_| schema["additionalProperties"] == false) {
        // What charts around this one share is no value of ours.
        Some(inner) => inner
            .iter()
            .filter(|(key, _)| *key != "global")
            .try_for_each(|(key, schema)| known(whole, schema, format!("{name}.{key}").trim_start_matches('.'), keys)),
        None => {
            keys.insert(name.to_owned());
            Ok(())
        }
    }
}

/// The values of values.yaml by their whole names, as deep as `keys` go.
fn defaults(value: &Value, name: &str, keys: &BTreeSet<String>, found: &mut Values) {
    match value.as_object().filter(|_| !keys.contains(name)) {
        Some(inner) => {
            for (key, value) in inner {
                defaults(value, format!("{name}.{key}").trim_start_matches('.'), keys, found);
            }
        }
        None => {
            found.insert(name.to_owned(), value.clone());
        }
    }
}

/// The table of the guide: a row for every component, for each of them; an empty cell, for what holds nothing.
fn described(defaults: &Values) -> Result<Values> {
    let mut described = Values::new();
    let empty = [json!(""), json!([]), json!({})];
    for row in section(&read(GUIDE)?, "Values")?.rows {
        let (name, default) = (codes(&row[0]).pop().context("a value without a name")?, codes(&row[1]).pop());
        for component in COMPONENTS {
            let name = name.replace(ANY, component);
            let known = defaults.get(&name).with_context(|| format!("there is no value {name}"))?;
            let value = match default.as_ref().map(|text| text.replace(ANY, component)) {
                None => empty.iter().find(|empty| *empty == known).cloned().unwrap_or_default(),
                Some(text) if known.is_string() => json!(text),
                Some(text) => serde_json::from_str(&text).with_context(|| format!("{name}: {text}"))?,
            };
            described.insert(name, value);
        }
    }
    Ok(described)
}

#[test]
fn values_their_schema_and_the_guide_have_the_same_keys_and_defaults() -> Result<()> {
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(chart().join("values.schema.json"))?)?;
    let mut keys = BTreeSet::new();
    known(&schema, &schema, "", &mut keys)?;
    let mut values = Values::new();
    defaults(&yaml(&std::fs::read_to_string(chart().join("values.yaml"))?)?, "", &keys, &mut values);
    assert_eq!(values.keys().cloned().collect::<BTreeSet<_>>(), keys, "values.yaml and its schema");
    assert!(keys.len() > 90, "{}", keys.len());
    let described = described(&values)?;
    let differing: Vec<_> = values.iter().filter(|(name, value)| described.get(*name) != Some(*value)).collect();
    assert!(differing.is_empty(), "not in the guide, or with another default: {differing:?}");
    Ok(())
}

#[test]
fn helm_takes_every_sample_of_values() -> Result<()> {
    let samples = texts_marked(&read(GUIDE)?, "yaml helm");
    let folder = tempfile::tempdir()?;
    let (mut whole, mut parts) = (0, 0);
    for sample in samples {
        let values = yaml(&sample)?;
        if values["image"].is_null() {
            ensure!(!manifests(&set("minimal"), &values)?.is_empty(), "{sample}");
            parts += 1;
        } else {
            let file = folder.path().join("values.yaml");
            std::fs::write(&file, &sample)?;
            ensure!(!manifests(&file, &json!({}))?.is_empty(), "{sample}");
            whole += 1;
        }
    }
    assert_eq!((whole, parts), (1, 3));
    Ok(())
}

/// NATS's own chart is not here: what it makes of these values was tried by hand.
#[test]
fn the_sample_for_natss_chart_gives_the_servers_the_variables_of_their_users() -> Result<()> {
    let sample = yaml(&texts_marked(&read(GUIDE)?, "yaml nats-chart").pop().context("the sample")?)?;
    assert_eq!(sample["config"]["jetstream"]["merge"]["sync_interval"], "always");
    let env = sample["container"]["env"].as_object().context("variables")?;
    let roles = read("deploy/nats/roles.conf")?;
    let wanted = roles.split("password: $").skip(1).filter_map(|rest| rest.lines().next());
    assert_eq!(env.keys().map(String::as_str).collect::<BTreeSet<_>>(), wanted.collect());
    let made = read(GUIDE)?;
    for variable in env.values() {
        let key = variable["valueFrom"]["secretKeyRef"]["key"].as_str().context("a key")?;
        assert!(made.contains(&format!("--from-file={key}")), "the Secret has no {key}");
    }
    Ok(())
}

/// There is no cluster to run them in.
#[test]
fn its_commands_are_shell_and_their_scripts_are_there() -> Result<()> {
    for block in texts_marked(&read(GUIDE)?, "sh") {
        let checked = Command::new("bash").args(["-n", "-c", &block]).output()?;
        assert!(checked.status.success(), "{block}: {}", String::from_utf8_lossy(&checked.stderr));
        for word in block.split_whitespace().filter_map(|word| word.strip_prefix("./scripts/")) {
            read(&format!("scripts/{word}"))?;
        }
    }
    Ok(())
}
