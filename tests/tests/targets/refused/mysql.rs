//! MariaDB, with root's session: nothing but the guard and the transaction keeps these from acting.

use anyhow::{Result, ensure};
use sqlsentinel_tests::eventually::SOON;
use sqlsentinel_tests::mariadb::Mariadb;
use sqlsentinel_tests::process::Launch;
use sqlsentinel_tests::programs;
use sqlsentinel_worker::source::{Source, SourceError};
use sqlx::{Executor, MySqlPool};
use tempfile::TempDir;

use super::is_refused;
use crate::ask::{past_the_guard, source};

const SCHEMA: &[&str] = &[
    "CREATE TABLE orders (id INT PRIMARY KEY, amount DECIMAL(10, 2))",
    "INSERT INTO orders VALUES (1, 12.50), (2, 7)",
    "CREATE SEQUENCE numbers",
    "CREATE FUNCTION sly() RETURNS VARCHAR(9) MODIFIES SQL DATA BEGIN DELETE FROM orders; RETURN 'OK'; END",
    "CREATE FUNCTION slyer() RETURNS VARCHAR(9) READS SQL DATA SQL SECURITY DEFINER \
     BEGIN UPDATE orders SET amount = 0; RETURN 'OK'; END",
    "CREATE FUNCTION counter() RETURNS BIGINT BEGIN RETURN NEXTVAL(numbers); END",
    "CREATE PROCEDURE act() BEGIN DELETE FROM orders; END",
];

struct Scene {
    source: Source,
    pool: MySqlPool,
    server: Mariadb,
    directory: TempDir,
}

impl Scene {
    async fn set() -> Result<Self> {
        let server = Mariadb::start().await?;
        let url = server.create_database("target").await?;
        let pool = server.pool("target").await?;
        for statement in SCHEMA {
            pool.execute(sqlx::raw_sql(*statement)).await?;
        }
        // Where a server that runs as another user could write.
        let directory = tempfile::tempdir()?;
        std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
        Ok(Self { source: source(&url, 1)?, pool, server, directory })
    }

    async fn dump(&self) -> Result<String> {
        let place = tempfile::tempdir()?;
        let url = self.server.url("");
        let port = url.trim_end_matches('/').rsplit(':').next().unwrap_or_default();
        let launch = Launch::new("mariadb-dump", programs::mariadb("mariadb-dump")?, place.path())
            .args(["--no-defaults", "--host=127.0.0.1", "--user=root"])
            .args([format!("--port={port}")])
            .args(["--routines", "--skip-comments", "--databases", "target"]);
        let process = launch.start()?;
        let status = process.wait(SOON).await?;
        ensure!(status.success(), "mariadb-dump failed ({status}):\n{}", process.log()?);
        process.log()
    }

    /// What a dump does not show.
    async fn rest(&self) -> Result<(i64, i64, i64, i64)> {
        let sql = "SELECT next_not_cached_value, CAST(@@global.max_connections AS INT), IS_FREE_LOCK('a'), \
                   (SELECT COUNT(*) FROM mysql.user) FROM numbers";
        Ok(sqlx::query_as(sql).fetch_one(&self.pool).await?)
    }

    fn file(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }
}

