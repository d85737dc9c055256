//! An installation of the Python system (0.1) is taken over: its file, its state database, its dashboards.
//!
//! `fixtures/python/` is what such an installation leaves behind, written by hand: a configuration, the schema of 0.1
//! in both databases (no defaults, short columns, a view of somebody's), three weeks of history.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use sqlsentinel_tests::cluster::{Cluster, Plan, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::on_both_state_databases;
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::target::Kind;
use sqlx::any::AnyPoolOptions;
use sqlx::{AnyPool, AssertSqlSafe, Row};

on_both_state_databases!(
    an_installation_of_0_1_goes_on,
    init_takes_a_database_of_0_1_over_in_place,
    what_0_1_left_goes_when_it_is_older_than_history_is_kept,
);

const CONFIGURATION: &str = include_str!("../../fixtures/python/alerts.yaml");
const DATA: &str = include_str!("../../fixtures/python/data.sql");
const SCHEMA_SQLITE: &str = include_str!("../../fixtures/python/schema.sqlite.sql");
const SCHEMA_POSTGRES: &str = include_str!("../../fixtures/python/schema.postgres.sql");

/// Every column of 0.1's history.
const HISTORY: &str = "SELECT id, alert_name, CAST(executed_at AS TEXT), CAST(execution_duration_ms AS TEXT), status, \
    CAST(actual_value AS TEXT), CAST(threshold AS TEXT), query, error_message, triggered_by, \
    CASE WHEN notification_sent THEN 'yes' ELSE 'no' END, notification_error, CAST(context_data AS TEXT) \
    FROM sqlsentinel_executions";

/// A question that somebody's dashboard asks, for both databases; its rows are made into texts.
fn dashboard(state: State) -> [(&'static str, String); 8] {
    let day = |column: &str| match state {
        State::Sqlite => format!("strftime('%Y-%m-%d', {column})"),
        State::Postgres => format!("to_char({column}, 'YYYY-MM-DD')"),
    };
    [
        (
            "failures per day",
            format!(
                "SELECT {day} AS day, CAST(COUNT(*) AS TEXT) FROM sqlsentinel_executions WHERE status = 'ERROR' \
                 GROUP BY {day} ORDER BY day",
                day = day("executed_at")
            ),
        ),
        (
            "average duration",
            "SELECT alert_name, CAST(COUNT(*) AS TEXT), CAST(AVG(execution_duration_ms) > 0 AS TEXT) \
             FROM sqlsentinel_executions WHERE triggered_by = 'CRON' GROUP BY alert_name ORDER BY alert_name"
                .to_owned(),
        ),
        (
            "last status",
            "SELECT e.alert_name, e.status FROM sqlsentinel_executions e JOIN (SELECT alert_name, MAX(executed_at) AS at \
             FROM sqlsentinel_executions GROUP BY alert_name) newest \
             ON newest.alert_name = e.alert_name AND newest.at = e.executed_at ORDER BY e.alert_name"
                .to_owned(),
        ),
        (
            "alerting",
            "SELECT alert_name FROM sqlsentinel_state WHERE current_status = 'ALERT' \
             AND (silenced_until IS NULL OR silenced_until < '2030-01-01') ORDER BY alert_name"
                .to_owned(),
        ),
        (
            "notification failures",
            "SELECT alert_name, notification_error FROM sqlsentinel_executions WHERE notification_error IS NOT NULL \
             AND NOT notification_sent ORDER BY executed_at"
                .to_owned(),
        ),
        (
            "configuration",
            format!(
                "SELECT alert_name, config_hash, {} FROM sqlsentinel_configs WHERE active ORDER BY alert_name",
                day("loaded_at")
            ),
        ),
        (
            "audit trail",
            format!(
                "SELECT {}, alert_name, config_hash FROM sqlsentinel_configs ORDER BY loaded_at, alert_name",
                day("loaded_at")
            ),
        ),
        ("a view", "SELECT alert_name, error_message FROM recent_failures ORDER BY executed_at".to_owned()),
    ]
}

/// The rows of the answer, each as one text.
async fn rows(pool: &AnyPool, sql: &str) -> Result<Vec<String>> {
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(pool).await.context(sql.to_owned())?;
    let row = |row: &sqlx::any::AnyRow| {
        let cells = (0..row.len()).map(|cell| Ok(row.try_get::<Option<String>, _>(cell)?.unwrap_or_default()));
        Ok(cells.collect::<Result<Vec<String>>>()?.join(" | "))
    };
    rows.iter().map(row).collect()
}

/// The answers of the whole dashboard.
async fn answers(state: State, pool: &AnyPool) -> Result<std::collections::BTreeMap<&'static str, Vec<String>>> {
    let mut answers = std::collections::BTreeMap::new();
    for (name, sql) in dashboard(state) {
        answers.insert(name, rows(pool, &sql).await?);
    }
    Ok(answers)
}

