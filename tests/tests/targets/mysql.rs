//! A real MariaDB as a target database: faithful values of every type, nothing written, and nothing left running at
//! the server, however a run ends.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sqlsentinel_common::alert::QueryOptions;
use sqlsentinel_common::ids::ExecutionId;
use sqlsentinel_common::outcome::{ErrorKind, RunStatus, Verdict};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::mariadb::Mariadb;
use sqlsentinel_worker::answer::Limits;
use sqlsentinel_worker::role;
use sqlsentinel_worker::run::Cancelled;
use sqlsentinel_worker::source::{Source, SourceError};
use sqlx::{AssertSqlSafe, Executor, MySqlPool};
use tokio_util::sync::CancellationToken;

use crate::ask::{self, LONG, error_of, past_the_guard, past_the_guard_within, run_at, run_with, source};

const OK: &str = "SELECT 'OK' AS status";

struct Scene {
    server: Mariadb,
    source: Source,
    pool: MySqlPool,
}

impl Scene {
    async fn set(connections: usize) -> Result<Self> {
        let server = Mariadb::start().await?;
        let url = server.create_database("target").await?;
        let pool = server.pool("target").await?;
        for statement in ["CREATE TABLE orders (id INT, amount DECIMAL(10, 2))", "INSERT INTO orders VALUES (1, 12.50)"]
        {
            pool.execute(statement).await?;
        }
        Ok(Self { source: source(&url, connections)?, server, pool })
    }

    async fn run(&self, query: &str, timeout: Duration) -> Result<Verdict, Cancelled> {
        ask::run(&self.source, query, timeout, &CancellationToken::new()).await
    }

    /// Runs statements of the test's own in one session without strictness, which would refuse zero dates.
    async fn run_each(&self, statements: &[&str]) -> Result<()> {
        let mut session = self.pool.acquire().await?;
        session.execute("SET SESSION sql_mode = ''").await?;
        for statement in statements {
            session.execute(sqlx::raw_sql(AssertSqlSafe(*statement))).await?;
        }
        Ok(())
    }

    /// How many sessions are in the middle of a statement that mentions an alert.
    async fn running(&self) -> Result<i64> {
        let sql = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
                   WHERE COMMAND <> 'Sleep' AND INFO LIKE '%sqlsentinel:%' AND ID <> CONNECTION_ID()";
        Ok(sqlx::query_scalar(sql).fetch_one(&self.pool).await?)
    }

    async fn until_running(&self, expected: i64) -> Result<()> {
        let running = || self.running();
        eventually(&format!("{expected} sessions are running"), SOON, running, |running| *running == expected).await?;
        Ok(())
    }

    /// The statements that began in the source's sessions since the test set out, without this test's own.
    async fn logged(&self, containing: &str) -> Result<Vec<String>> {
        let statements = self.server.statements().await?;
        Ok(statements.into_iter().filter(|text| text.contains(containing) && !text.contains("general_log")).collect())
    }
}

fn shown(verdict: &Verdict, column: &str) -> Option<String> {
    verdict.context.get(column).map(Value::to_string)
}