#[tokio::test]
async fn every_statement_that_acts_is_refused_and_leaves_everything_as_it_was() -> Result<()> {
    let scene = Scene::set().await?;
    let before = (scene.dump().await?, scene.rest().await?);
    assert!(before.0.contains("12.50") && before.0.contains("slyer"), "{}", before.0);
    let mut bystander = scene.pool.acquire().await?;
    let id: u64 = sqlx::query_scalar("SELECT CONNECTION_ID()").fetch_one(&mut *bystander).await?;

    let by_the_guard = [
        ("INSERT INTO orders VALUES (3, 3)".to_owned(), "`INSERT`"),
        ("REPLACE INTO orders VALUES (1, 3)".to_owned(), "`REPLACE`"),
        ("UPDATE orders SET amount = 0".to_owned(), "`UPDATE`"),
        ("DELETE FROM orders".to_owned(), "`DELETE`"),
        ("DELETE FROM orders RETURNING 'OK' AS status".to_owned(), "`DELETE`"),
        ("TRUNCATE orders".to_owned(), "`TRUNCATE`"),
        ("DROP TABLE orders".to_owned(), "`DROP`"),
        ("RENAME TABLE orders TO sold".to_owned(), "`RENAME`"),
        ("CREATE TABLE made AS SELECT 1".to_owned(), "`CREATE`"),
        ("CREATE USER made".to_owned(), "`CREATE`"),
        ("ALTER TABLE orders ADD a INT".to_owned(), "`ALTER`"),
        ("GRANT ALL ON *.* TO root@localhost".to_owned(), ""),
        ("SET GLOBAL max_connections = 11".to_owned(), "`SET`"),
        ("SET @a = 1".to_owned(), "`SET`"),
        ("SET STATEMENT max_statement_time = 0 FOR SELECT 1".to_owned(), "allow_unparsed: true"),
        ("CALL act()".to_owned(), "`CALL`"),
        ("DO GET_LOCK('a', 1)".to_owned(), ""),
        ("DO SLEEP(1)".to_owned(), "allow_unparsed: true"),
        ("HANDLER orders OPEN".to_owned(), ""),
        ("LOCK TABLES orders WRITE".to_owned(), "`LOCK`"),
        ("FLUSH TABLES WITH READ LOCK".to_owned(), ""),
        ("OPTIMIZE TABLE orders".to_owned(), ""),
        ("ANALYZE TABLE orders".to_owned(), ""),
        ("EXPLAIN DELETE FROM orders".to_owned(), "`EXPLAIN`"),
        ("ANALYZE DELETE FROM orders".to_owned(), ""),
        (format!("KILL {id}"), "`KILL`"),
        ("SHUTDOWN".to_owned(), ""),
        ("LOAD DATA INFILE '/etc/hostname' INTO TABLE orders".to_owned(), ""),
        ("PREPARE p FROM 'DELETE FROM orders'".to_owned(), ""),
        ("EXECUTE IMMEDIATE 'DELETE FROM orders'".to_owned(), "`EXECUTE`"),
        ("BEGIN NOT ATOMIC DELETE FROM orders; END".to_owned(), ""),
        ("START TRANSACTION READ WRITE".to_owned(), ""),
        ("COMMIT".to_owned(), "`COMMIT`"),
        ("SELECT 'OK' AS status; DELETE FROM orders".to_owned(), "several: the rest begins with `DELETE`"),
        ("COMMIT; DELETE FROM orders".to_owned(), "several"),
        ("SELECT 'OK' AS status /* /* */ ; DELETE FROM orders /* */".to_owned(), "several"),
        ("SELECT 'it\\'s' AS status; DELETE FROM orders -- '".to_owned(), "several"),
        ("SELECT 'OK' AS status -- \n; DELETE FROM orders".to_owned(), "several"),
        ("WITH x AS (SELECT 1) DELETE FROM orders".to_owned(), "`DELETE`"),
        ("SELECT 'OK' AS status INTO @a".to_owned(), "SELECT … INTO"),
        (format!("SELECT 'OK' AS status INTO OUTFILE '{}'", scene.file("outfile")), "SELECT … INTO"),
        (
            format!("SELECT 'OK' AS status FROM orders LIMIT 1 INTO DUMPFILE '{}'", scene.file("dumpfile")),
            "SELECT … INTO",
        ),
        (format!("SELECT 'OK' AS status /*! INTO OUTFILE '{}' */", scene.file("comment")), "`/*!`"),
        (format!("SELECT 'OK' AS status /*!50000 INTO OUTFILE '{}' */", scene.file("comment")), "`/*!`"),
        (format!("SELECT 'OK' AS status /*M! INTO OUTFILE '{}' */", scene.file("comment")), "`/*M!`"),
        ("/*!99999 DELETE FROM orders */ SELECT 'OK' AS status".to_owned(), "`/*!`"),
        ("SELECT 'OK' AS status FROM orders FOR UPDATE".to_owned(), "`FOR UPDATE`"),
        ("SELECT 'OK' AS status FROM orders LOCK IN SHARE MODE".to_owned(), "`LOCK IN SHARE MODE`"),
        ("SELECT @a := 'OK' AS status".to_owned(), "`:=`"),
        ("SELECT 'OK' AS status, GET_LOCK('a', 1)".to_owned(), "`get_lock`"),
        ("SELECT 'OK' AS status, `get_lock` /**/ ('a', 1)".to_owned(), "`get_lock`"),
        ("SELECT 'OK' AS status, RELEASE_ALL_LOCKS()".to_owned(), "`release_all_locks`"),
        ("SELECT 'OK' AS status, LOAD_FILE('/etc/hostname')".to_owned(), "`load_file`"),
        ("SELECT 'OK' AS status, SETVAL(numbers, 7)".to_owned(), "`setval`"),
        ("SELECT 'OK' AS status, BENCHMARK(1, 1)".to_owned(), "`benchmark`"),
        ("SELECT 'OK' AS status, sys_exec('id')".to_owned(), "`sys_exec`"),
        ("SELECT * FROM orders PROCEDURE ANALYSE()".to_owned(), "`analyse`"),
        ("SELECT ? AS status".to_owned(), "placeholder"),
        ("SELEKT 'OK' AS status".to_owned(), "allow_unparsed: true"),
    ];
    for (query, said) in &by_the_guard {
        is_refused(&scene.source, query, said).await?;
    }
    // Past every guard: what a function hides, the read-only transaction refuses.
    for query in [
        "SELECT sly() AS status",
        "SELECT slyer() AS status",
        "SELECT 'OK' AS status, counter()",
        "SELECT 'OK' AS status, NEXTVAL(numbers)",
    ] {
        is_refused(&scene.source, query, "MySQL error 1792").await?;
    }
    for body in [
        "DELETE FROM orders",
        "CREATE TABLE made (a INT)",
        "SELECT 1; DELETE FROM orders",
        "SELECT 1) SELECT 1; COMMIT; DELETE FROM orders",
        "SELECT 'x' FROM orders FOR UPDATE",
        "SELECT NEXT VALUE FOR numbers",
        "SELECT SETVAL(numbers, 7)",
        "CALL act()",
    ] {
        let refused = past_the_guard(&scene.source, body).await;
        assert!(matches!(refused, Err(SourceError::Query(_) | SourceError::Refused(_))), "{body}: {refused:?}");
    }

    assert_eq!((scene.dump().await?, scene.rest().await?), before);
    let still: u64 = sqlx::query_scalar("SELECT CONNECTION_ID()").fetch_one(&mut *bystander).await?;
    assert_eq!(still, id, "nobody's session was ended");
    assert_eq!(std::fs::read_dir(scene.directory.path())?.count(), 0, "no file was written");
    Ok(())
}
