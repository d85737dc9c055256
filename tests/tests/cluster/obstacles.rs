//! A NATS that cannot carry a lease: the coordinator says so, what to do, and says it once.

use anyhow::{Context, Result};
use sqlsentinel_common::bus::Bus;
use sqlsentinel_common::health::Health;
use sqlsentinel_common::settings::{NatsLogin, NatsSettings};
use sqlsentinel_common::subjects::Namespace;
use sqlsentinel_tests::cluster::{Plan, Role, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::ports;
use sqlsentinel_tests::process::Launch;
use sqlsentinel_tests::programs;
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::target::Kind;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

/// Waits until a lone coordinator is unhealthy for want of a lease, and returns why and what it logged.
async fn what_it_says(plan: Plan) -> Result<(String, String)> {
    let plan = plan.with(Role::Worker, 0).with(Role::Notifier, 0);
    let mut scene = Scene::set(plan, Kind::Sqlite).await?;
    scene.play(&scene.configuration().alert("orders", "every 1s", "SELECT 'OK' AS status"))?;
    let cluster = &scene.cluster;
    let leadership = || async { Ok(cluster.health("coordinator-1").await?["checks"]["leadership"].clone()) };
    let check = eventually("it is unhealthy", SOON, leadership, |check| check["status"] == "unhealthy").await?;
    let message = check["message"].as_str().context("a message")?.to_owned();
    cluster.all_alive()?;
    Ok((message, cluster.log("coordinator-1")?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nats_without_jetstream_is_named_with_the_remedy_and_once() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let port = ports::free()?.to_string();
    let server = Launch::new("nats-server", programs::nats_server()?, directory.path());
    let _server = server.args(["-a", "127.0.0.1", "-p", &port]).start()?;
    let plan = Plan::new(State::Sqlite).env("NATS_URL", format!("nats://127.0.0.1:{port}"));
    let (message, log) = what_it_says(plan).await?;
    assert!(message.contains("is JetStream on"), "{message}");
    assert_eq!(log.matches("cannot campaign for the lease").count(), 1, "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_copies_than_servers_are_named() -> Result<()> {
    let (message, _) = what_it_says(Plan::new(State::Sqlite).env("SQLSENTINEL_NATS_REPLICAS", 3)).await?;
    assert!(message.contains("replicas > 1 not supported in non-clustered mode"), "{message}");
    Ok(())
}

/// A lease would never expire there. No such server is to be had beside the new one: its greeting has to do.
#[tokio::test]
async fn a_server_without_keys_that_expire_is_refused() -> Result<()> {
    for (version, taken) in [("2.9.10", false), ("2.10.29", false), ("2.11.0", true), ("2.15.1", true)] {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let settings = NatsSettings {
            servers: vec![format!("nats://{}", listener.local_addr()?)],
            login: NatsLogin::Anonymous,
            ca_file: None,
            namespace: Namespace::default(),
        };
        let bus = Bus::connect(&settings, "old", &Health::default()).await?;
        assert!(bus.server_is_new_enough().is_ok(), "nothing is known of it yet");
        let (mut connection, _) = listener.accept().await?;
        let greeting = serde_json::json!({"server_id": "S", "version": version, "max_payload": 1_048_576});
        connection.write_all(format!("INFO {greeting}\r\nPING\r\nPONG\r\n").as_bytes()).await?;
        let known = || async { Ok(bus.client().server_info().version) };
        eventually("it is connected", SOON, known, |known| known == version).await?;
        let said = bus.server_is_new_enough().map_err(|error| error.to_string());
        assert_eq!(said.is_ok(), taken, "{version}: {said:?}");
        assert!(taken || said.is_err_and(|said| said.contains(version) && said.contains("2.11 or newer")), "{version}");
    }
    Ok(())
}
