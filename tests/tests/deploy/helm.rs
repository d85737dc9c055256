//! `deploy/helm`: a chart that Helm renders, that Kubernetes' schemas accept, and whose pods have no more than they need.

mod cluster;
mod policies;
mod settings;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sqlsentinel_common::alert::SourceName;
use sqlsentinel_common::health::ANSWER_TIMEOUT;
use sqlsentinel_common::subjects::Namespace;
use sqlsentinel_tests::helm::{chart, manifests, rendering, set, sets};
use sqlsentinel_tests::programs::root;

const COMPONENTS: [&str; 3] = ["coordinator", "worker", "notifier"];

fn rendered(name: &str) -> Result<Vec<Value>> {
    manifests(&set(name), &json!({}))
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// What a manifest is about: `coordinator`, `migrate`, ….
fn component(manifest: &Value) -> &str {
    manifest["metadata"]["labels"]["app.kubernetes.io/component"].as_str().unwrap_or_default()
}

/// The pod that a manifest is, or makes.
fn pod(manifest: &Value) -> &Value {
    if manifest["kind"] == "Pod" { manifest } else { &manifest["spec"]["template"] }
}

/// The pods, each as (component, metadata, specification).
fn pods(manifests: &[Value]) -> Vec<(&str, &Value, &Value)> {
    let makers = manifests.iter().filter(|manifest| pod(manifest)["spec"]["containers"].is_array());
    makers.map(|maker| (component(maker), &pod(maker)["metadata"], &pod(maker)["spec"])).collect()
}

fn deployment<'m>(manifests: &'m [Value], of: &str) -> Result<&'m Value> {
    let found = manifests.iter().find(|manifest| manifest["kind"] == "Deployment" && component(manifest) == of);
    found.with_context(|| format!("no Deployment of {of}"))
}

/// The variables of a pod's container, by name.
fn variables(pod: &Value) -> impl Iterator<Item = (&str, &Value)> {
    items(&pod["containers"][0]["env"]).filter_map(|variable| Some((variable["name"].as_str()?, variable)))
}

#[test]
fn every_set_of_values_renders_lints_and_is_accepted_by_kubernetes_schemas() -> Result<()> {
    let mut kinds = BTreeSet::new();
    for (name, _) in sets()? {
        kinds.extend(rendered(&name)?.iter().map(|manifest| manifest["kind"].to_string().replace('"', "")));
    }
    let expected = "ConfigMap Deployment HorizontalPodAutoscaler Job NetworkPolicy Pod PodDisruptionBudget PodMonitor \
                    PrometheusRule ScaledObject Service ServiceMonitor";
    assert_eq!(kinds.into_iter().collect::<Vec<_>>().join(" "), expected, "what no set makes is tested by nobody");
    Ok(())
}

#[test]
fn every_container_is_restricted() -> Result<()> {
    for (set, _) in sets()? {
        let manifests = rendered(&set)?;
        let pods = pods(&manifests);
        assert!(pods.len() >= 4, "{set}");
        for (name, _, pod) in pods {
            assert_eq!(pod["automountServiceAccountToken"], false, "{set} {name}");
            assert_eq!(pod["enableServiceLinks"], false, "{set} {name}");
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{set} {name}");
            assert_eq!(pod["securityContext"]["runAsUser"], 65532, "{set} {name}");
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{set} {name}");
            for container in items(&pod["containers"]) {
                let restricted = json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]}});
                assert_eq!(container["securityContext"], restricted, "{set} {name}");
                assert!(container["resources"]["requests"].is_object(), "{set} {name}");
            }
        }
    }
    Ok(())
}

/// A liveness probe that looked at NATS or a database would have every pod restarted when one of them is away.
#[test]
fn probes_run_the_health_command_and_wait_longer_than_it_does() -> Result<()> {
    let manifests = rendered("minimal")?;
    for name in COMPONENTS {
        let container = &deployment(&manifests, name)?["spec"]["template"]["spec"]["containers"][0];
        let probes = [("startupProbe", "liveness"), ("livenessProbe", "liveness"), ("readinessProbe", "readiness")];
        for (probe, question) in probes {
            let command = json!([format!("sqlsentinel-{name}"), "healthcheck", "--probe", question]);
            assert_eq!(container[probe]["exec"]["command"], command, "{name}");
            let timeout = container[probe]["timeoutSeconds"].as_u64().context("a time-out")?;
            assert!(Duration::from_secs(timeout) > ANSWER_TIMEOUT, "{name} {probe}: {timeout} s");
        }
    }
    Ok(())
}