#[tokio::test]
async fn every_column_type_arrives_as_faithful_json_at_its_extremes_and_null_as_null() -> Result<()> {
    let scene = Scene::set(1).await?;
    let rows = [
        ("TINYINT", "-128", "-128"),
        ("TINYINT UNSIGNED", "255", "255"),
        ("BOOLEAN", "TRUE", "1"),
        ("TINYINT(1)", "-7", "-7"),
        ("TINYINT(1) UNSIGNED", "200", "200"),
        ("SMALLINT", "-32768", "-32768"),
        ("SMALLINT UNSIGNED", "65535", "65535"),
        ("MEDIUMINT", "-8388608", "-8388608"),
        ("MEDIUMINT UNSIGNED", "16777215", "16777215"),
        ("INT", "-2147483648", "-2147483648"),
        ("INT(6) ZEROFILL", "42", "42"),
        ("INT UNSIGNED", "4294967295", "4294967295"),
        ("BIGINT", "-9223372036854775808", "-9223372036854775808"),
        ("BIGINT UNSIGNED", "18446744073709551615", "18446744073709551615"),
        (
            "DECIMAL(65, 30)",
            "-12345678901234567890123456789012345.123456789012345678901234567890",
            "-12345678901234567890123456789012345.123456789012345678901234567890",
        ),
        (
            "DECIMAL(65, 0)",
            "99999999999999999999999999999999999999999999999999999999999999999",
            "99999999999999999999999999999999999999999999999999999999999999999",
        ),
        ("DECIMAL(8, 2) ZEROFILL", "8500.1", "8500.10"),
        ("DECIMAL(3, 2)", "-0.5", "-0.50"),
        ("FLOAT", "0.1", "0.1"),
        ("FLOAT", "16777216", "16777216.0"),
        ("DOUBLE", "0.1 + 0.2e0", "0.30000000000000004"),
        ("DOUBLE", "-1.7976931348623157e308", "-1.7976931348623157e+308"),
        ("BIT(1)", "b'1'", "1"),
        ("BIT(12)", "b'100000000001'", "2049"),
        ("BIT(64)", "18446744073709551615", "18446744073709551615"),
        ("YEAR", "2155", "2155"),
        ("YEAR", "0", "0"),
        ("DATE", "'9999-12-31'", "\"9999-12-31\""),
        ("DATE", "'0000-00-00'", "\"0000-00-00\""),
        ("DATE", "'2026-00-00'", "\"2026-00-00\""),
        ("TIME", "'838:59:59'", "\"838:59:59\""),
        ("TIME(6)", "'-838:59:59.000001'", "\"-838:59:59.000001\""),
        ("TIME", "'00:00:00'", "\"00:00:00\""),
        ("DATETIME", "'2026-03-29 01:30:00'", "\"2026-03-29T01:30:00\""),
        ("DATETIME(6)", "'9999-12-31 23:59:59.999999'", "\"9999-12-31T23:59:59.999999\""),
        ("DATETIME", "'0000-00-00 00:00:00'", "\"0000-00-00T00:00:00\""),
        ("DATETIME", "'2026-03-29'", "\"2026-03-29T00:00:00\""),
        (
            "TIMESTAMP(3) NULL",
            "CONVERT_TZ('2026-03-29 01:30:00.5', '+00:00', @@time_zone)",
            "\"2026-03-29T01:30:00.5+00:00\"",
        ),
        ("CHAR(4)", "'ab'", "\"ab\""),
        ("VARCHAR(20)", "'é''\"\\n𝄞'", "\"é'\\\"\\n𝄞\""),
        ("VARCHAR(20)", "''", "\"\""),
        ("VARCHAR(20) CHARACTER SET latin1", "'é'", "\"é\""),
        ("VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "'é'", "\"é\""),
        ("CHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "'é'", "\"é\""),
        ("TINYTEXT", "'tiny'", "\"tiny\""),
        ("TEXT", "'a\\0b'", "\"a\\\\u0000b\""),
        ("MEDIUMTEXT", "'medium'", "\"medium\""),
        ("LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "'long é'", "\"long é\""),
        ("JSON", "'{\"b\": 1.10, \"a\": null}'", "\"{\\\"b\\\": 1.10, \\\"a\\\": null}\""),
        ("ENUM('sad', 'glad') COLLATE utf8mb4_bin", "'glad'", "\"glad\""),
        ("SET('a', 'b', 'c')", "'c,a'", "\"a,c\""),
        ("BINARY(3)", "X'00ff'", "\"\\\\x00ff00\""),
        ("VARBINARY(9)", "X'00ff'", "\"\\\\x00ff\""),
        ("TINYBLOB", "X'00ff'", "\"\\\\x00ff\""),
        ("BLOB", "X'00ff'", "\"\\\\x00ff\""),
        ("LONGBLOB", "X''", "\"\\\\x\""),
        ("GEOMETRY", "ST_GeomFromText('LINESTRING(0 0, 1.5 2)')", "\"LINESTRING(0 0,1.5 2)\""),
        ("POINT", "POINT(1, 2)", "\"POINT(1 2)\""),
        ("UUID", "'0C8E4A76-0000-4000-8000-000000000000'", "\"0c8e4a76-0000-4000-8000-000000000000\""),
        ("INET6", "'2001:db8::1'", "\"2001:db8::1\""),
        ("INET4", "'255.255.255.255'", "\"255.255.255.255\""),
        ("BIGINT(20) ZEROFILL", "42", "42"),
        ("DECIMAL(65, 30)", "0", "0.000000000000000000000000000000"),
        ("FLOAT", "-3.402823466e38", "-3.4028235e+38"),
        ("FLOAT", "1e-38", "1e-38"),
        ("DOUBLE", "5e-324", "5e-324"),
        ("DOUBLE(10, 2)", "8500.1", "8500.1"),
        ("BIT(8)", "0", "0"),
        ("DATE", "'0001-01-01'", "\"0001-01-01\""),
        ("TIME(3)", "'-00:00:00.001'", "\"-00:00:00.001\""),
        ("TIMESTAMP NULL", "0", "\"0000-00-00T00:00:00+00:00\""),
        ("TIMESTAMP NULL", "FROM_UNIXTIME(2147483647)", "\"2038-01-19T03:14:07+00:00\""),
        ("CHAR(0)", "''", "\"\""),
        ("NCHAR(4)", "'é'", "\"é\""),
        ("VARCHAR(20) CHARACTER SET utf16", "'é𝄞'", "\"é𝄞\""),
        ("VARCHAR(20) CHARACTER SET ucs2", "'é'", "\"é\""),
        ("VARCHAR(20) CHARACTER SET cp1251", "'ж'", "\"ж\""),
        ("VARCHAR(20) CHARACTER SET binary", "'a'", "\"\\\\x61\""),
        ("VARCHAR(200) COMPRESSED", "REPEAT('x', 5)", "\"xxxxx\""),
        ("TEXT CHARACTER SET latin1", "'é'", "\"é\""),
        ("TEXT COMPRESSED", "'é'", "\"é\""),
        ("BLOB COMPRESSED", "X'00ff'", "\"\\\\x00ff\""),
        ("MEDIUMBLOB", "X'00ff'", "\"\\\\x00ff\""),
        (
            "JSON",
            "'[1234567890123456789012345678901234567890.10]'",
            "\"[1234567890123456789012345678901234567890.10]\"",
        ),
        ("ENUM('sad', 'glad')", "'neither'", "\"\""),
        ("SET('a', 'b')", "''", "\"\""),
        ("LINESTRING", "ST_GeomFromText('LINESTRING(0 0,1 1)')", "\"LINESTRING(0 0,1 1)\""),
        ("POLYGON", "ST_GeomFromText('POLYGON((0 0,1 1,1 0,0 0))')", "\"POLYGON((0 0,1 1,1 0,0 0))\""),
        ("MULTIPOINT", "ST_GeomFromText('MULTIPOINT(0 0,1 1)')", "\"MULTIPOINT(0 0,1 1)\""),
        (
            "GEOMETRYCOLLECTION",
            "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1))')",
            "\"GEOMETRYCOLLECTION(POINT(1 1))\"",
        ),
    ];
    let names: Vec<_> = (0..rows.len()).map(|n| format!("c{n:02}")).collect();
    let columns: Vec<_> = names.iter().zip(&rows).map(|(name, (kind, ..))| format!("{name} {kind}")).collect();
    scene.run_each(&[&format!("CREATE TABLE kinds ({})", columns.join(", "))]).await?;
    let values: Vec<_> = rows.iter().map(|(_, value, _)| *value).collect();
    for values in [values, vec!["NULL"; rows.len()]] {
        scene.run_each(&[&format!("INSERT INTO kinds VALUES ({})", values.join(", "))]).await?;
    }
    // Long columns make the query a wrapped one; the short ones are read in both ways.
    let all: Vec<_> = names.iter().zip(&rows).collect();
    let short: Vec<_> = all.iter().filter(|(_, (kind, ..))| !is_long(kind)).copied().collect();
    for columns in [all, short] {
        let list = columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let query = |row: &str| {
            format!("SELECT ' Alert ' AS STATUS, 8500.00 AS actual_value, {list} FROM kinds WHERE c00 IS {row}")
        };
        let verdict = scene.run(&query("NOT NULL"), LONG).await?;
        assert_eq!((verdict.status, &verdict.error, verdict.truncated), (RunStatus::Alert, &None, false));
        assert_eq!(verdict.actual_value.as_ref().map(Value::to_string).as_deref(), Some("8500.00"));
        for (name, (kind, value, expected)) in &columns {
            assert_eq!(shown(&verdict, name).as_deref(), Some(*expected), "{kind} {value}");
        }
        let verdict = scene.run(&query("NULL"), LONG).await?;
        for (name, (kind, ..)) in &columns {
            assert_eq!(shown(&verdict, name).as_deref(), Some("null"), "{kind}");
        }
    }
    Ok(())
}

