//! The compose files, without Docker: they parse, name settings that exist, and keep our services locked down.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use sqlsentinel_tests::programs;

const FILES: [&str; 3] = ["docker-compose.yaml", "docker-compose.test.yaml", "docker-compose.monitoring.yaml"];
const SERVICES: [&str; 3] = ["coordinator", "worker", "notifier"];

fn text(file: &str) -> Result<String> {
    std::fs::read_to_string(programs::root().join(file)).with_context(|| file.to_owned())
}

/// Puts what `<<` names where it stands, as Compose does; a mapping's own keys stand above it.
fn merged(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut own: Map<_, _> = map.into_iter().map(|(key, value)| (key, merged(value))).collect();
            if let Some(Value::Object(base)) = own.remove("<<") {
                for (key, value) in base {
                    own.entry(key).or_insert(value);
                }
            }
            Value::Object(own)
        }
        Value::Array(items) => items.into_iter().map(merged).collect(),
        other => other,
    }
}

fn compose(file: &str) -> Result<Value> {
    Ok(merged(serde_saphyr::from_str(&text(file)?).with_context(|| file.to_owned())?))
}

/// The variables that a compose file takes from `.env`.
fn variables(text: &str) -> BTreeSet<String> {
    let after = text.split("${").skip(1);
    after.map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()).collect()
}

#[test]
fn the_example_of_settings_names_what_the_compose_files_use_and_nothing_else() -> Result<()> {
    let mut used = BTreeSet::new();
    for file in FILES {
        used.extend(variables(&text(file)?));
    }
    let example = text(".env.example")?;
    let named = example.lines().filter_map(|line| line.trim_start_matches('#').split_once('='));
    let named: BTreeSet<_> = named.map(|(name, _)| name.to_owned()).filter(|name| !name.contains(' ')).collect();
    assert_eq!(used, named);
    Ok(())
}

#[test]
fn our_services_are_locked_down_and_can_be_scaled() -> Result<()> {
    let file = compose("docker-compose.yaml")?;
    for name in SERVICES {
        let service = &file["services"][name];
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["user"], "65532:65532", "{name}");
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name}");
        assert_eq!(service["security_opt"], serde_json::json!(["no-new-privileges:true"]), "{name}");
        let check = serde_json::json!(["CMD", format!("sqlsentinel-{name}"), "healthcheck"]);
        assert_eq!(service["healthcheck"]["test"], check, "{name}");
        for key in ["stop_grace_period", "restart", "logging"] {
            assert!(service[key].is_string() || service[key].is_object(), "{name} has no {key}");
        }
        assert!(service["deploy"]["resources"]["limits"].is_object(), "{name}");
        for key in ["container_name", "hostname", "ports"] {
            assert!(service[key].is_null(), "{name} cannot be scaled with {key}");
        }
    }
    Ok(())
}

#[test]
fn the_settings_of_our_services_exist() -> Result<()> {
    let file = compose("docker-compose.yaml")?;
    let reference = text("docs/reference/cli.md")?;
    for name in SERVICES.into_iter().chain(["ctl"]) {
        let environment = file["services"][name]["environment"].as_object().context("an environment")?;
        assert!(environment.contains_key("NATS_URL"), "{name} gets what all have");
        for variable in environment.keys() {
            assert!(reference.contains(&format!("`{variable}`")), "{name}: nobody reads {variable}");
        }
    }
    Ok(())
}

#[test]
fn every_file_parses_and_every_secret_of_a_service_is_declared() -> Result<()> {
    let declared = compose("docker-compose.yaml")?["secrets"].clone();
    for file in FILES {
        let services = compose(file)?["services"].as_object().context("services")?.clone();
        for (name, service) in services {
            for secret in service["secrets"].as_array().into_iter().flatten() {
                let source = secret.as_str().or(secret["source"].as_str()).context("a secret's name")?;
                assert!(declared[source].is_object(), "{file}: {name} wants {source}");
            }
        }
    }
    Ok(())
}
