//! Workers hold nothing: killed in the middle of a query they lose nothing, and what they run on a target is bounded
//! and read-only.

use std::time::Duration;

use anyhow::Result;
use sqlsentinel_tests::cluster::{Plan, Role, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::on_both_state_databases;
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::target::Kind;

/// Often enough to begin soon, seldom enough that an undisturbed run ends before the next fire.
const SELDOM: &str = "every 8s";

on_both_state_databases!(an_execution_completes_once_though_all_workers_are_killed_in_the_middle_of_its_query);

async fn an_execution_completes_once_though_all_workers_are_killed_in_the_middle_of_its_query(
    state: State,
) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state).with(Role::Worker, 2), Kind::Postgres).await?;
    scene.target.set("orders", "ALERT", 7).await?;
    let query = scene.target.slow_query("orders", Duration::from_secs(3));
    scene.play(&scene.configuration().alert("orders", SELDOM, &query))?;

    let runs = || async { scene.runs("orders") };
    eventually("the query runs", SOON, runs, |runs| !runs.is_empty()).await?;
    scene.cluster.kill_all(Role::Worker).await?;
    assert!(scene.cluster.ledger.executions(None).await?.is_empty(), "the query had not ended");
    scene.cluster.start()?;

    let ended = scene.until_executions("orders", "the execution ends", |runs| !runs.is_empty()).await?;
    let fire = scene.cluster.ledger.fires(Some("orders")).await?.remove(0);
    assert_eq!((&fire.execution_id, fire.status.as_str()), (&ended[0].id, "ALERT"));
    assert_eq!(ended.iter().filter(|run| run.id == fire.execution_id).count(), 1);
    assert!(ended[0].attempt * ended[0].delivery >= 2, "the ledger must say that it was not the first run: {ended:?}");
    let runs_of_it =
        scene.runs("orders")?.iter().filter(|run| run.application_name.contains(&fire.execution_id)).count();
    assert_eq!(runs_of_it, 2, "one run was cut off, one completed");
    scene.until_received("orders", 1).await?;
    assert_eq!(scene.sink.received().len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_asked_to_stop_finishes_its_query() -> Result<()> {
    let mut scene = Scene::set(Plan::new(State::Sqlite), Kind::Postgres).await?;
    scene.target.set("orders", "OK", 7).await?;
    let query = scene.target.slow_query("orders", Duration::from_secs(2));
    scene.play(&scene.configuration().alert("orders", SELDOM, &query))?;
    eventually("the query runs", SOON, || async { scene.runs("orders") }, |runs| !runs.is_empty()).await?;

    let status = scene.cluster.terminate("worker-1").await?;
    assert!(status.success(), "{status}");
    let ended = scene.until_executions("orders", "the execution ends", |runs| !runs.is_empty()).await?;
    assert_eq!((ended[0].status.as_str(), ended[0].attempt, ended[0].delivery), ("OK", 1, 1));
    assert_eq!(scene.runs("orders")?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_hangs_is_cancelled_on_the_server_and_frees_its_slot() -> Result<()> {
    let mut scene = Scene::set(Plan::new(State::Sqlite), Kind::Postgres).await?;
    scene.target.set("orders", "OK", 7).await?;
    scene.target.set("stuck", "OK", 7).await?;
    let slow = scene.target.slow_query("stuck", Duration::from_secs(600));
    let configuration = scene.configuration().alert_with("stuck", "every 2s", &slow, &[("timeout", "1s")]);
    scene.play(&configuration.alert("orders", "every 1s", &scene.target.query("orders")))?;

    let ended = scene.until_more("stuck", "ERROR", 2).await?;
    assert!(ended[0].error.contains("1 s") || ended[0].error.contains("time"), "{ended:?}");
    scene.until_more("orders", "OK", 1).await?;
    scene.cluster.terminate("worker-1").await?;
    let pool = scene.target_pool().await?;
    let left = || async {
        let sleeping = "SELECT COUNT(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND state = 'active' AND pid <> pg_backend_pid()";
        Ok(sqlx::query_scalar::<_, i64>(sleeping).fetch_one(&pool).await?)
    };
    eventually("no query is left on the server", SOON, left, |count| *count == 0).await?;
    Ok(())
}

/// Invariant 8, against every way out of a read-only transaction that is known here; the alerts' role could write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_query_writes_to_its_target() -> Result<()> {
    let mut scene = Scene::set(Plan::new(State::Sqlite), Kind::Postgres).await?;
    scene.target.set("orders", "OK", 7).await?;
    scene.target.run("CREATE TABLE victims (x INT)").await?;
    scene
        .target
        .run("CREATE FUNCTION hidden() RETURNS TEXT LANGUAGE sql AS $$ INSERT INTO victims VALUES (1); SELECT 'OK' $$")
        .await?;
    let attempts = [
        "INSERT INTO victims VALUES (2) RETURNING 'OK' AS status",
        "WITH w AS (INSERT INTO victims VALUES (3) RETURNING 1) SELECT 'OK' AS status FROM w",
        "SELECT 'OK' AS status; INSERT INTO victims VALUES (4)",
        "COMMIT; INSERT INTO victims VALUES (5)",
        "SELECT hidden() AS status",
        "SELECT 'OK' AS status INTO victims2",
        "SELECT 'OK' AS status, set_config('transaction_read_only', 'off', false)",
    ];
    let mut configuration = scene.configuration();
    for (number, query) in attempts.iter().enumerate() {
        configuration = configuration.alert(&format!("attempt-{number}"), "every 1s", query);
    }
    scene.cluster.configure(configuration.alert("orders", "every 1s", &scene.target.query("orders")).text())?;
    scene.cluster.start()?;
    for number in 0..attempts.len() {
        scene.until_more(&format!("attempt-{number}"), "ERROR", 2).await?;
    }
    let pool = scene.target_pool().await?;
    assert_eq!(sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM victims").fetch_one(&pool).await?, 0);
    let tables = "SELECT COUNT(*) FROM pg_tables WHERE tablename = 'victims2'";
    assert_eq!(sqlx::query_scalar::<_, i64>(tables).fetch_one(&pool).await?, 0);
    Ok(())
}
