//! A real SQLite file as a target database: faithful values, nothing written, every statement ended in time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sqlsentinel_common::alert::QueryOptions;
use sqlsentinel_common::outcome::{ErrorKind, RunStatus, Verdict};
use sqlsentinel_worker::answer::Limits;
use sqlsentinel_worker::run::Cancelled;
use sqlsentinel_worker::source::{Source, SourceError};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::ask::{self, LONG, past_the_guard, run_with};

const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) AS status FROM n";

struct Scene {
    _directory: TempDir,
    path: PathBuf,
    source: Source,
}

impl Scene {
    async fn set(connections: usize) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("target.db");
        let mut writer = SqliteConnectOptions::new().filename(&path).create_if_missing(true).connect().await?;
        writer.execute("CREATE TABLE orders (id INTEGER, amount NUMERIC); INSERT INTO orders VALUES (1, 12.5)").await?;
        Ok(Self { source: source(&path, connections)?, path, _directory: directory })
    }

    async fn run(&self, query: &str, timeout: Duration) -> Result<Verdict, Cancelled> {
        ask::run(&self.source, query, timeout, &CancellationToken::new()).await
    }

    async fn rows(&self) -> Result<i64> {
        let mut connection = SqliteConnectOptions::new().filename(&self.path).connect().await?;
        Ok(sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&mut connection).await?)
    }
}

fn source(path: &Path, connections: usize) -> Result<Source> {
    ask::source(&format!("sqlite:///{}", path.display()), connections)
}

fn error_kind(verdict: &Verdict) -> Option<ErrorKind> {
    verdict.error.as_ref().map(|error| error.kind)
}

#[tokio::test]
async fn every_storage_class_arrives_as_it_was_stored() -> Result<()> {
    let scene = Scene::set(1).await?;
    let verdict = scene
        .run(
            "SELECT ' Alert ' AS STATUS, 12.5 AS actual_value, 9223372036854775807 AS threshold, \
             -9223372036854775808 AS lowest, 0.1 AS tenth, 9e999 AS inf, -9e999 AS ninf, NULL AS absent, \
             'é''\"\n' AS text, '' AS empty, char(97, 0, 98) AS nul, x'00ff' AS bytes, x'' AS no_bytes, \
             CAST(x'ff41' AS TEXT) AS not_utf8, 1 = 1 AS yes, json_array(1, 'a') AS json, (SELECT amount FROM orders) AS amount",
            LONG,
        )
        .await?;
    assert_eq!((verdict.status, verdict.error, verdict.truncated), (RunStatus::Alert, None, false));
    assert_eq!(verdict.actual_value, Some(json!(12.5)));
    assert_eq!(verdict.threshold, Some(json!(i64::MAX)));
    let expected = json!({
        "lowest": i64::MIN, "tenth": 0.1, "inf": "Infinity", "ninf": "-Infinity", "absent": null, "text": "é'\"\n",
        "empty": "", "nul": "a\\u0000b", "bytes": "\\x00ff", "no_bytes": "\\x", "not_utf8": "\u{fffd}A", "yes": 1,
        "json": "[1,\"a\"]", "amount": 12.5,
    });
    assert_eq!(Value::Object(verdict.context), expected);
    Ok(())
}

