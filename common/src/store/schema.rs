//! The schema's versions: what a database holds before it is migrated, for whoever wants to know what migrating will do or
//! has done, and whether a newer schema is fit for this build.
//!
//! Versions of the program are mixed while a cluster is upgraded, and a version may be taken back. So migrations add, and
//! older programs run on what newer ones have made. One that takes something away comes in a later release than the
//! program that stopped using it, and its file's name says which migration a program has to know:
//! `0012_needs_0010_drop_….sql`.

use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Row};

use super::{Dialect, Store, StoreError};

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

/// This build's migrations. What a newer build has run besides is none of their business.
pub(super) fn migrations(dialect: Dialect) -> Migrator {
    let mut migrations = dialect.pick(sqlx::migrate!("./migrations/postgres"), sqlx::migrate!("./migrations/sqlite"));
    migrations.set_ignore_missing(true);
    migrations
}

/// The migration that a program has to know on a schema which this one has changed, by its description; none: it adds.
fn needs(description: &str) -> Option<i64> {
    description.strip_prefix("needs ")?.split(' ').next()?.parse().ok()
}

impl Store {
    /// The newest migration that this build knows.
    pub fn newest_schema(&self) -> i64 {
        migrations(self.dialect).iter().map(|migration| migration.version).max().unwrap_or(0)
    }

    /// Fails if a newer build has taken away what this one uses.
    pub(super) async fn refuse_if_too_new(&self) -> Result<(), StoreError> {
        let known = self.newest_schema();
        let sql = "SELECT version, description FROM _sqlx_migrations WHERE version > $1 ORDER BY version";
        for row in sqlx::query(sql).bind(known).fetch_all(self.pool()).await? {
            let (version, description): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
            if let Some(needed) = needs(&description).filter(|needed| *needed > known) {
                return Err(StoreError::Refused(format!(
                    "its schema has version {version}, for programs that know version {needed}, and this one knows \
                     {known}: run a newer version of it"
                )));
            }
        }
        Ok(())
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_that_takes_away_says_what_a_program_has_to_know() {
        for (description, needed) in
            [("rollbacks", None), ("needs 0010 drop x", Some(10)), ("needs 10", Some(10)), ("needs care", None)]
        {
            assert_eq!(needs(description), needed, "{description}");
        }
    }
}
