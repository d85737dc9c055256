//! The road of one alert, from YAML to the webhook, on both kinds of state database and both kinds of source.

use anyhow::{Context, Result};
use serde_json::json;
use sqlsentinel_tests::cluster::{Plan, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::on_both_state_databases;
use sqlsentinel_tests::postgres::Postgres;
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::target::Kind;

on_both_state_databases!(
    an_alert_notifies_once_from_sqlite,
    an_alert_notifies_once_from_postgres,
    a_failing_query_is_told_after_three_errors_and_its_recovery_once,
    a_query_without_rows_is_told_and_keeps_the_state,
    what_is_broken_costs_only_itself,
    a_source_that_is_down_costs_its_own_alerts_and_its_return_needs_nobody,
    a_query_that_only_the_database_can_parse_runs_where_the_file_allows_it,
);

async fn an_alert_notifies_once_from_sqlite(state: State) -> Result<()> {
    an_alert_notifies_once(state, Kind::Sqlite).await
}

async fn an_alert_notifies_once_from_postgres(state: State) -> Result<()> {
    an_alert_notifies_once(state, Kind::Postgres).await
}

async fn an_alert_notifies_once(state: State, kind: Kind) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state), kind).await?;
    scene.target.set("orders", "OK", 7).await?;
    scene.play(&scene.configuration().alert("orders", "every 1s", &scene.target.query("orders")))?;
    scene.until_more("orders", "OK", 2).await?;
    assert_eq!(scene.cluster.ledger.state("orders").await?.as_deref(), Some("OK"));
    assert!(scene.sink.received().is_empty(), "nothing is told while all is well");

    scene.target.set("orders", "ALERT", 120).await?;
    let first = scene.until_received("orders", 1).await?.remove(0);
    assert_eq!((first.method.as_str(), first.path.as_str()), ("POST", "/hook"));
    assert_eq!(first.text("status"), "ALERT");
    assert_eq!((&first.json["actual_value"], &first.json["threshold"]), (&json!(120), &json!(100)));
    scene.until_more("orders", "ALERT", 3).await?;
    assert_eq!(scene.sink.received().len(), 1, "ALERT after ALERT is no news");

    let told = scene.cluster.ledger.notifications(Some("orders")).await?;
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].status.as_str(), told[0].attempt, told[0].possible_duplicate), ("SENT", 1, false));
    assert_eq!(first.header("idempotency-key"), told[0].id);
    let alerts = scene.cluster.ledger.executions(Some("orders")).await?;
    let first_alert = alerts.iter().find(|run| run.status == "ALERT").map(|run| run.id.as_str());
    assert_eq!(first_alert, Some(told[0].execution_id.as_str()), "the first ALERT is what was told");

    scene.target.set("orders", "OK", 7).await?;
    scene.until_more("orders", "OK", 2).await?;
    assert_eq!(scene.sink.received().len(), 1, "recovery is told only where it was asked for");
    scene.target.set("orders", "ALERT", 130).await?;
    let second = scene.until_received("orders", 2).await?.remove(1);
    assert_eq!(second.json["actual_value"], json!(130));
    assert_ne!(second.header("idempotency-key"), first.header("idempotency-key"));
    Ok(())
}

async fn a_failing_query_is_told_after_three_errors_and_its_recovery_once(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state), Kind::Postgres).await?;
    scene.target.set("orders", "OK", 7).await?;
    let query = "SELECT status FROM later WHERE name = 'orders'";
    scene.play(&scene.configuration().alert("orders", "every 1s", query))?;

    let told = scene.until_received("orders", 1).await?.remove(0);
    scene.until_more("orders", "ERROR", 2).await?;
    let errors = scene.cluster.ledger.executions(Some("orders")).await?;
    assert!(errors.iter().all(|run| run.status == "ERROR" && run.error.contains("later")), "{errors:?}");
    let notifications = scene.cluster.ledger.notifications(Some("orders")).await?;
    assert_eq!(notifications.len(), 1, "a fourth error is no news");
    assert_eq!(notifications[0].kind, "error");
    assert_eq!(notifications[0].execution_id, errors[2].id, "the third error in a row is told");
    assert_eq!(told.text("status"), "ERROR");
    assert_eq!(scene.cluster.ledger.state("orders").await?, None, "an error says nothing about the alert's state");

    scene.target.run("CREATE TABLE later AS SELECT name, status FROM signals").await?;
    scene.until_received("orders", 2).await?;
    scene.until_more("orders", "OK", 2).await?;
    let kinds: Vec<_> = scene.cluster.ledger.notifications(Some("orders")).await?.into_iter().map(|n| n.kind).collect();
    assert_eq!(kinds, ["error", "error_resolved"]);
    Ok(())
}

async fn a_query_without_rows_is_told_and_keeps_the_state(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state), Kind::Sqlite).await?;
    scene.target.set("orders", "OK", 7).await?;
    scene.play(&scene.configuration().alert("orders", "every 1s", &scene.target.query("orders")))?;
    scene.until_more("orders", "OK", 1).await?;
    scene.target.remove("orders").await?;
    let told = scene.until_received("orders", 1).await?.remove(0);
    assert_eq!(told.text("status"), "NO_DATA");
    scene.until_more("orders", "NO_DATA", 3).await?;
    assert_eq!(scene.sink.received().len(), 1, "NO_DATA after NO_DATA is no news");
    assert_eq!(scene.cluster.ledger.state("orders").await?.as_deref(), Some("OK"));
    Ok(())
}

