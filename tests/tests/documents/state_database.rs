//! The tables of the state database: every table and column that migrations make, and no other.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use sqlsentinel_common::config::normalise_database_url;
use sqlsentinel_common::store::{Store, StoreRole};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use crate::markdown::{codes, read, sections};

type Tables = BTreeMap<String, BTreeSet<String>>;

async fn migrated() -> Result<Tables> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("state.db");
    let store = Store::connect(&normalise_database_url(&format!("sqlite:///{}", path.display()))?, StoreRole::Member)?;
    store.migrate().await?;
    let pool = SqlitePool::connect_with(SqliteConnectOptions::new().filename(&path)).await?;
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c \
         WHERE t.type = 'table' AND t.name LIKE 'sqlsentinel%'",
    )
    .fetch_all(&pool)
    .await?;
    let mut tables = Tables::new();
    for (table, column) in columns {
        tables.entry(table).or_default().insert(column);
    }
    Ok(tables)
}

#[tokio::test]
async fn the_tables_and_columns_are_those_described() -> Result<()> {
    let document = sections(&read("docs/reference/state-database.md")?);
    let tables = document.iter().filter(|section| section.title.starts_with("sqlsentinel_"));
    let columns = |rows: &[Vec<String>]| rows.iter().flat_map(|row| codes(&row[0])).collect();
    let described: Tables = tables.map(|section| (section.title.clone(), columns(&section.rows))).collect();
    assert_eq!(described, migrated().await?);
    Ok(())
}
