//! The figures and the log lines of a running cluster that has run an alert and told somebody: what dashboards and log
//! pipelines of 0.1.x look for is where it belongs.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sqlsentinel_tests::cluster::{Plan, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::on_both_state_databases;
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::target::Kind;

on_both_state_databases!(the_names_and_labels_that_dashboards_know_are_where_they_belong);

/// One sample: its name, and its labels without `le`.
type Sample = (String, BTreeMap<String, String>);

/// The page of one process.
struct Page {
    samples: BTreeMap<Sample, f64>,
    /// Upper bounds of histograms' buckets, by name.
    bounds: BTreeMap<String, BTreeSet<String>>,
}

impl Page {
    async fn of(scene: &Scene, process: &str) -> Result<Self> {
        let (status, text) = scene.cluster.page(process, "/metrics").await?;
        ensure!(status == 200, "{process}: {status}");
        let mut page = Self { samples: BTreeMap::new(), bounds: BTreeMap::new() };
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (series, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
            let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
            let mut labels: BTreeMap<_, _> = labels
                .split(',')
                .filter_map(|label| label.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned()))
                .collect();
            if let Some(bound) = labels.remove("le") {
                page.bounds.entry(name.to_owned()).or_default().insert(bound);
            }
            page.samples.insert((name.to_owned(), labels), value.parse()?);
        }
        Ok(page)
    }

    /// The value of a sample whose labels are exactly these.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.samples.get(&(name.to_owned(), labels)).copied()
    }

    fn buckets(&self, name: &str) -> Vec<&str> {
        let bounds = self.bounds.get(&format!("{name}_bucket"));
        bounds.into_iter().flatten().map(String::as_str).collect()
    }
}

async fn the_names_and_labels_that_dashboards_know_are_where_they_belong(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state), Kind::Sqlite).await?;
    scene.target.set("orders", "ALERT", 7).await?;
    let configuration = scene.configuration().alert("orders", "every 1s", &scene.target.query("orders"));
    scene.play(&configuration.alert("broken", "every 1s", "SELECT 1 AS one"))?;
    scene.until_received("orders", 1).await?;
    scene.until_more("broken", "ERROR", 1).await?;

    let orders = ("alert_name", "orders");
    let sent = [("channel", "webhook"), ("status", "sent")];
    let counted = || async {
        Page::of(&scene, "notifier-1").await.map(|page| page.value("sqlsentinel_notifications_total", &sent))
    };
    eventually("the notification is counted", SOON, counted, |value| value.is_some_and(|value| value >= 1.0)).await?;

    let worker = Page::of(&scene, "worker-1").await?;
    for (alert, status) in [("orders", "alert"), ("broken", "error")] {
        let labels = [("alert_name", alert), ("status", status)];
        assert!(worker.value("sqlsentinel_alerts_total", &labels).is_some_and(|runs| runs >= 1.0), "{labels:?}");
    }
    assert!(worker.value("sqlsentinel_alert_duration_seconds_count", &[orders]).is_some_and(|runs| runs >= 1.0));
    assert!(worker.value("sqlsentinel_alert_duration_seconds_sum", &[orders]).is_some_and(|seconds| seconds > 0.0));
    assert_eq!(worker.buckets("sqlsentinel_alert_duration_seconds"), ["+Inf", "0.1", "0.5", "1", "10", "2.5", "5"]);

    let notifier = Page::of(&scene, "notifier-1").await?;
    for channel in ["email", "slack", "webhook"] {
        for status in ["sent", "failed"] {
            let labels = [("channel", channel), ("status", status)];
            assert!(notifier.value("sqlsentinel_notifications_total", &labels).is_some(), "{labels:?}");
        }
    }
    let took = notifier.value("sqlsentinel_notification_duration_seconds_count", &[("channel", "webhook")]);
    assert!(took.is_some_and(|count| count >= 1.0), "{took:?}");
    assert_eq!(notifier.buckets("sqlsentinel_notification_duration_seconds"), ["+Inf", "0.1", "0.5", "1", "2.5", "5"]);

    let coordinator = Page::of(&scene, "coordinator-1").await?;
    assert_eq!(coordinator.value("sqlsentinel_scheduler_jobs", &[]), Some(2.0));
    let planned = coordinator.value("sqlsentinel_scheduler_job_runs_total", &[orders]);
    assert!(planned.is_some_and(|fires| fires >= 1.0), "{planned:?}");

    for (process, page) in [("worker", &worker), ("notifier", &notifier), ("coordinator", &coordinator)] {
        for (name, least) in [
            ("sqlsentinel_uptime_seconds", 0.0),
            ("process_cpu_seconds_total", 0.0),
            ("process_resident_memory_bytes", 1_000_000.0),
            ("process_open_fds", 3.0),
            ("process_max_fds", 3.0),
            ("process_threads", 1.0),
        ] {
            let value = page.value(name, &[]);
            assert!(value.is_some_and(|value| value >= least), "{process}: {name} is {value:?}");
        }
        for (name, labels) in page.samples.keys() {
            let shouted = labels.get("status").filter(|status| **status != status.to_lowercase());
            assert_eq!(shouted, None, "{process}: {name}");
        }
    }
    // What one role counts, another does not show: sums over all processes count everything once.
    for (page, others) in [
        (&coordinator, ["sqlsentinel_alerts_total", "sqlsentinel_notifications_total"]),
        (&worker, ["sqlsentinel_notifications_total", "sqlsentinel_scheduler_jobs"]),
        (&notifier, ["sqlsentinel_alerts_total", "sqlsentinel_scheduler_jobs"]),
    ] {
        for other in others {
            assert!(!page.samples.keys().any(|(name, _)| name == other), "{other}");
        }
    }
    Ok(())
}

