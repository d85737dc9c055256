//! The compose files, as Docker Compose reads them, without an engine: each combination that people are told to use, with the
//! secrets that `scripts/compose-secrets` makes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sqlsentinel_tests::programs;
use tempfile::TempDir;

const PRODUCTION: &str = "docker-compose.yaml";
const MONITORING: &str = "docker-compose.monitoring.yaml";
const DEVELOPMENT: &str = "docker-compose.dev.yaml";
const OURS: [&str; 3] = ["coordinator", "worker", "notifier"];

fn text(file: impl AsRef<Path>) -> Result<String> {
    let path = programs::root().join(file);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Every compose file of the checkout.
fn files() -> Result<BTreeSet<String>> {
    let entries = std::fs::read_dir(programs::root())?.collect::<Result<Vec<_>, _>>()?;
    let names = entries.into_iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| name.starts_with("docker-compose") && name.ends_with(".yaml")).collect())
}

/// The combinations of compose files in what people read: the options `-f` of a line, or what Compose takes without one.
fn combinations() -> Result<BTreeSet<Vec<String>>> {
    let mut readings = vec![text("README.md")?, text("scripts/docker-test.sh")?];
    for guide in std::fs::read_dir(programs::root().join("docs/guides"))? {
        readings.push(text(guide?.path())?);
    }
    for file in files()? {
        readings.push(text(file)?);
    }
    let mut combinations = BTreeSet::new();
    for line in readings.iter().flat_map(|reading| reading.lines()) {
        let words: Vec<_> = line.split(|c: char| c.is_whitespace() || "`()".contains(c)).collect();
        let named = words.windows(2).filter(|pair| pair[0] == "-f").map(|pair| pair[1].to_owned());
        let named: Vec<_> = named.filter(|name| name.starts_with("docker-compose")).collect();
        if !named.is_empty() {
            combinations.insert(named);
        } else if line.contains("docker compose up") {
            combinations.insert(vec![PRODUCTION.to_owned()]);
        }
    }
    Ok(combinations)
}

/// A folder as `scripts/compose-secrets` fills it.
fn secrets() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let made = Command::new(programs::root().join("scripts/compose-secrets"))
        .arg(folder.path())
        .env("DATABASE_URL", "postgresql://reader@db.example/shop")
        .output()?;
    ensure!(made.status.success(), "compose-secrets: {}", String::from_utf8_lossy(&made.stderr));
    Ok(folder)
}

