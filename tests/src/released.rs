//! What released versions have left behind, in `tests/fixtures`: messages, a configuration, and state databases with rows
//! of every kind. The next version has to go on from it.
//!
//! `cargo run -p sqlsentinel-tests --bin released -- VERSION` makes the state databases of a version, with the programs of
//! this checkout: [`fill`] runs an installation until its database has everything, [`dump`] writes it down, and [`load`]
//! reads it into another one.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use sqlx::any::AnyPoolOptions;
use sqlx::{AnyPool, AssertSqlSafe, Row};

use crate::cluster::{Cluster, Plan, Role, State};
use crate::eventually::{SOON, eventually};
use crate::ports;
use crate::programs::root;
use crate::scene::Scene;
use crate::sink::{Answer, Sink};
use crate::target::Kind;
use crate::wall_clock::{SECOND, now};

/// The versions whose leavings are kept.
pub const VERSIONS: [&str; 1] = ["0.2.0"];

/// How fires and notifications may stand: a kept database has each of them.
const FIRES: [&str; 8] = ["WAITING", "QUEUED", "OK", "ALERT", "ERROR", "NO_DATA", "SKIPPED", "EXPIRED"];
/// The same of notifications.
const NOTIFICATIONS: [&str; 5] = ["PENDING", "SENDING", "SENT", "DEAD", "SKIPPED"];

/// A file of a version.
pub fn file(version: &str, name: &str) -> PathBuf {
    root().join("tests/fixtures").join(version).join(name)
}

/// The name of the dump of a state database of this kind.
pub fn dump_name(state: State) -> &'static str {
    match state {
        State::Sqlite => "state.sqlite.sql",
        State::Postgres => "state.postgres.sql",
    }
}

/// Where the notifications of `state.yaml` go.
#[derive(Debug)]
pub struct Receivers {
    /// Takes everything.
    pub hook: Sink,
    /// Refuses everything for good.
    pub refuses: Sink,
    /// Never answers.
    pub hangs: Sink,
}

impl Receivers {
    /// Starts them.
    pub async fn start() -> Result<Self> {
        let receivers = Self { hook: Sink::start().await?, refuses: Sink::start().await?, hangs: Sink::start().await? };
        receivers.refuses.answer(Answer::Status(400));
        receivers.hangs.answer(Answer::Hang);
        Ok(receivers)
    }

    /// A version's `state.yaml` with real addresses.
    pub fn configuration(&self, version: &str, database: &str) -> Result<String> {
        let mut text = std::fs::read_to_string(file(version, "state.yaml"))?;
        for (variable, url) in [
            ("DATABASE_URL", database.to_owned()),
            ("HOOK_URL", self.hook.url("hook")),
            ("REFUSING_URL", self.refuses.url("hook")),
            ("HANGING_URL", self.hangs.url("hook")),
            ("CLOSED_URL", format!("http://127.0.0.1:{}/hook", ports::free()?)),
        ] {
            text = text.replace(&format!("${{{variable}}}"), &url);
        }
        Ok(text)
    }
}

/// The database that the alerts of `state.yaml` query.
async fn signals(scene: &Scene) -> Result<()> {
    for (name, status, value) in [("fine", "OK", 1), ("bad", "ALERT", 120), ("better", "ALERT", 3)] {
        scene.target.set(name, status, value).await?;
    }
    Ok(())
}

/// A whole installation with what `state.yaml` needs; nothing runs yet.
pub async fn scene(state: State) -> Result<(Scene, Receivers)> {
    let plan = Plan::new(state).env("SQLSENTINEL_RESCUE_SECONDS", 1).env("SQLSENTINEL_QUEUE_ALLOWANCE_SECONDS", 1);
    let scene = Scene::set(plan.env("SQLSENTINEL_RETENTION_DAYS", 0), Kind::Postgres).await?;
    signals(&scene).await?;
    Ok((scene, Receivers::start().await?))
}

/// Runs an installation of `state.yaml` until its state database has rows of every kind, and stops it.
pub async fn fill(version: &str, state: State) -> Result<Scene> {
    let (mut scene, receivers) = scene(state).await?;
    let text = receivers.configuration(version, scene.target.url())?;
    let former = "  - {name: former, query: SELECT 1 AS status FROM pg_sleep(60), timeout: 90s, schedule: every 2s, notify: []}\n";
    scene.cluster.configure(&format!("{text}{former}"))?;
    scene.cluster.start()?;
    until(&scene.cluster, "is told", "sqlsentinel_notifications WHERE status = 'SENT' AND alert_name = 'told'").await?;
    until(&scene.cluster, "is given up", "sqlsentinel_notifications WHERE status = 'DEAD'").await?;
    until(&scene.cluster, "is run", "sqlsentinel_fires WHERE alert_name = 'former'").await?;

    // A file that changes: an alert goes.
    scene.cluster.configure(&text)?;
    until(&scene.cluster, "is removed", "sqlsentinel_fires WHERE reason = 'removed'").await?;
    // News of an alert that nobody was told of.
    scene.target.set("better", "OK", 3).await?;
    until(&scene.cluster, "is not told", "sqlsentinel_notifications WHERE status = 'SKIPPED'").await?;
    for operator in [
        &["silence", "--alert", "held", "--duration", "2h", "--reason", "maintenance", "--user", "eve"][..],
        &["silence", "--alert", "told", "--user", "eve"],
        &["unsilence", "--alert", "told", "--user", "bob"],
        &["run", "--alert", "fine"],
    ] {
        let ended = scene.cluster.ctl(operator).await?;
        ensure!(ended.code == Some(0), "{operator:?}: {}", ended.output);
    }
    // Nobody plans for a while.
    let planned = scene.cluster.ledger.leadership().await?.planned_through;
    scene.cluster.terminate("coordinator-1").await?;
    let waited = || async { Ok(now() - planned) };
    eventually("two fires are missed", SOON, waited, |waited| *waited > 5 * SECOND).await?;
    scene.cluster.start_one("coordinator-1")?;
    until(&scene.cluster, "was missed", "sqlsentinel_gaps").await?;
    until(&scene.cluster, "overlaps", "sqlsentinel_fires WHERE reason = 'overlap'").await?;
    // The leader finds that what it has committed is gone.
    run(&scene.cluster, "UPDATE sqlsentinel_leadership SET seq = 0").await?;
    until(&scene.cluster, "was put back", "sqlsentinel_rollbacks").await?;

    // What is under way when everything ends.
    scene.cluster.kill_all(Role::Worker).await?;
    until(&scene.cluster, "expires", "sqlsentinel_fires WHERE status = 'EXPIRED'").await?;
    until(&scene.cluster, "waits", "sqlsentinel_fires WHERE status = 'WAITING'").await?;
    until(&scene.cluster, "is being sent", "sqlsentinel_notifications WHERE status = 'SENDING'").await?;
    scene.cluster.kill_all(Role::Notifier).await?;
    scene.cluster.terminate("coordinator-1").await?;
    complete(state, scene.cluster.ledger.pool()).await?;
    Ok(scene)
}