fn is_long(kind: &str) -> bool {
    ["TEXT", "BLOB", "JSON", "GEOMETRY", "POINT", "POLYGON", "LINESTRING"].iter().any(|long| kind.contains(long))
}

#[tokio::test]
async fn expressions_have_the_json_of_their_types() -> Result<()> {
    let scene = Scene::set(1).await?;
    for (sql, expected) in [
        ("8500.0", "8500.0"),
        ("1 / 3", "0.3333"),
        ("1e3", "1000.0"),
        ("2 > 1", "1"),
        ("COUNT(*)", "1"),
        ("SUM(amount)", "12.50"),
        ("~0", "18446744073709551615"),
        ("CAST('2026-03-29 01:30:00.25' AS DATETIME(3))", "\"2026-03-29T01:30:00.25\""),
        ("DATE '2026-03-29' + INTERVAL 1 DAY", "\"2026-03-30\""),
        ("TIMEDIFF('2026-03-29 10:00:00', '2026-03-27 09:00:00')", "\"49:00:00\""),
        ("FROM_UNIXTIME(0)", "\"1970-01-01T00:00:00\""),
        ("@@time_zone", "\"+00:00\""),
        ("CONCAT('a', 1)", "\"a1\""),
        ("GROUP_CONCAT(id)", "\"1\""),
        ("JSON_OBJECT('a', 1.10)", "\"{\\\"a\\\": 1.10}\""),
        ("X'00ff'", "\"\\\\x00ff\""),
        ("UNHEX('ff')", "\"\\\\xff\""),
        ("'a' 'b'", "\"ab\""),
        ("'it\\'s'", "\"it's\""),
        ("'a' || 'b'", "0"),
        ("NULL", "null"),
    ] {
        let verdict = scene.run(&format!("SELECT 'OK' AS status, {sql} AS c FROM orders"), LONG).await?;
        assert_eq!(shown(&verdict, "c").as_deref(), Some(expected), "{sql}: {:?}", verdict.error);
    }
    Ok(())
}

