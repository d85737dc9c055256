//! How many queries run at one database at once, in the whole cluster.

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::consumer::PullConsumer;
use sqlsentinel_tests::cluster::{Plan, Role, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::target::Kind;
use sqlsentinel_tests::wall_clock::{SECOND, now};

/// Each run sees how many run when it begins, itself among them: the most that ever run at once are seen by the last of
/// them to begin.
const QUERY: &str = "SELECT 'OK' AS status, pg_sleep(0.4), (SELECT COUNT(*) FROM pg_stat_activity \
     WHERE state = 'active' AND application_name LIKE 'sqlsentinel %' AND query LIKE '%pg_sleep(0.4)%') AS actual_value";
const ALERTS: usize = 8;

/// A configuration of which `most` queries may run at once.
fn limited(scene: &Scene, most: usize) -> String {
    let alerts = (0..ALERTS).fold(scene.configuration(), |configuration, number| {
        configuration.alert(&format!("a{number}"), "every 1s", QUERY)
    });
    alerts.text().replacen("alerts:\n", &format!("  max_concurrency: {most}\nalerts:\n"), 1)
}

/// Waits until `most` is what the broker hands out at once, and what was handed out before has ended; then, until there have
/// been `runs` more. Returns the most that were seen at once by those.
async fn seen_at_once(scene: &Scene, most: i64, runs: i64) -> Result<i64> {
    let jetstream = scene.cluster.nats.jetstream().await?;
    let handed_out = || async {
        let consumer: PullConsumer = jetstream
            .get_consumer_from_stream("worker-default", "JOBS")
            .await
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(consumer.cached_info().config.max_ack_pending)
    };
    eventually("the broker knows the limit", SOON, handed_out, |seen| *seen == most).await?;
    let since = now() + 3 * SECOND;
    let seen = || async {
        let sql = "SELECT COUNT(*), COALESCE(MAX(CAST(e.actual_value AS BIGINT)), 0) FROM sqlsentinel_executions e \
             JOIN sqlsentinel_fires f ON f.execution_id = e.id WHERE f.scheduled_for > $1 AND f.status = 'OK'";
        Ok(sqlx::query_as::<_, (i64, i64)>(sql).bind(since).fetch_one(scene.cluster.ledger.pool()).await?)
    };
    let (_, at_once) = eventually("many more have run", SOON, seen, |(count, _)| *count >= runs).await?;
    Ok(at_once)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_workers_there_are_no_more_queries_run_at_a_database_than_it_allows_now() -> Result<()> {
    let mut scene = Scene::set(Plan::new(State::Postgres).with(Role::Worker, 3), Kind::Postgres).await?;
    scene.cluster.configure(&limited(&scene, 2))?;
    scene.cluster.start()?;
    for (most, runs) in [(2, 20), (1, 10), (3, 30)] {
        scene.cluster.configure(&limited(&scene, usize::try_from(most)?))?;
        let seen = seen_at_once(&scene, most, runs).await.with_context(|| format!("{most} at once"))?;
        ensure!(seen == most, "{seen} ran at once, where {most} may");
    }
    let workers = "SELECT COUNT(DISTINCT worker) FROM sqlsentinel_executions";
    let workers: i64 = sqlx::query_scalar(workers).fetch_one(scene.cluster.ledger.pool()).await?;
    assert_eq!(workers, 3, "all of them took part");
    scene.cluster.all_alive()
}

/// One connection for each worker: what it cannot run it does not hold, so that another worker can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_opens_no_more_connections_to_a_database_than_its_pool_has() -> Result<()> {
    let mut scene = Scene::set(Plan::new(State::Sqlite).with(Role::Worker, 2), Kind::Postgres).await?;
    let text = limited(&scene, 50).replacen("alerts:\n", "  pool_size: 1\nalerts:\n", 1);
    scene.cluster.configure(&text)?;
    scene.cluster.start()?;
    for alert in 0..ALERTS {
        scene.until_more(&format!("a{alert}"), "OK", 2).await?;
    }
    let most = "SELECT MAX(CAST(actual_value AS BIGINT)) FROM sqlsentinel_executions";
    let most: i64 = sqlx::query_scalar(most).fetch_one(scene.cluster.ledger.pool()).await?;
    assert_eq!(most, 2, "one at a time on each of two workers");
    Ok(())
}