/// What Docker Compose makes of the files, with every profile. A word of warning is an error.
fn config(files: &[&str], secrets: &Path, settings: &Path) -> Result<Value> {
    let ours = programs::root().join(".tools/bin/docker-compose");
    let mut compose = if ours.is_file() { Command::new(ours) } else { Command::new("docker") };
    if compose.get_program() == "docker" {
        compose.arg("compose");
    }
    for file in files {
        compose.args(["-f", file]);
    }
    let output = compose
        .args(["--profile", "*", "--env-file"])
        .arg(settings)
        .args(["config", "--format", "json"])
        .current_dir(programs::root())
        .env_clear()
        .envs(["PATH", "HOME"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("SECRETS_FOLDER", secrets)
        .output()
        .context("Docker Compose is missing: run ./scripts/test, which gets what the tests need")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.is_empty(), "{files:?}: {said}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Each combination with its configuration, by default settings.
fn configurations(secrets: &Path) -> Result<BTreeMap<Vec<String>, Value>> {
    let of = |files: Vec<String>| {
        let names: Vec<_> = files.iter().map(String::as_str).collect();
        let config = config(&names, secrets, Path::new("/dev/null"))?;
        Ok((files, config))
    };
    combinations()?.into_iter().map(of).collect()
}

fn services(config: &Value) -> Result<Vec<(&String, &Value)>> {
    let services: Vec<_> = config["services"].as_object().context("services")?.iter().collect();
    ensure!(!services.is_empty(), "there are services");
    Ok(services)
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect()
}

/// Where a file or folder of the host is in a container, by where it is on the host.
fn mounts(service: &Value) -> BTreeMap<PathBuf, &str> {
    let bound = items(&service["volumes"]).filter(|volume| volume["type"] == "bind");
    bound.filter_map(|volume| Some((volume["source"].as_str()?.into(), volume["target"].as_str()?))).collect()
}

#[test]
fn every_combination_of_files_that_people_are_told_is_accepted_without_a_warning() -> Result<()> {
    let secrets = secrets()?;
    let told = configurations(secrets.path())?;
    assert_eq!(told.keys().flatten().cloned().collect::<BTreeSet<_>>(), files()?, "each file is told of");
    Ok(())
}

#[test]
fn every_setting_of_the_example_can_be_set() -> Result<()> {
    let secrets = secrets()?;
    let example = text(".env.example")?;
    let set = example.lines().filter_map(|line| line.strip_prefix('#').filter(|line| !line.starts_with(' ')));
    let settings = secrets.path().join("env");
    std::fs::write(&settings, set.collect::<Vec<_>>().join("\n"))?;
    for files in combinations()? {
        config(&files.iter().map(String::as_str).collect::<Vec<_>>(), secrets.path(), &settings)?;
    }
    Ok(())
}

#[test]
fn the_example_of_settings_names_what_the_compose_files_use_and_nothing_else() -> Result<()> {
    let mut used = BTreeSet::new();
    for file in files()? {
        let text = text(file)?;
        let names = text.split("${").skip(1).filter_map(|rest| Some(rest.split_once([':', '}'])?.0.to_owned()));
        used.extend(names);
    }
    let example = text(".env.example")?;
    let named = example.lines().filter_map(|line| line.trim_start_matches('#').split_once('='));
    let named: BTreeSet<_> = named.map(|(name, _)| name.to_owned()).filter(|name| !name.contains(' ')).collect();
    assert_eq!(used, named);
    Ok(())
}

#[test]
fn whatever_is_mounted_is_there() -> Result<()> {
    let secrets = secrets()?;
    for (files, config) in configurations(secrets.path())? {
        for (name, service) in services(&config)? {
            for (source, target) in mounts(service) {
                assert!(source.exists(), "{files:?}: {name} mounts {} as {target}", source.display());
            }
        }
        for secret in config["secrets"].as_object().into_iter().flat_map(serde_json::Map::values) {
            let file = Path::new(secret["file"].as_str().context("a secret's file")?);
            let length = std::fs::metadata(file).with_context(|| format!("{files:?}: {}", file.display()))?.len();
            assert!(length > 0, "{files:?}: {} is empty", file.display());
        }
    }
    Ok(())
}

#[test]
fn no_port_is_open_to_other_hosts() -> Result<()> {
    let secrets = secrets()?;
    for (files, config) in configurations(secrets.path())? {
        for (name, service) in services(&config)? {
            for port in items(&service["ports"]) {
                assert_eq!(port["host_ip"], "127.0.0.1", "{files:?}: {name} opens {port}");
            }
        }
    }
    Ok(())
}

#[test]
fn every_container_of_production_is_locked_down_and_its_log_has_an_end() -> Result<()> {
    let secrets = secrets()?;
    let config = config(&[PRODUCTION, MONITORING], secrets.path(), Path::new("/dev/null"))?;
    for (name, service) in services(&config)? {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
        let capabilities = if name == "nats-volumes" { json!(["CHOWN"]) } else { Value::Null };
        assert_eq!(service["cap_add"], capabilities, "{name}");
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]), "{name}");
        assert_eq!(keys(&service["logging"]["options"]), BTreeSet::from(["max-file", "max-size"]), "{name}");
        // What ends by itself needs neither.
        if !["nats-volumes", "migrate", "grants", "ctl"].contains(&name.as_str()) {
            assert!(service["healthcheck"]["test"].is_array(), "{name} is not looked at");
            assert_eq!(service["restart"], "unless-stopped", "{name}");
            assert_eq!(keys(&service["deploy"]["resources"]["limits"]), BTreeSet::from(["cpus", "memory"]), "{name}");
        }
    }
    Ok(())
}

#[test]
fn nothing_of_production_is_root_but_what_gives_new_volumes_away() -> Result<()> {
    let secrets = secrets()?;
    let config = config(&[PRODUCTION], secrets.path(), Path::new("/dev/null"))?;
    for (name, service) in services(&config)? {
        let user = service["user"].as_str().with_context(|| format!("{name} says who it is"))?;
        assert_eq!(["root", "0", "0:0"].contains(&user), name == "nats-volumes", "{name} is {user}");
    }
    assert_eq!(config["services"]["nats-volumes"]["network_mode"], "none");
    Ok(())
}

#[test]
fn our_services_run_as_nobody_of_the_host_and_can_be_scaled() -> Result<()> {
    let secrets = secrets()?;
    let config = config(&[PRODUCTION], secrets.path(), Path::new("/dev/null"))?;
    for name in OURS {
        let service = &config["services"][name];
        assert_eq!(service["user"], "65532:65532", "{name}");
        assert_eq!(service["healthcheck"]["test"], json!(["CMD", format!("sqlsentinel-{name}"), "healthcheck"]));
        assert!(service["stop_grace_period"].is_string(), "{name} has time to end what runs");
        for key in ["container_name", "hostname", "ports"] {
            assert!(service[key].is_null(), "{name} cannot be scaled with {key}");
        }
    }
    Ok(())
}