/// A database as 0.1 left it, where the cluster's is to be.
async fn left_behind(state: State, cluster: &Cluster) -> Result<AnyPool> {
    sqlx::any::install_default_drivers();
    let (url, schema) = match &cluster.postgres {
        Some(postgres) => (postgres.url("state"), SCHEMA_POSTGRES),
        None => {
            let url = format!("sqlite://{}?mode=rwc", cluster.directory().join("state.db").display());
            (url, SCHEMA_SQLITE)
        }
    };
    anyhow::ensure!(cluster.postgres.is_some() == (state == State::Postgres));
    let pool = AnyPoolOptions::new().max_connections(2).connect(&url).await?;
    for script in [schema, DATA] {
        sqlx::raw_sql(script).execute(&pool).await?;
    }
    Ok(pool)
}

async fn an_installation_of_0_1_goes_on(state: State) -> Result<()> {
    let plan = Plan::new(state)
        .env("SQLSENTINEL_RETENTION_DAYS", 0)
        .env("CURRENCY", "EUR")
        .env("HOOK_TOKEN", "canary")
        .env("SMTP_HOST", "127.0.0.1")
        .env("SMTP_PORT", 1)
        .env("SMTP_FROM", "sqlsentinel@example.com")
        .env("SLACK_WEBHOOK_URL", "http://127.0.0.1:1/canary");
    let mut scene = Scene::set(plan, Kind::Sqlite).await?;
    scene.target.run("CREATE TABLE orders (revenue REAL, currency TEXT, state TEXT)").await?;
    scene
        .target
        .run("INSERT INTO orders VALUES (9000, 'EUR', 'open'), (9000, 'EUR', 'open'), (1, 'X', 'open')")
        .await?;
    let pool = left_behind(state, &scene.cluster).await?;
    let (history, before) = (rows(&pool, HISTORY).await?, answers(state, &pool).await?);
    assert_eq!(before["last status"][3], "order_backlog | ALERT");
    assert_eq!(before["alerting"], ["order_backlog"]);
    assert_eq!(before["configuration"].len(), 4);

    // The one thing that `validate` asks for, and a schedule that a test can wait for.
    let mut yaml = CONFIGURATION.replace(
        "    notify:\n      - channel: email",
        "    query_env: [CURRENCY]\n    notify:\n      - channel: email",
    );
    for schedule in ["0 9 * * 1-5", "0 */6 * * *", "*/5 * * * *", "*/15 * * * *"] {
        yaml = yaml.replace(&format!("\"{schedule}\""), "every 1s");
    }
    let yaml = yaml.replace("${DATABASE_URL}", scene.target.url()).replace("${HOOK_URL}", &scene.sink.url("hook"));
    scene.cluster.configure(&yaml)?;
    scene.cluster.start()?;

    // What was fine and is not any more is told, once; what was in ALERT and still is, and what is silenced, is not.
    scene.until_received("error_rate", 1).await?;
    for (alert, status) in
        [("order_backlog", "ALERT"), ("stock_level", "ALERT"), ("daily_revenue_check", "OK"), ("error_rate", "ALERT")]
    {
        let ours = format!(
            "SELECT id FROM sqlsentinel_executions WHERE alert_name = '{alert}' AND status = '{status}' \
             AND worker IS NOT NULL"
        );
        let runs = || async { rows(&pool, &ours).await };
        eventually(&format!("three runs of {alert}"), SOON, runs, |runs| runs.len() >= 3).await?;
    }
    let told: Vec<_> = scene.sink.received().iter().map(|told| told.text("alert_name").to_owned()).collect();
    assert_eq!(told, ["error_rate"]);
    let notified = rows(&pool, "SELECT DISTINCT alert_name FROM sqlsentinel_notifications").await?;
    assert_eq!(notified, ["error_rate"], "and nothing waits to be told");

    history_is_kept_and_goes_on(state, &scene.cluster, &pool, &history).await?;
    dashboards_answer(state, &pool, &before).await?;
    operators_see_it(&scene.cluster).await
}

