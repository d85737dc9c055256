//! The state database is put back by more than five seconds, as after a restore: it is noticed, everything is accounted
//! for, and whatever is told twice says so.

#![expect(clippy::print_stdout, reason = "the runner shows what was measured")]

use std::time::Duration;

use anyhow::{Context, Result};
use sqlsentinel_tests::cluster::{Plan, Role, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::ledger::Unaccounted;
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::sink::Answer;
use sqlsentinel_tests::wall_clock::{SECOND, now};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_put_back_under_a_living_leader_is_noticed_and_what_comes_twice_is_marked() -> Result<()> {
    put_back(Leader::Lives).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_put_back_while_the_leader_died_is_noticed_by_the_next_and_what_comes_twice_is_marked() -> Result<()>
{
    put_back(Leader::Dies).await
}

#[derive(Clone, Copy, PartialEq)]
enum Leader {
    Lives,
    Dies,
}

async fn put_back(leader_then: Leader) -> Result<()> {
    let plan = Plan::new(State::Postgres).with(Role::Coordinator, 2).env("SQLSENTINEL_RESCUE_SECONDS", 1);
    let mut scene = Scene::set_apart(plan).await?;
    let alerts = ["orders", "flips", "waits"].map(str::to_owned);
    let mut configuration = scene.configuration();
    for name in &alerts {
        scene.target.set(name, "OK", 7).await?;
        configuration = configuration.alert(name, "every 1s", &scene.target.query(name));
    }
    scene.play(&configuration)?;
    scene.until_more("orders", "OK", 2).await?;

    // In the copy: one notification that could not be delivered yet.
    scene.sink.answer(Answer::Status(503));
    scene.target.set("waits", "ALERT", 120).await?;
    scene.until_received("waits", 1).await?;
    let copied = now();
    scene.cluster.postgres.as_mut().context("the state is on PostgreSQL")?.copy().await?;

    // What is lost: it is delivered, another alert is told, and seconds pass.
    scene.sink.answer(Answer::Status(200));
    let delivered = || async { scene.cluster.ledger.notifications(Some("waits")).await };
    eventually("it is delivered", SOON, delivered, |rows| rows.iter().any(|row| row.status == "SENT")).await?;
    scene.target.set("flips", "ALERT", 120).await?;
    scene.until_received("flips", 1).await?;
    let row = || async { scene.cluster.ledger.leadership().await };
    eventually("five seconds are planned", SOON, row, |row| row.planned_through > copied + 5 * SECOND).await?;
    let (leader, reign) = scene.cluster.leader().await?;

    let server = scene.cluster.postgres.as_mut().context("the state is on PostgreSQL")?;
    server.stop().await?;
    let told = scene.sink.received().len();
    if leader_then == Leader::Dies {
        scene.cluster.kill(&leader).await?;
    }
    let server = scene.cluster.postgres.as_mut().context("the state is on PostgreSQL")?;
    server.put_back()?;
    server.start_again().await?;
    let began = now();

    let (successor, _) = scene.cluster.successor_of(&reign).await?;
    println!("noticed {:?} after the database was back", Duration::from_micros(now().abs_diff(began)));
    assert!(leader_then == Leader::Lives || successor != leader);
    for name in ["flips", "waits"] {
        let again =
            || async { Ok(scene.sink.received()[told..].iter().filter(|r| r.text("alert_name") == name).count()) };
        eventually("it is told again", SOON, again, |count| *count > 0).await?;
    }
    scene.until_more("orders", "OK", 3).await?;
    let moment = now();
    scene.until_closed(moment, Duration::from_secs(120)).await?;

    let until = moment / SECOND * SECOND;
    assert_eq!(scene.cluster.ledger.audit(&alerts, SECOND, until).await?, Unaccounted::default());
    for request in &scene.sink.received()[told..] {
        assert_eq!(request.json["possible_duplicate"], true, "told twice, and does not say so: {}", request.json);
    }
    let critical = |line: &str| line.contains(r#""level":"CRITICAL""#) && line.contains("gone back in time");
    assert!(scene.cluster.log(&successor)?.lines().any(critical), "nobody has said so");
    let (_, figures) = scene.cluster.page(&successor, "/metrics").await?;
    assert!(figures.contains("sqlsentinel_state_rollbacks_total 1"), "{figures}");
    println!(
        "dead letters: {:?}, told again: {}",
        scene.cluster.nats.depth("DEAD").await?,
        scene.sink.received().len() - told
    );
    scene.cluster.all_alive()
}
