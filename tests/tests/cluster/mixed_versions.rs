//! While versions are mixed, an older process may be handed a message of a newer one that it cannot read. It is kept aside
//! with the reason, and its fire is run again.

use anyhow::{Context, Result};
use serde_json::Value;
use sqlsentinel_tests::cluster::{Plan, Role, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::target::Kind;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_of_a_newer_version_is_kept_aside_and_its_fire_is_run_again() -> Result<()> {
    a_message_of_a_newer_version("JOBS", Role::Worker).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_of_a_newer_version_is_kept_aside_and_its_fire_is_run_again() -> Result<()> {
    a_message_of_a_newer_version("RESULTS", Role::Notifier).await
}

async fn a_message_of_a_newer_version(stream: &str, reader: Role) -> Result<()> {
    let mut scene = Scene::set(Plan::new(State::Sqlite).env("SQLSENTINEL_RESCUE_SECONDS", 1), Kind::Sqlite).await?;
    scene.target.set("orders", "OK", 7).await?;
    // While a fire is open, no other is queued.
    scene.play(&scene.configuration().alert("orders", "every 1s", &scene.target.query("orders")))?;
    scene.until_more("orders", "OK", 1).await?;
    scene.cluster.kill_all(reader).await?;
    let jetstream = scene.cluster.nats.jetstream().await?;
    let depth = || async { scene.cluster.nats.depth(stream).await };
    eventually("one message waits", SOON, depth, |depth| *depth == Some(1)).await?;

    let messages = jetstream.get_stream(stream).await?;
    let sequence = messages.get_info().await?.state.first_sequence;
    let written = messages.get_raw_message(sequence).await?;
    let mut newer: Value = serde_json::from_slice(&written.payload)?;
    newer["version"] = 2.into();
    messages.delete_message(sequence).await?;
    jetstream.publish(written.subject, newer.to_string().into()).await?.await?;
    scene.cluster.start()?;

    let letters = jetstream.get_stream("DEAD").await?;
    let letter = || async { Ok(letters.get_last_raw_message_by_subject("dead.*").await?) };
    let letter = eventually("it is kept aside", SOON, letter, |_| true).await?;
    let letter: Value = serde_json::from_slice(&letter.payload)?;
    let reason = letter["reason"].as_str().context("a reason")?;
    assert!(reason.contains("message version 2 is not readable here"), "{letter}");
    let fire = newer["execution_id"].as_str().context("an id")?;
    let runs = |runs: &[sqlsentinel_tests::ledger::Execution]| runs.iter().any(|run| run.id == fire);
    let runs = scene.until_executions("orders", "the fire is run again", runs).await?;
    let run = runs.iter().find(|run| run.id == fire).context("its run")?;
    assert_eq!((run.status.as_str(), run.attempt), ("OK", 2));
    scene.until_more("orders", "OK", 2).await?;
    assert_eq!(scene.cluster.nats.depth("DEAD").await?, Some(1));
    Ok(())
}
