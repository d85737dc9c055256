//! When somebody is told, on the whole road: silences, `consecutive`, `repeat_interval` and `send_resolved` of a running
//! cluster with two notifiers.

use anyhow::{Result, ensure};
use sqlsentinel_tests::cluster::{Plan, Role, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::on_both_state_databases;
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::target::Kind;
use sqlsentinel_tests::wall_clock::SECOND;

on_both_state_databases!(
    a_silence_keeps_an_alert_back_and_its_end_tells_it_once,
    an_alert_is_told_after_as_many_as_it_asks_for_again_and_when_it_ends,
);

/// What was told of an alert, by kind.
async fn kinds(scene: &Scene, alert: &str) -> Result<Vec<String>> {
    Ok(scene.cluster.ledger.notifications(Some(alert)).await?.into_iter().map(|told| told.kind).collect())
}

async fn ctl(scene: &Scene, arguments: &[&str]) -> Result<String> {
    let ended = scene.cluster.ctl(arguments).await?;
    ensure!(ended.code == Some(0), "{arguments:?}: {ended:?}");
    Ok(ended.output)
}

async fn a_silence_keeps_an_alert_back_and_its_end_tells_it_once(state: State) -> Result<()> {
    let plan = Plan::new(state).with(Role::Notifier, 2);
    let mut scene = Scene::set(plan, Kind::Sqlite).await?;
    for name in ["orders", "loud"] {
        scene.target.set(name, "OK", 7).await?;
    }
    let configuration = scene.configuration();
    let configuration = configuration.alert("orders", "every 1s", &scene.target.query("orders"));
    let configuration = configuration.alert("loud", "every 1s", &scene.target.query("loud"));
    scene.play(&configuration)?;
    scene.until_more("orders", "OK", 1).await?;

    let silenced = ctl(&scene, &["silence", "--alert", "orders", "--duration", "1h", "--user", "eve"]).await?;
    ensure!(silenced.contains("`orders` is silenced until"), "{silenced}");
    ensure!(ctl(&scene, &["silences"]).await?.contains("eve"), "the silence is listed");
    ensure!(
        ctl(&scene, &["status", "--output", "json", "--alert", "orders"]).await?.contains("\"silenced\": true"),
        "status"
    );
    for name in ["orders", "loud"] {
        scene.target.set(name, "ALERT", 120).await?;
    }
    scene.until_received("loud", 1).await?;
    scene.until_more("orders", "ALERT", 2).await?;
    assert_eq!(scene.cluster.ledger.state("orders").await?.as_deref(), Some("ALERT"));
    assert_eq!(kinds(&scene, "orders").await?, [] as [&str; 0]);

    // No worker: no outcome comes any more, and only the sweep can tell.
    scene.cluster.kill_all(Role::Worker).await?;
    ctl(&scene, &["unsilence", "--alert", "orders"]).await?;
    let received = || async { Ok(scene.sink.about("orders")) };
    let told = eventually("the sweep tells it", SOON, received, |seen| !seen.is_empty()).await?.remove(0);
    assert_eq!((told.text("status"), told.text("kind")), ("ALERT", "alert"));
    assert_eq!(told.json["actual_value"], serde_json::json!(120));
    assert_eq!(kinds(&scene, "orders").await?, ["alert"], "two notifiers sweep, and one tells");
    Ok(())
}

async fn an_alert_is_told_after_as_many_as_it_asks_for_again_and_when_it_ends(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state), Kind::Sqlite).await?;
    scene.target.set("orders", "ALERT", 120).await?;
    let keys = [("consecutive", "3"), ("for", "2s"), ("repeat_interval", "2s"), ("send_resolved", "true")];
    let query = scene.target.query("orders");
    scene.play(&scene.configuration().alert_with("orders", "every 1s", &query, &keys))?;

    scene.until_received("orders", 2).await?;
    let mut fires = scene.cluster.ledger.fires(Some("orders")).await?;
    // One that was skipped, because the one before took long, is no ALERT in the row.
    fires.retain(|fire| fire.status == "ALERT");
    let told = scene.cluster.ledger.notifications(Some("orders")).await?;
    assert_eq!((told[0].execution_id.as_str(), told[0].kind.as_str()), (fires[2].execution_id.as_str(), "alert"));
    let again = fires.iter().find(|fire| fire.scheduled_for >= fires[2].scheduled_for + 2 * SECOND);
    assert_eq!(again.map(|fire| fire.execution_id.as_str()), Some(told[1].execution_id.as_str()));
    assert_eq!(told[1].kind, "repeat");

    scene.target.set("orders", "OK", 7).await?;
    scene.until_more("orders", "OK", 2).await?;
    let seen = || async { kinds(&scene, "orders").await };
    let told = eventually("the end is told", SOON, seen, |kinds| kinds.contains(&"resolved".to_owned())).await?;
    assert_eq!(told.last().map(String::as_str), Some("resolved"));
    assert!(told[1..told.len() - 1].iter().all(|kind| kind == "repeat"), "{told:?}");
    Ok(())
}
