//! Nobody runs what is due: operators see how much of it there is and how long it waits, before any of it expires.

use std::collections::BTreeMap;

use anyhow::Result;
use sqlsentinel_tests::cluster::{Plan, Role, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::on_both_state_databases;
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::target::Kind;

on_both_state_databases!(what_waits_for_workers_is_a_figure_of_every_coordinator_until_they_come);

/// Jobs on the bus; what is more waits in the ledger.
const LANE: f64 = 2.0;

async fn what_waits_for_workers_is_a_figure_of_every_coordinator_until_they_come(state: State) -> Result<()> {
    let plan = Plan::new(state).with(Role::Coordinator, 2).env("SQLSENTINEL_LANE_JOBS", LANE);
    let mut scene = Scene::set(plan, Kind::Sqlite).await?;
    scene.target.set("orders", "OK", 7).await?;
    let keys = [("timeout", "1s"), ("overlap", "allow")];
    let configuration = scene.configuration().alert_with("orders", "every 1s", &scene.target.query("orders"), &keys);
    scene.cluster.configure(configuration.text())?;
    let coordinators = scene.cluster.names(Some(Role::Coordinator));
    for member in coordinators.iter().chain([&"notifier-1".to_owned()]) {
        scene.cluster.start_one(member)?;
    }
    for coordinator in &coordinators {
        let figures = || figures(&scene, coordinator);
        let grown = |figures: &Figures| {
            figures.get("queued") == Some(&LANE) && figures.get("waiting") >= Some(&2.0) && figures["wait"] >= 2.0
        };
        let before = eventually(&format!("{coordinator} sees fires wait"), SOON, figures, grown).await?;
        let more = |now: &Figures| now["waiting"] > before["waiting"] && now["wait"] > before["wait"];
        eventually(&format!("{coordinator} sees more of them, and for longer"), SOON, figures, more).await?;
    }

    scene.cluster.start_one("worker-1")?;
    for coordinator in &coordinators {
        let figures = || figures(&scene, coordinator);
        let gone = |now: &Figures| now["waiting"] == 0.0 && now["queued"] == 0.0 && now["wait"] == 0.0;
        eventually(&format!("{coordinator} sees nothing wait"), SOON, figures, gone).await?;
    }
    scene.cluster.all_alive()
}

/// By status, and `wait` in seconds.
type Figures = BTreeMap<String, f64>;

async fn figures(scene: &Scene, coordinator: &str) -> Result<Figures> {
    let (_, page) = scene.cluster.page(coordinator, "/metrics").await?;
    let mut figures = Figures::new();
    for line in page.lines() {
        let (series, value) = line.rsplit_once(' ').unwrap_or_default();
        let fires = series.strip_prefix("sqlsentinel_open_fires{source=\"default\",status=\"");
        let name = match fires.and_then(|rest| rest.strip_suffix("\"}")) {
            Some(status) => status,
            None if series == "sqlsentinel_open_fires_wait_seconds{source=\"default\"}" => "wait",
            None => continue,
        };
        figures.insert(name.to_owned(), value.parse()?);
    }
    Ok(figures)
}
