//! PostgreSQL, with a superuser's session: nothing but the guard and the transaction keeps these from acting.

use std::path::Path;

use anyhow::{Context, Result};
use sqlsentinel_tests::postgres::Postgres;
use sqlsentinel_worker::source::{Source, SourceError};
use sqlx::postgres::PgListener;
use sqlx::{Executor, PgPool};
use tempfile::TempDir;

use super::is_refused;
use crate::ask::{past_the_guard, source};

const SCHEMA: &str = "
    CREATE EXTENSION dblink; CREATE EXTENSION tablefunc;
    CREATE TABLE orders (id INT PRIMARY KEY, amount NUMERIC);
    INSERT INTO orders VALUES (1, 12.50), (2, 7);
    CREATE SEQUENCE numbers;
    CREATE MATERIALIZED VIEW sums AS SELECT sum(amount) AS s FROM orders;
    CREATE FUNCTION sly() RETURNS text LANGUAGE sql AS 'DELETE FROM orders RETURNING ''OK''::text';
    CREATE FUNCTION slyer() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS
        $f$ BEGIN EXECUTE 'UPDATE orders SET amount = 0'; RETURN 'OK'; END $f$;
    CREATE FUNCTION stable() RETURNS text STABLE LANGUAGE plpgsql AS
        $f$ BEGIN PERFORM nextval('numbers'); RETURN 'OK'; END $f$;
    CREATE FUNCTION maker() RETURNS text LANGUAGE plpgsql AS $f$ BEGIN CREATE TABLE made (a INT); RETURN 'OK'; END $f$;
    CREATE FUNCTION unlocker() RETURNS text LANGUAGE plpgsql AS
        $f$ BEGIN PERFORM set_config('transaction_read_only', 'off', true); DELETE FROM orders; RETURN 'OK'; END $f$;
    CREATE PROCEDURE act() LANGUAGE sql AS 'DELETE FROM orders';
    SELECT lo_from_bytea(4711, 'large');
";

struct Scene {
    source: Source,
    pool: PgPool,
    server: Postgres,
    directory: TempDir,
}

impl Scene {
    async fn set() -> Result<Self> {
        let server = Postgres::start().await?;
        let url = server.create_database("target").await?;
        let pool = server.pool("target").await?;
        pool.execute(SCHEMA).await?;
        // Where a server that runs as another user could write.
        let directory = tempfile::tempdir()?;
        std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
        Ok(Self { source: source(&url, 1)?, pool, server, directory })
    }

    fn file(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }
}

