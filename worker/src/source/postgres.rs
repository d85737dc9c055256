//! PostgreSQL: one round trip to begin, one for the query, one to roll back.
//!
//! The database itself makes the JSON (`row_to_json`), so every type arrives as it would print it: NUMERIC with all
//! its digits, NaN and infinities as texts, timestamps in ISO 8601 with their offset (sessions are in UTC), arrays and
//! composites of any depth, bytes as `\x` hexadecimal, anything else as its own text. It also cuts what is too long,
//! so that a cell of a gigabyte stays where it is.

mod classify;
mod line;
mod role;
mod statement;

use std::time::Duration;

use futures::TryStreamExt;
use sqlsentinel_common::ids::ExecutionId;
use sqlsentinel_common::secret::Secret;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row as _, ValueRef};
use tokio::time::{Instant, timeout, timeout_at};

use self::classify::{Fate, classify, fate};
use super::stock::{Kept, Stock};
use super::{Bounds, Role, SourceError, Tag};
use crate::answer::{Answer, Limits};
use crate::guard::GuardedQuery;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How much longer than the server this side waits, so that usually the server ends a statement itself.
const SERVER_FIRST: Duration = Duration::from_millis(500);
/// How long rolling back or cancelling may take before the connection is given up.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Why an answer cannot be read: its cells are texts of types whose JSON is not PostgreSQL's own, perhaps.
const UNREADABLE: &str =
    "a row is not the JSON that PostgreSQL makes: cast its columns to text one by one to find which it is";
/// How values are printed, whatever the database's own settings are: alerts and their receivers know one form.
const PRINTING: &str = "SET bytea_output = 'hex'; SET IntervalStyle = 'postgres'";
/// The first version that can notice a client that went away while a statement runs.
const CHECKS_ITS_CLIENT: u32 = 140_000;

/// One PostgreSQL database.
#[derive(Debug)]
pub(super) struct Postgres {
    options: PgConnectOptions,
    password: Option<String>,
    stock: Stock<PgConnection>,
    connections: usize,
}

/// A connection inside its read-only transaction.
struct Session {
    kept: Kept<PgConnection>,
    pid: i32,
}

impl Postgres {
    pub(super) fn open(url: &Secret, connections: usize) -> Result<Self, SourceError> {
        let (options, password) = statement::connect_options(url).map_err(SourceError::connection)?;
        // The driver would log slow statements with their text.
        Ok(Self { options: options.disable_statement_logging(), password, stock: Stock::new(connections), connections })
    }

    pub(super) async fn run(
        &self,
        query: &GuardedQuery<'_>,
        tag: Tag<'_>,
        bounds: Bounds<'_>,
    ) -> Result<Answer, SourceError> {
        let run = self.run_inner(query, tag, bounds).await;
        run.map_err(|error| error.without(self.password.as_deref()))
    }

    /// What the role of this source's sessions may do.
    pub(super) async fn role(&self, bounds: Bounds<'_>) -> Result<Role, SourceError> {
        let tag = Tag { alert_name: role::TAG, execution_id: ExecutionId::manual() };
        let answer = self.run(&role::QUERY, tag, bounds).await?;
        role::read(&answer)
            .ok_or_else(|| SourceError::Query("the server's answer about the role is not ours".to_owned()))
    }

