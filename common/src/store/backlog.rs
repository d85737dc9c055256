//! What is open in the ledger: how many fires of each source, and how near they are to their deadlines. Only reads.

use sqlx::{AssertSqlSafe, Row};

use super::fires::source;
use super::{Store, StoreError};
use crate::alert::SourceName;

/// The open fires of one source with one status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFires {
    /// The data source that they are to run on.
    pub source: SourceName,
    /// `WAITING` or `QUEUED`.
    pub status: String,
    /// How many.
    pub fires: i64,
    /// How many microseconds ago the first deadline among them was; negative: it is to come.
    pub past_deadline_us: i64,
}

impl Store {
    /// The open fires by source and status; nothing for those that have none.
    pub async fn open_fires(&self) -> Result<Vec<OpenFires>, StoreError> {
        // The condition is that of a partial index: history costs nothing here.
        let sql = format!(
            "SELECT source, status, COUNT(*), {} - MIN(deadline) FROM sqlsentinel_fires \
             WHERE status IN ('WAITING', 'QUEUED') GROUP BY source, status",
            self.dialect.now()
        );
        self.step(async {
            let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(self.pool()).await?;
            let open = rows.iter().map(|row| {
                Ok(OpenFires {
                    source: source(row, 0)?,
                    status: row.try_get(1)?,
                    fires: row.try_get(2)?,
                    past_deadline_us: row.try_get(3)?,
                })
            });
            open.collect()
        })
        .await
    }
}
