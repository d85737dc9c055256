//! The bus is transport, SQL is truth: whatever happens to NATS and its streams, no fire is lost.

use std::time::Duration;

use anyhow::Result;
use sqlsentinel_tests::cluster::{Plan, Role, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::ledger::Unaccounted;
use sqlsentinel_tests::on_both_state_databases;
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::target::Kind;
use sqlsentinel_tests::wall_clock::{SECOND, now};

on_both_state_databases!(
    every_fire_ends_though_both_streams_are_deleted_under_load,
    every_fire_ends_though_nats_is_killed_and_started_again,
    what_nobody_can_read_is_kept_aside_and_holds_up_nothing,
);

const ALERTS: usize = 10;
/// Longer than rescue needs after a loss: it has to see the results drained, and may have to wait for a deadline.
const RESCUED: Duration = Duration::from_secs(120);

fn names() -> Vec<String> {
    (0..ALERTS).map(|number| format!("alert-{number}")).collect()
}

async fn under_load(state: State) -> Result<Scene> {
    let plan = Plan::new(state).with(Role::Worker, 2).env("SQLSENTINEL_RESCUE_SECONDS", 2);
    let mut scene = Scene::set(plan, Kind::Sqlite).await?;
    let mut configuration = scene.configuration();
    for name in names() {
        scene.target.set(&name, "OK", 7).await?;
        configuration = configuration.alert_with(&name, "every 1s", &scene.target.query(&name), &[("timeout", "5s")]);
    }
    scene.play(&configuration)?;
    scene.until_more("alert-0", "OK", 2).await?;
    Ok(scene)
}

async fn every_fire_ended(scene: &Scene) -> Result<()> {
    let moment = now();
    let fires = scene.until_closed(moment, RESCUED).await?;
    assert!(fires.iter().any(|fire| fire.status == "OK"));
    let until = moment / SECOND * SECOND;
    assert_eq!(scene.cluster.ledger.audit(&names(), SECOND, until).await?, Unaccounted::default());
    // And the road is open again.
    for name in names() {
        scene.until_more(&name, "OK", 1).await?;
    }
    Ok(())
}

async fn every_fire_ends_though_both_streams_are_deleted_under_load(state: State) -> Result<()> {
    let scene = under_load(state).await?;
    for _ in 0..3 {
        let jetstream = scene.cluster.nats.jetstream().await?;
        jetstream.delete_stream("JOBS").await?;
        jetstream.delete_stream("RESULTS").await?;
        let streams =
            || async { Ok((scene.cluster.nats.depth("JOBS").await?, scene.cluster.nats.depth("RESULTS").await?)) };
        let back = |(jobs, results): &(Option<u64>, Option<u64>)| jobs.is_some() && results.is_some();
        eventually("the streams are declared again", SOON, streams, back).await?;
        scene.until_more("alert-0", "OK", 2).await?;
    }
    every_fire_ended(&scene).await
}

async fn every_fire_ends_though_nats_is_killed_and_started_again(state: State) -> Result<()> {
    let mut scene = under_load(state).await?;
    scene.cluster.nats.kill().await?;
    // Longer than the lease, so that nobody leads for a while.
    tokio::time::sleep(Duration::from_secs(8)).await;
    scene.cluster.nats.start_again().await?;
    scene.until_more("alert-0", "OK", 2).await?;
    every_fire_ended(&scene).await
}

async fn what_nobody_can_read_is_kept_aside_and_holds_up_nothing(state: State) -> Result<()> {
    let scene = under_load(state).await?;
    let jetstream = scene.cluster.nats.jetstream().await?;
    for subject in ["jobs.default.nonsense", "results.default.nonsense"] {
        jetstream.publish(subject, "no JSON".into()).await?.await?;
    }
    let dead = || async { scene.cluster.nats.depth("DEAD").await };
    eventually("both are in the dead-letter stream", SOON, dead, |depth| *depth == Some(2)).await?;
    for (role, name) in [
        (Role::Worker, "sqlsentinel_worker_dead_letters_total"),
        (Role::Notifier, "sqlsentinel_outcomes_total{result=\"dead_lettered\"}"),
    ] {
        // One of them had it.
        let counted = || async {
            let mut pages = String::new();
            for process in scene.cluster.names(Some(role)) {
                pages += &scene.cluster.page(&process, "/metrics").await?.1;
            }
            let values = pages.lines().filter_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
            Ok(values.sum::<f64>())
        };
        eventually(&format!("{name} is 1"), SOON, counted, |sum| *sum == 1.0).await?;
    }
    every_fire_ended(&scene).await
}
