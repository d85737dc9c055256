//! Answers with several rows from each kind of target database: every row arrives, up to as many as there may be.

use anyhow::Result;
use serde_json::json;
use sqlsentinel_common::alert::QueryOptions;
use sqlsentinel_common::outcome::{ErrorKind, MAX_INSTANCES, RunStatus, Verdict};
use sqlsentinel_tests::mariadb::Mariadb;
use sqlsentinel_tests::postgres::Postgres;
use sqlsentinel_worker::source::Source;

use crate::ask::{run_with, source};

/// What each database makes numbers from 1 to `COUNT` of.
const RECURSIVE: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < COUNT)";

struct Asked {
    source: Source,
    options: QueryOptions,
}

impl Asked {
    fn at(url: &str) -> Result<Self> {
        let options =
            QueryOptions { instance_key: vec!["region".to_owned(), "N".to_owned()], ..QueryOptions::default() };
        Ok(Self { source: source(url, 1)?, options })
    }

    async fn run(&self, query: &str) -> Result<Verdict> {
        run_with(&self.source, query, &self.options).await
    }

    /// A row for each number, of which every hundredth is wrong.
    async fn rows(&self, count: usize) -> Result<Verdict> {
        let numbers = RECURSIVE.replace("COUNT", &count.to_string());
        let status = "CASE WHEN i % 100 = 0 THEN 'ALERT' ELSE 'OK' END AS status";
        self.run(&format!("{numbers} SELECT 'eu' AS region, i AS n, {status}, i * 2 AS actual_value FROM n")).await
    }

    async fn check(&self) -> Result<()> {
        let three = self.rows(3).await?;
        let said: Vec<_> = three.instances.iter().map(|row| (row.instance.as_str(), row.status)).collect();
        let ok = RunStatus::Ok;
        assert_eq!(said, [("region=eu,N=1", ok), ("region=eu,N=2", ok), ("region=eu,N=3", ok)], "{three:?}");
        assert_eq!(three.instances[2].actual_value, Some(json!(6)));
        assert_eq!(json!(three.instances[2].context), json!({"region": "eu", "n": 3}));

        let all = self.rows(MAX_INSTANCES).await?;
        assert_eq!((all.status, all.instances.len(), all.truncated), (RunStatus::Alert, MAX_INSTANCES, false));
        let over = self.rows(MAX_INSTANCES + 1).await?;
        assert_eq!(over.error.map(|error| error.kind), Some(ErrorKind::Limit));
        let none = self.run("SELECT 'eu' AS region, 1 AS n, 'OK' AS status WHERE 1 = 0").await?;
        assert_eq!(none, Verdict::bare(RunStatus::NoData));

        // NULL is an instance, and not the empty text's.
        let rows = "SELECT NULL AS region, 1 AS n, 'OK' AS status UNION ALL SELECT '', 1, 'OK' ORDER BY region";
        let mut names: Vec<_> = self.run(rows).await?.instances.into_iter().map(|row| row.instance).collect();
        names.sort();
        assert_eq!(names, ["region=\"\",N=1", "region=NULL,N=1"]);
        Ok(())
    }
}

#[tokio::test]
async fn every_row_of_postgres_is_an_instance() -> Result<()> {
    let server = Postgres::start().await?;
    Asked::at(&server.create_database("target").await?)?.check().await
}

#[tokio::test]
async fn every_row_of_mariadb_is_an_instance() -> Result<()> {
    let server = Mariadb::start().await?;
    Asked::at(&server.create_database("target").await?)?.check().await
}

#[tokio::test]
async fn every_row_of_sqlite_is_an_instance() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("target.db");
    std::fs::File::create(&path)?;
    Asked::at(&format!("sqlite:///{}", path.display()))?.check().await
}