#[tokio::test]
async fn queries_of_every_shape_keep_their_meaning() -> Result<()> {
    let scene = Scene::set(1).await?;
    scene.pool.execute("CREATE TABLE notes (id INT, note LONGTEXT)").await?;
    scene.pool.execute("INSERT INTO notes VALUES (1, 'OK'), (2, 'ALERT')").await?;
    for query in [
        "SELECT 'OK' AS status -- the end",
        "# the beginning\nSELECT 'OK' AS status; /* and the end */ ;",
        "(SELECT 'OK' AS status)",
        "WITH answer AS (SELECT 1 AS answer) SELECT 'OK' AS status FROM answer WHERE answer = 1",
        "SELECT 'OK' AS status UNION SELECT 'OK'",
        "SELECT IF((SELECT COUNT(*) FROM orders) = 1, \"OK\", 'ALERT') AS status",
        // The same with a column that may be long, which wraps the query.
        "SELECT note AS status FROM notes ORDER BY id LIMIT 1 -- the end",
        "WITH n AS (SELECT note FROM notes WHERE id = 1) SELECT note AS status FROM n",
        "SELECT note AS status FROM notes WHERE id = 1 UNION SELECT note FROM notes WHERE id = 1",
        "(SELECT note AS status FROM notes ORDER BY id DESC LIMIT 1, 1)",
        "SELECT MAX(REPEAT(note, 1)) AS `status` FROM notes HAVING COUNT(*) = 2",
    ] {
        assert_eq!(scene.run(query, LONG).await?, Verdict::bare(RunStatus::Ok), "{query}");
    }
    assert_eq!(
        scene.run("SELECT 'OK' AS status FROM orders WHERE id = 2", LONG).await?,
        Verdict::bare(RunStatus::NoData)
    );
    let twice =
        scene.run("SELECT 'OK' AS status, a.note, b.note FROM notes a JOIN notes b USING (id) WHERE id = 2", LONG);
    assert_eq!(shown(&twice.await?, "note").as_deref(), Some("\"ALERT\""));
    let verdict = scene.run("SELECT 'OK' AS status FROM missing", LONG).await?;
    let (kind, message) = error_of(&verdict)?;
    assert_eq!(kind, ErrorKind::Query);
    assert!(message.contains("Table 'target.missing' doesn't exist (MySQL error 1146)"), "{message}");
    // Errors leave a connection that works.
    assert_eq!(scene.run(OK, LONG).await?, Verdict::bare(RunStatus::Ok));
    Ok(())
}

