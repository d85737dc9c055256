//! `deploy/helm`: a chart that Helm renders, that Kubernetes' schemas accept, and whose pods have no more than they need.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sqlsentinel_tests::programs;

const SETS: [&str; 3] = ["minimal", "everything", "insecure-hpa"];

fn chart() -> PathBuf {
    programs::root().join("deploy/helm/sqlsentinel")
}

fn rendering(set: &str, values: &Value) -> Result<Output> {
    let python = programs::root().join(".tools/helm-venv/bin/python");
    ensure!(python.is_file(), "Helm is missing: run ./scripts/test, which gets what the tests need");
    let script = programs::root().join("tests/helm/render.py");
    let file = chart().join(format!("ci/{set}.yaml"));
    Ok(Command::new(python).arg(script).arg(chart()).arg(file).arg(values.to_string()).output()?)
}

fn rendered(set: &str) -> Result<Value> {
    let output = rendering(set, &json!({}))?;
    ensure!(output.status.success(), "{set}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The pods' specifications, each with the name of what makes them.
fn pods(rendered: &Value) -> Vec<(String, &Value)> {
    let makers = items(&rendered["manifests"]).filter(|manifest| manifest["spec"]["template"].is_object());
    makers.map(|maker| (maker["metadata"]["name"].to_string(), &maker["spec"]["template"]["spec"])).collect()
}

#[test]
fn every_set_of_values_renders_lints_and_is_accepted_by_kubernetes_schemas() -> Result<()> {
    for set in SETS {
        let rendered = rendered(set)?;
        assert_eq!(rendered["problems"], json!([]), "{set}");
        let own = ["PodMonitor", "PrometheusRule", "ScaledObject"];
        assert!(items(&rendered["unknown"]).all(|kind| own.iter().any(|own| kind == own)), "{set}");
    }
    Ok(())
}

#[test]
fn every_container_is_restricted() -> Result<()> {
    for set in SETS {
        let rendered = rendered(set)?;
        let pods = pods(&rendered);
        assert!(pods.len() >= 3, "{set}");
        for (name, pod) in pods {
            assert_eq!(pod["automountServiceAccountToken"], false, "{set} {name}");
            assert_eq!(pod["enableServiceLinks"], false, "{set} {name}");
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{set} {name}");
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{set} {name}");
            for container in items(&pod["containers"]) {
                let restricted = json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]}});
                assert_eq!(container["securityContext"], restricted, "{set} {name}");
                assert!(items(&container["volumeMounts"]).all(|mount| mount["subPath"].is_null()), "{set} {name}");
            }
        }
    }
    Ok(())
}

#[test]
fn every_variable_is_described_and_no_process_has_anothers_secrets() -> Result<()> {
    let described = std::fs::read_to_string(programs::root().join("docs/reference/cli.md"))?;
    let rendered = rendered("everything")?;
    for (name, pod) in pods(&rendered) {
        let env = items(&pod["containers"][0]["env"]);
        let names: BTreeSet<&str> = env.filter_map(|variable| variable["name"].as_str()).collect();
        for variable in names.iter().filter(|variable| **variable != "SHOP_NAME") {
            assert!(described.contains(&format!("| `{variable}` |")), "{name}: nobody describes {variable}");
        }
        assert_eq!(names.contains("STATE_DB_URL_FILE"), !name.contains("worker"), "{name}");
        assert_eq!(names.contains("DATABASE_URL_FILE"), name.contains("worker"), "{name}");
        assert_eq!(names.contains("SMTP_PASSWORD_FILE"), name.contains("notifier"), "{name}");
        let volumes = items(&pod["volumes"]).find(|volume| volume["name"] == "own").context("its secrets")?;
        for source in items(&volumes["projected"]["sources"]) {
            if source["secret"]["name"] == "nats-users" {
                let key = source["secret"]["items"][0]["key"].as_str().context("one key")?;
                assert!(name.contains(key), "{name} has the password of {key}");
            }
        }
    }
    Ok(())
}

#[test]
fn selectors_choose_the_pods_of_their_component_alone() -> Result<()> {
    let rendered = rendered("everything")?;
    let manifests = || items(&rendered["manifests"]);
    let templates =
        || manifests().filter_map(|manifest| manifest["spec"]["template"]["metadata"]["labels"].as_object());
    let mut seen = 0;
    for manifest in manifests() {
        let spec = &manifest["spec"];
        for selector in [&spec["selector"]["matchLabels"], &spec["podSelector"]["matchLabels"]] {
            let Some(selector) = selector.as_object() else { continue };
            let chosen =
                templates().filter(|labels| selector.iter().all(|(name, value)| labels.get(name) == Some(value)));
            assert_eq!(chosen.count(), 1, "{}", manifest["metadata"]);
            seen += 1;
        }
    }
    assert_eq!(seen, 12, "Deployments, budgets, policies and monitors of three components");
    Ok(())
}

#[test]
fn what_is_wrong_or_missing_is_refused_by_name() -> Result<()> {
    let cases = [
        (json!({"nats": {"url": ""}}), "nats.url is required"),
        (json!({"nats": {"url": "nats://user:word@nats:4222"}}), "url"),
        (json!({"nats": {"auth": {"existingSecret": ""}}}), "nats.auth.existingSecret is required"),
        (json!({"stateDatabase": {"existingSecret": ""}}), "stateDatabase.existingSecret is required"),
        (json!({"image": {"repository": ""}}), "image.repository is required"),
        (json!({"alerts": {"existingConfigMaps": []}}), "alerts.existingConfigMaps is required"),
        (json!({"autoscaling": {"enabled": true}, "keda": {"enabled": true}}), "exclude each other"),
        (json!({"keda": {"enabled": true}}), "keda.monitoringEndpoint is required"),
        (json!({"worker": {"replcas": 3}}), "replcas"),
        (json!({"logLevel": "LOUD"}), "logLevel"),
        (json!({"podSecurityContext": {"runAsUser": 0}}), "runAsUser"),
    ];
    for (values, told) in cases {
        let output = rendering("minimal", &values)?;
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && message.contains(told), "{values}: {message}");
    }
    Ok(())
}

#[test]
fn its_rules_are_those_of_prometheus_and_its_values_are_described() -> Result<()> {
    let root = programs::root();
    let (ours, chart) = (root.join("deploy/prometheus/alerts.yml"), chart());
    let copy = std::fs::read_to_string(chart.join("files/alerts.yml"))?;
    assert!(std::fs::read_to_string(&ours)? == copy, "copy deploy/prometheus/alerts.yml into the chart's files/");
    let rendered = rendered("everything")?;
    let rule = items(&rendered["manifests"]).find(|manifest| manifest["kind"] == "PrometheusRule").context("a rule")?;
    assert_eq!(rule["spec"], serde_saphyr::from_str::<Value>(&copy)?);

    let guide = std::fs::read_to_string(root.join("docs/guides/deploy-kubernetes.md"))?;
    let values: Value = serde_saphyr::from_str(&std::fs::read_to_string(chart.join("values.yaml"))?)?;
    for key in values.as_object().context("values")?.keys() {
        assert!(guide.contains(&format!("| `{key}` |")), "the guide has no row for {key}");
    }
    Ok(())
}
