//! The state database: all SQL of the state schema lives here and in `store/`, one text for both dialects wherever
//! they agree, two side by side where they do not.
//!
//! Input: the database's URL. Output: [`Store`] with its transactions and the cluster's clock. Who writes what:
//! [`leadership`], [`definitions`], [`fires`], [`rescue`] and [`retention`] are the leader's, behind the epoch; [`outcomes`] and [`outbox`] are the
//! notifiers'; [`silences`] operators'; [`history`], [`backlog`] and [`audit`] only read. [`rollback`] is what is done about a
//! database that was restored, [`schema`] what version one has, `backup` how it is copied.

pub mod audit;
pub mod backlog;
mod backup;
pub mod definitions;
mod dialect;
mod error;
pub mod fires;
pub mod history;
pub mod leadership;
mod mark;
pub mod outbox;
pub mod outcomes;
pub mod rescue;
pub mod retention;
pub mod rollback;
pub mod schema;
pub mod silences;

use std::time::{Duration, Instant};

use sqlx::any::{Any, AnyPoolOptions};
use sqlx::migrate::MigrateError;
use sqlx::{AnyPool, Connection, Executor, Row, Transaction};

pub use self::dialect::Dialect;
pub use self::error::StoreError;
use crate::config::{DatabaseKind, DatabaseUrl};
use crate::ids::ClusterId;
use crate::timestamp::Timestamp;

/// A transaction on the state database; rolled back when dropped.
pub type Tx = Transaction<'static, Any>;

/// How long one statement may take on the server.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one step against the store may take as seen from here: above the server's own limits, so that this one only
/// ever ends what the server cannot end (a cut connection).
const STEP_TIMEOUT: Duration = Duration::from_secs(15);

/// What the sessions of a process are for; it decides how long they may hold locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreRole {
    /// A coordinator: a frozen one must not block its successor, so its locks are given up within a second.
    Leader,
    /// Everybody else.
    Member,
}

/// A pool of connections to the state database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pool: AnyPool,
    dialect: Dialect,
    /// The latest place in the ledger's history that this process has seen.
    seen: rollback::Seen,
}

impl Store {
    /// Opens the pool; connections are made when they are needed, so that a database that is away is no error here.
    pub fn connect(url: &DatabaseUrl, role: StoreRole) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let dialect = match url.kind {
            DatabaseKind::Postgres => Dialect::Postgres,
            DatabaseKind::Sqlite => Dialect::Sqlite,
            DatabaseKind::Mysql => {
                return Err(StoreError::Refused("it is PostgreSQL or SQLite, never MySQL".to_owned()));
            }
        };
        let session = session_settings(dialect, role);
        let pool = AnyPoolOptions::new()
            .max_connections(dialect.pick(8, 4))
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(Duration::from_secs(300))
            .test_before_acquire(dialect == Dialect::Postgres)
            .after_connect(move |connection, _| {
                let session = session.clone();
                Box::pin(async move { connection.execute(sqlx::AssertSqlSafe(session)).await.map(|_| ()) })
            })
            .connect_lazy(&pool_url(url))?;
        Ok(Self { pool, dialect, seen: rollback::Seen::default() })
    }

    /// The SQL this database speaks.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The pool, for single statements.
    pub(crate) fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// Begins a transaction that may write. On SQLite it takes the write lock at once: a deferred one that begins by
    /// reading would fail when it first writes beside another writer.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        Ok(match self.dialect {
            Dialect::Postgres => self.pool.begin().await?,
            Dialect::Sqlite => self.pool.begin_with("BEGIN IMMEDIATE").await?,
        })
    }

    /// Runs one step with a limit on how long it may take as seen from here.
    pub async fn step<T>(&self, step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        match tokio::time::timeout(STEP_TIMEOUT, step).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Timeout(STEP_TIMEOUT)),
        }
    }

    /// Brings the schema to this build's version and makes sure that the installation has a name. Safe to run from
    /// several processes at once, and again. A newer schema stays as it is, and is refused if this build may not use it.
    pub async fn migrate(&self) -> Result<ClusterId, StoreError> {
        match self.dialect {
            // The migrator takes an advisory lock, which belongs to the connection and survives an error: the connection
            // is this one's own and ends with it, so that nobody waits for a lock of a migration that has failed. A large
            // table may take its time.
            Dialect::Postgres => {
                let mut connection = self.pool.acquire().await?.detach();
                connection.execute("SET statement_timeout = 0; SET lock_timeout = 5000").await?;
                let migrated = schema::migrations(self.dialect).run_direct(None, &mut connection, false).await;
                connection.close().await?;
                migrated.map_err(migrate_error)?;
            }
            // It has none on SQLite: there, the write lock of one transaction around everything lets the others wait.
            Dialect::Sqlite => {
                let mut tx = self.begin().await?;
                let migrated = schema::migrations(self.dialect).run_direct(None, &mut *tx, false).await;
                migrated.map_err(migrate_error)?;
                tx.commit().await?;
            }
        }
        self.refuse_if_too_new().await?;
        let born = format!(
            "INSERT INTO sqlsentinel_cluster (id, cluster_id, created_at) VALUES (1, $1, {}) ON CONFLICT (id) DO NOTHING",
            self.dialect.now()
        );
        sqlx::query(sqlx::AssertSqlSafe(born)).bind(ClusterId::random().to_string()).execute(&self.pool).await?;
        self.cluster_id().await
    }

    /// The installation's name.
    pub async fn cluster_id(&self) -> Result<ClusterId, StoreError> {
        let row = sqlx::query("SELECT cluster_id FROM sqlsentinel_cluster WHERE id = 1").fetch_one(&self.pool);
        let text: String = self.step(async { Ok(row.await?.try_get(0)?) }).await?;
        text.parse().map_err(StoreError::corrupt)
    }

    /// The database's clock, and how long the round trip took.
    pub async fn now(&self) -> Result<(Timestamp, Duration), StoreError> {
        let sql = format!("SELECT {}", self.dialect.now());
        self.step(async {
            // The connection first: waiting for one is no part of the round trip.
            let mut connection = self.pool.acquire().await?;
            let asked = Instant::now();
            let row = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_one(&mut *connection).await?;
            Ok((Timestamp::from_micros(row.try_get(0)?), asked.elapsed()))
        })
        .await
    }

    /// Closes every connection.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

fn migrate_error(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => StoreError::from(error),
        other => StoreError::Refused(other.to_string()),
    }
}

fn pool_url(url: &DatabaseUrl) -> String {
    match url.kind {
        DatabaseKind::Sqlite if !url.url.expose().contains("mode=") => {
            let separator = if url.url.expose().contains('?') { '&' } else { '?' };
            format!("{}{separator}mode=rwc", url.url.expose())
        }
        DatabaseKind::Sqlite | DatabaseKind::Postgres | DatabaseKind::Mysql => url.url.expose().to_owned(),
    }
}

fn session_settings(dialect: Dialect, role: StoreRole) -> String {
    match dialect {
        Dialect::Postgres => {
            let patience_ms = match role {
                StoreRole::Leader => 1_000,
                StoreRole::Member => 5_000,
            };
            format!(
                "SET statement_timeout = {}; SET lock_timeout = {patience_ms}; \
                 SET idle_in_transaction_session_timeout = {patience_ms}",
                STATEMENT_TIMEOUT.as_millis()
            )
        }
        Dialect::Sqlite => {
            "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON"
                .to_owned()
        }
    }
}
