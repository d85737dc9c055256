//! A database that alerts query: one row a signal, which tests set to `OK` or `ALERT`.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use sqlx::any::AnyPoolOptions;
use sqlx::{AnyPool, AssertSqlSafe, Executor};

use crate::postgres::Postgres;

/// The kinds of database that alerts can query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file of this test's own.
    Sqlite,
    /// A database on this test's own server.
    Postgres,
}

/// A target database with the table `signals(name, status, value)`.
#[derive(Clone, Debug)]
pub struct Target {
    url: String,
    kind: Kind,
    pool: AnyPool,
}

impl Target {
    /// A SQLite file in `directory`.
    pub async fn sqlite(directory: &Path) -> Result<Self> {
        let path = directory.join("target.db").display().to_string();
        Self::prepare(Kind::Sqlite, format!("sqlite:///{path}"), &format!("sqlite://{path}?mode=rwc")).await
    }

    /// A database named `target` on `server`, whose statements are logged.
    pub async fn postgres(server: &Postgres) -> Result<Self> {
        let url = server.create_database("target").await?;
        let target = Self::prepare(Kind::Postgres, url.clone(), &url).await?;
        server.log_statements("target").await?;
        Ok(target)
    }

    async fn prepare(kind: Kind, url: String, pool_url: &str) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let pool = AnyPoolOptions::new().max_connections(1).connect_lazy(pool_url)?;
        if kind == Kind::Sqlite {
            pool.execute("PRAGMA journal_mode = WAL").await?;
        }
        pool.execute("CREATE TABLE signals (name TEXT PRIMARY KEY, status TEXT NOT NULL, value BIGINT NOT NULL)")
            .await?;
        Ok(Self { url, kind, pool })
    }

    /// The URL as it stands in a configuration.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sets a signal: its status, and its value, which arrives as `actual_value`.
    pub async fn set(&self, name: &str, status: &str, value: i64) -> Result<()> {
        sqlx::query(
            "INSERT INTO signals (name, status, value) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET status = excluded.status, value = excluded.value",
        )
        .bind(name.to_owned())
        .bind(status.to_owned())
        .bind(value)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Removes a signal: its query then returns no row.
    pub async fn remove(&self, name: &str) -> Result<()> {
        sqlx::query("DELETE FROM signals WHERE name = $1").bind(name.to_owned()).execute(&self.pool).await?;
        Ok(())
    }

    /// Runs a statement of the test's own.
    pub async fn run(&self, statement: &str) -> Result<()> {
        self.pool.execute(AssertSqlSafe(statement)).await?;
        Ok(())
    }

    /// The query of an alert on one signal.
    pub fn query(&self, name: &str) -> String {
        format!("SELECT status, value AS actual_value, 100 AS threshold FROM signals WHERE name = '{name}'")
    }

    /// The same, but it takes at least `duration`.
    pub fn slow_query(&self, name: &str, duration: Duration) -> String {
        match self.kind {
            Kind::Postgres => format!(
                "SELECT status, value AS actual_value FROM signals, pg_sleep({}) WHERE name = '{name}'",
                duration.as_secs_f64()
            ),
            // SQLite has no sleep; counting is slow enough, at some ten million steps a second.
            Kind::Sqlite => format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) \
                 SELECT status, value AS actual_value FROM signals WHERE name = '{name}' AND (SELECT max(i) FROM n) > 0",
                duration.as_millis() * 10_000
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Row;

    use super::*;

    #[tokio::test]
    async fn a_signal_reads_as_it_was_set_on_both_kinds() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let server = Postgres::start().await?;
        for target in [Target::sqlite(directory.path()).await?, Target::postgres(&server).await?] {
            target.set("orders", "OK", 1).await?;
            target.set("orders", "ALERT", 120).await?;
            for query in [target.query("orders"), target.slow_query("orders", Duration::from_millis(1))] {
                let row = target.pool.fetch_one(AssertSqlSafe(query)).await?;
                let (status, value): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
                assert_eq!((status.as_str(), value), ("ALERT", 120), "{:?}", target.kind);
            }
            target.remove("orders").await?;
            assert!(target.pool.fetch_optional(AssertSqlSafe(target.query("orders"))).await?.is_none());
        }
        Ok(())
    }
}