/// Should the parser learn one of them, take another: that it does not know them is the subject.
#[tokio::test]
async fn what_only_mariadb_can_parse_runs_where_the_alert_allows_it() -> Result<()> {
    let scene = Scene::set(1).await?;
    let allowing = QueryOptions { allow_unparsed: true, ..QueryOptions::default() };
    for query in [
        "SELECT 'OK' AS status FROM orders LIMIT 1 ROWS EXAMINED 1000",
        "SELECT IF('a' SOUNDS LIKE 'a', 'OK', 'ALERT') AS status # the end",
        "SELECT REPEAT('OK', 1) AS status FROM orders WHERE 'a' SOUNDS LIKE 'a' /* the end */ ;",
    ] {
        let verdict = scene.run(query, LONG).await?;
        let (kind, message) = error_of(&verdict)?;
        assert!(kind == ErrorKind::Refused && message.contains("allow_unparsed: true"), "{query}: {message}");
        let verdict = run_with(&scene.source, query, &allowing).await?;
        assert_eq!(verdict, Verdict::bare(RunStatus::Ok), "{query}");
    }
    Ok(())
}

#[tokio::test]
async fn the_servers_sql_mode_holds_but_for_what_would_move_the_ends_of_literals() -> Result<()> {
    let scene = Scene::set(1).await?;
    scene.pool.execute("SET GLOBAL sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT'").await?;
    let verdict = scene.run("SELECT 'OK' AS status, \"it\\\"s\" AS a, 'it\\'s' AS b, 'a' || 'b' AS c", LONG).await?;
    let values = ["a", "b", "c"].map(|column| shown(&verdict, column).unwrap_or_default());
    assert_eq!(values, ["\"it\\\"s\"", "\"it's\"", "\"ab\""], "{:?}", verdict.error);
    Ok(())
}

#[tokio::test]
async fn a_table_that_changes_is_read_as_it_is_now() -> Result<()> {
    let scene = Scene::set(1).await?;
    scene.pool.execute("CREATE TABLE notes (status LONGTEXT)").await?;
    scene.pool.execute("INSERT INTO notes VALUES ('OK')").await?;
    for (change, columns) in [
        ("", 0),
        ("ALTER TABLE notes ADD extra LONGTEXT", 1),
        ("ALTER TABLE notes ADD more INT FIRST", 2),
        ("ALTER TABLE notes DROP extra", 1),
    ] {
        if !change.is_empty() {
            scene.pool.execute(change).await?;
        }
        let verdict = scene.run("SELECT * FROM notes", LONG).await?;
        assert_eq!((verdict.status, &verdict.error), (RunStatus::Ok, &None), "{change}");
        assert_eq!(verdict.context.len(), columns, "{change}");
    }
    Ok(())
}

#[tokio::test]
async fn a_run_shows_who_it_is_and_leaves_its_session_as_it_was() -> Result<()> {
    let scene = Scene::set(1).await?;
    let query = "SELECT 'OK' AS status, @sqlsentinel_execution AS fire, CONNECTION_ID() AS id, @@wait_timeout AS idle";
    let first = scene.run(query, LONG).await?;
    let second = scene.run(query, LONG).await?;
    let fires =
        [&first, &second].map(|verdict| verdict.context.get("fire").and_then(Value::as_str).unwrap_or_default());
    assert!(fires[0] != fires[1] && fires.iter().all(|fire| fire.parse::<ExecutionId>().is_ok()), "{fires:?}");
    assert_eq!(shown(&first, "id"), shown(&second, "id"), "the same connection serves both");
    assert_eq!(shown(&first, "idle").as_deref(), Some("10"), "a frozen worker holds no transaction open for long");

    let texts = scene.logged("AS fire").await?;
    assert!(texts.iter().all(|text| text.ends_with("/* sqlsentinel:daily_revenue */")), "{texts:?}");
    // The texts are the same, so that they are prepared once: what was logged as prepared is not among them.
    assert_eq!((texts.len(), texts.first() == texts.last()), (2, true), "{texts:?}");
    assert!(scene.logged("START TRANSACTION READ ONLY").await?.len() >= 2);
    let last = scene.logged("ROLLBACK").await?.len();
    assert_eq!(last, 2, "every transaction is rolled back");

    let state = "SELECT COUNT(*) FROM information_schema.PROCESSLIST AS p JOIN information_schema.INNODB_TRX AS t ON t.TRX_MYSQL_THREAD_ID = p.ID";
    let open: i64 = sqlx::query_scalar(state).fetch_one(&scene.pool).await?;
    assert_eq!(open, 0);
    Ok(())
}