/// Probes are commands, so only Prometheus needs the pod's address.
#[test]
fn nothing_listens_on_the_pods_address_unless_metrics_are_read() -> Result<()> {
    for (set, open) in [("minimal", false), ("service-monitor", true), ("everything", true), ("insecure-hpa", true)] {
        let manifests = rendered(set)?;
        for name in COMPONENTS {
            let pod = &deployment(&manifests, name)?["spec"]["template"]["spec"];
            let listen = variables(pod).find(|(name, _)| *name == "LISTEN").context("LISTEN")?.1;
            assert_eq!(listen["value"], if open { "0.0.0.0:9464" } else { "127.0.0.1:9464" }, "{set} {name}");
            let ports = json!([{"name": "http", "containerPort": 9464}]);
            assert_eq!(pod["containers"][0]["ports"], if open { ports } else { Value::Null }, "{set} {name}");
        }
    }
    Ok(())
}

#[test]
fn no_manifest_holds_a_secret_and_no_process_has_anothers() -> Result<()> {
    for (set, _) in sets()? {
        let manifests = rendered(&set)?;
        assert!(manifests.iter().all(|manifest| manifest["kind"] != "Secret"), "{set}");
        for (name, _, pod) in pods(&manifests) {
            let names: BTreeSet<&str> = variables(pod).map(|(name, _)| name).collect();
            for (variable, value) in variables(pod) {
                let of_file = names.contains(format!("{variable}_FILE").as_str());
                let secret = settings::SECRETS.contains(&variable) || variable == "WAREHOUSE_URL";
                let shown = of_file || secret && value["value"].is_string();
                assert!(!shown, "{set} {name}: {value}");
            }
            assert_eq!(names.contains("STATE_DB_URL_FILE"), ["coordinator", "notifier", "migrate"].contains(&name));
            assert!(name == "worker" || !names.contains("DATABASE_URL_FILE"), "{set} {name}");
            for channel in ["SMTP_PASSWORD_FILE", "SLACK_WEBHOOK_URL_FILE", "WEBHOOK_URL_FILE"] {
                assert!(name == "notifier" || !names.contains(channel), "{set} {name} has {channel}");
            }
            assert!(name != "migrate" || !names.iter().any(|name| name.starts_with("NATS")), "{set}: {names:?}");
            let own = items(&pod["volumes"]).find(|volume| volume["name"] == "own");
            let own: Vec<&Value> = own.into_iter().flat_map(|own| items(&own["projected"]["sources"])).collect();
            for source in &own {
                let (secret, item) = (&source["secret"]["name"], &source["secret"]["items"]);
                assert_eq!(items(item).count(), 1, "{set} {name}: {source}");
                if secret == "nats-users" || secret == "nats-credentials" {
                    let user = if name == "healthcheck" { "viewer" } else { name };
                    assert_eq!(item[0]["key"], *user, "{set} {name}");
                }
            }
            // What a variable names is mounted, and what is mounted is named.
            let mounted = own.iter().filter_map(|source| source["secret"]["items"][0]["path"].as_str());
            let files = variables(pod).filter(|(_, value)| {
                value["value"].as_str().is_some_and(|value| value.starts_with("/etc/sqlsentinel/own/"))
            });
            let files: BTreeSet<&str> = files.map(|(name, _)| name).collect();
            assert_eq!(mounted.collect::<BTreeSet<_>>(), files, "{set} {name}");
        }
    }
    Ok(())
}

/// Kubernetes swaps the link `..data` of such a folder; that the programs see it is tested with real processes in
/// `tests/tests/cluster/reload/swaps.rs`.
#[test]
fn a_change_of_alerts_reaches_running_pods_and_restarts_none() -> Result<()> {
    let (before, more) = (rendered("alerts-in-files")?, json!({"alerts": {"files": {"shop.yaml": "alerts: []\n"}}}));
    let after = manifests(&set("alerts-in-files"), &more)?;
    for name in COMPONENTS {
        assert_eq!(deployment(&before, name)?, deployment(&after, name)?, "{name} would be restarted");
        let pod = &deployment(&after, name)?["spec"]["template"]["spec"];
        let mount = |mount: &&Value| mount["name"] == "alerts";
        let mount = items(&pod["containers"][0]["volumeMounts"]).find(mount).context("the alerts")?;
        assert_eq!(mount["mountPath"], "/etc/sqlsentinel/alerts", "{name}");
        assert!(mount["subPath"].is_null(), "Kubernetes would not update it");
        let read = variables(pod).find(|(name, _)| *name == "CONFIG_PATH").context("CONFIG_PATH")?.1;
        assert_eq!(read["value"], mount["mountPath"], "{name}");
    }
    let data =
        |manifests: &[Value]| manifests.iter().find(|one| one["kind"] == "ConfigMap").map(|map| map["data"].clone());
    let data = (data(&before).context("a ConfigMap")?, data(&after).context("a ConfigMap")?);
    assert_ne!(data.0, data.1);
    assert!(data.0["shop.yaml"].as_str().is_some_and(|text| text.contains("{{ alert_name }}")), "taken as it is");
    Ok(())
}

