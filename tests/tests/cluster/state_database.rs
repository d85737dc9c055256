//! The state database goes away, and what was due meanwhile is accounted for when it comes back.

use std::time::Duration;

use anyhow::Result;
use sqlsentinel_tests::cluster::{Plan, Role, State};
use sqlsentinel_tests::ledger::Unaccounted;
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::wall_clock::{SECOND, now};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fire_is_accounted_for_though_the_state_database_was_away_for_ten_seconds() -> Result<()> {
    let plan = Plan::new(State::Postgres).with(Role::Coordinator, 2).with(Role::Worker, 2).with(Role::Notifier, 2);
    let mut scene = Scene::set_apart(plan).await?;
    let names: Vec<String> = (0..10).map(|number| format!("alert-{number}")).collect();
    let mut configuration = scene.configuration();
    for name in &names {
        scene.target.set(name, "OK", 7).await?;
        configuration = configuration.alert(name, "every 1s", &scene.target.query(name));
    }
    scene.play(&configuration)?;
    scene.until_more("alert-0", "OK", 3).await?;

    let Some(server) = scene.cluster.postgres.as_mut() else { anyhow::bail!("the state is on PostgreSQL") };
    server.away_for(Duration::from_secs(10)).await?;

    // Nobody died of it, and what changes afterwards is told.
    scene.target.set("alert-0", "ALERT", 120).await?;
    scene.until_received("alert-0", 1).await?;
    for name in scene.cluster.names(None) {
        assert!(scene.cluster.process(&name)?.ended()?.is_none(), "{name} ended");
    }
    let moment = now();
    scene.until_closed(moment, Duration::from_secs(120)).await?;
    let until = moment / SECOND * SECOND;
    assert_eq!(scene.cluster.ledger.audit(&names, SECOND, until).await?, Unaccounted::default());
    assert_eq!(scene.sink.received().len(), 1);
    Ok(())
}
