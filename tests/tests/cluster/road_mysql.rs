//! The road of one alert on a MariaDB, from YAML to the webhook, in a whole cluster; and that server's absence.

use anyhow::Result;
use serde_json::json;
use sqlsentinel_tests::cluster::{Cluster, Plan, State};
use sqlsentinel_tests::configuration::Configuration;
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::mariadb::Mariadb;
use sqlsentinel_tests::sink::{Received, Sink};
use sqlx::{AssertSqlSafe, Executor, MySqlPool};

struct Scene {
    cluster: Cluster,
    server: Mariadb,
    pool: MySqlPool,
    sink: Sink,
}

impl Scene {
    /// A cluster whose alert `orders` reads one row of a table.
    async fn play() -> Result<Self> {
        let mut cluster = Plan::new(State::Sqlite).servers().await?;
        let server = Mariadb::start().await?;
        let url = server.create_database("shop").await?;
        let pool = server.pool("shop").await?;
        pool.execute("CREATE TABLE signals (status VARCHAR(9) NOT NULL, value DECIMAL(40, 2), note TEXT)").await?;
        pool.execute("INSERT INTO signals VALUES ('OK', 7, 'calm')").await?;
        let sink = Sink::start().await?;
        // As the Python system's files have it.
        let url = url.replacen("mysql://", "mysql+pymysql://", 1) + "?charset=utf8mb4";
        let query = "SELECT status, value AS actual_value, 100 AS threshold, note FROM signals";
        let configuration = Configuration::new(&url, &sink.url("hook")).alert("orders", "every 1s", query);
        cluster.configure(configuration.text())?;
        cluster.start()?;
        Ok(Self { cluster, server, pool, sink })
    }

    async fn signal(&self, values: &str) -> Result<()> {
        self.pool.execute(AssertSqlSafe(format!("UPDATE signals SET {values}"))).await?;
        Ok(())
    }

    async fn until_ended(&self, status: &str, count: usize) -> Result<()> {
        let runs = || async { self.cluster.ledger.executions(Some("orders")).await };
        let ended = |status: &str, runs: &[sqlsentinel_tests::ledger::Execution]| {
            runs.iter().filter(|run| run.status == status).count()
        };
        let goal = ended(status, &runs().await.unwrap_or_default()) + count;
        eventually(&format!("{goal} runs end as {status}"), SOON, runs, |runs| ended(status, runs) >= goal).await?;
        Ok(())
    }

    async fn until_received(&self, count: usize) -> Result<Vec<Received>> {
        let seen = || async { Ok(self.sink.about("orders")) };
        eventually(&format!("{count} notifications"), SOON, seen, |seen| seen.len() >= count).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_notifies_once_from_mariadb_with_all_its_digits() -> Result<()> {
    let scene = Scene::play().await?;
    scene.until_ended("OK", 2).await?;
    assert!(scene.sink.received().is_empty(), "nothing is told while all is well");
    scene.signal("status = 'alert', value = 12345678901234567890123456789012345678.10, note = 'é'").await?;
    let told = scene.until_received(1).await?.remove(0);
    assert_eq!(told.text("status"), "ALERT");
    assert_eq!(told.json["actual_value"].to_string(), "12345678901234567890123456789012345678.10");
    assert_eq!((&told.json["threshold"], &told.json["context"]["note"]), (&json!(100), &json!("é")));
    scene.until_ended("ALERT", 2).await?;
    assert_eq!(scene.sink.received().len(), 1, "ALERT after ALERT is no news");
    let statements = scene.server.statements().await?;
    assert!(statements.iter().any(|text| text.ends_with("/* sqlsentinel:orders */")), "{statements:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mariadb_that_is_away_is_an_error_and_its_return_needs_nobody() -> Result<()> {
    let mut scene = Scene::play().await?;
    scene.until_ended("OK", 1).await?;
    scene.server.stop().await?;
    scene.until_ended("ERROR", 1).await?;
    scene.server.start_again().await?;
    scene.until_ended("OK", 2).await?;
    scene.cluster.all_alive()?;
    Ok(())
}