/// SQLite's columns hold what was put there, whatever type they were declared with: the value decides.
#[tokio::test]
async fn the_value_decides_and_not_the_columns_declared_type() -> Result<()> {
    let scene = Scene::set(1).await?;
    let values = [
        ("9223372036854775807", json!(i64::MAX)),
        ("-9223372036854775808", json!(i64::MIN)),
        ("0", json!(0)),
        ("1.5", json!(1.5)),
        ("-1.7976931348623157e308", json!(f64::MIN)),
        ("5e-324", json!(5e-324)),
        ("9e999", json!("Infinity")),
        ("-9e999", json!("-Infinity")),
        ("9e999 - 9e999", Value::Null),
        ("'not a number'", json!("not a number")),
        ("''", json!("")),
        ("'2026-03-29 01:30:00'", json!("2026-03-29 01:30:00")),
        ("'é' || char(0) || '\u{1f600}'", json!("é\\u0000\u{1f600}")),
        ("x'00ff'", json!("\\x00ff")),
        ("x''", json!("\\x")),
        ("zeroblob(2)", json!("\\x0000")),
        ("NULL", Value::Null),
        ("json('{\"a\": 12345678901234567890.10}')", json!("{\"a\":12345678901234567890.10}")),
    ];
    // BLOB, and no type at all, convert nothing; the driver has names of its own for the others.
    let kinds = ["", "BLOB", "BOOLEAN", "DATE", "TIME", "DATETIME", "TIMESTAMP", "INTEGER", "REAL", "NUMERIC", "TEXT"];
    let columns: Vec<_> = kinds.iter().enumerate().map(|(n, kind)| format!("c{n} {kind}")).collect();
    let mut writer = SqliteConnectOptions::new().filename(&scene.path).connect().await?;
    let create = format!("CREATE TABLE kinds (id INTEGER PRIMARY KEY, {})", columns.join(", "));
    writer.execute(AssertSqlSafe(create)).await?;
    for (id, (value, expected)) in values.iter().enumerate() {
        let same = vec![*value; kinds.len()].join(", ");
        writer.execute(AssertSqlSafe(format!("INSERT INTO kinds VALUES ({id}, {same})"))).await?;
        let verdict = scene.run(&format!("SELECT 'OK' AS status, kinds.* FROM kinds WHERE id = {id}"), LONG).await?;
        assert_eq!(verdict.status, RunStatus::Ok, "{value}: {:?}", verdict.error);
        for (n, kind) in kinds.iter().enumerate() {
            let arrived = &verdict.context[&format!("c{n}")];
            // A column's affinity makes another value of it when it is stored: that one is faithful too.
            let stored: String = sqlx::query_scalar(AssertSqlSafe(format!(
                "SELECT CASE typeof(c{n}) WHEN 'blob' THEN '\\x' || lower(hex(c{n})) WHEN 'null' THEN 'null' \
                 WHEN 'text' THEN CAST(c{n} AS TEXT) \
                 WHEN 'integer' THEN CAST(c{n} AS TEXT) ELSE 'real' END FROM kinds WHERE id = {id}"
            )))
            .fetch_one(&mut writer)
            .await?;
            match arrived {
                Value::String(text) if text.ends_with("Infinity") => assert_eq!(arrived, expected),
                Value::String(text) => assert_eq!(*text, stored.replace('\0', "\\u0000"), "{value} as {kind}"),
                Value::Number(number) if stored == "real" => assert!(number.is_f64(), "{value} as {kind}: {number}"),
                other => assert_eq!(other.to_string(), stored, "{value} as {kind}"),
            }
            if ["", "BLOB"].contains(kind) {
                assert_eq!(arrived, expected, "{value} as {kind}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_file_in_utf_16_reads_like_any_other() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("utf16.db");
    let mut writer = SqliteConnectOptions::new().filename(&path).create_if_missing(true).connect().await?;
    writer
        .execute("PRAGMA encoding = 'UTF-16le'; CREATE TABLE t (a TEXT); INSERT INTO t VALUES ('é\u{1f600}')")
        .await?;
    let query = "SELECT 'OK' AS status, a, (SELECT encoding FROM pragma_encoding) AS e FROM t";
    let verdict = run_with(&source(&path, 1)?, query, &QueryOptions::default()).await?;
    assert_eq!(Value::Object(verdict.context), json!({"a": "é\u{1f600}", "e": "UTF-16le"}), "{:?}", verdict.error);
    Ok(())
}

#[tokio::test]
async fn rows_are_counted_no_further_than_needed() -> Result<()> {
    let scene = Scene::set(1).await?;
    assert_eq!(
        scene.run("SELECT id AS status FROM orders WHERE id = 2", LONG).await?,
        Verdict::bare(RunStatus::NoData)
    );
    let endless_rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 'OK' AS status FROM n";
    let verdict = scene.run(endless_rows, LONG).await?;
    assert_eq!(error_kind(&verdict), Some(ErrorKind::Contract), "{verdict:?}");
    // The connection that was in the middle of those rows serves the next run.
    assert_eq!(scene.run("SELECT 'OK' AS status", LONG).await?, Verdict::bare(RunStatus::Ok));
    Ok(())
}

#[tokio::test]
async fn a_large_cell_is_cut_and_a_huge_one_does_not_take_the_process_down() -> Result<()> {
    let scene = Scene::set(1).await?;
    let verdict =
        scene.run("SELECT 'OK' AS status, printf('%.*c', 70000, 'x') AS t, zeroblob(70000) AS b", LONG).await?;
    assert_eq!((verdict.status, verdict.truncated), (RunStatus::Ok, true));
    for name in ["t", "b"] {
        let text = verdict.context.get(name).and_then(Value::as_str).context(name)?;
        assert!(text.len() <= Limits::default().cell_bytes && text.ends_with("… [cut]"), "{}", text.len());
    }
    // Too large for SQLite, and too large for the driver's copy of it.
    for blob in ["zeroblob(900000000)", "randomblob(150000000)"] {
        let verdict = scene.run(&format!("SELECT 'OK' AS status, {blob} AS b"), LONG).await?;
        assert_eq!(error_kind(&verdict), Some(ErrorKind::Limit), "{blob}: {verdict:?}");
    }
    assert_eq!(scene.run("SELECT 'OK' AS status", LONG).await?, Verdict::bare(RunStatus::Ok));
    Ok(())
}

#[tokio::test]
async fn a_statement_that_writes_is_refused_even_by_the_database_itself() -> Result<()> {
    let scene = Scene::set(1).await?;
    let elsewhere = scene.path.with_file_name("elsewhere.db");
    let verdict = scene.run("DELETE FROM orders", LONG).await?;
    assert_eq!(error_kind(&verdict), Some(ErrorKind::Refused));

    // What would happen if the guard let something through.
    for body in ["DELETE FROM orders", "CREATE TABLE t (a)", "PRAGMA user_version = 7"] {
        let refused = past_the_guard(&scene.source, body).await;
        assert!(matches!(refused, Err(SourceError::Refused(_))), "{body}: {refused:?}");
    }
    let attach = format!("ATTACH DATABASE '{}' AS x", elsewhere.display());
    let _ = past_the_guard(&scene.source, &attach).await;
    assert_eq!(scene.rows().await?, 1);
    assert!(!elsewhere.exists());
    Ok(())
}

#[tokio::test]
async fn an_endless_query_ends_with_its_time_out_and_frees_its_place() -> Result<()> {
    let scene = Scene::set(1).await?;
    let verdict = scene.run(ENDLESS, Duration::from_millis(200)).await?;
    let error = verdict.error.context("no error")?;
    assert_eq!(
        (error.kind, error.message.as_str()),
        (ErrorKind::Timeout, "database `default`: no answer within 0.2 s")
    );
    assert_eq!(scene.run("SELECT 'OK' AS status", LONG).await?, Verdict::bare(RunStatus::Ok));
    Ok(())
}

#[tokio::test]
async fn a_cancelled_run_has_no_verdict_and_frees_its_place() -> Result<()> {
    let scene = Scene::set(1).await?;
    let cancel = CancellationToken::new();
    let run = ask::run(&scene.source, ENDLESS, LONG, &cancel);
    // The run is polled first, so it is under way when it is cancelled.
    let (ended, ()) = tokio::join!(biased; run, async { cancel.cancel() });
    assert_eq!(ended, Err(Cancelled));
    assert_eq!(scene.run("SELECT 'OK' AS status", LONG).await?, Verdict::bare(RunStatus::Ok));
    Ok(())
}

#[tokio::test]
async fn a_run_waits_for_a_place_no_longer_than_its_time_out() -> Result<()> {
    let scene = Scene::set(1).await?;
    let (long, short) =
        tokio::join!(scene.run(ENDLESS, Duration::from_millis(600)), scene.run(ENDLESS, Duration::from_millis(100)));
    assert_eq!(error_kind(&long?), Some(ErrorKind::Timeout));
    assert_eq!(error_kind(&short?), Some(ErrorKind::Timeout));
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_missing_or_is_no_database_is_a_connection_error_until_it_is_there() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("late.db");
    let source = source(&path, 2)?;
    let options = QueryOptions::default();
    let ask = || run_with(&source, "SELECT 'OK' AS status FROM t", &options);
    assert_eq!(error_kind(&ask().await?), Some(ErrorKind::Connection));
    assert!(!path.exists());
    std::fs::write(&path, "this is no database, and long enough to be seen not to be one".repeat(100))?;
    assert_eq!(error_kind(&ask().await?), Some(ErrorKind::Connection));
    std::fs::remove_file(&path)?;
    let mut writer = SqliteConnectOptions::new().filename(&path).create_if_missing(true).connect().await?;
    writer.execute("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await?;
    assert_eq!(ask().await?, Verdict::bare(RunStatus::Ok));
    Ok(())
}

#[tokio::test]
async fn a_file_that_was_replaced_is_read_anew() -> Result<()> {
    let scene = Scene::set(1).await?;
    let query = "SELECT CASE WHEN count(*) = 1 THEN 'OK' ELSE 'ALERT' END AS status FROM orders";
    assert_eq!(scene.run(query, LONG).await?, Verdict::bare(RunStatus::Ok));
    let new = scene.path.with_file_name("new.db");
    let mut writer = SqliteConnectOptions::new().filename(&new).create_if_missing(true).connect().await?;
    writer.execute("CREATE TABLE orders (id)").await?;
    std::fs::rename(&new, &scene.path)?;
    assert_eq!(scene.run(query, LONG).await?, Verdict::bare(RunStatus::Alert));
    Ok(())
}

#[tokio::test]
async fn an_error_of_the_database_is_the_alerts_and_says_what_it_is() -> Result<()> {
    let scene = Scene::set(1).await?;
    let verdict = scene.run("SELECT 'OK' AS status FROM missing", LONG).await?;
    let error = verdict.error.context("no error")?;
    assert_eq!(error.kind, ErrorKind::Query);
    assert!(error.message.contains("no such table: missing"), "{}", error.message);
    Ok(())
}
