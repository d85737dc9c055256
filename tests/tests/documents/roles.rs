//! The GRANTs of the guide, run on a real PostgreSQL: roles can do what they are for, and nothing else.

use anyhow::{Context, Result, ensure};
use sqlsentinel_common::alert::{AlertDefinition, QueryOptions, SourceName};
use sqlsentinel_common::config::{load_str, normalise_database_url};
use sqlsentinel_common::ids::ExecutionId;
use sqlsentinel_common::messages::{OutcomeMessage, decode};
use sqlsentinel_common::outcome::{InstanceVerdict, RunStatus, Verdict};
use sqlsentinel_common::store::silences::{Past, SilenceRequest};
use sqlsentinel_common::store::{Store, StoreRole};
use sqlsentinel_notifier::record::Recorder;
use sqlsentinel_tests::postgres::Postgres;
use sqlsentinel_worker::role;
use sqlsentinel_worker::run::{Run, run_once};
use sqlsentinel_worker::source::Source;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};
use tokio_util::sync::CancellationToken;

use crate::markdown::{read, texts_marked};

const ALERT: &str =
    "database: {url: 'sqlite:///t.db'}\nalerts: [{name: payment_failures, query: q, schedule: '@daily'}]";

/// A server on which the guide is followed.
struct Scene(Postgres);

impl Scene {
    fn url(&self, role: &str, database: &str) -> String {
        self.0.url(database).replacen("postgres@", &format!("{role}:change-me@"), 1)
    }

    async fn run(&self, url: &str, statement: &str) -> Result<(), sqlx::Error> {
        let mut connection = PgConnection::connect(url).await?;
        // The grants are to hold where the session's own lock is off.
        connection.execute("SET default_transaction_read_only = off").await?;
        connection.execute(AssertSqlSafe(statement)).await?;
        connection.close().await
    }

    /// Runs the guide's block as its reader does: by a superuser, statement by statement.
    async fn follow(&self, mark: &str, database: &str) -> Result<()> {
        let mut blocks = texts_marked(&read("docs/guides/database-roles.md")?, &format!("sql {mark}"));
        let block = blocks.pop().with_context(|| format!("the guide has no block `sql {mark}`"))?;
        let code: Vec<&str> = block.lines().filter(|line| !line.starts_with("--")).collect();
        for statement in code.join("\n").split(';').filter(|statement| !statement.trim().is_empty()) {
            self.run(&self.0.url(database), statement).await.with_context(|| statement.to_owned())?;
        }
        Ok(())
    }

    async fn refuses(&self, role: &str, database: &str, statement: &str) -> Result<()> {
        let refused = self.run(&self.url(role, database), statement).await;
        let code = refused.err().and_then(|error| Some(error.as_database_error()?.code()?.into_owned()));
        ensure!(code.as_deref() == Some("42501"), "{role} may do this: {statement} ({code:?})");
        Ok(())
    }

    fn store(&self, role: &str) -> Result<Store> {
        Ok(Store::connect(&normalise_database_url(&self.url(role, "sqlsentinel"))?, StoreRole::Member)?)
    }
}

async fn verdict(url: &str, query: &str) -> Result<Verdict> {
    let source = Source::open(SourceName::default_source(), &normalise_database_url(url)?, 1)?;
    let timeout = std::time::Duration::from_secs(30);
    let run =
        Run { alert_name: "a", execution_id: ExecutionId::manual(), query, options: &QueryOptions::default(), timeout };
    Ok(run_once(&source, &run, &CancellationToken::new()).await?)
}

