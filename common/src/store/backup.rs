//! A copy of a SQLite state database while others use it. PostgreSQL has tools of its own for that.

use super::{Dialect, Store, StoreError};

impl Store {
    /// Writes everything that is committed at one moment into a new file. Others read and write on meanwhile; it may take
    /// as long as it takes.
    pub async fn copy_into(&self, file: &str) -> Result<(), StoreError> {
        match self.dialect {
            Dialect::Sqlite => {
                sqlx::query("VACUUM INTO $1").bind(file.to_owned()).execute(self.pool()).await?;
                Ok(())
            }
            Dialect::Postgres => Err(StoreError::Refused("only a SQLite database copies itself".to_owned())),
        }
    }
}