/// Invariant 10: an alert whose source is not there, one that breaks the query contract, and one whose receiver does
/// not exist, beside one that works.
async fn what_is_broken_costs_only_itself(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state), Kind::Sqlite).await?;
    scene.target.set("orders", "ALERT", 7).await?;
    let yaml = format!(
        r#"
database: {{ url: "{good}" }}
databases:
  gone: {{ url: "postgresql://nobody@127.0.0.1:1/none" }}
alerts:
  - {{ name: no-source, database: gone, schedule: every 1s, query: "SELECT 'OK' AS status", notify: [] }}
  - {{ name: no-status, schedule: every 1s, query: "SELECT 5 AS five", notify: [] }}
  - {{ name: no-receiver, schedule: every 1s, query: "SELECT 'ALERT' AS status", notify: [{{ channel: webhook, url: "http://127.0.0.1:1/" }}] }}
  - {{ name: orders, schedule: every 1s, query: "{query}", notify: [{{ channel: webhook, url: "{hook}" }}] }}
"#,
        good = scene.target.url(),
        query = scene.target.query("orders"),
        hook = scene.sink.url("hook"),
    );
    scene.cluster.configure(&yaml)?;
    scene.cluster.start()?;
    scene.until_received("orders", 1).await?;
    for (alert, part) in [("no-source", ""), ("no-status", "status")] {
        let errors = scene.until_more(alert, "ERROR", 1).await?;
        assert!(errors[0].error.contains(part), "{errors:?}");
    }
    let unsent = || async { scene.cluster.ledger.notifications(Some("no-receiver")).await };
    eventually("the unreachable receiver is tried", SOON, unsent, |rows| rows.iter().any(|row| row.attempt > 0))
        .await?;
    scene.until_more("orders", "ALERT", 3).await?;
    Ok(())
}

async fn a_source_that_is_down_costs_its_own_alerts_and_its_return_needs_nobody(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state), Kind::Sqlite).await?;
    let mut warehouse = Postgres::start().await?;
    let url = warehouse.create_database("warehouse").await?;
    scene.target.set("orders", "OK", 7).await?;
    let yaml = format!(
        r#"
databases:
  default: {{ url: "{good}" }}
  warehouse: {{ url: "{url}" }}
alerts:
  - {{ name: stock, database: warehouse, schedule: every 1s, query: "SELECT 'OK' AS status", notify: [] }}
  - {{ name: orders, schedule: every 1s, query: "{query}", notify: [{{ channel: webhook, url: "{hook}" }}] }}
"#,
        good = scene.target.url(),
        query = scene.target.query("orders"),
        hook = scene.sink.url("hook"),
    );
    scene.cluster.configure(&yaml)?;
    scene.cluster.start()?;
    scene.until_more("stock", "OK", 1).await?;
    warehouse.stop().await?;
    let errors = scene.until_more("stock", "ERROR", 2).await?;
    let error = &errors.iter().find(|run| run.status == "ERROR").context("no error")?.error;
    assert!(error.contains("warehouse") && error.contains("could not be reached"), "{error}");
    // Nobody else notices: the other alert runs, and what it has to say is told.
    scene.target.set("orders", "ALERT", 7).await?;
    scene.until_received("orders", 1).await?;
    scene.until_more("orders", "ALERT", 2).await?;
    let orders = scene.cluster.ledger.executions(Some("orders")).await?;
    assert!(orders.iter().all(|run| run.error.is_empty()), "{orders:?}");
    let degraded = |health: &serde_json::Value| health.to_string().contains("warehouse");
    let health = || async { scene.cluster.health("worker-1").await };
    eventually("the worker's health names it", SOON, health, degraded).await?;

    warehouse.start_again().await?;
    scene.until_more("stock", "OK", 2).await?;
    scene.cluster.all_alive()?;
    Ok(())
}

async fn a_query_that_only_the_database_can_parse_runs_where_the_file_allows_it(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state), Kind::Postgres).await?;
    let query = "SELECT 'ALERT' AS status FROM ROWS FROM (generate_series(1, 1), generate_series(1, 1)) AS t(a, b)";
    let configuration = scene.configuration().alert_with("allowed", "every 1s", query, &[("allow_unparsed", "true")]);
    scene.play(&configuration.alert("refused", "every 1s", query))?;
    scene.until_received("allowed", 1).await?;
    let refused = scene.until_more("refused", "ERROR", 1).await?;
    assert!(refused[0].error.contains("allow_unparsed: true"), "{refused:?}");
    // The same file, the same word before anything runs.
    let checked = scene.cluster.ctl(&["validate"]).await?;
    assert_eq!(checked.output.matches("allow_unparsed: true").count(), 1, "{checked:?}");
    assert!(checked.output.contains("alerts[1].query"), "{checked:?}");
    Ok(())
}