#[tokio::test]
async fn every_statement_that_acts_is_refused_and_leaves_everything_as_it_was() -> Result<()> {
    let scene = Scene::set().await?;
    let before = scene.server.dump("target").await?;
    assert!(before.contains("CREATE FUNCTION public.slyer") && before.contains("12.50"), "{before}");
    let mut bystander = scene.pool.acquire().await?;
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *bystander).await?;
    let mut listener = PgListener::connect(&scene.server.url("target")).await?;
    listener.listen("channel").await?;

    let by_the_guard = [
        ("INSERT INTO orders VALUES (3, 3)".to_owned(), "`INSERT`"),
        ("INSERT INTO orders VALUES (3, 3) RETURNING 'OK' AS status".to_owned(), "`INSERT`"),
        ("UPDATE orders SET amount = 0".to_owned(), "`UPDATE`"),
        ("DELETE FROM orders".to_owned(), "`DELETE`"),
        ("MERGE INTO orders AS o USING orders AS p ON o.id = p.id WHEN MATCHED THEN DELETE".to_owned(), "`MERGE`"),
        ("TRUNCATE orders".to_owned(), "`TRUNCATE`"),
        ("DROP TABLE orders".to_owned(), "`DROP`"),
        ("CREATE TABLE made AS SELECT 1".to_owned(), "`CREATE`"),
        ("ALTER TABLE orders ADD a INT".to_owned(), "`ALTER`"),
        ("GRANT ALL ON orders TO public".to_owned(), "`GRANT`"),
        ("COMMENT ON TABLE orders IS 'x'".to_owned(), "`COMMENT`"),
        ("REFRESH MATERIALIZED VIEW sums".to_owned(), ""),
        ("VACUUM orders".to_owned(), ""),
        ("ANALYZE orders".to_owned(), "`ANALYZE`"),
        ("REINDEX TABLE orders".to_owned(), ""),
        ("CHECKPOINT".to_owned(), ""),
        ("CLUSTER orders".to_owned(), ""),
        ("DISCARD ALL".to_owned(), "`DISCARD`"),
        ("LOAD 'auto_explain'".to_owned(), ""),
        ("LOCK TABLE orders".to_owned(), ""),
        ("LISTEN channel".to_owned(), "`LISTEN`"),
        ("NOTIFY channel, 'x'".to_owned(), "`NOTIFY`"),
        ("CALL act()".to_owned(), "`CALL`"),
        ("DO $$ BEGIN DELETE FROM orders; END $$".to_owned(), ""),
        ("PREPARE p AS DELETE FROM orders".to_owned(), "`PREPARE`"),
        ("EXECUTE p".to_owned(), "`EXECUTE`"),
        ("DECLARE c CURSOR FOR SELECT 1".to_owned(), "`DECLARE`"),
        ("EXPLAIN ANALYZE DELETE FROM orders".to_owned(), "`EXPLAIN`"),
        ("SET transaction_read_only = off".to_owned(), "`SET`"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE".to_owned(), "`SET`"),
        ("RESET ALL".to_owned(), "`RESET`"),
        ("BEGIN READ WRITE".to_owned(), ""),
        ("COMMIT".to_owned(), "`COMMIT`"),
        ("SELECT 'OK' AS status; DELETE FROM orders".to_owned(), "several: the rest begins with `DELETE`"),
        ("COMMIT; DELETE FROM orders; BEGIN".to_owned(), "several"),
        ("SELECT 'OK' AS status /* ; */ ; /* */ DELETE FROM orders --".to_owned(), "several"),
        ("SELECT ';' AS status; DELETE FROM orders".to_owned(), "several"),
        ("SELECT 'OK' AS status /* /* */ ; DELETE FROM orders */; DELETE FROM orders".to_owned(), "several"),
        ("WITH gone AS (DELETE FROM orders RETURNING *) SELECT 'OK' AS status FROM gone".to_owned(), "`DELETE` inside"),
        ("WITH x AS (UPDATE orders SET amount = 0 RETURNING *) SELECT 'OK' AS status".to_owned(), "`UPDATE` inside"),
        ("WITH x AS (INSERT INTO orders VALUES (3) RETURNING *) SELECT 'OK' AS status".to_owned(), "`INSERT` inside"),
        ("WITH x AS (SELECT 1) DELETE FROM orders".to_owned(), "`DELETE` inside"),
        ("SELECT 'OK' AS status INTO made".to_owned(), "SELECT … INTO"),
        ("SELECT 'OK' AS status INTO TEMP made".to_owned(), "SELECT … INTO"),
        ("SELECT 'OK' AS status FROM orders FOR UPDATE".to_owned(), "`FOR UPDATE`"),
        ("SELECT 'OK' AS status FROM orders FOR SHARE".to_owned(), "`FOR SHARE`"),
        ("SELECT 'OK' AS status FROM orders FOR NO KEY UPDATE".to_owned(), ""),
        ("SELECT 'OK' AS status /*! , pg_notify('channel', 'x') */".to_owned(), "`/*!`"),
        (format!("COPY orders TO '{}'", scene.file("copied")), "`COPY`"),
        (format!("COPY orders TO PROGRAM 'touch {}'", scene.file("program")), "`COPY`"),
        ("COPY orders FROM STDIN".to_owned(), "`COPY`"),
        ("SELECT 'OK' AS status, set_config('transaction_read_only', 'off', false)".to_owned(), "`set_config`"),
        ("SELECT 'OK' AS status, pg_catalog.\"set_config\" /**/ ('a.b', 'c', false)".to_owned(), "`set_config`"),
        ("SELECT 'OK' AS status, U&\"set\\005fconfig\"('a.b', 'c', false)".to_owned(), "U&"),
        ("SELECT 'OK' AS status, lo_create(4712)".to_owned(), "`lo_create`"),
        ("SELECT 'OK' AS status, lo_from_bytea(4712, 'x')".to_owned(), "`lo_from_bytea`"),
        ("SELECT 'OK' AS status, lo_put(4711, 0, 'x')".to_owned(), "`lo_put`"),
        ("SELECT 'OK' AS status, lo_unlink(4711)".to_owned(), "`lo_unlink`"),
        ("SELECT 'OK' AS status, lo_import('/etc/hostname')".to_owned(), "`lo_import`"),
        (format!("SELECT 'OK' AS status, lo_export(4711, '{}')", scene.file("large")), "`lo_export`"),
        ("SELECT 'OK' AS status, lowrite(0, 'x')".to_owned(), "`lowrite`"),
        (
            format!("SELECT 'OK' AS status, dblink_exec('{}', 'DELETE FROM orders')", scene.server.url("target")),
            "`dblink_exec`",
        ),
        (
            format!(
                "SELECT 'OK' AS status FROM dblink('{}', 'DELETE FROM orders RETURNING id') AS t(id INT)",
                scene.server.url("target")
            ),
            "`dblink`",
        ),
        ("SELECT 'OK' AS status, dblink_connect('x', 'dbname=target')".to_owned(), "`dblink_connect`"),
        ("SELECT 'OK' AS status, pg_advisory_lock(1)".to_owned(), "`pg_advisory_lock`"),
        ("SELECT 'OK' AS status, pg_advisory_xact_lock(1)".to_owned(), "`pg_advisory_xact_lock`"),
        ("SELECT 'OK' AS status, pg_try_advisory_lock(1)".to_owned(), "`pg_try_advisory_lock`"),
        (format!("SELECT 'OK' AS status, pg_terminate_backend({pid})"), "`pg_terminate_backend`"),
        (format!("SELECT 'OK' AS status, pg_cancel_backend({pid})"), "`pg_cancel_backend`"),
        ("SELECT 'OK' AS status, pg_notify('channel', 'x')".to_owned(), "`pg_notify`"),
        ("SELECT 'OK' AS status, pg_read_file('PG_VERSION')".to_owned(), "`pg_read_file`"),
        ("SELECT 'OK' AS status, pg_read_binary_file('PG_VERSION')".to_owned(), "`pg_read_binary_file`"),
        ("SELECT 'OK' AS status, pg_ls_dir('.')".to_owned(), "`pg_ls_dir`"),
        ("SELECT 'OK' AS status, pg_stat_file('PG_VERSION')".to_owned(), "`pg_stat_file`"),
        ("SELECT 'OK' AS status, pg_reload_conf()".to_owned(), "`pg_reload_conf`"),
        ("SELECT 'OK' AS status, pg_rotate_logfile()".to_owned(), "`pg_rotate_logfile`"),
        ("SELECT 'OK' AS status, pg_switch_wal()".to_owned(), "`pg_switch_wal`"),
        ("SELECT 'OK' AS status, pg_create_restore_point('x')".to_owned(), "`pg_create_restore_point`"),
        ("SELECT 'OK' AS status, pg_create_physical_replication_slot('x')".to_owned(), "`pg_create_physical"),
        ("SELECT 'OK' AS status, pg_logical_emit_message(false, 'x', 'y')".to_owned(), "`pg_logical_emit_message`"),
        ("SELECT 'OK' AS status, pg_backup_start('x')".to_owned(), "`pg_backup_start`"),
        ("SELECT 'OK' AS status, pg_stat_reset()".to_owned(), "`pg_stat_reset`"),
        ("SELECT 'OK' AS status, pg_export_snapshot()".to_owned(), "`pg_export_snapshot`"),
        ("SELECT query_to_xml('DELETE FROM orders', true, true, '') AS status".to_owned(), "`query_to_xml`"),
        (
            "SELECT 'OK' AS status FROM ts_stat('SELECT to_tsvector(pg_notify(''channel'', ''x'')::text)')".to_owned(),
            "`ts_stat`",
        ),
        ("SELECT 'OK' AS status FROM crosstab('DELETE FROM orders') AS c(a INT, b INT)".to_owned(), "`crosstab`"),
        ("SELECT $1 AS status".to_owned(), "placeholder"),
        ("SELEKT 'OK' AS status".to_owned(), "allow_unparsed: true"),
    ];
    for (query, said) in &by_the_guard {
        is_refused(&scene.source, query, said).await?;
    }
    // Past every guard: what a function hides, the read-only transaction refuses.
    for query in [
        "SELECT 'OK' AS status, nextval('numbers')",
        "SELECT 'OK' AS status, setval('numbers', 7)",
        "SELECT sly() AS status",
        "SELECT slyer() AS status",
        "SELECT stable() AS status",
        "SELECT maker() AS status",
    ] {
        is_refused(&scene.source, query, "SQLSTATE 25006").await?;
    }
    for body in [
        "DELETE FROM orders RETURNING *",
        "SELECT 1) AS a; COMMIT; DELETE FROM orders; SELECT (1",
        "SELECT 1; DELETE FROM orders",
        "WITH x AS (DELETE FROM orders RETURNING *) SELECT * FROM x",
        "SELECT unlocker() AS status",
        "SELECT 1 FROM orders FOR UPDATE",
    ] {
        let refused = past_the_guard(&scene.source, body).await;
        assert!(matches!(refused, Err(SourceError::Query(_) | SourceError::Refused(_))), "{body}: {refused:?}");
    }

    assert_eq!(scene.server.dump("target").await?, before);
    let still: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *bystander).await?;
    assert_eq!(still, pid, "nobody's session was ended");
    scene.pool.execute("SELECT pg_notify('channel', 'the test')").await?;
    assert_eq!(listener.recv().await?.payload(), "the test", "nothing was notified before");
    let locks: i64 =
        sqlx::query_scalar("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetch_one(&scene.pool).await?;
    let slots: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_replication_slots").fetch_one(&scene.pool).await?;
    assert_eq!((locks, slots), (0, 0));
    assert_eq!(names(scene.directory.path())?, Vec::<String>::new(), "no file was written");
    Ok(())
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).context("the folder is gone")?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
