//! A state database of the version before silences and rules: what is in it stays, and goes on.

use anyhow::{Context, Result};
use sqlsentinel_common::config::normalise_database_url;
use sqlsentinel_common::store::{Store, StoreRole};
use sqlsentinel_tests::postgres::Postgres;
use sqlx::any::AnyPoolOptions;
use sqlx::migrate::Migrator;
use sqlx::{AnyPool, AssertSqlSafe, Row};

/// The version before.
const BEFORE: i64 = 2;

const NOTIFICATION: &str = "INSERT INTO sqlsentinel_notifications (notification_id, execution_id, alert_name, instance, \
    route_key, channel, kind, sequence, scheduled_for, payload, status, attempt, next_attempt_at, possible_duplicate, \
    last_error, created_at) VALUES ('n1', 'e1', 'revenue', '', 'ops', 'webhook', 'KIND', 7, 1000, '{}', 'PENDING', 2, \
    5000, 1, 'no answer', 900)";

async fn number(pool: &AnyPool, sql: &str) -> Result<i64> {
    let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(pool).await.context(sql.to_owned())?;
    Ok(row.try_get(0)?)
}

async fn goes_on(url: &str, migrations: &Migrator) -> Result<()> {
    sqlx::any::install_default_drivers();
    let database = normalise_database_url(url)?;
    let pool = AnyPoolOptions::new().max_connections(1).connect(database.url.expose()).await?;
    migrations.run_to(BEFORE, &pool).await?;
    sqlx::query(AssertSqlSafe(NOTIFICATION.replace("KIND", "error"))).execute(&pool).await?;
    for (name, until) in [("silenced", "2999-01-01 00:00:00"), ("loud", "2020-01-01 00:00:00")] {
        let sql = format!(
            "INSERT INTO sqlsentinel_state (alert_name, consecutive_alerts, consecutive_oks, escalation_count, \
             notification_failures, current_status, silenced_until) VALUES ('{name}', 1, 0, 0, 0, 'ALERT', '{until}')"
        );
        sqlx::query(AssertSqlSafe(sql)).execute(&pool).await?;
    }

    let store = Store::connect(&database, StoreRole::Member)?;
    store.migrate().await?;
    let kept = "SELECT COUNT(*) FROM sqlsentinel_notifications WHERE notification_id = 'n1' AND execution_id = 'e1' \
                AND alert_name = 'revenue' AND route_key = 'ops' AND channel = 'webhook' AND kind = 'error' \
                AND sequence = 7 AND scheduled_for = 1000 AND payload = '{}' AND status = 'PENDING' AND attempt = 2 \
                AND next_attempt_at = 5000 AND possible_duplicate = 1 AND last_error = 'no answer' AND created_at = 900 \
                AND claim_token IS NULL AND finished_at IS NULL";
    assert_eq!(number(&pool, kept).await?, 1);
    for (id, kind) in [("n2", "repeat"), ("n3", "resolved")] {
        let sql = NOTIFICATION.replace("'n1'", &format!("'{id}'")).replace("KIND", kind);
        sqlx::query(AssertSqlSafe(sql)).execute(&pool).await?;
    }
    let nonsense = NOTIFICATION.replace("'n1'", "'n4'").replace("KIND", "gossip");
    assert!(sqlx::query(AssertSqlSafe(nonsense)).execute(&pool).await.is_err(), "kinds are checked as before");

    assert_eq!(number(&pool, "SELECT COUNT(*) FROM sqlsentinel_state WHERE untold = 1").await?, 0, "nothing is owed");
    let silences = "SELECT COUNT(*) FROM sqlsentinel_silences WHERE alert_name = 'silenced' AND ends_at > begins_at";
    assert_eq!(number(&pool, silences).await?, 1);
    assert_eq!(number(&pool, "SELECT COUNT(*) FROM sqlsentinel_silences").await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sqlite_database_of_the_version_before_goes_on() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("state.db");
    std::fs::File::create(&path)?;
    let url = format!("sqlite:///{}", path.display());
    goes_on(&url, &sqlx::migrate!("../common/migrations/sqlite")).await?;
    let indexes = sqlx::SqlitePool::connect(&url.replacen("///", "//", 1)).await?;
    let indexes: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM pragma_index_list('sqlsentinel_notifications') WHERE origin = 'c' \
             AND name IN ('sqlsentinel_notifications_due', 'sqlsentinel_notifications_lane', \
             'sqlsentinel_notifications_by_execution', 'sqlsentinel_notifications_errors', \
             'sqlsentinel_notifications_alerts')",
    )
    .fetch_one(&indexes)
    .await?;
    assert_eq!(indexes, 5, "the table that was made again has its indexes");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_database_of_the_version_before_goes_on() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.create_database("state").await?;
    goes_on(&url, &sqlx::migrate!("../common/migrations/postgres")).await
}
