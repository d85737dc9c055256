//! A real PostgreSQL as a target database: faithful values of every type, nothing written, and nothing left running at
//! the server, however a run ends.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use sqlsentinel_common::alert::QueryOptions;
use sqlsentinel_common::ids::ExecutionId;
use sqlsentinel_common::outcome::{ErrorKind, RunStatus, Verdict};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::postgres::{Postgres, Statement};
use sqlsentinel_worker::answer::Limits;
use sqlsentinel_worker::run::Cancelled;
use sqlsentinel_worker::source::{Source, SourceError};
use sqlx::{AssertSqlSafe, Executor, PgPool};
use tokio_util::sync::CancellationToken;

use crate::ask::{self, LONG, error_of, past_the_guard, past_the_guard_within, run_at, run_with, source};

const OK: &str = "SELECT 'OK' AS status";

struct Scene {
    server: Postgres,
    source: Source,
    pool: PgPool,
}

impl Scene {
    async fn set(connections: usize) -> Result<Self> {
        let server = Postgres::start().await?;
        let url = server.create_database("target").await?;
        let pool = server.pool("target").await?;
        pool.execute("CREATE TABLE orders (id INT, amount NUMERIC); INSERT INTO orders VALUES (1, 12.50)").await?;
        Ok(Self { source: source(&url, connections)?, server, pool })
    }

    async fn run(&self, query: &str, timeout: Duration) -> Result<Verdict, Cancelled> {
        ask::run(&self.source, query, timeout, &CancellationToken::new()).await
    }

    /// How many of the worker's sessions are in the middle of something at the server.
    async fn running(&self) -> Result<i64> {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'target' AND pid <> pg_backend_pid() AND state <> 'idle'";
        Ok(sqlx::query_scalar(sql).fetch_one(&self.pool).await?)
    }

    async fn until_running(&self, expected: i64) -> Result<()> {
        let running = || self.running();
        eventually(&format!("{expected} sessions are running"), SOON, running, |running| *running == expected).await?;
        Ok(())
    }

    /// Waits until the server has begun a statement that contains this.
    async fn until_logged(&self, containing: &str) -> Result<()> {
        let statements = || async { self.server.statements() };
        let begun =
            |statements: &Vec<Statement>| statements.iter().any(|statement| statement.text.contains(containing));
        eventually(&format!("{containing} begins"), SOON, statements, begun).await?;
        Ok(())
    }

    async fn sessions(&self) -> Result<i64> {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'target' AND query LIKE '%sqlsentinel%' AND pid <> pg_backend_pid()";
        Ok(sqlx::query_scalar(sql).fetch_one(&self.pool).await?)
    }
}