#[test]
fn each_service_sees_its_own_secrets_and_no_others() -> Result<()> {
    let secrets = secrets()?;
    let config = config(&[PRODUCTION, MONITORING], secrets.path(), Path::new("/dev/null"))?;
    let expected = BTreeMap::from([
        ("coordinator", vec!["nats-ca.crt", "nats-coordinator-password", "state-url"]),
        ("worker", vec!["database-url", "nats-ca.crt", "nats-worker-password"]),
        ("notifier", vec!["nats-ca.crt", "nats-notifier-password", "notifier-url"]),
        ("ctl", vec!["nats-ca.crt", "nats-viewer-password", "notifier-url"]),
        ("migrate", vec!["state-url"]),
        ("grants", vec!["state-password"]),
        ("postgres", vec!["notifier-password", "postgres-password", "state-password"]),
        ("grafana", vec!["grafana-password"]),
        ("prometheus", vec![]),
        ("alertmanager", vec![]),
    ]);
    for (name, expected) in expected {
        let sources = items(&config["services"][name]["secrets"]).filter_map(|secret| secret["source"].as_str());
        assert_eq!(sources.collect::<BTreeSet<_>>(), BTreeSet::from_iter(expected), "{name}");
    }
    Ok(())
}

#[test]
fn the_settings_of_our_services_exist() -> Result<()> {
    let secrets = secrets()?;
    let reference = text("docs/reference/cli.md")?;
    for file in [PRODUCTION, DEVELOPMENT] {
        let config = config(&[file], secrets.path(), Path::new("/dev/null"))?;
        for (name, service) in services(&config)? {
            if !service["image"].as_str().is_some_and(|image| image.starts_with("sqlsentinel-")) {
                continue;
            }
            let environment = keys(&service["environment"]);
            assert!(environment.contains("LOG_FORMAT"), "{file}: {name} gets what all have");
            for variable in environment {
                assert!(reference.contains(&format!("`{variable}`")), "{file}: {name}: nobody reads {variable}");
            }
        }
    }
    Ok(())
}

#[test]
fn prometheus_looks_for_services_that_are_on_a_network_with_it() -> Result<()> {
    let secrets = secrets()?;
    let config = config(&[PRODUCTION, MONITORING], secrets.path(), Path::new("/dev/null"))?;
    let networks = keys(&config["services"]["prometheus"]["networks"]);
    let rules: Value = serde_saphyr::from_str(&text("deploy/prometheus/prometheus.yml")?)?;
    let scraped = items(&rules["scrape_configs"]).chain(items(&rules["alerting"]["alertmanagers"]));
    let names = scraped.flat_map(|of| items(&of["dns_sd_configs"])).flat_map(|dns| items(&dns["names"]));
    let names: BTreeSet<_> = names.filter_map(Value::as_str).collect();
    assert_eq!(names, BTreeSet::from(["alertmanager", "coordinator", "notifier", "worker"]));
    for name in names {
        let its = keys(&config["services"][name]["networks"]);
        assert!(!networks.is_disjoint(&its), "{name} is on {its:?}, Prometheus on {networks:?}");
    }
    Ok(())
}

#[test]
fn grafana_is_given_what_its_provisioning_names() -> Result<()> {
    let secrets = secrets()?;
    let config = config(&[PRODUCTION, MONITORING], secrets.path(), Path::new("/dev/null"))?;
    let (grafana, prometheus) = (&config["services"]["grafana"], &config["services"]["prometheus"]);
    let folder = programs::root().join("deploy/grafana");
    let mounts = mounts(grafana);
    assert_eq!(mounts.get(&folder.join("provisioning")), Some(&"/etc/grafana/provisioning"));
    let provider: Value = serde_saphyr::from_str(&text("deploy/grafana/provisioning/dashboards/sqlsentinel.yaml")?)?;
    let target = mounts.get(&folder.join("dashboards")).context("dashboards are mounted")?;
    assert_eq!(provider["providers"][0]["options"]["path"], **target);
    let sources: Value = serde_saphyr::from_str(&text("deploy/grafana/provisioning/datasources/prometheus.yaml")?)?;
    assert_eq!(sources["datasources"][0]["url"], "http://prometheus:9090");
    assert_eq!(prometheus["ports"][0]["target"], 9090);
    let (its, networks) = (keys(&grafana["networks"]), keys(&prometheus["networks"]));
    assert!(!its.is_disjoint(&networks), "Grafana is on {its:?}, Prometheus on {networks:?}");
    let password = grafana["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"].as_str().context("a password")?;
    let told = items(&grafana["secrets"]).filter_map(|secret| secret["target"].as_str());
    assert!(told.into_iter().any(|target| password.ends_with(target)), "{password} is a secret of Grafana's");
    Ok(())
}

#[test]
fn notifiers_are_granted_what_the_guide_to_database_roles_says() -> Result<()> {
    let guide = text("docs/guides/database-roles.md")?;
    let deletes = |text: &str| -> BTreeSet<String> {
        let statements = text.split("GRANT ").skip(1).map(|rest| rest.split([';', '\'']).next().unwrap_or_default());
        let statements = statements.map(|statement| statement.split_whitespace().collect::<Vec<_>>().join(" "));
        statements.filter(|statement| statement.contains("DELETE")).collect()
    };
    let granted = [text("deploy/compose/postgres/10-roles.sh")?, text("deploy/compose/postgres/grants.sh")?].concat();
    assert_eq!(deletes(&granted), deletes(&guide));
    assert_eq!(deletes(&granted).len(), 1, "the right to delete is for one table");
    Ok(())
}
