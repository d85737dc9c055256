//! What every process owes its operator: probes, metrics, logs that can be read by machines, a graceful end, a clear
//! word about wrong settings, and no secret anywhere.

use anyhow::{Context, Result};
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_line_of_a_log_is_an_object_of_the_documented_shape() -> Result<()> {
    let mut scene = running(Plan::new(State::Sqlite)).await?;
    for name in scene.cluster.names(None) {
        scene.cluster.terminate(&name).await?;
        let log = scene.cluster.log(&name)?;
        assert!(log.lines().count() >= 2, "{name}: {log}");
        for line in log.lines() {
            let entry: Value = serde_json::from_str(line).with_context(|| format!("{name}: {line}"))?;
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            let timestamp = text("timestamp");
            assert!(timestamp.len() == "2025-11-08T03:06:26.510640Z".len() && timestamp.ends_with('Z'), "{line}");
            assert!(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"].contains(&text("level").as_str()), "{line}");
            assert!(!text("logger").is_empty() && !text("message").is_empty(), "{line}");
            assert!(entry["context"].is_null() || entry["context"].is_object(), "{line}");
        }
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

/// Invariant 9: what is secret in the configuration and the environment is in no log, no row and no message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_travels() -> Result<()> {
    const SECRETS: [&str; 3] = ["pa55-of-target", "t0ken-in-url", "t0ken-in-header"];
    let plan = Plan::new(State::Sqlite)
        .env("TARGET_URL", format!("postgresql://nobody:{}@127.0.0.1:1/none", SECRETS[0]))
        .env("HOOK_TOKEN", SECRETS[1])
        .env("HOOK_AUTHORIZATION", SECRETS[2]);
    let mut scene = Scene::set(plan, Kind::Sqlite).await?;
    scene.target.set("orders", "ALERT", 7).await?;
    let yaml = format!(
        r#"
database: {{ url: "{good}" }}
databases: {{ gone: {{ url: "${{TARGET_URL}}" }} }}
alerts:
  - name: orders
    schedule: every 1s
    query: "{query}"
    notify:
      - {{ channel: webhook, url: "{hook}", headers: {{ Authorization: "${{HOOK_AUTHORIZATION}}" }} }}
      - {{ channel: webhook, url: "http://user:{token}@127.0.0.1:1/${{HOOK_TOKEN}}" }}
  - {{ name: gone, database: gone, schedule: every 1s, query: "SELECT 'OK' AS status", notify: [] }}
"#,
        good = scene.target.url(),
        query = scene.target.query("orders"),
        hook = scene.sink.url("hook?token=${HOOK_TOKEN}"),
        token = SECRETS[1],
    );
    scene.cluster.configure(&yaml)?;
    scene.cluster.start()?;
    let told = scene.until_received("orders", 1).await?.remove(0);
    assert_eq!((told.path.as_str(), told.header("authorization")), ("/hook?token=t0ken-in-url", "t0ken-in-header"));
    scene.until_more("gone", "ERROR", 1).await?;
    let tried = || async { scene.cluster.ledger.notifications(Some("orders")).await };
    eventually("both routes were tried", SOON, tried, |rows| rows.iter().all(|row| row.attempt > 0)).await?;

    let mut places: Vec<(String, Vec<u8>)> = Vec::new();
    for name in scene.cluster.names(None) {
        places.push((format!("page of {name}"), scene.cluster.page(&name, "/health").await?.1.into_bytes()));
        places.push((format!("metrics of {name}"), scene.cluster.page(&name, "/metrics").await?.1.into_bytes()));
        scene.cluster.terminate(&name).await?;
        places.push((format!("log of {name}"), scene.cluster.log(&name)?.into_bytes()));
    }
    // The database's file with its write-ahead log, and the streams' files: what lies there has travelled.
    scene.cluster.nats.kill().await?;
    for folder in [scene.cluster.directory().to_path_buf(), scene.cluster.nats.store()] {
        collect(&folder, &mut places)?;
    }
    places.retain(|(place, _)| !place.ends_with("alerts.yaml"));
    assert!(places.iter().any(|(place, _)| place.ends_with("state.db")), "{:?}", places.iter().map(|p| &p.0));
    for (place, bytes) in &places {
        for secret in SECRETS {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} is in {place}");
        }
    }
    Ok(())
}

fn collect(folder: &std::path::Path, places: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, places)?;
        } else {
            places.push((path.display().to_string(), std::fs::read(&path)?));
        }
    }
    Ok(())
}