#[tokio::test]
async fn a_statement_that_writes_is_refused_by_the_guard_and_by_the_database_which_stays_as_it_was() -> Result<()> {
    let scene = Scene::set(1).await?;
    for statement in [
        "CREATE SEQUENCE numbers",
        "CREATE FUNCTION sly() RETURNS VARCHAR(9) MODIFIES SQL DATA BEGIN DELETE FROM orders; RETURN 'OK'; END",
    ] {
        scene.pool.execute(sqlx::raw_sql(statement)).await?;
    }
    let outfile = std::env::temp_dir().join(format!("sqlsentinel-{}", ExecutionId::manual()));
    let into_outfile = format!("SELECT 'OK' AS status INTO OUTFILE '{}'", outfile.display());
    for query in [
        "DELETE FROM orders",
        "SELECT 'OK' AS status; DELETE FROM orders",
        "SELECT 'OK' AS status /*! , GET_LOCK('a', 1) */",
        "SELECT 'OK' AS status FROM orders FOR UPDATE",
        "SELECT @a := 'OK' AS status",
        "SELECT GET_LOCK('a', 1) AS status",
        &into_outfile,
        // Past the guard, refused by the server.
        "SELECT sly() AS status",
        "SELECT 'OK' AS status, NEXTVAL(numbers)",
    ] {
        let verdict = scene.run(query, LONG).await?;
        assert_eq!(error_of(&verdict)?.0, ErrorKind::Refused, "{query}: {verdict:?}");
    }
    for body in [
        "DELETE FROM orders",
        "INSERT INTO orders VALUES (2, 2)",
        "CREATE TABLE made (a INT)",
        "SELECT 1; DELETE FROM orders",
        "SELECT 1) SELECT 1; COMMIT; DELETE FROM orders",
        "SELECT 'x' FROM orders FOR UPDATE",
    ] {
        let refused = past_the_guard(&scene.source, body).await;
        assert!(matches!(refused, Err(SourceError::Query(_) | SourceError::Refused(_))), "{body}: {refused:?}");
    }
    let left: (i64, i64, i64) = sqlx::query_as(
        "SELECT COUNT(*), (SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_NAME = 'made'), \
         (SELECT next_not_cached_value FROM numbers) FROM orders",
    )
    .fetch_one(&scene.pool)
    .await?;
    assert_eq!(left, (1, 0, 1));
    assert!(!outfile.exists());
    Ok(())
}