async fn history_is_kept_and_goes_on(state: State, cluster: &Cluster, pool: &AnyPool, before: &[String]) -> Result<()> {
    let now = rows(pool, HISTORY).await?;
    for row in before {
        assert!(now.contains(row), "kept as it was: {row}");
    }
    // What 0.1 wrote into its columns, we do.
    let new = "FROM sqlsentinel_executions WHERE worker IS NOT NULL AND alert_name = 'error_rate' AND triggered_by = 'CRON' \
               AND status = 'ALERT' AND actual_value = 12.5 AND threshold = 5.0 AND execution_duration_ms > 0 \
               AND query = '' AND error_message IS NULL AND notification_error IS NULL";
    let context = rows(pool, &format!("SELECT CAST(context_data AS TEXT) {new}")).await?;
    assert!(context.len() >= 3, "{now:#?}");
    assert_eq!(serde_json::from_str::<Value>(&context[0])?, serde_json::json!({"service": "checkout"}));
    let sent = "SELECT CASE WHEN notification_sent THEN 'yes' ELSE 'no' END FROM sqlsentinel_executions \
                WHERE worker IS NOT NULL AND alert_name = 'error_rate' ORDER BY executed_at";
    let first = || async { Ok(rows(pool, sent).await?.swap_remove(0)) };
    eventually("the receipt is in the history", SOON, first, |first| first == "yes").await?;
    if state == State::Sqlite {
        let times =
            rows(pool, "SELECT CAST(executed_at AS TEXT) FROM sqlsentinel_executions WHERE worker IS NOT NULL").await?;
        for time in times {
            assert_eq!((time.len(), &time[10..11], &time[19..20]), (26, " ", "."), "as 0.1 wrote it: {time}");
        }
    }
    let states = "SELECT alert_name, current_status, CAST(escalation_count AS TEXT), last_notification_channel \
                  FROM sqlsentinel_state ORDER BY alert_name";
    assert_eq!(
        rows(pool, states).await?,
        [
            "daily_revenue_check | OK | 0 | email",
            "error_rate | ALERT | 0 | ",
            "legacy_report | OK | 0 | webhook",
            "order_backlog | ALERT | 2 | slack",
            "stock_level | ALERT | 0 | ",
        ]
    );
    let alerts = rows(
        pool,
        "SELECT CAST(consecutive_alerts > 5 AS TEXT) FROM sqlsentinel_state WHERE alert_name = 'order_backlog'",
    )
    .await?;
    assert!(["1", "true"].contains(&alerts[0].as_str()), "it counts on from five");
    cluster.all_alive()
}

async fn dashboards_answer(
    state: State,
    pool: &AnyPool,
    before: &std::collections::BTreeMap<&'static str, Vec<String>>,
) -> Result<()> {
    let now = answers(state, pool).await?;
    for question in ["failures per day", "notification failures", "a view", "audit trail"] {
        assert_eq!(now[question][..before[question].len()], before[question], "{question}: what was is still there");
    }
    assert!(now["average duration"].len() == before["average duration"].len(), "{now:?}");
    assert_eq!(
        now["last status"],
        [
            "daily_revenue_check | OK",
            "error_rate | ALERT",
            "legacy_report | OK",
            "order_backlog | ALERT",
            "stock_level | ALERT"
        ]
    );
    assert_eq!(now["alerting"], ["error_rate", "order_backlog"]);
    // One version of each alert is in force, and it is ours.
    let alert = |line: &String| line.split(" | ").next().unwrap_or_default().to_owned();
    assert_eq!(
        now["configuration"].iter().map(alert).collect::<Vec<_>>(),
        ["daily_revenue_check", "error_rate", "night_report", "order_backlog", "stock_level"]
    );
    assert!(now["configuration"].iter().all(|line| !before["configuration"].contains(line)), "{now:?}");
    Ok(())
}

