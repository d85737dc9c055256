//! `deploy/grafana`: every expression of the dashboards has data in a cluster that runs.

use std::collections::BTreeSet;
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
    let dashboards = dashboards()?;
    let uids: Vec<_> = dashboards.iter().filter_map(|(_, dashboard)| dashboard["uid"].as_str()).collect();
    for (name, dashboard) in &dashboards {
        // Whichever Prometheus a Grafana has: the first one, until another is chosen.
        let chosen = &dashboard["templating"]["list"][0];
        assert_eq!(
            (chosen["name"].as_str(), chosen["query"].as_str()),
            (Some("datasource"), Some("prometheus")),
            "{name}"
        );
        let asking = dashboard["panels"].as_array().into_iter().flatten().filter(|panel| panel["type"] != "row");
        for asking in asking.chain(dashboard["annotations"]["list"].as_array().into_iter().flatten()) {
            assert_eq!(asking["datasource"]["uid"], "${datasource}", "{name}: {asking}");
        }
        assert_eq!(dashboard["tags"][0], "sqlsentinel", "{name}");
        let text = dashboard.to_string();
        for link in text.split("\"/d/").skip(1).filter_map(|rest| rest.split('?').next()) {
            assert!(uids.contains(&link), "{name}: nothing is at {link}");
        }
    }
    Ok(())
}

/// Every panel says what it shows and in which unit, and none lies over another.
#[test]
fn panels_explain_themselves_and_have_room() -> Result<()> {
    for (name, dashboard) in dashboards()? {
        let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
        for panel in dashboard["panels"].as_array().context("a dashboard has panels")? {
            let title = &panel["title"];
            assert!(ids.insert(panel["id"].as_i64()), "{name}: {title} has the id of another");
            let place =
                |key: &str| panel["gridPos"][key].as_i64().with_context(|| format!("{name}: {title} has no {key}"));
            let (x, y, width, height) = (place("x")?, place("y")?, place("w")?, place("h")?);
            for cell in (x..x + width).flat_map(|column| (y..y + height).map(move |line| (column, line))) {
                assert!(cell.0 < 24 && cells.insert(cell), "{name}: {title} lies over another, or beyond the edge");
            }
            if panel["type"] != "row" {
                assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{name}: {title}");
                let defaults = &panel["fieldConfig"]["defaults"];
                assert!(defaults["unit"].is_string() || defaults["mappings"].is_array(), "{name}: {title} has no unit");
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_has_data_of_a_running_cluster() -> Result<()> {
    let mut scene = Scene::set(Plan::new(State::Sqlite), Kind::Sqlite).await?;
    scene.target.set("orders", "ALERT", 7).await?;
    let configuration = scene.configuration().alert("orders", "every 1s", &scene.target.query("orders"));
    scene.play(&configuration.alert("broken", "every 1s", "SELECT 1 AS one"))?;
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
        // Nothing of what they mark happens here; they are to be understood.
        for annotation in dashboard["annotations"]["list"].as_array().context("annotations")? {
            server.series(annotation["expr"].as_str().context("an expression")?).await?;
        }
        for variable in dashboard["templating"]["list"].as_array().into_iter().flatten().skip(1) {
            let query = variable["query"]["query"].as_str().context("a variable has a query")?;
            let label_values = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (metric, label) = label_values.and_then(|rest| rest.split_once(", ")).context("of label_values")?;
            ensure!(server.series(&format!("{metric}{{{label}!=\"\"}}")).await? > 0, "{name}: {query} finds nothing");
        }
    }
    scene.cluster.all_alive()
}
