//! A leader that makes room for another because it was asked to: by an operator, or by the signal to stop.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use sqlsentinel_tests::cluster::{Plan, Role, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::ledger::Unaccounted;
use sqlsentinel_tests::process::Signal;
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::stamps::{Stamps, hand_over, out_of_order};
use sqlsentinel_tests::target::Kind;
use sqlsentinel_tests::wall_clock::{SECOND, now};

#[derive(Clone, Copy, Debug)]
enum Asked {
    ByAnOperator,
    BySignal,
}

async fn play(coordinators: usize) -> Result<(Scene, Stamps)> {
    let plan = Plan::new(State::Postgres).with(Role::Coordinator, coordinators);
    let mut scene = Scene::set(plan, Kind::Sqlite).await?;
    scene.target.set("orders", "OK", 7).await?;
    scene.play(&scene.configuration().alert("orders", "every 1s", &scene.target.query("orders")))?;
    scene.until_more("orders", "OK", 1).await?;
    let stamps = Stamps::begin(scene.cluster.ledger.pool()).await?;
    all_ready(&scene).await?;
    scene.until_more("orders", "OK", 2).await?;
    Ok((scene, stamps))
}

async fn all_ready(scene: &Scene) -> Result<()> {
    for name in scene.cluster.names(Some(Role::Coordinator)) {
        let ready = || async { Ok(scene.cluster.page(&name, "/ready").await?.0) };
        eventually("it is ready", SOON, ready, |status| *status == 200).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_asked_to_step_down_or_to_stop_hands_over_at_once_and_nothing_is_missed() -> Result<()> {
    let (mut scene, stamps) = play(2).await?;
    let mut taken = Vec::new();
    for asked in [Asked::ByAnOperator, Asked::BySignal].repeat(3) {
        let (leader, reign) = scene.cluster.leader().await?;
        let began = now();
        match asked {
            Asked::ByAnOperator => step_down(&scene, &leader).await?,
            Asked::BySignal => scene.cluster.process(&leader)?.signal(Signal::TERM)?,
        }
        let (successor, _) = scene.cluster.successor_of(&reign).await?;
        assert_ne!(successor, leader);
        let (_, first) = hand_over(&stamps.committed().await?, reign.epoch)?;
        taken.push((asked, Duration::from_micros(first.abs_diff(began))));
        if let Asked::BySignal = asked {
            let status = scene.cluster.process(&leader)?.wait(SOON).await?;
            assert!(status.success(), "{leader} stopped with {status}");
            scene.cluster.forget(&leader)?;
            scene.cluster.start_one(&leader)?;
        }
        all_ready(&scene).await?;
        scene.until_more("orders", "OK", 2).await?;
        assert_eq!(scene.cluster.leader().await?.0, successor, "the former leader stands by");
    }
    println!("from the request to the successor's claim: {taken:?}");
    let committed = stamps.committed().await?;
    for epoch in sqlsentinel_tests::stamps::epochs(&committed) {
        if let Ok((last, first)) = hand_over(&committed, epoch) {
            let between = Duration::from_micros(first.abs_diff(last));
            println!("epoch {epoch}: {between:?} from its last commit to its successor's claim");
        }
    }
    // Waiting for the lease to expire would take its whole 5 s, however fast the machine.
    assert!(taken.iter().all(|(_, time)| *time < Duration::from_secs(4)), "{taken:?}");
    assert_eq!(out_of_order(&committed), []);
    let until = scene.cluster.ledger.leadership().await?.planned_through;
    let audit = scene.cluster.ledger.audit(&["orders".to_owned()], SECOND, until).await?;
    assert_eq!(audit, Unaccounted::default());
    Ok(())
}

/// Asks as an operator does, and checks what the operator is told.
async fn step_down(scene: &Scene, leader: &str) -> Result<()> {
    let ended = scene.cluster.ctl(&["leader", "step-down", "--user", "eve", "--output", "json"]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    let answer: Value = serde_json::from_str(&ended.output).context(ended.output)?;
    assert_eq!((&answer["former"], &answer["stepped_down"]), (&leader.into(), &true.into()), "{answer}");
    assert!(answer["leader"].is_string() && answer["leader"] != leader, "{answer}");
    let log = scene.cluster.log(leader)?;
    assert!(
        log.lines().any(|line| line.contains("asked to step down") && line.contains(r#""user":"eve""#)),
        "no record"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_alone_refuses_to_step_down_unless_it_is_forced_and_leads_again_then() -> Result<()> {
    let (scene, stamps) = play(1).await?;
    let ended = scene.cluster.ctl(&["leader"]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    assert!(ended.output.starts_with("coordinator-1 leads: epoch 1, since "), "{}", ended.output);

    let ended = scene.cluster.ctl(&["leader", "step-down", "--user", "eve"]).await?;
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    assert!(ended.output.contains("coordinator-1 still leads") && ended.output.contains("--force"), "{}", ended.output);
    assert_eq!(scene.cluster.ledger.leadership().await?.epoch, 1);

    let (_, reign) = scene.cluster.leader().await?;
    let ended = scene.cluster.ctl(&["leader", "step-down", "--force", "--user", "eve"]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    let (again, _) = scene.cluster.successor_of(&reign).await?;
    assert_eq!(again, "coordinator-1");
    scene.until_more("orders", "OK", 1).await?;
    assert_eq!(out_of_order(&stamps.committed().await?), []);
    Ok(())
}
