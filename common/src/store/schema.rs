//! What a database holds before it is migrated: for whoever wants to know what migrating will do, or has done.

use sqlx::{AssertSqlSafe, Row};

use super::{Store, StoreError};

/// What was found in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing of ours.
    Nothing,
    /// The tables of the Python system (0.1.x), as it left them.
    Python {
        /// How many runs are in its history.
        executions: i64,
    },
    /// Our tables.
    Ours {
        /// The newest migration that has run.
        version: i64,
    },
}

impl Store {
    /// Looks, and changes nothing.
    pub async fn found(&self) -> Result<Found, StoreError> {
        self.step(async {
            if self.has_table("_sqlx_migrations").await? {
                let sql = "SELECT CAST(COALESCE(MAX(version), 0) AS BIGINT) FROM _sqlx_migrations";
                return Ok(Found::Ours { version: self.number(sql).await? });
            }
            if self.has_table("sqlsentinel_executions").await? {
                let executions = self.number("SELECT COUNT(*) FROM sqlsentinel_executions").await?;
                return Ok(Found::Python { executions });
            }
            Ok(Found::Nothing)
        })
        .await
    }

    /// Whether a statement that names `table` finds one.
    async fn has_table(&self, table: &str) -> Result<bool, StoreError> {
        let sql = self.dialect.pick(
            "SELECT CAST(CASE WHEN to_regclass($1) IS NULL THEN 0 ELSE 1 END AS BIGINT)",
            "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = $1",
        );
        let row = sqlx::query(AssertSqlSafe(sql)).bind(table.to_owned()).fetch_one(self.pool()).await?;
        Ok(row.try_get::<i64, _>(0)? != 0)
    }

    async fn number(&self, sql: &'static str) -> Result<i64, StoreError> {
        Ok(sqlx::query(sql).fetch_one(self.pool()).await?.try_get(0)?)
    }
}
