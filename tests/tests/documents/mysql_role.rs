//! The GRANTs of the guide, run on a real MariaDB: the reader reads, and does nothing else.

use anyhow::{Context, Result, ensure};
use sqlsentinel_common::alert::{QueryOptions, SourceName};
use sqlsentinel_common::config::normalise_database_url;
use sqlsentinel_common::ids::ExecutionId;
use sqlsentinel_tests::mariadb::Mariadb;
use sqlsentinel_worker::role;
use sqlsentinel_worker::run::{Run, run_once};
use sqlsentinel_worker::source::Source;
use sqlx::mysql::{MySqlConnection, MySqlDatabaseError};
use sqlx::{AssertSqlSafe, Connection, Executor};
use tokio_util::sync::CancellationToken;

use crate::markdown::{read, texts_marked};

async fn run(url: &str, statements: &[&str]) -> Result<(), sqlx::Error> {
    let mut connection = MySqlConnection::connect(url).await?;
    for statement in statements {
        connection.execute(AssertSqlSafe(*statement)).await?;
    }
    connection.close().await
}

#[tokio::test]
async fn the_readers_account_reads_and_does_nothing_else() -> Result<()> {
    let server = Mariadb::start().await?;
    let superuser = server.create_database("shop").await?;
    run(&superuser, &["CREATE TABLE orders (id INT)", "CREATE SEQUENCE numbers", "CREATE DATABASE other"]).await?;
    let block = texts_marked(&read("docs/guides/database-roles.md")?, "sql mysql-reader").pop();
    let block = block.context("the guide has no block `sql mysql-reader`")?;
    let statements: Vec<_> = block.split(';').filter(|statement| !statement.trim().is_empty()).collect();
    run(&superuser, &statements).await?;
    run(&superuser, &["CREATE TABLE later (id INT)"]).await?;

    let reader = superuser.replacen("root@", "sqlsentinel_reader:change-me@", 1);
    let source = Source::open(SourceName::default_source(), &normalise_database_url(&reader)?, 1)?;
    let role = role::of(&source).await.context("the account is not known")?;
    assert_eq!((role.name.as_str(), role.could_write), ("sqlsentinel_reader@%", None));
    for table in ["orders", "later"] {
        let query = format!("SELECT 'OK' AS status, COUNT(*) AS actual_value FROM {table}");
        let timeout = std::time::Duration::from_secs(30);
        let run = Run {
            alert_name: "a",
            execution_id: ExecutionId::manual(),
            query: &query,
            options: &QueryOptions::default(),
            timeout,
        };
        assert_eq!(run_once(&source, &run, &CancellationToken::new()).await?.error, None, "{table}");
    }
    for statement in [
        "INSERT INTO orders VALUES (1)",
        "UPDATE later SET id = 2",
        "DELETE FROM orders",
        "TRUNCATE orders",
        "DROP TABLE orders",
        "CREATE TABLE t (x INT)",
        "CREATE TEMPORARY TABLE t (x INT)",
        "CREATE FUNCTION f() RETURNS INT RETURN 1",
        "SELECT NEXTVAL(numbers)",
        "SELECT 1 INTO OUTFILE '/tmp/sqlsentinel-outfile'",
        "LOCK TABLES orders WRITE",
        "SET GLOBAL max_connections = 1",
        "USE other",
    ] {
        let refused = run(&reader, &[statement]).await.err();
        let number = refused
            .as_ref()
            .and_then(|error| Some(error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?.number()));
        ensure!(matches!(number, Some(1044 | 1045 | 1142 | 1227 | 1370)), "{statement}: {refused:?}");
    }
    Ok(())
}