    async fn run_inner(
        &self,
        query: &GuardedQuery<'_>,
        tag: Tag<'_>,
        Bounds { timeout: limit, limits, cancel }: Bounds<'_>,
    ) -> Result<Answer, SourceError> {
        let (began, overdue) = (Instant::now(), Instant::now() + limit);
        let begun = timeout_at(overdue, async {
            let seat = self.stock.seat().await;
            self.begin(tag, overdue).await.map(|session| (seat, session))
        });
        // Dropping a connection that only began leaves nothing behind at the server.
        let (_seat, mut session) = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(SourceError::Cancelled),
            begun = begun => begun.map_err(|_| SourceError::Timeout(limit))??,
        };
        let sql = statement::wrap(query, tag.alert_name, limits);
        let ended = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(SourceError::Cancelled),
            () = tokio::time::sleep_until(overdue + SERVER_FIRST) => Err(SourceError::Timeout(limit)),
            answered = answer(&mut session.kept.connection, sql, limits) => Ok(answered),
        };
        match ended {
            Ok(Ok(answer)) if !answer.more => {
                self.end(session).await;
                Ok(answer)
            }
            Ok(Ok(answer)) => {
                self.cancel(session).await;
                Ok(answer)
            }
            Ok(Err(AnswerError::Unreadable(reason))) => {
                self.end(session).await;
                Err(SourceError::Limit(reason))
            }
            Ok(Err(AnswerError::Driver(error))) => {
                match fate(&error) {
                    Fate::Usable => self.end(session).await,
                    Fate::Lost => drop(session),
                }
                Err(classify(&error, began.elapsed(), limit))
            }
            Err(error) => {
                self.cancel(session).await;
                Err(error)
            }
        }
    }

    /// Begins on a kept connection, or on a new one if those turn out to be dead.
    async fn begin(&self, tag: Tag<'_>, overdue: Instant) -> Result<Session, SourceError> {
        let begin = statement::begin(tag.execution_id, overdue.saturating_duration_since(Instant::now()));
        for _ in 0..self.connections {
            let Some(mut kept) = self.stock.take() else { break };
            match begin_on(&mut kept.connection, &begin).await {
                Ok(pid) => return Ok(Session { kept, pid }),
                Err(error) => tracing::debug!(%error, "a kept connection was dead"),
            }
        }
        let mut kept = Kept::new(self.connect().await?);
        let pid = begin_on(&mut kept.connection, &begin)
            .await
            .map_err(|error| classify(&error, Duration::ZERO, Duration::MAX))?;
        Ok(Session { kept, pid })
    }

    async fn connect(&self) -> Result<PgConnection, SourceError> {
        let mut connection = match timeout(CONNECT_TIMEOUT, self.options.connect()).await {
            Ok(connected) => connected.map_err(|error| SourceError::connection(classify::text(&error)))?,
            Err(_) => return Err(SourceError::connection(format!("no connection within {CONNECT_TIMEOUT:?}"))),
        };
        let settled = connection.execute(sqlx::raw_sql(PRINTING)).await;
        settled.map_err(|error| SourceError::connection(classify::text(&error)))?;
        if connection.server_version_num().is_some_and(|version| version >= CHECKS_ITS_CLIENT) {
            // A worker that is killed takes its queries with it. Not every platform's server can, and it is no loss.
            if let Err(error) = connection.execute("SET client_connection_check_interval = '1s'").await {
                tracing::debug!(%error, "this server does not notice clients that go away");
            }
        }
        Ok(connection)
    }

    /// Rolls back, and keeps the connection if that was answered.
    async fn end(&self, Session { mut kept, .. }: Session) {
        if let Ok(Ok(_)) = timeout(END_TIMEOUT, kept.connection.execute(sqlx::raw_sql("ROLLBACK"))).await {
            self.stock.put(kept);
        }
    }

    /// Ends what runs in `session` at the server, from another connection, and gives the session's connection up.
    async fn cancel(&self, session: Session) {
        // Invariant: the connection is held until the request is answered, so that the process id cannot have passed
        // to somebody else's statement.
        let cancelled = timeout(END_TIMEOUT, async {
            let mut spare = match self.stock.take() {
                Some(kept) => kept,
                None => Kept::new(self.connect().await?),
            };
            let request = sqlx::query("SELECT pg_cancel_backend($1)").bind(session.pid);
            request
                .execute(&mut spare.connection)
                .await
                .map_err(|error| classify(&error, Duration::ZERO, Duration::MAX))?;
            self.stock.put(spare);
            Ok::<_, SourceError>(())
        });
        match cancelled.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "could not cancel a query at the server; its own time-out ends it")
            }
            Err(_) => tracing::warn!("could not cancel a query at the server in time; its own time-out ends it"),
        }
        drop(session);
    }
}

async fn begin_on(connection: &mut PgConnection, begin: &str) -> Result<i32, sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(begin)).fetch_one(connection).await?.try_get(0)
}

/// Why rows could not be had.
enum AnswerError {
    Driver(sqlx::Error),
    Unreadable(String),
}

/// Reads at most one row more than `limits` allow.
async fn answer(connection: &mut PgConnection, sql: String, limits: &Limits) -> Result<Answer, AnswerError> {
    let mut answer = Answer::default();
    let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(connection);
    while let Some(row) = rows.try_next().await.map_err(AnswerError::Driver)? {
        let line = row.try_get_raw(0).map_err(AnswerError::Driver)?;
        // A database in SQL_ASCII sends whatever bytes it has.
        let line = if line.is_null() { "{}".into() } else { String::from_utf8_lossy(line.as_bytes().unwrap_or(b"{}")) };
        let row = line::columns(&line).ok_or_else(|| AnswerError::Unreadable(UNREADABLE.to_owned()))?;
        if !answer.push(row, limits) {
            break;
        }
    }
    Ok(answer)
}