async fn until(cluster: &Cluster, what: &str, rows: &str) -> Result<()> {
    let sql = format!("SELECT COUNT(*) FROM {rows}");
    let count = || async { number(cluster.ledger.pool(), &sql).await };
    eventually(&format!("something {what}"), SOON, count, |count| *count > 0).await?;
    cluster.all_alive()
}

async fn run(cluster: &Cluster, statement: &str) -> Result<()> {
    sqlx::query(AssertSqlSafe(statement)).execute(cluster.ledger.pool()).await?;
    Ok(())
}

async fn number(pool: &AnyPool, sql: &str) -> Result<i64> {
    let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(pool).await.with_context(|| sql.to_owned())?;
    Ok(row.try_get(0)?)
}

async fn texts(pool: &AnyPool, sql: &str) -> Result<Vec<String>> {
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(pool).await.with_context(|| sql.to_owned())?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Fails unless there are rows in every table, and every status of fires and notifications.
pub async fn complete(state: State, pool: &AnyPool) -> Result<()> {
    let tables = match state {
        State::Sqlite => "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'sqlsentinel%'",
        State::Postgres => "SELECT CAST(tablename AS TEXT) FROM pg_tables WHERE tablename LIKE 'sqlsentinel%'",
    };
    for table in texts(pool, tables).await? {
        ensure!(number(pool, &format!("SELECT COUNT(*) FROM {table}")).await? > 0, "{table} is empty");
    }
    let of = |table: &'static str, statuses: &'static [&'static str]| statuses.iter().map(move |s| (table, *s));
    for (table, status) in of("sqlsentinel_fires", &FIRES).chain(of("sqlsentinel_notifications", &NOTIFICATIONS)) {
        let sql = format!("SELECT COUNT(*) FROM {table} WHERE status = '{status}'");
        ensure!(number(pool, &sql).await? > 0, "{table} has no row that is {status}");
    }
    Ok(())
}

/// The whole state database as SQL, without what differs between servers.
pub async fn dump(scene: &Scene) -> Result<String> {
    match &scene.cluster.postgres {
        Some(server) => {
            let options = ["--inserts", "--no-owner", "--no-privileges", "--no-comments"];
            let text = server.dump_with("state", &options).await?;
            let kept = |line: &&str| !line.is_empty() && !line.starts_with("--") && !line.starts_with("SET ");
            Ok(text.lines().filter(kept).map(|line| format!("{line}\n")).collect())
        }
        None => dump_sqlite(scene.cluster.ledger.pool()).await,
    }
}

/// Tables, then their rows, then the rest: what `.dump` of SQLite's own tool does.
async fn dump_sqlite(pool: &AnyPool) -> Result<String> {
    let mut lines =
        texts(pool, "SELECT sql FROM sqlite_schema WHERE type = 'table' AND sql <> '' ORDER BY rowid").await?;
    for table in texts(pool, "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql <> '' ORDER BY rowid").await?
    {
        let columns = texts(pool, &format!("SELECT 'quote(' || name || ')' FROM pragma_table_info('{table}')")).await?;
        let rows = format!(
            "SELECT 'INSERT INTO {table} VALUES (' || {} || ')' FROM {table} ORDER BY rowid",
            columns.join(" || ',' || ")
        );
        lines.extend(texts(pool, &rows).await?);
    }
    lines
        .extend(texts(pool, "SELECT sql FROM sqlite_schema WHERE type <> 'table' AND sql <> '' ORDER BY rowid").await?);
    Ok(lines.into_iter().map(|line| format!("{line};\n")).collect())
}

/// Reads a version's dump into the cluster's state database, which is empty.
pub async fn load(version: &str, state: State, cluster: &Cluster) -> Result<()> {
    let url = match &cluster.postgres {
        Some(server) => server.url("state"),
        None => format!("sqlite://{}?mode=rwc", cluster.directory().join("state.db").display()),
    };
    sqlx::any::install_default_drivers();
    let pool = AnyPoolOptions::new().max_connections(1).connect(&url).await?;
    let script = std::fs::read_to_string(file(version, dump_name(state)))?;
    sqlx::raw_sql(AssertSqlSafe(script)).execute(&pool).await?;
    pool.close().await;
    Ok(())
}