#[tokio::test]
async fn the_readers_role_reads_and_does_nothing_else() -> Result<()> {
    let scene = Scene(Postgres::start().await?);
    scene.0.create_database("shop").await?;
    let superuser = scene.0.url("shop");
    for statement in ["CREATE ROLE shop_owner LOGIN", "ALTER DATABASE shop OWNER TO shop_owner"] {
        scene.run(&superuser, statement).await?;
    }
    let owner = scene.url("shop_owner", "shop");
    scene.run(&owner, "CREATE TABLE orders (id INT)").await?;
    scene.follow("reader", "shop").await?;
    scene.run(&owner, "CREATE TABLE later (id INT)").await?;

    let reader = scene.url("sqlsentinel_reader", "shop");
    for table in ["orders", "later"] {
        let verdict =
            verdict(&reader, &format!("SELECT 'OK' AS status, count(*) AS actual_value FROM {table}")).await?;
        assert_eq!(verdict.error, None, "{table}");
    }
    let source = Source::open(SourceName::default_source(), &normalise_database_url(&reader)?, 1)?;
    let role = role::of(&source).await.context("the role is not known")?;
    assert_eq!((role.name.as_str(), role.could_write), ("sqlsentinel_reader", None));
    for statement in [
        "INSERT INTO orders VALUES (1)",
        "UPDATE later SET id = 2",
        "DELETE FROM orders",
        "TRUNCATE orders",
        "CREATE TABLE t (x INT)",
        "CREATE TEMPORARY TABLE t (x INT)",
        "CREATE SCHEMA s",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY orders TO PROGRAM 'cat'",
    ] {
        scene.refuses("sqlsentinel_reader", "shop", statement).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_state_databases_roles_have_what_each_process_needs() -> Result<()> {
    let scene = Scene(Postgres::start().await?);
    scene.follow("state", "postgres").await?;
    scene.store("sqlsentinel_state")?.migrate().await?;
    scene.follow("state-rows", "sqlsentinel").await?;

    let sample = texts_marked(&read("docs/reference/messages.md")?, "json outcome").swap_remove(0);
    let outcome: OutcomeMessage = decode(sample.as_bytes())?;
    let definition = load_str(ALERT, "test.yaml", &|_| None)?.alerts.swap_remove(0).definition;
    let notifier = scene.store("sqlsentinel_notifier")?;
    Recorder::new(notifier.clone()).record_manual(&definition, &outcome).await?;
    // An instance that has ended is forgotten: a notifier's only right to delete.
    let many = load_str(&ALERT.replace("query: q", "query: q, instance_key: region"), "test.yaml", &|_| None)?;
    let many = AlertDefinition { name: "regions".to_owned(), ..many.alerts[0].definition.clone() };
    for (minute, status) in [(1, RunStatus::Alert), (2, RunStatus::Ok)] {
        let row = InstanceVerdict::new("eu".to_owned(), Verdict::bare(status));
        let run = OutcomeMessage {
            execution_id: ExecutionId::manual(),
            alert_name: many.name.clone(),
            scheduled_for: outcome.scheduled_for.plus(std::time::Duration::from_secs(60 * minute)),
            verdict: Verdict { instances: vec![row], ..Verdict::bare(status) },
            ..outcome.clone()
        };
        Recorder::new(notifier.clone()).record_manual(&many, &run).await?;
    }
    notifier.outbox_backlog().await?;
    notifier.untold("", 1).await?;
    let duration = std::time::Duration::from_secs(60);
    let silence = SilenceRequest { alert_name: "payment_failures", duration, created_by: "eve", reason: None };
    notifier.silence(&silence).await?;
    notifier.unsilence("payment_failures", "eve").await?;
    scene.refuses("sqlsentinel_notifier", "sqlsentinel", "DROP TABLE sqlsentinel_fires").await?;
    scene.refuses("sqlsentinel_notifier", "sqlsentinel", "DELETE FROM sqlsentinel_fires").await?;

    let history = scene.store("sqlsentinel_history")?;
    assert_eq!(history.history(None, 10).await?.len(), 3);
    assert_eq!(history.alert_statuses(None).await?.len(), 2);
    assert_eq!(history.silences(None, Past::Included).await?.len(), 1);
    scene.refuses("sqlsentinel_history", "sqlsentinel", "UPDATE sqlsentinel_state SET alert_name = ''").await?;
    Ok(())
}
