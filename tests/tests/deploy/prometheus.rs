//! `deploy/prometheus`: files that Prometheus takes, rules that fire when they should, and expressions that say something
//! of a cluster that runs.

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
use tokio::process::Command;

fn folder() -> PathBuf {
    programs::root().join("deploy/prometheus")
}

async fn promtool(arguments: &[&str]) -> Result<()> {
    let done = Command::new(programs::prometheus("promtool")?).args(arguments).current_dir(folder()).output().await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(done.status.success(), "{arguments:?}:\n{}{}", text(&done.stdout), text(&done.stderr));
    Ok(())
}

#[tokio::test]
async fn prometheus_takes_its_files() -> Result<()> {
    promtool(&["check", "config", "prometheus.yml"]).await?;
    promtool(&["check", "rules", "alerts.yml"]).await
}

#[tokio::test]
async fn each_rule_fires_when_it_should_and_not_before() -> Result<()> {
    promtool(&["test", "rules", "alerts_test.yml"]).await
}

/// The rules: what each is called, and its expression.
fn rules() -> Result<Vec<(String, String)>> {
    let rules: Value = serde_saphyr::from_str(&std::fs::read_to_string(folder().join("alerts.yml"))?)?;
    let rules = rules["groups"][0]["rules"].as_array().context("a group of rules")?.clone();
    let text = |rule: &Value, key: &str| rule[key].as_str().map(str::to_owned).context("a rule has both");
    rules.iter().map(|rule| Ok((text(rule, "alert")?, text(rule, "expr")?))).collect()
}

/// The names of our metrics in an expression.
fn names(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("sqlsentinel_"));
    ours.map(|name| name.trim_end_matches("_bucket").to_owned()).collect()
}

#[test]
fn every_rule_has_a_test_and_names_metrics_that_are_described() -> Result<()> {
    let tests = std::fs::read_to_string(folder().join("alerts_test.yml"))?;
    let described = std::fs::read_to_string(programs::root().join("docs/reference/metrics.md"))?;
    for (alert, expression) in rules()? {
        let prefixes = ["SQLSentinelFires", "SQLSentinelOutbox", "SQLSentinelChannel", "SQLSentinelNotification"];
        let prefixes = prefixes.into_iter().chain(["SQLSentinelConfiguration", "SQLSentinelDead"]);
        let by_pattern = prefixes.into_iter().any(|prefix| alert.starts_with(prefix));
        assert!(by_pattern || tests.contains(&alert), "{alert} has no test");
        for name in names(&expression) {
            assert!(described.contains(&format!("`{name}`")), "{alert}: nobody describes {name}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rules_look_at_is_there_in_a_running_cluster_and_none_fires_there() -> Result<()> {
    let mut scene = Scene::set(Plan::new(State::Sqlite), Kind::Sqlite).await?;
    scene.target.set("orders", "ALERT", 7).await?;
    scene.play(&scene.configuration().alert("orders", "every 1s", &scene.target.query("orders")))?;
    scene.until_received("orders", 1).await?;
    let server = Prometheus::scraping(&scene.cluster, &[folder().join("alerts.yml")])?;

    let up = || async { server.series("up == 1").await };
    eventually("all three are scraped", SOON, up, |up| *up == 3).await?;
    // Series with labels appear with their first value, and nothing fails here.
    let later = ["sqlsentinel_fires_expired_total", "sqlsentinel_gap_fires_total"];
    for (alert, expression) in rules()? {
        for name in names(&expression) {
            let series = format!("{{__name__=~\"{name}(_bucket)?\"}}");
            let found = || async { server.series(&series).await };
            if !later.contains(&name.as_str()) {
                eventually(&format!("{alert} finds {name}"), SOON, found, |series| *series > 0).await?;
            }
        }
    }
    let rules = || async {
        let data = server.get("/api/v1/rules", &[]).await?;
        let rules = data["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
        Ok(rules)
    };
    let evaluated = |rules: &Vec<Value>| !rules.is_empty() && rules.iter().all(|rule| rule["health"] == "ok");
    let rules = eventually("every rule is evaluated", SOON, rules, evaluated).await?;
    for rule in rules.iter().filter(|rule| rule["state"] == "firing") {
        assert_eq!(rule["name"], "SQLSentinelWatchdog", "{rule}");
    }
    scene.cluster.all_alive()
}
