//! Target databases: what can be opened, run and cancelled, whatever the kind.
//!
//! Input: a name, a URL, and queries that passed [`crate::guard`]. Output: an [`Answer`], or a [`SourceError`] that
//! says which of a run's failures it is. Nothing here writes, and no error shows a credential.

mod error;
mod escape;
mod mysql;
mod postgres;
mod sqlite;
mod stock;

use std::time::Duration;

use sqlsentinel_common::alert::SourceName;
use sqlsentinel_common::config::{DatabaseKind, DatabaseUrl};
use sqlsentinel_common::ids::ExecutionId;
use tokio_util::sync::CancellationToken;

use self::mysql::Mysql;
use self::postgres::Postgres;
use self::sqlite::Sqlite;
use crate::answer::{Answer, Limits};
use crate::guard::GuardedQuery;

pub use self::error::SourceError;

/// How long the question about a role may take, waiting for a connection included.
const ROLE_TIMEOUT: Duration = Duration::from_secs(5);

/// One target database. Opening it connects to nothing: connections are made by the first runs, and kept.
#[derive(Debug)]
pub struct Source {
    name: SourceName,
    database: Database,
}

#[derive(Debug)]
enum Database {
    Postgres(Postgres),
    Mysql(Mysql),
    Sqlite(Sqlite),
}

/// Who runs a query, for whoever looks at the database's sessions and statements.
#[derive(Clone, Copy, Debug)]
pub struct Tag<'a> {
    /// Names the statement.
    pub alert_name: &'a str,
    /// Names the session while it runs.
    pub execution_id: ExecutionId,
}

/// What bounds one run.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    /// How long it may take, connecting included.
    pub timeout: Duration,
    /// How much it may return.
    pub limits: &'a Limits,
    /// Ends it early, at the database too.
    pub cancel: &'a CancellationToken,
}

/// The role that a source's sessions have at its database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Why it could write; none if it can only read.
    pub could_write: Option<String>,
}

impl Source {
    /// A source that holds at most `connections` connections.
    pub fn open(name: SourceName, url: &DatabaseUrl, connections: usize) -> Result<Self, SourceError> {
        let database = match url.kind {
            DatabaseKind::Postgres => Database::Postgres(Postgres::open(&url.url, connections)?),
            DatabaseKind::Mysql => Database::Mysql(Mysql::open(&url.url, connections)?),
            DatabaseKind::Sqlite => Database::Sqlite(Sqlite::open(&url.url, connections)?),
        };
        Ok(Self { name, database })
    }

    /// The name in the configuration.
    pub fn name(&self) -> &SourceName {
        &self.name
    }

    /// Which dialect the queries are written in.
    pub fn kind(&self) -> DatabaseKind {
        match self.database {
            Database::Postgres(_) => DatabaseKind::Postgres,
            Database::Mysql(_) => DatabaseKind::Mysql,
            Database::Sqlite(_) => DatabaseKind::Sqlite,
        }
    }

    /// Runs one query in a read-only transaction that is always rolled back.
    ///
    /// When it returns, nothing of it runs at the database, as far as the database could be reached. A future that is
    /// dropped before it returns leaves the cancelling to the database, which notices that nobody is listening, or at
    /// last that the time is up.
    pub async fn run(&self, query: &GuardedQuery<'_>, tag: Tag<'_>, bounds: Bounds<'_>) -> Result<Answer, SourceError> {
        match &self.database {
            Database::Postgres(postgres) => postgres.run(query, tag, bounds).await,
            Database::Mysql(mysql) => mysql.run(query, tag, bounds).await,
            Database::Sqlite(sqlite) => sqlite.run(query, bounds).await,
        }
    }

    /// The role of this source's sessions, asked on one of its connections; none where there are no roles. Who
    /// may write to a SQLite file says nothing: the same user often owns it, and it is opened for reading only.
    pub async fn role(&self, cancel: &CancellationToken) -> Result<Option<Role>, SourceError> {
        let bounds = Bounds { timeout: ROLE_TIMEOUT, limits: &Limits::default(), cancel };
        match &self.database {
            Database::Postgres(postgres) => postgres.role(bounds).await.map(Some),
            Database::Mysql(mysql) => mysql.role(bounds).await.map(Some),
            Database::Sqlite(_) => Ok(None),
        }
    }
}