/// The keys of a line, which pipelines parse; what a line is about is in its context, under the same names everywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_line_of_a_log_has_the_keys_that_pipelines_know() -> Result<()> {
    let mut scene = Scene::set(Plan::new(State::Sqlite), Kind::Sqlite).await?;
    scene.target.set("orders", "ALERT", 7).await?;
    let configuration = scene.configuration().alert("orders", "every 1s", &scene.target.query("orders"));
    scene.play(&configuration.alert("broken", "every 1s", "SELECT 1 AS one"))?;
    scene.until_received("orders", 1).await?;
    let sent = || async { scene.cluster.ledger.notifications(Some("orders")).await };
    eventually("the receipt is kept", SOON, sent, |rows| rows.iter().any(|row| row.status == "SENT")).await?;
    scene.until_more("broken", "ERROR", 1).await?;

    let mut contexts: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for name in scene.cluster.names(None) {
        scene.cluster.terminate(&name).await?;
        let log = scene.cluster.log(&name)?;
        assert!(log.lines().count() >= 2, "{name}: {log}");
        for line in log.lines() {
            let entry: Value = serde_json::from_str(line).with_context(|| format!("{name}: {line}"))?;
            let object = entry.as_object().with_context(|| line.to_owned())?;
            for key in object.keys() {
                assert!(["timestamp", "level", "logger", "message", "context"].contains(&key.as_str()), "{line}");
            }
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            assert!(is_rfc3339_with_micros(&text("timestamp")), "{line}");
            assert!(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"].contains(&text("level").as_str()), "{line}");
            assert!(!text("logger").is_empty() && !text("message").is_empty(), "{line}");
            assert!(entry["context"].is_null() || entry["context"].is_object(), "{line}");
            contexts.entry(name.clone()).or_default().push(entry["context"].clone());
        }
    }
    let has = |name: &str, keys: &[&str]| {
        contexts[name].iter().any(|context| keys.iter().all(|key| context.get(key).is_some()))
    };
    assert!(has("worker-1", &["alert_name", "execution_id", "duration_ms", "status"]), "a run");
    assert!(has("notifier-1", &["alert_name", "channel"]), "a notification");
    let statuses: BTreeSet<_> = contexts["worker-1"].iter().filter_map(|context| context["status"].as_str()).collect();
    assert_eq!(statuses, BTreeSet::from(["ALERT", "ERROR"]));
    Ok(())
}

/// `2025-11-08T03:06:26.510640Z`.
fn is_rfc3339_with_micros(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00.000000Z"
}
