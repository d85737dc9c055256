//! Who leads: one of many, and its successor when it dies or is asked to stop. What a deposed one may still do (nothing) is
//! [`crate::fencing`]'s subject.

#![expect(clippy::print_stdout, reason = "the runner shows what was measured")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sqlsentinel_tests::cluster::{Plan, Role, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::on_both_state_databases;
use sqlsentinel_tests::process::Signal;
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::target::Kind;
use sqlsentinel_tests::wall_clock::{SECOND, now, sleep_until};

on_both_state_databases!(
    coordinators_that_start_at_once_on_an_empty_database_all_live,
    of_two_coordinators_one_leads,
    a_fire_runs_once_though_the_leader_is_killed_three_seconds_before_it,
    a_planned_hand_over_takes_less_than_a_second,
);

async fn coordinators_that_start_at_once_on_an_empty_database_all_live(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state).with(Role::Coordinator, 4), Kind::Sqlite).await?;
    scene.target.set("orders", "OK", 7).await?;
    scene.play(&scene.configuration().alert("orders", "every 1s", &scene.target.query("orders")))?;
    for name in scene.cluster.names(None) {
        let ready = || async { Ok(scene.cluster.page(&name, "/ready").await?.0) };
        eventually("it is ready", SOON, ready, |status| *status == 200).await?;
    }
    scene.until_more("orders", "OK", 1).await?;
    Ok(())
}

async fn of_two_coordinators_one_leads(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state).with(Role::Coordinator, 2), Kind::Postgres).await?;
    scene.target.set("orders", "OK", 7).await?;
    scene.play(&scene.configuration().alert("orders", "every 1s", &scene.target.query("orders")))?;
    scene.until_more("orders", "OK", 5).await?;

    let fires = scene.cluster.ledger.fires(None).await?;
    let epochs: BTreeSet<i64> = fires.iter().map(|fire| fire.epoch).collect();
    assert_eq!(epochs.len(), 1, "one leader planned everything: {epochs:?}");
    let ended: BTreeSet<_> = scene.cluster.ledger.executions(None).await?.into_iter().map(|run| run.id).collect();
    let runs = scene.runs("orders")?;
    assert!(runs.len() >= ended.len() && runs.len() <= ended.len() + 2, "{} runs, {} ended", runs.len(), ended.len());
    Ok(())
}

async fn a_fire_runs_once_though_the_leader_is_killed_three_seconds_before_it(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state).with(Role::Coordinator, 2), Kind::Postgres).await?;
    scene.target.set("orders", "OK", 7).await?;
    // Far enough ahead for everything to stand before; the same minute and second comes again in an hour.
    let fire_at = (now() / SECOND + 15) * SECOND;
    let (minute, second) = (fire_at / SECOND / 60 % 60, fire_at / SECOND % 60);
    let schedule = format!("{second} {minute} * * * *");
    scene.play(&scene.configuration().alert("orders", &schedule, &scene.target.query("orders")))?;
    let (leader, reign) = scene.cluster.leader().await?;

    sleep_until(fire_at - 3 * SECOND).await;
    assert!(now() < fire_at, "this machine was too slow for the test to mean anything");
    scene.cluster.kill(&leader).await?;
    scene.cluster.successor_of(&reign).await?;
    // Not "one more": it may have ended before the successor was seen.
    scene.until_executions("orders", "the run of the fire", |runs| !runs.is_empty()).await?;

    let fires = scene.cluster.ledger.fires(None).await?;
    assert_eq!(fires.len(), 1, "{fires:?}");
    assert_eq!((fires[0].scheduled_for, fires[0].status.as_str()), (fire_at, "OK"));
    assert!(fires[0].epoch > reign.epoch);
    assert_eq!(scene.runs("orders")?.len(), 1);
    Ok(())
}

async fn a_planned_hand_over_takes_less_than_a_second(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state).with(Role::Coordinator, 2), Kind::Sqlite).await?;
    scene.target.set("orders", "OK", 7).await?;
    scene.play(&scene.configuration().alert("orders", "every 1s", &scene.target.query("orders")))?;
    scene.until_more("orders", "OK", 1).await?;

    let mut taken = Vec::new();
    for _ in 0..3 {
        let (leader, reign) = scene.cluster.leader().await?;
        wait_for_a_standby(&scene, &leader).await?;
        let began = Instant::now();
        scene.cluster.process(&leader)?.signal(Signal::TERM)?;
        scene.cluster.successor_of(&reign).await?;
        taken.push(began.elapsed());
        let status = scene.cluster.process(&leader)?.wait(SOON).await?;
        assert!(status.success(), "{leader} stopped with {status}");
        scene.cluster.forget(&leader)?;
        scene.cluster.start_one(&leader)?;
    }
    println!("planned hand-overs took {taken:?}");
    let best = taken.iter().min().context("three hand-overs")?;
    assert!(*best < Duration::from_secs(1), "{taken:?}");
    // Waiting for the lease to expire would take its whole 5 s, however fast the machine.
    assert!(taken.iter().all(|time| *time < Duration::from_secs(4)), "{taken:?}");
    Ok(())
}

async fn wait_for_a_standby(scene: &Scene, leader: &str) -> Result<()> {
    for name in scene.cluster.names(Some(Role::Coordinator)).iter().filter(|name| *name != leader) {
        let ready = || async { Ok(scene.cluster.page(name, "/ready").await?.0) };
        eventually("the standby is ready", SOON, ready, |status| *status == 200).await?;
    }
    Ok(())
}
