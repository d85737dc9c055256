//! `deploy/grafana`: every expression of the dashboards has data in a cluster that runs.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sqlsentinel_tests::cluster::{Plan, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::programs;
use sqlsentinel_tests::prometheus::Prometheus;
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::target::Kind;

fn folder() -> PathBuf {
    programs::root().join("deploy/grafana")
}

/// The dashboards, by the names of their files.
fn dashboards() -> Result<Vec<(String, Value)>> {
    let files = std::fs::read_dir(folder().join("dashboards"))?.collect::<Result<Vec<_>, _>>()?;
    let read = |path: PathBuf| {
        let name = path.file_name().context("a file has a name")?.to_string_lossy().into_owned();
        Ok((name, serde_json::from_str(&std::fs::read_to_string(path)?)?))
    };
    let dashboards = files.into_iter().map(|file| read(file.path())).collect::<Result<Vec<_>>>()?;
    ensure!(dashboards.len() >= 3, "cluster, alert and source: {dashboards:?}");
    Ok(dashboards)
}

/// What the panels of a dashboard ask, each with its panel's title.
fn questions(dashboard: &Value) -> Result<Vec<(String, String)>> {
    let mut questions = Vec::new();
    for panel in dashboard["panels"].as_array().context("a dashboard has panels")? {
        let title = panel["title"].as_str().context("a panel has a title")?;
        for target in panel["targets"].as_array().into_iter().flatten() {
            questions.push((title.to_owned(), target["expr"].as_str().context("an expression")?.to_owned()));
        }
    }
    ensure!(!questions.is_empty(), "a dashboard asks something");
    Ok(questions)
}

#[test]
fn dashboards_find_their_data_source_and_each_other() -> Result<()> {
    let provisioned = std::fs::read_to_string(folder().join("provisioning/datasources/prometheus.yaml"))?;
    assert!(provisioned.contains("uid: prometheus"));
    for (name, dashboard) in dashboards()? {
        for panel in dashboard["panels"].as_array().into_iter().flatten().filter(|panel| panel["type"] != "row") {
            assert_eq!(panel["datasource"]["uid"], "prometheus", "{name}: {}", panel["title"]);
        }
        assert_eq!(dashboard["tags"][0], "sqlsentinel", "{name}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_has_data_of_a_running_cluster() -> Result<()> {
    let mut scene = Scene::set(Plan::new(State::Sqlite), Kind::Sqlite).await?;
    scene.target.set("orders", "ALERT", 7).await?;
    scene.play(&scene.configuration().alert("orders", "every 1s", &scene.target.query("orders")))?;
    scene.until_received("orders", 1).await?;
    let server = Prometheus::scraping(&scene.cluster, &[])?;
    for (name, dashboard) in dashboards()? {
        for (title, question) in questions(&dashboard)? {
            let question = question.replace("$__rate_interval", "10s");
            let question = question.replace("$alert_name", "orders").replace("$source", "default");
            ensure!(!question.contains('$'), "{name}: {title}: nobody fills in {question}");
            // A series that was not there before has an increase with its second value.
            let data = || async { server.series(&question).await };
            eventually(&format!("{name}: {title}: {question}"), SOON, data, |series| *series > 0).await?;
        }
        for variable in dashboard["templating"]["list"].as_array().into_iter().flatten() {
            let query = variable["query"]["query"].as_str().context("a variable has a query")?;
            let label_values = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (metric, label) = label_values.and_then(|rest| rest.split_once(", ")).context("of label_values")?;
            ensure!(server.series(&format!("{metric}{{{label}!=\"\"}}")).await? > 0, "{name}: {query} finds nothing");
        }
    }
    scene.cluster.all_alive()
}
