//! Who leads: one of many, its successor when it dies or freezes, and none of its commits after that.

#![expect(clippy::print_stdout, reason = "the runner shows what was measured")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sqlsentinel_tests::cluster::{Plan, Role, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::ledger::{Leadership, Unaccounted};
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

/// SQLite has no cure for a process that is stopped inside a write: fail-over promises are for PostgreSQL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_frozen_past_its_lease_commits_nothing_when_it_wakes() -> Result<()> {
    let mut scene = twenty_alerts().await?;
    for _ in 0..2 {
        let (frozen, reign) = scene.cluster.leader().await?;
        scene.cluster.process(&frozen)?.freeze().await?;
        wake_after_succession(&mut scene, &frozen, &reign).await?;
    }
    everything_is_accounted_for(&scene).await
}

/// The worst moment to be frozen: the transaction is open, and its row of the leadership is locked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_frozen_inside_a_transaction_neither_blocks_its_successor_nor_commits() -> Result<()> {
    let mut scene = twenty_alerts().await?;
    let (frozen, reign) = scene.cluster.leader().await?;
    let mut lock = scene.cluster.ledger.pool().begin().await?;
    sqlx::query("LOCK TABLE sqlsentinel_fires IN SHARE MODE").execute(&mut *lock).await?;
    let waiting = || async {
        let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%INTO sqlsentinel_fires%'";
        Ok(sqlx::query_scalar::<_, i64>(waiting).fetch_one(scene.cluster.ledger.pool()).await?)
    };
    eventually("the leader's transaction has come to the fires", SOON, waiting, |count| *count > 0).await?;
    scene.cluster.process(&frozen)?.freeze().await?;
    lock.rollback().await?;
    wake_after_succession(&mut scene, &frozen, &reign).await?;
    everything_is_accounted_for(&scene).await
}

async fn twenty_alerts() -> Result<Scene> {
    let mut scene = Scene::set(Plan::new(State::Postgres).with(Role::Coordinator, 2), Kind::Postgres).await?;
    let mut configuration = scene.configuration();
    for name in names() {
        scene.target.set(&name, "OK", 7).await?;
        configuration = configuration.alert(&name, "every 1s", &scene.target.query(&name));
    }
    scene.play(&configuration)?;
    scene.until_more("alert-0", "OK", 2).await?;
    Ok(scene)
}

fn names() -> impl Iterator<Item = String> {
    (0..20).map(|number| format!("alert-{number}"))
}

async fn wake_after_succession(scene: &mut Scene, frozen: &str, reign: &Leadership) -> Result<()> {
    let (successor, next_reign) = scene.cluster.successor_of(reign).await?;
    assert_ne!(successor, frozen);
    // The successor's first transaction locked the leadership: what the frozen one committed, it had committed then.
    let before = planned_in(scene, reign.epoch).await?;
    scene.cluster.process(frozen)?.thaw()?;
    // Ready again, it has noticed; and fires go on under the successor.
    wait_for_a_standby(scene, &successor).await?;
    scene.until_more("alert-0", "OK", 3).await?;
    assert_eq!(planned_in(scene, reign.epoch).await?, before, "a deposed leader wrote fires");
    assert_eq!(scene.cluster.ledger.leadership().await?.epoch, next_reign.epoch, "the successor still leads");
    assert!(scene.cluster.process(frozen)?.ended()?.is_none(), "a deposed leader stands by, it does not die");
    Ok(())
}

async fn planned_in(scene: &Scene, epoch: i64) -> Result<usize> {
    Ok(scene.cluster.ledger.fires(None).await?.iter().filter(|fire| fire.epoch == epoch).count())
}

async fn everything_is_accounted_for(scene: &Scene) -> Result<()> {
    let until = scene.cluster.ledger.leadership().await?.planned_through;
    let alerts: Vec<String> = names().collect();
    assert_eq!(scene.cluster.ledger.audit(&alerts, SECOND, until).await?, Unaccounted::default());
    Ok(())
}
