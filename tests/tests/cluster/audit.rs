//! A row that is deleted from a running cluster's ledger: every coordinator says so, the standby too, and anyone can find
//! out for himself.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sqlsentinel_common::timestamp::Timestamp;
use sqlsentinel_tests::cluster::{Plan, Role, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::on_both_state_databases;
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::target::Kind;
use sqlx::AssertSqlSafe;

on_both_state_databases!(a_row_that_is_deleted_by_hand_is_noticed_by_every_coordinator_and_by_anyone_who_looks);

const DIFFERENCES: &str = r#"sqlsentinel_audit_differences{kind="missed"} 1"#;

async fn a_row_that_is_deleted_by_hand_is_noticed_by_every_coordinator_and_by_anyone_who_looks(
    state: State,
) -> Result<()> {
    let plan = Plan::new(state).with(Role::Coordinator, 2).env("SQLSENTINEL_AUDIT_SECONDS", 1);
    let mut scene = Scene::set(plan, Kind::Sqlite).await?;
    scene.target.set("orders", "OK", 7).await?;
    scene.play(&scene.configuration().alert("orders", "every 1s", &scene.target.query("orders")))?;
    scene.until_more("orders", "OK", 3).await?;
    let (leader, _) = scene.cluster.leader().await?;
    let coordinators = scene.cluster.names(Some(Role::Coordinator));
    let standby = coordinators.iter().find(|name| **name != leader).context("nobody stands by")?.clone();

    for name in &coordinators {
        until_audit(&scene, name, "healthy", "is accounted for once").await?;
    }
    let checked = scene.cluster.ctl(&["audit"]).await?;
    ensure!(checked.code == Some(0), "{}", checked.output);
    let disposed = scene.cluster.page(&leader, "/metrics").await?.1;
    ensure!(disposed.contains(r#"sqlsentinel_fires_total{disposition="skipped_overlap"}"#), "{disposed}");

    let deleted = delete_an_ended_fire(&scene).await?;
    for name in &coordinators {
        until_audit(&scene, name, "unhealthy", "orders: 1 missed").await?;
        let metrics = scene.cluster.page(name, "/metrics").await?.1;
        ensure!(metrics.contains(DIFFERENCES), "{name}: {metrics}");
        ensure!(metrics.contains("sqlsentinel_health_status{check=\"audit\"} 2\n"), "{name}: {metrics}");
        let (ready, _) = scene.cluster.page(name, "/ready").await?;
        ensure!(ready == 200, "{name}: an audit holds up no rollout");
    }
    ensure!(scene.cluster.leader().await?.0 == leader, "the standby took over");
    let lines = error_lines(&scene, &standby)?;
    ensure!(lines.len() == 1, "one line, however many passes: {lines:?}");
    let context = &lines[0]["context"];
    ensure!((context["alert_name"].as_str(), context["missed"].as_i64()) == (Some("orders"), Some(1)), "{context}");
    ensure!(context["differences"].as_str().is_some_and(|told| told.contains(&deleted)), "{deleted}: {context}");

    let audited = scene.cluster.ctl(&["audit", "--output", "json"]).await?;
    ensure!(audited.code == Some(1), "{}", audited.output);
    let report: Value = serde_json::from_str(&audited.output)?;
    ensure!(report["in_order"] == false && report["totals"]["missed"] == 1, "{report}");
    ensure!(report["differences"][0]["moments"][0] == deleted.as_str(), "{report}");
    let cluster = scene.cluster.ctl(&["healthcheck", "--cluster", "--output", "json"]).await?;
    ensure!(cluster.code == Some(1), "{}", cluster.output);
    let report: Value = serde_json::from_str(&cluster.output)?;
    ensure!(report["checks"]["audit"]["status"] == "unhealthy", "{report}");

    sqlx::query("INSERT INTO sqlsentinel_fires SELECT * FROM kept").execute(scene.cluster.ledger.pool()).await?;
    until_audit(&scene, &standby, "healthy", "is accounted for once").await
}

async fn until_audit(scene: &Scene, name: &str, status: &str, words: &str) -> Result<()> {
    let check = || async { Ok(scene.cluster.health(name).await?["checks"]["audit"].clone()) };
    let expected = |check: &Value| {
        check["status"] == status && check["message"].as_str().is_some_and(|message| message.contains(words))
    };
    eventually(&format!("the audit of {name} says {status}"), SOON, check, expected).await.map(drop)
}

/// Deletes the row of a fire that has ended, and keeps it in the table `kept`; returns its moment as people read it.
async fn delete_an_ended_fire(scene: &Scene) -> Result<String> {
    let fires = scene.cluster.ledger.fires(Some("orders")).await?;
    let fire = fires.iter().find(|fire| fire.status == "OK").context("no fire has ended")?;
    let pool = scene.cluster.ledger.pool();
    let keep =
        format!("CREATE TABLE kept AS SELECT * FROM sqlsentinel_fires WHERE execution_id = '{}'", fire.execution_id);
    sqlx::query(AssertSqlSafe(keep)).execute(pool).await?;
    let deleted = sqlx::query("DELETE FROM sqlsentinel_fires WHERE execution_id = $1")
        .bind(fire.execution_id.clone())
        .execute(pool)
        .await?;
    ensure!(deleted.rows_affected() == 1, "it was there");
    Ok(Timestamp::from_micros(fire.scheduled_for).to_string())
}

fn error_lines(scene: &Scene, name: &str) -> Result<Vec<Value>> {
    let log = scene.cluster.log(name)?;
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(lines.filter(|line| line["logger"] == "sqlsentinel.coordinator.auditor" && line["level"] == "ERROR").collect())
}
