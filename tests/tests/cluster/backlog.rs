//! More jobs are due than anybody runs: the queues stay bounded, the memory of every process stays flat, and when workers
//! come, the worst severity and then the earliest deadline goes first, and what is too late ends with a reason.

#![expect(clippy::print_stdout, reason = "the runner shows what was measured")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sqlsentinel_tests::cluster::{Plan, Role, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::target::Kind;
use sqlsentinel_tests::usage::{self, Memory};
use sqlsentinel_tests::wall_clock::SECOND;

/// How many fires are due at once; `SQLSENTINEL_TEST_BACKLOG=100000` makes it as many.
const FIRES: i64 = 20_000;
/// Jobs on the bus: few, so that the order in the ledger is the order of the runs.
const LANE: u64 = 500;
/// By how many megabytes a process may grow, however many jobs are due.
const GROWTH: u64 = 64;
/// Longer than the slowest machine takes for all of them.
const PATIENCE: Duration = Duration::from_secs(240);

/// The worst first. Nobody comes in time for the last one.
const SEVERITIES: [(&str, &str); 3] = [("critical", "10m"), ("warning", "10m"), ("info", "1s")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_takes_no_memory_and_drains_by_severity_and_then_by_deadline() -> Result<()> {
    let fires: i64 = std::env::var("SQLSENTINEL_TEST_BACKLOG").map_or(Ok(FIRES), |count| count.parse())?;
    let plan = Plan::new(State::Postgres).with(Role::Worker, 2).env("SQLSENTINEL_LANE_JOBS", LANE);
    let mut scene = Scene::set(plan.env("SQLSENTINEL_QUEUE_ALLOWANCE_SECONDS", 1), Kind::Sqlite).await?;
    let configuration = SEVERITIES.iter().fold(scene.configuration(), |configuration, (severity, timeout)| {
        let keys = [("severity", *severity), ("timeout", *timeout), ("misfire", "all")];
        configuration.alert_with(severity, "every 1s", "SELECT 'OK' AS status", &keys)
    });
    scene.cluster.configure(configuration.text())?;
    for member in ["coordinator-1", "notifier-1"] {
        scene.cluster.start_one(member)?;
    }
    let (began, until) = let_time_pass_unplanned(&mut scene, fires / 3).await?;
    let (pool, clock) = (scene.cluster.ledger.pool().clone(), Instant::now());

    // They are planned in chunks, and wait in the ledger.
    let count = |condition: &'static str| {
        let pool = pool.clone();
        move || {
            let sql = format!(
                "SELECT COUNT(*) FROM sqlsentinel_fires WHERE scheduled_for > $1 AND scheduled_for <= $2 AND {condition}"
            );
            let pool = pool.clone();
            async move {
                let query = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(sql)).bind(began).bind(until);
                Ok(query.fetch_one(&pool).await?)
            }
        }
    };
    eventually("some of them are planned", SOON, count("TRUE"), |planned| *planned > 0).await?;
    let few = memories(&scene)?;
    eventually("all of them are planned", PATIENCE, count("TRUE"), |planned| *planned >= fires / 3 * 3).await?;
    println!("{} fires planned after {:?}", fires / 3 * 3, clock.elapsed());
    let is_bounded = |depth: &Option<u64>| depth.is_some_and(|depth| depth <= LANE);
    ensure!(is_bounded(&scene.cluster.nats.depth("JOBS").await?), "{:?}", scene.cluster.nats.depth("JOBS").await?);
    let too_late = count("alert_name = 'info' AND status = 'EXPIRED' AND reason IN ('backlog', 'no_worker')");
    // Not a thousand of them at each look for what is overdue.
    eventually("what is too late has ended", SOON, too_late, |ended| *ended == fires / 3).await?;
    println!("a third of them expired after {:?}", clock.elapsed());

    for worker in scene.cluster.names(Some(Role::Worker)) {
        scene.cluster.start_one(&worker)?;
    }
    let ran = count("alert_name <> 'info' AND status = 'OK'");
    eventually("the others run", PATIENCE, ran, |ran| *ran == fires / 3 * 2).await?;
    println!("all others ran after {:?}", clock.elapsed());
    is_in_order(&scene, began, until).await?;

    let many = memories(&scene)?;
    for (name, memory) in &many {
        let before = few.get(name).map_or(0, |memory| memory.now);
        println!("{name}: {before} MB with few, at most {} MB with {fires} fires due", memory.most);
        ensure!(memory.most <= before.max(32) + GROWTH, "{name} grew from {before} MB to {memory:?}");
    }
    scene.cluster.all_alive()
}

/// An outage of so many seconds, without waiting for its end: the schedule's cursor goes back, and with it the moment from
/// which on the definitions are in force. Returns the moments between which nothing was planned.
async fn let_time_pass_unplanned(scene: &mut Scene, seconds: i64) -> Result<(i64, i64)> {
    let (leader, _) = scene.cluster.leader().await?;
    let in_force = || async { scene.cluster.ledger.valid_from("info").await };
    eventually("the alerts are in force", SOON, in_force, |_| true).await?;
    scene.cluster.kill(&leader).await?;
    let pool = scene.cluster.ledger.pool();
    let until = scene.cluster.ledger.valid_from("info").await? / SECOND * SECOND;
    for back in [
        "UPDATE sqlsentinel_configs SET valid_from = $1 WHERE valid_from IS NOT NULL",
        "UPDATE sqlsentinel_leadership SET planned_through = $1",
    ] {
        sqlx::query(back).bind(until - seconds * SECOND).execute(pool).await?;
    }
    scene.cluster.start_one(&leader)?;
    Ok((until - seconds * SECOND, until))
}

/// Of every process that runs.
fn memories(scene: &Scene) -> Result<BTreeMap<String, Memory>> {
    let running = scene.cluster.names(None).into_iter().filter(|name| scene.cluster.is_running(name));
    let mut memories: BTreeMap<String, Memory> = running
        .map(|name| Ok((name.clone(), usage::memory(scene.cluster.process(&name)?.pid())?)))
        .collect::<Result<_>>()?;
    memories.insert("nats-server".to_owned(), usage::memory(scene.cluster.nats.pid().context("NATS runs")?)?);
    Ok(memories)
}

/// No fire was queued before another one that waited then, and is more severe, or as severe and due to end earlier.
async fn is_in_order(scene: &Scene, began: i64, until: i64) -> Result<()> {
    // Those of one stamp were queued together.
    let order = "SELECT MIN(priority), MIN(deadline), MAX(priority), MAX(deadline) FROM sqlsentinel_fires \
         WHERE alert_name <> 'info' AND scheduled_for > $1 AND scheduled_for <= $2 \
         GROUP BY epoch, seq, priority ORDER BY epoch, seq, priority";
    let query = sqlx::query_as::<_, (i32, i64, i32, i64)>(order).bind(began).bind(until);
    let queued = query.fetch_all(scene.cluster.ledger.pool()).await?;
    for pair in queued.windows(2) {
        ensure!((pair[0].2, pair[0].3) <= (pair[1].0, pair[1].1), "{:?} before {:?}", pair[0], pair[1]);
    }
    println!("queued in {} batches", queued.len());
    ensure!(queued.len() >= 10, "the lane bounds them: {}", queued.len());
    Ok(())
}