#[tokio::test]
async fn every_type_arrives_as_faithful_json_and_every_null_as_null() -> Result<()> {
    let scene = Scene::set(1).await?;
    scene.pool.execute("CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TYPE pair AS (a INT, b TEXT)").await?;
    let rows = [
        ("true", "true"),
        ("'-32768'::smallint", "-32768"),
        ("2147483647", "2147483647"),
        ("'-9223372036854775808'::bigint", "-9223372036854775808"),
        ("0.1::real", "0.1"),
        ("0.1::float8 + 0.2", "0.30000000000000004"),
        ("'NaN'::float8", "\"NaN\""),
        ("'Infinity'::float8", "\"Infinity\""),
        ("8500.0", "8500.0"),
        ("12345678901234567890123456789.012345678900", "12345678901234567890123456789.012345678900"),
        ("1e-30::numeric", "0.000000000000000000000000000001"),
        ("'NaN'::numeric", "\"NaN\""),
        ("'Infinity'::numeric", "\"Infinity\""),
        ("'-Infinity'::numeric", "\"-Infinity\""),
        ("'é''\"' || chr(10)", "\"é'\\\"\\n\""),
        ("''", "\"\""),
        ("'ab'::char(4)", "\"ab  \""),
        ("'2026-03-29'::date", "\"2026-03-29\""),
        ("'infinity'::date", "\"infinity\""),
        ("'0044-03-15 BC'::date", "\"0044-03-15 BC\""),
        ("'23:59:59.999999'::time", "\"23:59:59.999999\""),
        ("'12:00+02'::timetz", "\"12:00:00+02\""),
        ("'2026-03-29 01:30:00.5'::timestamp", "\"2026-03-29T01:30:00.5\""),
        ("'2026-03-29 01:30:00.000001+02'::timestamptz", "\"2026-03-28T23:30:00.000001+00:00\""),
        ("'-infinity'::timestamptz", "\"-infinity\""),
        ("interval '1 month 2 days 3.5 seconds'", "\"1 mon 2 days 00:00:03.5\""),
        ("'{\"b\": 1.10, \"a\": [null, true]}'::json", "{\"a\":[null,true],\"b\":1.10}"),
        ("'{\"b\": 1.10, \"a\": \"x\"}'::jsonb", "{\"a\":\"x\",\"b\":1.10}"),
        ("'\"a\\u0000b\"'::json", "\"a\\\\u0000b\""),
        ("'0C8E4A76-0000-4000-8000-000000000000'::uuid", "\"0c8e4a76-0000-4000-8000-000000000000\""),
        ("'\\x00ff'::bytea", "\"\\\\x00ff\""),
        ("ARRAY[1, NULL, 3]", "[1,null,3]"),
        ("ARRAY[[1.10, 2], [3, 4]]", "[[1.10,2],[3,4]]"),
        ("ARRAY['a', 'b,\"c']", "[\"a\",\"b,\\\"c\"]"),
        ("'{}'::text[]", "[]"),
        ("ARRAY['2026-01-01'::date]", "[\"2026-01-01\"]"),
        ("'glad'::mood", "\"glad\""),
        ("ROW(1, 'x')::pair", "{\"a\":1,\"b\":\"x\"}"),
        ("ROW(1, 'x')", "{\"f1\":1,\"f2\":\"x\"}"),
        ("int4range(1, 5)", "\"[1,5)\""),
        ("'10.0.0.1/8'::inet", "\"10.0.0.1/8\""),
        ("'08:00:2b:01:02:03'::macaddr", "\"08:00:2b:01:02:03\""),
        ("point(1, 2)", "\"(1,2)\""),
        ("'101'::bit(3)", "\"101\""),
        ("12.5::money::text <> ''", "true"),
        ("'a & b'::tsquery", "\"'a' & 'b'\""),
        ("'<a/>'::xml", "\"<a/>\""),
        ("'pg_class'::regclass", "\"pg_class\""),
        ("pg_sleep(0)", "\"\""),
        ("NULL", "null"),
        ("NULL::numeric", "null"),
        ("NULL::timestamptz", "null"),
        ("NULL::jsonb", "null"),
        ("NULL::int[]", "null"),
        ("NULL::pair", "null"),
    ];
    let columns =
        rows.iter().enumerate().map(|(n, (sql, _))| format!("{sql} AS c{n:02}")).collect::<Vec<_>>().join(", ");
    let query = format!("SELECT ' Alert ' AS \"STATUS\", 8500.0 AS actual_value, 1e3::numeric AS threshold, {columns}");
    let verdict = scene.run(&query, LONG).await?;
    assert_eq!((verdict.status, &verdict.error, verdict.truncated), (RunStatus::Alert, &None, false));
    assert_eq!(verdict.actual_value.as_ref().map(Value::to_string).as_deref(), Some("8500.0"));
    assert_eq!(verdict.threshold.as_ref().map(Value::to_string).as_deref(), Some("1000"));
    for (n, (sql, expected)) in rows.iter().enumerate() {
        let value = verdict.context.get(&format!("c{n:02}")).map(Value::to_string);
        assert_eq!(value.as_deref(), Some(*expected), "{sql}");
    }
    Ok(())
}

#[tokio::test]
async fn queries_of_every_shape_keep_their_meaning() -> Result<()> {
    let scene = Scene::set(1).await?;
    for query in [
        "SELECT 'OK' AS status -- the end",
        "-- the beginning\nSELECT 'OK' AS status; /* and the end */ ;",
        "WITH answer AS (SELECT 1 AS answer, 2 AS line) SELECT 'OK' AS status FROM answer WHERE answer = 1 AND line = 2",
        "SELECT answer.status FROM (VALUES ('ALERT', 2), ('OK', 1)) AS answer(status, rank) ORDER BY rank LIMIT 1",
        "SELECT 'OK' AS status UNION SELECT 'OK'",
        "SELECT CASE WHEN (SELECT count(*) FROM orders) = 1 THEN 'OK' END AS status",
        "SELECT $$OK$$ AS status",
        "SELECT status FROM unnest(ARRAY['OK']) AS status",
    ] {
        assert_eq!(scene.run(query, LONG).await?, Verdict::bare(RunStatus::Ok), "{query}");
    }
    assert_eq!(
        scene.run("SELECT 'OK' AS status FROM orders WHERE id = 2", LONG).await?,
        Verdict::bare(RunStatus::NoData)
    );
    let verdict = scene.run("SELECT 'OK' AS status FROM missing", LONG).await?;
    let (kind, message) = error_of(&verdict)?;
    assert_eq!(kind, ErrorKind::Query);
    assert!(message.contains("relation \"missing\" does not exist") && message.contains("42P01"), "{message}");
    // Errors leave a connection that works.
    assert_eq!(scene.run(OK, LONG).await?, Verdict::bare(RunStatus::Ok));
    Ok(())
}

