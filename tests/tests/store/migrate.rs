//! What migrating leaves behind when it fails: nothing that others wait for.

use anyhow::{Context, Result};
use sqlsentinel_common::config::normalise_database_url;
use sqlsentinel_common::store::{Store, StoreRole};
use sqlsentinel_tests::postgres::Postgres;
use sqlx::Executor;

#[tokio::test]
async fn a_migration_that_failed_in_one_process_does_not_lock_out_the_others() -> Result<()> {
    let server = Postgres::start().await?;
    let url = normalise_database_url(&server.create_database("state").await?)?;
    let pool = server.pool("state").await?;
    pool.execute("CREATE TABLE sqlsentinel_gaps (in_the_way INTEGER)").await?;
    let failed = Store::connect(&url, StoreRole::Leader)?;
    failed.migrate().await.err().context("a table was in the way")?;
    pool.execute("DROP TABLE sqlsentinel_gaps").await?;

    let other = Store::connect(&url, StoreRole::Leader)?;
    let cluster = other.migrate().await?;
    assert_eq!(failed.migrate().await?, cluster);
    Ok(())
}