async fn operators_see_it(cluster: &Cluster) -> Result<()> {
    let config = cluster.directory().join("alerts.yaml").display().to_string();
    let history = cluster.ctl(&["history", "--alert", "legacy_report", "--limit", "100", "--output", "json"]).await?;
    let history: Value = serde_json::from_str(&history.output).context(history.output)?;
    assert_eq!(history.as_array().map(Vec::len), Some(4));
    assert_eq!((&history[0]["status"], &history[0]["triggered_by"]), (&"OK".into(), &"CRON".into()));
    let due = history[3]["executed_at"].as_str().unwrap_or_default();
    assert!(due.starts_with("2025-10-21T00:00:"), "{history}");

    let status = cluster.ctl(&["status", &config, "--state-db", &state_url(cluster)]).await?;
    let line = |name: &str| status.output.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    assert!(line("order_backlog").contains("ALERT") && line("stock_level").contains("yes"), "{}", status.output);
    assert!(line("night_report").contains("NEVER RUN"), "{}", status.output);
    let silences = cluster.ctl(&["silences"]).await?.output;
    assert!(silences.contains("stock_level") && silences.contains("SQL Sentinel 0.1"), "{silences}");
    Ok(())
}

fn state_url(cluster: &Cluster) -> String {
    match &cluster.postgres {
        Some(postgres) => postgres.url("state"),
        None => format!("sqlite:///{}", cluster.directory().join("state.db").display()),
    }
}

async fn init_takes_a_database_of_0_1_over_in_place(state: State) -> Result<()> {
    let scene = Scene::set(Plan::new(state), Kind::Sqlite).await?;
    let pool = left_behind(state, &scene.cluster).await?;
    let before = rows(&pool, HISTORY).await?;
    let init = scene.cluster.ctl(&["init"]).await?;
    let said = format!("was taken over from SQL Sentinel 0.1, with {} runs in its history", before.len());
    assert!(init.code == Some(0) && init.output.contains(&said), "{init:?}");
    assert_eq!(rows(&pool, HISTORY).await?, before);
    let again = scene.cluster.ctl(&["init"]).await?;
    assert!(again.code == Some(0) && again.output.contains("is up to date"), "{again:?}");
    Ok(())
}

async fn what_0_1_left_goes_when_it_is_older_than_history_is_kept(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state), Kind::Sqlite).await?;
    let pool = left_behind(state, &scene.cluster).await?;
    scene.play(&scene.configuration().alert("pulse", "@daily", "SELECT 'OK' AS status"))?;
    let left =
        "SELECT alert_name, CAST(COUNT(*) AS TEXT) FROM sqlsentinel_executions GROUP BY alert_name ORDER BY alert_name";
    let newest = ["daily_revenue_check", "error_rate", "legacy_report", "order_backlog", "stock_level"];
    let newest: Vec<_> = newest.iter().map(|alert| format!("{alert} | 1")).collect();
    eventually("the newest runs are left", SOON, || rows(&pool, left), |left| *left == newest).await?;
    let audit = || rows(&pool, "SELECT alert_name FROM sqlsentinel_configs");
    eventually("and what is in force", SOON, audit, |audit| audit == &["pulse"]).await?;
    let page = scene.cluster.page("coordinator-1", "/metrics").await?.1;
    assert!(page.contains("sqlsentinel_purged_rows_total{table=\"sqlsentinel_executions\"} 131\n"), "{page}");
    assert!(scene.cluster.log("coordinator-1")?.contains("old history was purged"));
    scene.cluster.all_alive()
}

#[tokio::test]
async fn a_configuration_of_0_1_is_valid_and_told_what_has_changed() -> Result<()> {
    let scene = Scene::set(Plan::new(State::Sqlite), Kind::Sqlite).await?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/python/alerts.yaml");
    let validated = scene.cluster.ctl(&["validate", &file.display().to_string(), "--output", "json"]).await?;
    assert_eq!(validated.code, Some(0), "{}", validated.output);
    let report: Value = serde_json::from_str(&validated.output)?;
    let said = |warning: &Value| {
        format!("{}: {}", warning["path"].as_str().unwrap_or(""), warning["message"].as_str().unwrap_or(""))
    };
    let warnings: Vec<String> = report["warnings"].as_array().into_iter().flatten().map(said).collect();
    assert_eq!(
        warnings,
        [
            "alerts[0].query: the query's text gets no environment: `${CURRENCY}` is sent to the database as written",
            "alerts[0].schedule: weekdays are POSIX: 1-5 is Monday to Friday, 0 and 7 are Sunday",
            ": SMTP_HOST is not set, and an entry of `notify` sends mails: notifiers need it",
        ]
    );
    assert_eq!(report["alerts"].as_array().map(Vec::len), Some(5));
    Ok(())
}