#[test]
fn selectors_choose_the_pods_of_their_component_alone() -> Result<()> {
    for (set, expected) in [("everything", 14), ("service-monitor", 12)] {
        let manifests = rendered(set)?;
        let labels = pods(&manifests).into_iter().filter_map(|(_, metadata, _)| metadata["labels"].as_object());
        let labels: Vec<_> = labels.collect();
        let mut seen = 0;
        for manifest in &manifests {
            let spec = &manifest["spec"];
            for selector in [&spec["selector"]["matchLabels"], &spec["podSelector"]["matchLabels"], &spec["selector"]] {
                let Some(selector) = selector.as_object().filter(|map| map.values().all(Value::is_string)) else {
                    continue;
                };
                let chosen =
                    labels.iter().filter(|labels| selector.iter().all(|(key, value)| labels.get(key) == Some(value)));
                // A ServiceMonitor chooses Services, which have their component's labels.
                assert_eq!(chosen.count(), 1, "{set} {}", manifest["metadata"]);
                seen += 1;
            }
        }
        assert_eq!(seen, expected, "{set}: Deployments, budgets, policies, monitors and Services");
    }
    Ok(())
}

#[test]
fn no_rollout_drain_or_lost_node_takes_all_pods_of_a_component() -> Result<()> {
    let manifests = rendered("minimal")?;
    for name in COMPONENTS {
        let deployment = deployment(&manifests, name)?;
        let (spec, pod) = (&deployment["spec"], &deployment["spec"]["template"]["spec"]);
        assert!(spec["replicas"].as_u64().is_some_and(|replicas| replicas >= 2), "{name}");
        assert_eq!(spec["strategy"]["rollingUpdate"], json!({"maxUnavailable": 0, "maxSurge": 1}), "{name}");
        let budget = manifests.iter().find(|one| one["kind"] == "PodDisruptionBudget" && component(one) == name);
        let budget = &budget.context("a budget")?["spec"];
        assert_eq!((&budget["maxUnavailable"], &budget["selector"]), (&json!(1), &spec["selector"]), "{name}");
        let spread: Vec<_> = items(&pod["topologySpreadConstraints"]).collect();
        assert!(spread.len() == 2 && spread.iter().all(|one| one["labelSelector"] == spec["selector"]), "{name}");
        // Work is given back before the pod is killed.
        let grace = variables(pod).find(|(name, _)| *name == "SQLSENTINEL_GRACE_SECONDS").context("its grace")?.1;
        let grace: u64 = grace["value"].as_str().context("a text")?.parse()?;
        assert!(pod["terminationGracePeriodSeconds"].as_u64().is_some_and(|seconds| seconds > grace), "{name}");
    }
    Ok(())
}

#[test]
fn what_scales_workers_is_alone_in_it() -> Result<()> {
    for (set, scaler) in [("insecure-hpa", "HorizontalPodAutoscaler"), ("everything", "ScaledObject")] {
        let manifests = rendered(set)?;
        let workers = deployment(&manifests, "worker")?;
        assert!(workers["spec"]["replicas"].is_null(), "{set}: every upgrade would undo what it has scaled");
        assert!(deployment(&manifests, "notifier")?["spec"]["replicas"].is_u64(), "{set}");
        let found = manifests.iter().find(|manifest| manifest["kind"] == scaler).with_context(|| scaler.to_owned())?;
        assert_eq!(found["spec"]["scaleTargetRef"]["name"], workers["metadata"]["name"], "{set}");
    }
    // What it looks at is named as the programs name it.
    let manifests = rendered("everything")?;
    let scaled = manifests.iter().find(|manifest| manifest["kind"] == "ScaledObject").context("a ScaledObject")?;
    let namespace: Namespace = "eu".parse()?;
    for (trigger, source) in items(&scaled["spec"]["triggers"]).zip(["default", "warehouse"]) {
        let (metadata, source): (_, SourceName) = (&trigger["metadata"], serde_json::from_value(json!(source))?);
        assert_eq!(metadata["stream"], namespace.jobs_stream());
        assert_eq!(metadata["consumer"], namespace.jobs_consumer(&source));
    }
    Ok(())
}

