//! SQLite, whose driver runs every statement of a text: the guard has the first word, the way the file is opened the last.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use sqlsentinel_worker::source::{Source, SourceError};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Executor};
use tempfile::TempDir;

use super::is_refused;
use crate::ask::{past_the_guard, source};

struct Scene {
    source: Source,
    directory: TempDir,
}

impl Scene {
    async fn set() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        for (name, table) in [("target.db", "orders"), ("other.db", "others")] {
            let path = directory.path().join(name);
            let mut writer = SqliteConnectOptions::new().filename(&path).create_if_missing(true).connect().await?;
            let sql = format!(
                "CREATE TABLE {table} (id INTEGER PRIMARY KEY AUTOINCREMENT, amount NUMERIC); INSERT INTO {table} VALUES (1, 12.5)"
            );
            writer.execute(sqlx::AssertSqlSafe(sql)).await?;
        }
        let source = source(&format!("sqlite:///{}", directory.path().join("target.db").display()), 1)?;
        Ok(Self { source, directory })
    }

    /// Every file beside the database and the database itself, byte for byte.
    fn files(&self) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
        let read = |entry: std::io::Result<std::fs::DirEntry>| {
            let path = entry?.path();
            Ok((path.clone(), std::fs::read(path)?))
        };
        std::fs::read_dir(self.directory.path())?.map(read).collect()
    }

    fn file(&self, name: &str) -> String {
        Path::new(self.directory.path()).join(name).display().to_string()
    }
}

#[tokio::test]
async fn every_statement_that_acts_is_refused_and_leaves_everything_as_it_was() -> Result<()> {
    let scene = Scene::set().await?;
    let before = scene.files()?;
    assert_eq!(before.len(), 2, "{:?}", before.keys());
    let (made, other) = (scene.file("made.db"), scene.file("other.db"));
    let by_the_guard = [
        ("INSERT INTO orders VALUES (3, 3)".to_owned(), "`INSERT`"),
        ("INSERT INTO orders VALUES (3, 3) RETURNING 'OK' AS status".to_owned(), "`INSERT`"),
        ("INSERT OR REPLACE INTO orders VALUES (1, 3)".to_owned(), "`INSERT`"),
        ("REPLACE INTO orders VALUES (1, 3)".to_owned(), "`REPLACE`"),
        ("UPDATE orders SET amount = 0".to_owned(), "`UPDATE`"),
        ("DELETE FROM orders".to_owned(), "`DELETE`"),
        ("DROP TABLE orders".to_owned(), "`DROP`"),
        ("CREATE TABLE made AS SELECT 1".to_owned(), "`CREATE`"),
        ("CREATE TEMP TABLE made (a)".to_owned(), "`CREATE`"),
        ("ALTER TABLE orders ADD a INT".to_owned(), "`ALTER`"),
        ("REINDEX orders".to_owned(), ""),
        ("ANALYZE orders".to_owned(), ""),
        ("VACUUM".to_owned(), ""),
        (format!("VACUUM INTO '{made}'"), ""),
        (format!("ATTACH DATABASE '{other}' AS other"), "`ATTACH`"),
        (format!("ATTACH '{made}' AS made"), ""),
        ("DETACH main".to_owned(), ""),
        ("PRAGMA query_only = 0".to_owned(), "`PRAGMA`"),
        ("PRAGMA user_version = 7".to_owned(), "`PRAGMA`"),
        ("PRAGMA journal_mode = WAL".to_owned(), ""),
        ("PRAGMA writable_schema = 1".to_owned(), "`PRAGMA`"),
        ("PRAGMA user_version".to_owned(), "`PRAGMA`"),
        ("BEGIN IMMEDIATE".to_owned(), ""),
        ("COMMIT".to_owned(), "`COMMIT`"),
        ("SAVEPOINT s".to_owned(), "`SAVEPOINT`"),
        ("EXPLAIN DELETE FROM orders".to_owned(), "`EXPLAIN`"),
        ("SELECT 'OK' AS status; DELETE FROM orders".to_owned(), "several: the rest begins with `DELETE`"),
        (format!("SELECT 'OK' AS status; ATTACH '{made}' AS m; CREATE TABLE m.t (a)"), "several"),
        (format!("SELECT 'OK' AS status /* /* */; VACUUM INTO '{made}' /* */"), "several"),
        ("SELECT '\\'; DELETE FROM orders; --' AS status".to_owned(), "several"),
        ("SELECT [;] FROM orders; DELETE FROM orders".to_owned(), "several"),
        ("COMMIT; DELETE FROM orders".to_owned(), "several"),
        ("WITH x AS (SELECT 1) DELETE FROM orders".to_owned(), "`DELETE` inside"),
        ("WITH x AS (SELECT 1) INSERT INTO orders SELECT 2, 2".to_owned(), "`INSERT` inside"),
        ("SELECT 'OK' AS status INTO made".to_owned(), "SELECT … INTO"),
        ("SELECT 'OK' AS status, load_extension('x')".to_owned(), "`load_extension`"),
        ("SELECT 'OK' AS status, \"load_extension\" /**/ ('x')".to_owned(), "`load_extension`"),
        (format!("SELECT 'OK' AS status, writefile('{made}', 'x')"), "`writefile`"),
        ("SELECT 'OK' AS status, readfile('/etc/hostname')".to_owned(), "`readfile`"),
        ("SELECT 'OK' AS status, fts3_tokenizer('x', x'00')".to_owned(), "`fts3_tokenizer`"),
        ("SELECT 'OK' AS status /*! , load_extension('x') */".to_owned(), "`/*!`"),
        ("SELECT ? AS status".to_owned(), "placeholder"),
        ("SELEKT 'OK' AS status".to_owned(), "can be checked"),
    ];
    for (query, said) in &by_the_guard {
        is_refused(&scene.source, query, said).await?;
    }
    for body in [
        "DELETE FROM orders",
        "CREATE TABLE made (a)",
        "PRAGMA user_version = 7",
        "PRAGMA journal_mode = WAL",
        "COMMIT; DELETE FROM orders",
        "SELECT 1; DELETE FROM orders",
        "PRAGMA query_only = 0; DELETE FROM orders",
        "VACUUM",
        "SELECT load_extension('x')",
    ] {
        let refused = past_the_guard(&scene.source, body).await;
        let is_refused = matches!(refused, Err(SourceError::Query(_) | SourceError::Refused(_)));
        assert!(is_refused || body.contains("journal_mode"), "{body}: {refused:?}");
    }
    assert!(scene.files()? == before, "{:?}", scene.files()?.keys());
    Ok(())
}