#[tokio::test]
async fn an_account_that_could_write_is_named_with_the_grant_and_one_that_reads_is_not() -> Result<()> {
    let scene = Scene::set(1).await?;
    for statement in [
        "CREATE USER reader IDENTIFIED BY 'canary1'",
        "GRANT SELECT, SHOW VIEW ON target.* TO reader",
        "CREATE USER writer",
        "GRANT SELECT, UPDATE (amount) ON target.orders TO writer",
        "CREATE ROLE writers",
        "GRANT DELETE ON target.* TO writers",
        "CREATE USER member",
        "GRANT writers TO member",
        "SET DEFAULT ROLE writers FOR member",
        "CREATE USER stranger",
    ] {
        scene.pool.execute(statement).await?;
    }
    let of = async |user: &str| -> Result<_> {
        let url = scene.server.url("target").replace("root@", &format!("{user}@"));
        role::of(&source(&url, 1)?).await.with_context(|| format!("the account of {user} is not known"))
    };
    let root = of("root").await?;
    assert_eq!(
        (root.name.as_str(), root.could_write.as_deref()),
        ("root@127.0.0.1", Some("it has ALL PRIVILEGES on *.*"))
    );
    let reader = of("reader:canary1").await?;
    assert_eq!((reader.name.as_str(), reader.could_write), ("reader@%", None));
    assert_eq!(of("writer").await?.could_write.as_deref(), Some("it has UPDATE on `target`.`orders`"));

    // Grants of an active role count.
    let member = scene.server.url("target").replace("root@", "member@");
    let verdict = run_at(&member, "SELECT 'OK' AS status").await?;
    assert_eq!(verdict.error, None, "{verdict:?}");
    assert_eq!(of("member").await?.could_write.as_deref(), Some("it has DELETE on `target`.*"));

    // What the account may not read is refused, and the connection is not blamed.
    let stranger = scene.server.url("").replace("root@", "stranger@");
    let verdict = run_at(&stranger, "SELECT 'OK' AS status FROM target.orders").await?;
    let (kind, message) = error_of(&verdict)?;
    assert!(kind == ErrorKind::Refused && message.contains("1142"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_gone_from_the_server_and_its_place_is_free() -> Result<()> {
    let scene = Scene::set(1).await?;
    let endless = "SELECT 'OK' AS status FROM seq_1_to_100000 AS a, seq_1_to_100000 AS b, seq_1_to_100000 AS c \
                   WHERE a.seq + b.seq + c.seq < 0";
    for query in ["SELECT 'OK' AS status, SLEEP(600)", endless] {
        let verdict = scene.run(query, Duration::from_millis(300)).await?;
        assert_eq!(error_of(&verdict)?, (ErrorKind::Timeout, "database `default`: no answer within 0.3 s"));
        assert_eq!(scene.running().await?, 0);
    }
    assert!(scene.logged("KILL QUERY").await?.is_empty(), "the server ends them by itself");
    assert_eq!(scene.run(OK, LONG).await?, Verdict::bare(RunStatus::Ok));
    Ok(())
}

#[tokio::test]
async fn a_query_that_lifts_the_servers_time_out_is_cancelled_from_here() -> Result<()> {
    let scene = Scene::set(1).await?;
    let timeout = Duration::from_millis(300);
    let body = "SET STATEMENT max_statement_time = 0 FOR SELECT SLEEP(600)";
    let ended = past_the_guard_within(&scene.source, body, timeout, &Limits::default()).await;
    assert_eq!(ended, Err(SourceError::Timeout(timeout)));
    scene.until_running(0).await?;
    assert_eq!(scene.logged("KILL QUERY").await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_cancelled_run_is_cancelled_at_the_server_before_it_returns() -> Result<()> {
    let scene = Scene::set(1).await?;
    let cancel = CancellationToken::new();
    let run = ask::run(&scene.source, "SELECT 'OK' AS status, SLEEP(600)", LONG, &cancel);
    let cancelling = async {
        scene.until_running(1).await?;
        cancel.cancel();
        anyhow::Ok(())
    };
    let (ended, cancelled) = tokio::join!(run, cancelling);
    cancelled?;
    assert_eq!(ended, Err(Cancelled));
    assert_eq!(scene.logged("KILL QUERY").await?.len(), 1);
    scene.until_running(0).await?;
    assert_eq!(scene.run(OK, LONG).await?, Verdict::bare(RunStatus::Ok));
    Ok(())
}

#[tokio::test]
async fn a_run_that_is_dropped_is_ended_by_the_servers_time_out() -> Result<()> {
    let scene = Scene::set(1).await?;
    let run = scene.run("SELECT 'OK' AS status, SLEEP(600)", Duration::from_secs(2));
    tokio::select! {
        ended = run => anyhow::bail!("{ended:?}"),
        running = scene.until_running(1) => running?,
    }
    // The future is dropped here, as it is when a process is killed.
    scene.until_running(0).await?;
    assert_eq!(scene.run(OK, LONG).await?, Verdict::bare(RunStatus::Ok));
    Ok(())
}

#[tokio::test]
async fn a_million_rows_are_neither_read_nor_left_running() -> Result<()> {
    let scene = Scene::set(1).await?;
    for query in [
        "SELECT 'OK' AS status FROM seq_1_to_1000000",
        "SELECT 'OK' AS status, REPEAT('x', 70000) AS t FROM seq_1_to_1000000",
        // Its own limit is above ours, so that the server would send them all.
        "SELECT 'OK' AS status, RPAD('', 1000, 'x') AS t FROM seq_1_to_1000000 LIMIT 1000000",
    ] {
        let verdict = scene.run(query, LONG).await?;
        let (kind, message) = error_of(&verdict)?;
        assert!(kind == ErrorKind::Contract && message.contains("LIMIT 1"), "{message}");
        scene.until_running(0).await?;
        assert_eq!(scene.run(OK, LONG).await?, Verdict::bare(RunStatus::Ok));
    }
    Ok(())
}

#[tokio::test]
async fn a_large_cell_is_cut_at_the_server_and_the_others_are_kept() -> Result<()> {
    let scene = Scene::set(1).await?;
    scene.pool.execute("CREATE TABLE large (t LONGTEXT, b LONGBLOB, j JSON, g GEOMETRY)").await?;
    scene
        .pool
        .execute(
            "INSERT INTO large VALUES (REPEAT('é', 30000000), REPEAT(X'07', 50000000), \
             CONCAT('[', REPEAT('1,', 1000000), '1]'), \
             ST_GeomFromText(CONCAT('LINESTRING(0 0', REPEAT(',1 1', 50000), ')')))",
        )
        .await?;
    let before = resident()?;
    let query = "SELECT 'OK' AS status, large.*, REPEAT('x', 60000000) AS r, 1.10 AS n, NULL AS absent FROM large";
    let verdict = scene.run(query, LONG).await?;
    assert_eq!((verdict.status, verdict.truncated), (RunStatus::Ok, true), "{:?}", verdict.error);
    let shown = |name: &str| verdict.context.get(name).map(Value::to_string);
    assert_eq!((shown("n").as_deref(), shown("absent").as_deref()), (Some("1.10"), Some("null")));
    for (name, begin) in [("t", "éé"), ("b", "\\x0707"), ("j", "[1,1"), ("g", "LINESTRING(0 0,1 1"), ("r", "xx")] {
        let text = verdict.context.get(name).and_then(Value::as_str).with_context(|| name.to_owned())?;
        ensure!(text.starts_with(begin) && text.ends_with("… [cut]"), "{name}: {}", text.len());
        ensure!((30_000..=Limits::default().cell_bytes).contains(&text.len()), "{name}: {}", text.len());
    }
    let grown = resident()?.saturating_sub(before);
    ensure!(grown < 20_000_000, "{grown} bytes more");
    Ok(())
}

/// The memory of this process that is in use.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    // The highest so far: what was read and freed counts too.
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_again_and_one_that_is_away_is_a_connection_error() -> Result<()> {
    let mut scene = Scene::set(3).await?;
    let together = || async {
        let (a, b, c) = tokio::join!(scene.run(OK, LONG), scene.run(OK, LONG), scene.run(OK, LONG));
        anyhow::Ok([a?, b?, c?])
    };
    assert_eq!(together().await?, [(); 3].map(|()| Verdict::bare(RunStatus::Ok)));
    scene.server.stop().await?;
    let verdict = scene.run(OK, LONG).await?;
    let (kind, message) = error_of(&verdict)?;
    assert!(kind == ErrorKind::Connection && message.contains("could not be reached"), "{message}");
    scene.server.start_again().await?;
    assert_eq!(scene.run(OK, LONG).await?, Verdict::bare(RunStatus::Ok));
    Ok(())
}

#[tokio::test]
async fn dead_connections_are_passed_over_without_costing_a_run() -> Result<()> {
    let scene = Scene::set(3).await?;
    let id = |verdict: Verdict| verdict.context.get("id").and_then(Value::as_u64).context("no id");
    let query = "SELECT 'OK' AS status, CONNECTION_ID() AS id, SLEEP(0.2) AS s";
    let (a, b, c) = tokio::join!(scene.run(query, LONG), scene.run(query, LONG), scene.run(query, LONG));
    for verdict in [a?, b?, c?] {
        scene.pool.execute(AssertSqlSafe(format!("KILL CONNECTION {}", id(verdict)?))).await?;
    }
    assert_eq!(scene.run(OK, LONG).await?, Verdict::bare(RunStatus::Ok));
    Ok(())
}

#[tokio::test]
async fn no_error_shows_a_password() -> Result<()> {
    let scene = Scene::set(1).await?;
    scene.pool.execute("CREATE USER known IDENTIFIED BY 'canary1'").await?;
    for (url, query) in [
        ("mysql://u:canary1@127.0.0.1:1/d?canary=canary1", OK),
        (&scene.server.url("missing").replace("root@", "known:canary1@"), OK),
        (&scene.server.url("target").replace("root@", "unknown:canary1@"), OK),
        (&scene.server.url("").replace("root@", "known:canary1@"), "SELECT canary1 AS status"),
    ] {
        let verdict = run_at(url, query).await?;
        let (_, message) = error_of(&verdict)?;
        assert!(!message.contains("canary1"), "{message}");
    }
    Ok(())
}

#[tokio::test]
async fn a_url_that_asks_for_tls_gets_no_plain_connection() -> Result<()> {
    let scene = Scene::set(1).await?;
    let url = scene.server.url("target");
    assert_eq!(run_at(&url, OK).await?, Verdict::bare(RunStatus::Ok), "this server has no TLS");
    for parameter in ["ssl-mode=REQUIRED", "ssl_ca=/etc/ssl/certs/ca-certificates.crt"] {
        let verdict = run_at(&format!("{url}?{parameter}"), OK).await?;
        assert_eq!(error_of(&verdict)?.0, ErrorKind::Connection, "{parameter}: {verdict:?}");
    }
    Ok(())
}