/// Should the parser learn one of them, take another: that it does not know them is the subject.
#[tokio::test]
async fn what_only_postgresql_can_parse_runs_where_the_alert_allows_it() -> Result<()> {
    let scene = Scene::set(1).await?;
    let allowing = QueryOptions { allow_unparsed: true, ..QueryOptions::default() };
    for query in [
        "SELECT CASE WHEN '<a/>'::xml IS DOCUMENT THEN 'OK' END AS status",
        "SELECT 'OK' AS status FROM ROWS FROM (generate_series(1, 1), generate_series(1, 1)) AS t(a, b) ;",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2) SEARCH DEPTH FIRST BY i SET o \
         SELECT 'OK' AS status FROM n WHERE i = 2 -- the end",
    ] {
        let verdict = scene.run(query, LONG).await?;
        let (kind, message) = error_of(&verdict)?;
        assert!(kind == ErrorKind::Refused && message.contains("allow_unparsed: true"), "{query}: {message}");
        assert_eq!(run_with(&scene.source, query, &allowing).await?, Verdict::bare(RunStatus::Ok), "{query}");
    }
    // A mistake is the database's to find then.
    let mistakes = [
        ("SELEKT 'OK' AS status", ErrorKind::Refused),
        ("SELECT 'OK' AS status FROM ROWS FROM (missing()) AS t(a)", ErrorKind::Query),
    ];
    for (query, kind) in mistakes {
        assert_eq!(error_of(&run_with(&scene.source, query, &allowing).await?)?.0, kind, "{query}");
    }
    Ok(())
}

#[tokio::test]
async fn each_expression_of_a_query_is_computed_once() -> Result<()> {
    let scene = Scene::set(1).await?;
    scene.server.log_statements("target").await?;
    scene
        .pool
        .execute(
            "CREATE FUNCTION counted() RETURNS text STABLE LANGUAGE plpgsql AS \
             'BEGIN RAISE LOG ''computed once''; RETURN ''OK''; END'",
        )
        .await?;
    assert_eq!(scene.run("SELECT counted() AS status", LONG).await?, Verdict::bare(RunStatus::Ok));
    let explained: Vec<String> = {
        let guarded = "SELECT counted() AS status";
        sqlx::query_scalar(AssertSqlSafe(format!("EXPLAIN VERBOSE {}", last_query(&scene, guarded)?)))
            .fetch_all(&scene.pool)
            .await?
    };
    assert_eq!(explained.join("\n").matches("counted()").count(), 1, "{explained:#?}");
    Ok(())
}

fn last_query(scene: &Scene, containing: &str) -> Result<String> {
    let statements = scene.server.statements()?;
    let found = statements.into_iter().rev().find(|statement| statement.text.contains(containing));
    Ok(found.context("the query was not logged")?.text)
}

#[tokio::test]
async fn a_run_shows_who_it_is_and_leaves_its_session_as_it_was() -> Result<()> {
    let scene = Scene::set(1).await?;
    scene.server.log_statements("target").await?;
    let verdict = scene.run("SELECT 'OK' AS status, current_setting('application_name') AS app", LONG).await?;
    let app = verdict.context.get("app").and_then(Value::as_str).context("no name")?;
    assert!(app.starts_with("sqlsentinel ") && app.parse::<ExecutionId>().is_err() && app.len() == 48, "{app}");
    assert!(last_query(&scene, "AS app")?.ends_with("/* sqlsentinel:daily_revenue */"));

    // `SET LOCAL` from the run before must be gone.
    let body = "SELECT current_setting('transaction_read_only') AS ro, pg_backend_pid() AS pid";
    let first = past_the_guard(&scene.source, body).await?;
    let second = past_the_guard(&scene.source, body).await?;
    assert_eq!(first, second, "the same connection serves both");
    assert_eq!(first.rows[0][0].1, Value::from("on"));
    assert_eq!(scene.running().await?, 0);
    assert_eq!(scene.sessions().await?, 0, "an idle session last said ROLLBACK");
    Ok(())
}

