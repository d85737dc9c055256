//! The consumer of a source that no file names any more is dropped by the leader, when nobody needs it.

use anyhow::{Context, Result};
use futures::TryStreamExt;
use sqlsentinel_tests::cluster::{Plan, Role, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::ledger::{Execution, Fire};
use sqlsentinel_tests::on_both_state_databases;
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::target::Kind;

on_both_state_databases!(
    a_source_that_goes_loses_its_consumer_and_one_that_comes_back_works_again,
    jobs_that_nobody_takes_any_more_do_not_keep_the_consumer_of_a_source_that_is_gone,
);

fn yaml(scene: &Scene, late: bool) -> String {
    let url = scene.target.url();
    let alert = |name: &str, database: &str| {
        let query = scene.target.query("orders");
        format!("  - {{name: {name}, database: {database}, schedule: every 1s, query: \"{query}\", notify: []}}\n")
    };
    let (databases, late) = match late {
        true => (format!("databases: {{late: {{url: '{url}'}}}}\n"), alert("late", "late")),
        false => Default::default(),
    };
    format!("database: {{url: '{url}'}}\n{databases}alerts:\n{}{late}", alert("orders", "default"))
}

async fn set(plan: Plan) -> Result<Scene> {
    let scene = Scene::set(plan, Kind::Sqlite).await?;
    scene.target.set("orders", "OK", 7).await?;
    Ok(scene)
}

async fn consumers(scene: &Scene) -> Result<Vec<String>> {
    let stream = scene.cluster.nats.jetstream().await?.get_stream("JOBS").await?;
    let mut names: Vec<String> = stream.consumer_names().try_collect().await?;
    names.sort();
    Ok(names)
}

async fn until_consumers(scene: &Scene, expected: &[&str]) -> Result<()> {
    let names = || consumers(scene);
    eventually(&format!("the consumers are {expected:?}"), SOON, names, |names| *names == expected).await?;
    scene.cluster.all_alive()
}

/// Waits until the leader has kept order twice: what it declares comes back.
async fn until_looked_twice(scene: &Scene) -> Result<()> {
    for _ in 0..2 {
        scene.cluster.nats.jetstream().await?.delete_stream("DEAD").await?;
        let depth = || async { scene.cluster.nats.depth("DEAD").await };
        eventually("the leader has looked", SOON, depth, Option::is_some).await?;
    }
    Ok(())
}

async fn a_source_that_goes_loses_its_consumer_and_one_that_comes_back_works_again(state: State) -> Result<()> {
    let mut scene = set(Plan::new(state)).await?;
    scene.cluster.configure(&yaml(&scene, true))?;
    scene.cluster.start()?;
    for _ in 0..2 {
        scene.until_more("late", "OK", 1).await?;
        until_consumers(&scene, &["worker-default", "worker-late"]).await?;
        scene.cluster.configure(&yaml(&scene, false))?;
        until_consumers(&scene, &["worker-default"]).await?;
        scene.until_more("orders", "OK", 1).await?;
        scene.cluster.configure(&yaml(&scene, true))?;
    }
    scene.until_more("late", "OK", 1).await?;
    let audit = scene.cluster.ctl(&["audit"]).await?;
    assert_eq!(audit.code, Some(0), "{}", audit.output);
    Ok(())
}

async fn jobs_that_nobody_takes_any_more_do_not_keep_the_consumer_of_a_source_that_is_gone(state: State) -> Result<()> {
    let mut scene = set(Plan::new(state).with(Role::Worker, 0)).await?;
    scene.cluster.configure(&yaml(&scene, true))?;
    scene.cluster.start()?;
    let depth = || async { scene.cluster.nats.depth("JOBS").await };
    eventually("a job of each source waits", SOON, depth, |depth| *depth == Some(2)).await?;
    scene.cluster.configure(&yaml(&scene, false))?;
    until_consumers(&scene, &["worker-default"]).await?;
    let open = || async {
        let fires = scene.cluster.ledger.fires(Some("late")).await?;
        Ok(fires.iter().filter(|fire| fire.status != "SKIPPED").count())
    };
    eventually("its fires have ended", SOON, open, |open| *open == 0).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_with_an_older_file_keeps_the_consumer_until_it_has_the_new_one() -> Result<()> {
    let mut scene = set(Plan::new(State::Sqlite)).await?;
    let (with, without) = (yaml(&scene, true), yaml(&scene, false));
    scene.cluster.configure_one("coordinator-1", &with)?;
    scene.cluster.configure(&with)?;
    scene.cluster.start()?;
    scene.until_more("late", "OK", 1).await?;
    scene.cluster.configure_one("coordinator-1", &without)?;
    let open = || async { scene.cluster.ledger.valid_from("late").await.map_or(Ok(true), |_| Ok(false)) };
    eventually("no definition in force names it", SOON, open, |gone| *gone).await?;
    until_looked_twice(&scene).await?;
    until_consumers(&scene, &["worker-default", "worker-late"]).await?;
    let (_, health) = scene.cluster.page("worker-1", "/health").await?;
    assert!(health.contains("2 of 2 sources in order"), "{health}");

    scene.cluster.configure(&without)?;
    until_consumers(&scene, &["worker-default"]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fire_that_was_planned_on_a_source_that_is_gone_keeps_its_consumer_until_it_has_ended() -> Result<()> {
    let mut scene = set(Plan::new(State::Sqlite)).await?;
    let with = yaml(&scene, true);
    // The alert stays, on another database.
    let moved = yaml(&scene, false).replacen("name: orders", "name: late", 1);
    scene.cluster.configure_one("worker-1", &with)?;
    scene.cluster.configure(&with)?;
    for member in ["coordinator-1", "notifier-1"] {
        scene.cluster.start_one(member)?;
    }
    let fires = || async { scene.cluster.ledger.fires(Some("late")).await };
    let open = |fires: &[Fire]| fires.iter().find(|fire| fire.status == "QUEUED").cloned();
    let fires_then = eventually("a fire of it waits", SOON, fires, |fires| open(fires).is_some()).await?;
    let fire = open(&fires_then).context("a fire")?;
    let began = scene.cluster.ledger.valid_from("late").await?;
    scene.cluster.configure(&moved)?;
    let from = || async { scene.cluster.ledger.valid_from("late").await };
    eventually("the alert is on another database", SOON, from, |from| *from > began).await?;
    until_looked_twice(&scene).await?;
    until_consumers(&scene, &["worker-default", "worker-late"]).await?;

    scene.cluster.start()?;
    let run = |runs: &[Execution]| runs.iter().any(|run| run.id == fire.execution_id && run.status == "OK");
    scene.until_executions("late", "the fire has run", run).await?;
    scene.cluster.configure_one("worker-1", &moved)?;
    until_consumers(&scene, &["worker-default"]).await
}
