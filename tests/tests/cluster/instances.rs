//! Alerts with several rows, on the whole road: each instance is told by itself, and one's end is not another's.

use anyhow::{Result, ensure};
use serde_json::json;
use sqlsentinel_tests::cluster::{Plan, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::on_both_state_databases;
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::target::Kind;

on_both_state_databases!(
    two_of_three_rows_are_told_one_recovers_and_a_silence_keeps_the_third_back,
    a_query_that_lists_only_what_is_wrong_tells_its_ends,
);

/// Which notifications there are of an alert, as `instance kind`, in order.
async fn told(scene: &Scene, alert: &str) -> Result<Vec<String>> {
    let rows = sqlx::query_scalar(
        "SELECT instance || ' ' || kind FROM sqlsentinel_notifications WHERE alert_name = $1 ORDER BY sequence",
    );
    Ok(rows.bind(alert.to_owned()).fetch_all(scene.cluster.ledger.pool()).await?)
}

async fn until_told(scene: &Scene, alert: &str, count: usize) -> Result<Vec<String>> {
    let awaited = format!("{count} notifications of {alert}");
    eventually(&awaited, SOON, || told(scene, alert), |told| told.len() >= count).await
}

async fn ctl(scene: &Scene, arguments: &[&str]) -> Result<String> {
    let ended = scene.cluster.ctl(arguments).await?;
    ensure!(ended.code == Some(0), "{arguments:?}: {ended:?}");
    Ok(ended.output)
}

/// Three shops, a row each.
const SHOPS: &str = "SELECT name AS shop, status, value AS actual_value, 100 AS threshold FROM signals ORDER BY name";

async fn two_of_three_rows_are_told_one_recovers_and_a_silence_keeps_the_third_back(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state), Kind::Postgres).await?;
    for (shop, status, value) in [("berlin", "ALERT", 120), ("bonn", "ALERT", 130), ("kiel", "OK", 7)] {
        scene.target.set(shop, status, value).await?;
    }
    let keys = [("instance_key", "[shop]"), ("send_resolved", "true")];
    scene.play(&scene.configuration().alert_with("stock", "every 1s", SHOPS, &keys))?;

    scene.until_received("stock", 2).await?;
    assert_eq!(until_told(&scene, "stock", 2).await?, ["berlin alert", "bonn alert"]);
    let mut values: Vec<_> =
        scene.sink.about("stock").iter().map(|told| told.json["actual_value"].to_string()).collect();
    values.sort();
    assert_eq!(values, ["120", "130"], "each is told its own row");

    scene.target.set("bonn", "OK", 5).await?;
    let told = until_told(&scene, "stock", 3).await?;
    assert_eq!(told[2..], ["bonn resolved"]);
    assert_eq!(scene.cluster.ledger.state("stock").await?.as_deref(), Some("ALERT"), "berlin still is");
    let shown = ctl(&scene, &["status", "--alert", "stock"]).await?;
    ensure!(shown.contains("ALERT, 1 instance"), "{shown}");

    ctl(&scene, &["silence", "--alert", "stock", "--duration", "1h", "--user", "eve"]).await?;
    scene.target.set("kiel", "ALERT", 140).await?;
    let kiel = "SELECT COUNT(*) FROM sqlsentinel_instances WHERE instance = 'kiel' AND status = 'ALERT' AND untold = 1";
    let kept_back = || async { Ok(sqlx::query_scalar::<_, i64>(kiel).fetch_one(scene.cluster.ledger.pool()).await?) };
    eventually("kiel is kept back", SOON, kept_back, |count| *count == 1).await?;
    scene.target.remove("berlin").await?;
    let gone = "SELECT COUNT(*) FROM sqlsentinel_instances WHERE instance = 'berlin' AND status = 'OK' AND untold = 1";
    let ended = || async { Ok(sqlx::query_scalar::<_, i64>(gone).fetch_one(scene.cluster.ledger.pool()).await?) };
    eventually("so is berlin's end", SOON, ended, |count| *count == 1).await?;
    ctl(&scene, &["unsilence", "--alert", "stock"]).await?;
    let mut told = until_told(&scene, "stock", 5).await?.split_off(3);
    told.sort();
    assert_eq!(told, ["berlin resolved", "kiel alert"]);

    let received = scene.until_received("stock", 5).await?;
    let about_kiel = received.iter().find(|told| told.text("instance") == "kiel");
    let said = about_kiel.map(|told| (told.text("kind"), told.text("status"), told.json["actual_value"].clone()));
    assert_eq!(said, Some(("alert", "ALERT", json!(140))), "{received:?}");
    // Only which one it was: the answer says nothing more of it.
    let about_berlin = received.iter().rfind(|told| told.text("instance") == "berlin");
    let said = about_berlin.map(|told| (told.text("kind"), told.text("status"), told.json["context"].clone()));
    assert_eq!(said, Some(("resolved", "OK", json!({"shop": "berlin"}))), "{received:?}");
    Ok(())
}

async fn a_query_that_lists_only_what_is_wrong_tells_its_ends(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state), Kind::Postgres).await?;
    scene.target.set("orders", "ALERT", 120).await?;
    scene.target.set("mails", "ALERT", 130).await?;
    let query = "SELECT name, 'ALERT' AS status, value AS actual_value FROM signals WHERE value > 100 ORDER BY name";
    let keys = [("instance_key", "name"), ("send_resolved", "true"), ("on_no_data", "ok")];
    scene.play(&scene.configuration().alert_with("queues", "every 1s", query, &keys))?;
    let told = until_told(&scene, "queues", 2).await?;
    assert_eq!(told, ["mails alert", "orders alert"]);

    scene.target.set("orders", "OK", 7).await?;
    scene.target.set("mails", "OK", 7).await?;
    let mut told = until_told(&scene, "queues", 4).await?.split_off(2);
    told.sort();
    assert_eq!(told, ["mails resolved", "orders resolved"]);
    let state = || async { scene.cluster.ledger.state("queues").await };
    eventually("nothing is wrong any more", SOON, state, |state| state.as_deref() == Some("OK")).await?;
    let left = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM sqlsentinel_instances");
    assert_eq!(left.fetch_one(scene.cluster.ledger.pool()).await?, 0);
    Ok(())
}