#[tokio::test]
async fn a_statement_that_writes_is_refused_by_the_guard_and_by_the_database() -> Result<()> {
    let scene = Scene::set(1).await?;
    scene.pool.execute("CREATE SEQUENCE numbers; CREATE FUNCTION sly() RETURNS text LANGUAGE sql AS 'DELETE FROM orders RETURNING ''OK''::text'").await?;
    let verdict = scene.run("WITH gone AS (DELETE FROM orders RETURNING *) SELECT 'OK' AS status", LONG).await?;
    assert_eq!(error_of(&verdict)?.0, ErrorKind::Refused);
    for query in ["SELECT sly() AS status", "SELECT 'OK' AS status, nextval('numbers')"] {
        let verdict = scene.run(query, LONG).await?;
        assert_eq!(error_of(&verdict)?.0, ErrorKind::Refused, "{query}: {verdict:?}");
    }
    for body in [
        "DELETE FROM orders RETURNING *",
        "SELECT 1) AS a; COMMIT; DELETE FROM orders; SELECT (1",
        "SELECT 1; DELETE FROM orders",
        "WITH x AS (DELETE FROM orders RETURNING *) SELECT * FROM x",
    ] {
        let refused = past_the_guard(&scene.source, body).await;
        assert!(matches!(refused, Err(SourceError::Query(_) | SourceError::Refused(_))), "{body}: {refused:?}");
    }
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&scene.pool).await?;
    assert_eq!(left, 1);
    scene.pool.execute("CREATE ROLE stranger LOGIN").await?;
    let stranger = scene.server.url("target").replace("postgres@", "stranger@");
    let verdict = run_at(&stranger, "SELECT 'OK' AS status FROM orders").await?;
    assert_eq!(error_of(&verdict)?.0, ErrorKind::Refused, "{verdict:?}");
    Ok(())
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_gone_from_the_server_and_its_place_is_free() -> Result<()> {
    let scene = Scene::set(1).await?;
    let verdict = scene.run("SELECT 'OK' AS status, pg_sleep(600)", Duration::from_millis(300)).await?;
    assert_eq!(error_of(&verdict)?, (ErrorKind::Timeout, "database `default`: no answer within 0.3 s"));
    assert_eq!(scene.running().await?, 0);
    assert_eq!(scene.run(OK, LONG).await?, Verdict::bare(RunStatus::Ok));
    Ok(())
}

#[tokio::test]
async fn a_cancelled_run_is_cancelled_at_the_server_before_it_returns() -> Result<()> {
    let scene = Scene::set(1).await?;
    scene.server.log_statements("target").await?;
    let cancel = CancellationToken::new();
    let run = ask::run(&scene.source, "SELECT 'OK' AS status, pg_sleep(600)", LONG, &cancel);
    let cancelling = async {
        // A session is busy before the query itself is there.
        scene.until_logged("pg_sleep(600)").await?;
        cancel.cancel();
        anyhow::Ok(())
    };
    let (ended, cancelled) = tokio::join!(run, cancelling);
    cancelled?;
    assert_eq!(ended, Err(Cancelled));
    let requests =
        scene.server.statements()?.into_iter().filter(|statement| statement.text.contains("pg_cancel_backend"));
    assert_eq!(requests.count(), 1);
    scene.until_running(0).await?;
    assert_eq!(scene.run(OK, LONG).await?, Verdict::bare(RunStatus::Ok));
    Ok(())
}

#[tokio::test]
async fn a_run_that_is_dropped_is_ended_by_the_server() -> Result<()> {
    let scene = Scene::set(1).await?;
    scene.server.log_statements("target").await?;
    let run = scene.run("SELECT 'OK' AS status, pg_sleep(600)", LONG);
    tokio::select! {
        ended = run => anyhow::bail!("{ended:?}"),
        begun = scene.until_logged("pg_sleep(600)") => begun?,
    }
    // The future is dropped here, as it is when a process is killed.
    scene.until_running(0).await?;
    assert_eq!(scene.run(OK, LONG).await?, Verdict::bare(RunStatus::Ok));
    Ok(())
}

