//! Answers that are too large to be held, from each kind of database, to a worker that has 512 MB: each is cut or refused,
//! the alert says so, and the worker lives and runs what comes next.

#![expect(clippy::print_stdout, reason = "the runner shows what was measured")]

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Result, ensure};
use sqlsentinel_tests::cluster::{Plan, State};
use sqlsentinel_tests::eventually::eventually;
use sqlsentinel_tests::mariadb::Mariadb;
use sqlsentinel_tests::postgres::Postgres;
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::target::Kind;
use sqlsentinel_tests::usage;

/// What the worker may have of memory of its own, in megabytes.
const MEMORY: u64 = 512;
const PATIENCE: Duration = Duration::from_secs(150);
/// Each of these is asked for by so many alerts together.
const TOGETHER: usize = 3;

/// A hundred megabytes in one cell, as a text and as bytes; a million rows; an endless query; and a row an instance, each of
/// which is wide.
const POSTGRES: [(&str, &str); 5] = [
    ("text", "SELECT 'OK' AS status, repeat('x', 104857600) AS note"),
    ("bytes", "SELECT 'OK' AS status, decode(repeat('00', 104857600), 'hex') AS note"),
    ("rows", "SELECT 'OK' AS status, repeat('x', 1000) AS note FROM generate_series(1, 1000000)"),
    ("endless", "SELECT 'OK' AS status, pg_sleep(600)"),
    ("wide", "SELECT 'OK' AS status, i AS shop, {columns} FROM generate_series(1, 1000) AS i"),
];
const MARIADB: [(&str, &str); 5] = [
    ("text", "SELECT 'OK' AS status, REPEAT('x', 104857600) AS note"),
    ("bytes", "SELECT 'OK' AS status, REPEAT(X'00', 104857600) AS note"),
    ("rows", "SELECT 'OK' AS status, REPEAT('x', 1000) AS note FROM seq_1_to_1000000"),
    ("endless", "SELECT 'OK' AS status, SLEEP(600)"),
    ("wide", "SELECT 'OK' AS status, seq AS shop, {columns} FROM seq_1_to_1000"),
];
const SQLITE: [(&str, &str); 5] = [
    ("text", "SELECT 'OK' AS status, printf('%.*c', 104857600, 'x') AS note"),
    ("bytes", "SELECT 'OK' AS status, zeroblob(104857600) AS note"),
    (
        "rows",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) SELECT 'OK' AS status FROM n",
    ),
    (
        "endless",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 'OK' AS status FROM n WHERE i < 0",
    ),
    (
        "wide",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT 'OK' AS status, i AS shop, {columns} FROM n",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_postgresql_too_large_to_be_held_cost_a_worker_of_512_mb_nothing_else() -> Result<()> {
    let server = Postgres::start().await?;
    let url = server.create_database("target").await?;
    answers_cost_nothing_else(&url, &POSTGRES, "repeat('x', 9000)").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_mariadb_too_large_to_be_held_cost_a_worker_of_512_mb_nothing_else() -> Result<()> {
    let server = Mariadb::start().await?;
    let url = server.create_database("target").await?;
    answers_cost_nothing_else(&url, &MARIADB, "REPEAT('x', 9000)").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_sqlite_too_large_to_be_held_cost_a_worker_of_512_mb_nothing_else() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("target.db");
    std::fs::write(&path, "")?;
    answers_cost_nothing_else(&format!("sqlite:///{}", path.display()), &SQLITE, "printf('%.*c', 9000, 'x')").await
}

async fn answers_cost_nothing_else(url: &str, queries: &[(&str, &str)], cell: &str) -> Result<()> {
    let mut scene = Scene::set(Plan::new(State::Sqlite), Kind::Sqlite).await?;
    let columns: Vec<String> = (0..100).map(|column| format!("{cell} AS c{column}")).collect();
    let mut yaml = format!("database: {{url: '{url}'}}\nalerts:\n");
    let mut alert = |name: &str, query: &str, keys: &str| {
        writeln!(yaml, "- {{name: {name}, query: \"{query}\", notify: [], {keys}}}")
    };
    alert("calm", "SELECT 'OK' AS status", "schedule: every 1s")?;
    for (name, query) in queries {
        let query = query.replace("{columns}", &columns.join(", "));
        let timeout = if *name == "endless" { "2s" } else { "60s" };
        let instances = if *name == "wide" { ", instance_key: shop" } else { "" };
        for number in 0..TOGETHER {
            alert(&format!("{name}-{number}"), &query, &format!("schedule: every 5s, timeout: {timeout}{instances}"))?;
        }
    }
    scene.cluster.configure(&yaml)?;
    scene.cluster.limit_memory("worker-1", MEMORY)?;
    scene.cluster.start()?;

    let ledger = &scene.cluster.ledger;
    for (name, _) in queries {
        for number in 0..TOGETHER {
            let name = format!("{name}-{number}");
            let runs = || async { ledger.executions(Some(&name)).await };
            let runs = eventually(&format!("{name} has run"), PATIENCE, runs, |runs| !runs.is_empty()).await?;
            let truncated = "SELECT CAST(MAX(truncated) AS BIGINT) FROM sqlsentinel_executions WHERE alert_name = $1";
            let truncated: i64 = sqlx::query_scalar(truncated).bind(name.clone()).fetch_one(ledger.pool()).await?;
            println!("{name}: {} {} truncated: {truncated}", runs[0].status, runs[0].error);
            ensure!(runs[0].status == "ERROR" || truncated == 1, "{name}: {runs:?}");
            ensure!(runs[0].delivery == 1, "no worker died of it: {runs:?}");
        }
    }
    scene.cluster.all_alive()?;
    scene.until_more("calm", "OK", 3).await?;
    let memory = usage::memory(scene.cluster.process("worker-1")?.pid())?;
    println!("the worker had at most {} MB", memory.most);
    ensure!(memory.most < MEMORY, "{memory:?}");
    scene.cluster.all_alive()
}
