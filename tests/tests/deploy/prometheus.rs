//! `deploy/prometheus`: files that Prometheus takes, rules that fire when they should, and expressions that say something
//! of a cluster that runs.

use std::collections::{BTreeMap, BTreeSet};
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

/// The rules.
fn rules() -> Result<Vec<Value>> {
    let rules: Value = serde_saphyr::from_str(&std::fs::read_to_string(folder().join("alerts.yml"))?)?;
    Ok(rules["groups"][0]["rules"].as_array().context("a group of rules")?.clone())
}

/// A text of a rule, such as `alert` or `expr`.
fn text<'a>(rule: &'a Value, key: &str) -> Result<&'a str> {
    rule[key].as_str().with_context(|| format!("a rule without {key}: {rule}"))
}

/// The names of our metrics in an expression.
fn names(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("sqlsentinel_"));
    ours.map(|name| name.trim_end_matches("_bucket").to_owned()).collect()
}

/// The names of our rules in a text, such as the expression of a test.
fn mentioned(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter(|word| word.starts_with("SQLSentinel")).map(str::to_owned)
}

#[test]
fn every_rule_is_tested_to_fire_and_not_to_fire() -> Result<()> {
    let tests: Value = serde_saphyr::from_str(&std::fs::read_to_string(folder().join("alerts_test.yml"))?)?;
    // It always does.
    let (mut fires, mut is_silent) = (BTreeSet::new(), BTreeSet::from(["SQLSentinelWatchdog".to_owned()]));
    let some = |value: &Value| value.as_array().is_some_and(|expected| !expected.is_empty());
    for test in tests["tests"].as_array().into_iter().flatten() {
        for rule in test["alert_rule_test"].as_array().into_iter().flatten() {
            let seen = if some(&rule["exp_alerts"]) { &mut fires } else { &mut is_silent };
            seen.insert(text(rule, "alertname")?.to_owned());
        }
        for expression in test["promql_expr_test"].as_array().into_iter().flatten() {
            let asked: BTreeSet<_> = mentioned(text(expression, "expr")?).collect();
            if !some(&expression["exp_samples"]) {
                is_silent.extend(asked);
            } else if asked.len() == 1 {
                fires.extend(asked);
            } else {
                fires.extend(mentioned(&expression["exp_samples"].to_string()));
            }
        }
    }
    let all: BTreeSet<String> =
        rules()?.iter().map(|rule| Ok(text(rule, "alert")?.to_owned())).collect::<Result<_>>()?;
    assert_eq!(fires, all, "those that fire in a test, and all");
    assert_eq!(is_silent, all, "those that do not fire in a test, and all");
    Ok(())
}

/// A page names what is wrong, where to look, and the runbook's entry; and the table of what to watch is of these rules.
#[test]
fn every_rule_is_described_by_itself_in_the_runbook_and_among_what_to_watch() -> Result<()> {
    let read = |path: &str| std::fs::read_to_string(programs::root().join(path));
    let (runbook, metrics) = (read("docs/guides/runbook.md")?, read("docs/reference/metrics.md")?);
    let (described, watched) = metrics.split_once("## What to watch").context("what to watch")?;
    let mut rows: BTreeMap<&str, &str> =
        watched.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | ")).collect();
    let mut entries: BTreeSet<&str> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    for rule in rules()? {
        let alert = text(&rule, "alert")?;
        for annotation in ["summary", "description"] {
            text(&rule["annotations"], annotation).with_context(|| alert.to_owned())?;
        }
        let severity = text(&rule["labels"], "severity")?;
        assert!(["page", "ticket", "none"].contains(&severity), "{alert}: {severity}");
        let entry = format!("docs/guides/runbook.md#{}", alert.to_lowercase());
        assert_eq!(rule["annotations"]["runbook"], entry.as_str(), "{alert}");
        assert!(entries.remove(alert), "{alert} has no entry in the runbook");
        let says = runbook.split(&format!("## {alert}\n")).nth(1).and_then(|rest| rest.split("\n## ").next());
        let begins = format!("\n*{severity}.* ");
        assert!(says.is_some_and(|entry| severity == "none" || entry.starts_with(&begins)), "{alert}: {severity}");

        let row = rows.remove(alert).with_context(|| format!("nobody is told to watch what {alert} does"))?;
        for name in names(text(&rule, "expr")?) {
            assert!(described.contains(&format!("`{name}`")), "{alert}: nobody describes {name}");
            assert!(names(row).contains(&name), "{alert} looks at {name}, what to watch does not: {row}");
        }
    }
    assert!(rows.is_empty(), "these are to be watched, and have no rule: {rows:?}");
    assert!(entries.is_empty(), "the runbook is about rules that are not there: {entries:?}");
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
    for rule in rules()? {
        for name in names(text(&rule, "expr")?) {
            let series = format!("{{__name__=~\"{name}(_bucket)?\"}}");
            let found = || async { server.series(&series).await };
            eventually(&format!("{} finds {name}", rule["alert"]), SOON, found, |series| *series > 0).await?;
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