#[test]
fn the_hooks_need_nothing_that_the_release_brings() -> Result<()> {
    let manifests = rendered("private-authorities")?;
    let migrate = |kind: &str| {
        let found = manifests.iter().find(|manifest| manifest["kind"] == kind && component(manifest) == "migrate");
        found.with_context(|| format!("no {kind} of migrate"))
    };
    let (job, policy) = (migrate("Job")?, migrate("NetworkPolicy")?);
    let hook = |manifest: &Value, key: &str| manifest["metadata"]["annotations"][format!("helm.sh/{key}")].clone();
    for manifest in [job, policy] {
        assert_eq!(hook(manifest, "hook"), "pre-install,pre-upgrade");
        assert_eq!(hook(manifest, "hook-delete-policy"), "before-hook-creation,hook-succeeded");
    }
    assert_eq!((hook(policy, "hook-weight"), hook(job, "hook-weight")), (json!("-1"), Value::Null), "the policy first");
    let spec = &job["spec"];
    assert_eq!((&spec["backoffLimit"], &spec["template"]["spec"]["restartPolicy"]), (&json!(3), &json!("Never")));
    // Below the five minutes that Helm waits for a hook, so that the Job says why.
    assert!(spec["activeDeadlineSeconds"].as_u64().is_some_and(|seconds| seconds < 300), "{spec}");
    let ours: BTreeSet<&str> = manifests.iter().filter_map(|one| one["metadata"]["name"].as_str()).collect();
    for volume in items(&spec["template"]["spec"]["volumes"]) {
        let sources = items(&volume["projected"]["sources"]).filter_map(|source| source["secret"]["name"].as_str());
        let names: Vec<&str> = sources.chain(volume["configMap"]["name"].as_str()).collect();
        assert!(!names.is_empty() && names.iter().all(|name| !ours.contains(name)), "{volume}");
    }
    Ok(())
}

#[test]
fn what_is_wrong_or_missing_is_refused_by_name() -> Result<()> {
    let cases = [
        (json!({"nats": {"url": ""}}), "nats.url is required"),
        (json!({"nats": {"url": "nats://user:word@nats:4222"}}), "url"),
        (json!({"nats": {"auth": {"existingSecret": ""}}}), "nats.auth.existingSecret is required"),
        (json!({"nats": {"auth": {"method": "token"}}}), "method"),
        (json!({"stateDatabase": {"existingSecret": ""}}), "stateDatabase.existingSecret is required"),
        (json!({"image": {"repository": ""}}), "image.repository is required"),
        (json!({"alerts": {"existingConfigMaps": []}}), "alerts.existingConfigMaps is required"),
        (json!({"autoscaling": {"enabled": true}, "keda": {"enabled": true}}), "exclude each other"),
        (json!({"podMonitor": {"enabled": true}, "serviceMonitor": {"enabled": true}}), "exclude each other"),
        (json!({"keda": {"enabled": true}}), "keda.monitoringEndpoint is required"),
        (json!({"worker": {"replcas": 3}}), "replcas"),
        (json!({"worker": {"env": [{"name": "DATABASE_URL", "value": "postgresql://canary"}]}}), "env"),
        (json!({"logLevel": "LOUD"}), "logLevel"),
        (json!({"podSecurityContext": {"runAsUser": 0}}), "runAsUser"),
        (json!({"coordinator": {"retentionDays": 3}}), "retentionDays"),
    ];
    for (values, told) in cases {
        let output = rendering(&set("minimal"), &values)?;
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && message.contains(told), "{values}: {message}");
    }
    Ok(())
}

#[test]
fn its_rules_are_those_of_prometheus() -> Result<()> {
    let copy = std::fs::read_to_string(chart().join("files/alerts.yml"))?;
    let ours = std::fs::read_to_string(root().join("deploy/prometheus/alerts.yml"))?;
    assert!(ours == copy, "copy deploy/prometheus/alerts.yml into the chart's files/");
    let manifests = rendered("everything")?;
    let rule = manifests.iter().find(|manifest| manifest["kind"] == "PrometheusRule").context("a rule")?;
    assert_eq!(rule["spec"], serde_saphyr::from_str::<Value>(&copy)?);
    for (set, kind, endpoints) in
        [("everything", "PodMonitor", "podMetricsEndpoints"), ("service-monitor", "ServiceMonitor", "endpoints")]
    {
        let manifests = rendered(set)?;
        for monitor in manifests.iter().filter(|manifest| manifest["kind"] == kind) {
            let job = &monitor["spec"][endpoints][0]["relabelings"][0]["replacement"];
            let job = job.as_str().with_context(|| format!("{kind} without a job"))?;
            assert!(copy.contains(&format!("job=\"{job}\"")), "no rule is about the job {job}");
        }
    }
    Ok(())
}
