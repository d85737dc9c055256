//! A migrated state database, for tests of the store's own promises on both of its dialects.

use std::future::Future;

use anyhow::Result;
use sqlsentinel_common::config::normalise_database_url;
use sqlsentinel_common::ids::ClusterId;
use sqlsentinel_common::store::{Store, StoreRole};
use tempfile::TempDir;

use crate::postgres::Postgres;

/// A fresh state database and a store on it.
#[derive(Debug)]
pub struct Fixture {
    /// A coordinator's store.
    pub store: Store,
    /// The name the installation was born with.
    pub cluster: ClusterId,
    url: String,
    // Ends after the store: fields are dropped in order.
    _postgres: Option<Postgres>,
    _directory: TempDir,
}

impl Fixture {
    async fn new(url: String, postgres: Option<Postgres>, directory: TempDir) -> Result<Self> {
        let store = Store::connect(&normalise_database_url(&url)?, StoreRole::Leader)?;
        let cluster = store.migrate().await?;
        Ok(Self { store, cluster, url, _postgres: postgres, _directory: directory })
    }

    /// Another process's store on the same database.
    pub fn another(&self, role: StoreRole) -> Result<Store> {
        Ok(Store::connect(&normalise_database_url(&self.url)?, role)?)
    }

    /// The database's URL, for plain SQL beside the store.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// Runs `test` on a fresh SQLite state database.
pub async fn on_sqlite<F: Future<Output = Result<()>>>(test: impl FnOnce(Fixture) -> F) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let url = format!("sqlite:///{}", directory.path().join("state.db").display());
    test(Fixture::new(url, None, directory).await?).await
}

/// Runs `test` on a fresh PostgreSQL state database.
pub async fn on_postgres<F: Future<Output = Result<()>>>(test: impl FnOnce(Fixture) -> F) -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.create_database("state").await?;
    test(Fixture::new(url, Some(postgres), tempfile::tempdir()?).await?).await
}

/// Makes a test for each dialect out of each `async fn(Fixture) -> anyhow::Result<()>`.
#[macro_export]
macro_rules! on_both_dialects {
    ($($name:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() -> anyhow::Result<()> {
                $crate::stores::on_sqlite(super::$name).await
            })+
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() -> anyhow::Result<()> {
                $crate::stores::on_postgres(super::$name).await
            })+
        }
    };
}
