//! What every process owes its operator: probes, a graceful end, and a clear word about wrong settings.

use anyhow::Result;
use serde_json::Value;
use sqlsentinel_tests::cluster::{Plan, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::target::Kind;

async fn running(plan: Plan) -> Result<Scene> {
    let mut scene = Scene::set(plan, Kind::Sqlite).await?;
    scene.target.set("orders", "ALERT", 7).await?;
    scene.play(&scene.configuration().alert("orders", "every 1s", &scene.target.query("orders")))?;
    scene.until_received("orders", 1).await?;
    Ok(scene)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_process_answers_probes_and_ends_when_it_is_asked() -> Result<()> {
    let mut scene = running(Plan::new(State::Sqlite)).await?;
    for name in scene.cluster.names(None) {
        let health = || async { scene.cluster.health(&name).await };
        let health = eventually("it is healthy", SOON, health, |health| health["status"] == "healthy").await?;
        assert!(health["checks"].as_object().is_some_and(|checks| !checks.is_empty()), "{name}: {health}");
        assert_eq!(scene.cluster.page(&name, "/ready").await?.0, 200, "{name}");
        assert_eq!(scene.cluster.page(&name, "/nonsense").await?.0, 404, "{name}");
        let (status, metrics) = scene.cluster.page(&name, "/metrics").await?;
        assert!(status == 200 && metrics.contains("\nsqlsentinel_uptime_seconds "), "{name}: {metrics}");
        assert!(metrics.contains("\nsqlsentinel_health_status{check=\"process\"} 0\n"), "{name}: {metrics}");

        let asked = scene.cluster.run(&name, &["healthcheck", "--output", "json"]).await?;
        assert_eq!(asked.code, Some(0), "{name}: {asked:?}");
        assert_eq!(serde_json::from_str::<Value>(&asked.output)?["status"], "healthy", "{name}");

        let status = scene.cluster.terminate(&name).await?;
        assert!(status.success(), "{name}: {status}");
        let asked = scene.cluster.run(&name, &["healthcheck"]).await?;
        assert_eq!(asked.code, Some(1), "{name} has ended: {asked:?}");
    }
    Ok(())
}

/// What the services' probes say: liveness, then readiness.
async fn probed(scene: &Scene, name: &str) -> Result<[Option<i32>; 2]> {
    let mut codes = [None; 2];
    for (code, probe) in codes.iter_mut().zip(["liveness", "readiness"]) {
        *code = scene.cluster.run(name, &["healthcheck", "--probe", probe]).await?.code;
    }
    Ok(codes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_without_nats_is_not_ready_but_alive_so_that_nobody_restarts_it() -> Result<()> {
    let mut scene = running(Plan::new(State::Sqlite)).await?;
    let names = scene.cluster.names(None);
    for name in &names {
        let codes = || probed(&scene, name);
        eventually("its probes pass", SOON, codes, |codes| *codes == [Some(0), Some(0)]).await?;
    }
    scene.cluster.nats.kill().await?;
    for name in &names {
        let codes = || probed(&scene, name);
        let told = format!("{name} is alive and not ready");
        eventually(&told, SOON, codes, |codes| *codes == [Some(0), Some(1)]).await?;
    }
    for name in &names {
        scene.cluster.kill(name).await?;
        assert_eq!(probed(&scene, name).await?, [Some(1), Some(1)], "{name} has ended");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_settings_are_told_before_anything_starts() -> Result<()> {
    let plan = Plan::new(State::Sqlite);
    let scene = Scene::set(plan.clone(), Kind::Sqlite).await?;
    scene.cluster.configure("database:\n  url: sqlite:///x.db\nalerts:\n  - name: a\n    qery: SELECT 1\n")?;
    for name in scene.cluster.names(None) {
        let ended = scene.cluster.run(&name, &[]).await?;
        assert!(ended.code == Some(1) && ended.output.contains("alerts.yaml:5:"), "{name}: {ended:?}");
        assert!(ended.output.contains("`query`"), "the nearest key is named; {name}: {ended:?}");
        let ended = scene.cluster.run(&name, &["--nonsense"]).await?;
        assert_eq!(ended.code, Some(2), "{name}: {ended:?}");
    }
    let scene = Scene::set(plan.env("LOG_FORMAT", "xml"), Kind::Sqlite).await?;
    for name in scene.cluster.names(None) {
        let ended = scene.cluster.run(&name, &[]).await?;
        assert!(ended.code == Some(2) && ended.output.contains("LOG_FORMAT"), "{name}: {ended:?}");
    }
    Ok(())
}