#[tokio::test]
async fn a_million_rows_are_neither_read_nor_left_running() -> Result<()> {
    let scene = Scene::set(1).await?;
    let verdict =
        scene.run("SELECT 'OK' AS status, repeat('x', 1000) AS t FROM generate_series(1, 10000000)", LONG).await?;
    let (kind, message) = error_of(&verdict)?;
    assert!(kind == ErrorKind::Contract && message.contains("LIMIT 1"), "{message}");
    scene.until_running(0).await?;
    assert_eq!(scene.run(OK, LONG).await?, Verdict::bare(RunStatus::Ok));
    Ok(())
}

#[tokio::test]
async fn a_large_cell_is_cut_at_the_server_and_the_others_are_kept() -> Result<()> {
    let scene = Scene::set(1).await?;
    let query = "SELECT 'OK' AS status, repeat('é', 50000000) AS t, 1.10 AS n, NULL AS absent, \
         (SELECT array_agg(i) FROM generate_series(1, 100000) i) AS a, '{\"k\": [1.0]}'::jsonb AS j";
    let verdict = scene.run(query, LONG).await?;
    assert_eq!((verdict.status, verdict.truncated), (RunStatus::Ok, true), "{:?}", verdict.error);
    let shown = |name: &str| verdict.context.get(name).map(Value::to_string);
    assert_eq!((shown("n").as_deref(), shown("absent").as_deref()), (Some("1.10"), Some("null")));
    assert_eq!(shown("j").as_deref(), Some("{\"k\":[1.0]}"));
    for name in ["t", "a"] {
        let text = verdict.context.get(name).and_then(Value::as_str).context(name)?;
        let length = text.len();
        assert!(
            length <= Limits::default().cell_bytes && length > 60_000 && text.ends_with("… [cut]"),
            "{name}: {length}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_exceeds_the_bytes_of_an_answer_is_cut_in_the_first_row_and_left_at_the_server_after_it() -> Result<()> {
    let scene = Scene::set(2).await?;
    let columns: Vec<String> = (0..50).map(|column| format!("repeat('é', 10000) AS c{column}")).collect();
    let body = format!("SELECT {}, 'OK' AS status FROM generate_series(1, 1000000)", columns.join(", "));
    let limits = Limits { rows: 1_000, cell_bytes: 8 * 1024, bytes: 100 * 1024 };
    let answer = past_the_guard_within(&scene.source, &body, LONG, &limits).await?;
    assert_eq!((answer.rows.len(), answer.more, answer.too_large, answer.truncated), (1, true, true, true));
    let names: Vec<_> = (0..50).map(|column| format!("c{column}")).chain(["status".to_owned()]).collect();
    assert!(answer.rows[0].iter().map(|(name, _)| name).eq(&names), "in their order");
    for (name, value) in &answer.rows[0] {
        let text = value.as_str().with_context(|| name.clone())?;
        let share = limits.bytes / 51;
        assert!(name == "status" && text == "OK" || text.len() <= share && text.ends_with("… [cut]"), "{name}: {text}");
    }
    scene.until_running(0).await
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
    let (a, b, c) = tokio::join!(scene.run(OK, LONG), scene.run(OK, LONG), scene.run(OK, LONG));
    assert!(a? == b? && c?.error.is_none());
    scene.pool.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'target' AND pid <> pg_backend_pid() AND query LIKE 'ROLLBACK%'").await?;
    assert_eq!(scene.run(OK, LONG).await?, Verdict::bare(RunStatus::Ok));
    Ok(())
}

#[tokio::test]
async fn no_error_shows_a_password() -> Result<()> {
    let scene = Scene::set(1).await?;
    for (url, query) in [
        ("postgresql://u:canary1@127.0.0.1:1/d?canary=canary1", OK),
        (&scene.server.url("missing").replace("postgres@", "postgres:canary1@"), OK),
        (&scene.server.url("target").replace("postgres@", "postgres:canary1@"), "SELECT 'canary1'::int AS status"),
    ] {
        let verdict = run_at(url, query).await?;
        let (_, message) = error_of(&verdict)?;
        assert!(!message.contains("canary1"), "{message}");
    }
    Ok(())
}
