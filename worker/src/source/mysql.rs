//! MySQL and MariaDB: one round trip to begin, one for the query, one to roll back.
//!
//! Queries are prepared, because a prepared text is one statement, and because the server then says each column's type
//! before it runs: if one may hold megabytes, the query is wrapped so that only the beginning of that column is sent.
//! Everything else is sent as it is written. [`value`] makes the JSON.

mod classify;
mod role;
mod statement;
mod value;

use std::time::Duration;

use futures::TryStreamExt;
use serde_json::Value;
use sqlsentinel_common::ids::ExecutionId;
use sqlsentinel_common::secret::Secret;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow, MySqlTypeInfo};
use sqlx::{
    AssertSqlSafe, Column, ConnectOptions, Connection as _, Executor, MySql, Row as _, SqlSafeStr, Statement, Type,
    TypeInfo, ValueRef,
};
use tokio::time::{Instant, timeout, timeout_at};

use self::classify::{Fate, classify, fate, is_outdated};
use self::statement::{Cut, Flavour};
use self::value::Meaning;
use super::stock::{Kept, Stock};
use super::{Bounds, Role, SourceError, Tag};
use crate::answer::{Answer, Limits, Row};
use crate::guard::GuardedQuery;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How much longer than the server this side waits, so that usually the server ends a statement itself.
const SERVER_FIRST: Duration = Duration::from_millis(500);
/// How long rolling back or cancelling may take before the connection is given up.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// More grants than anybody reads; what lies beyond is not looked at.
const GRANTS: usize = 1_000;

/// One MySQL or MariaDB server, and a database on it.
#[derive(Debug)]
pub(super) struct Mysql {
    options: MySqlConnectOptions,
    password: Option<String>,
    stock: Stock<Opened>,
    connections: usize,
}

/// A connection whose session is set up.
#[derive(Debug)]
struct Opened {
    connection: MySqlConnection,
    flavour: Flavour,
}

/// A connection inside its read-only transaction.
struct Session {
    kept: Kept<Opened>,
    id: u64,
}

impl Mysql {
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

    /// What the account of this source's sessions may do.
    pub(super) async fn role(&self, bounds: Bounds<'_>) -> Result<Role, SourceError> {
        let tag = Tag { alert_name: role::TAG, execution_id: ExecutionId::manual() };
        let account = self.run(&role::ACCOUNT, tag, bounds).await?;
        let limits = Limits { rows: GRANTS, ..*bounds.limits };
        let body = role::grants(&account);
        let query = GuardedQuery { leading: "", body: &body };
        let grants = self.run(&query, tag, Bounds { limits: &limits, ..bounds }).await?;
        role::read(&account, &grants)
            .ok_or_else(|| SourceError::Query("the server's answer about the account is not ours".to_owned()))
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
            self.begin(tag, overdue, limits).await.map(|session| (seat, session))
        });
        // Dropping a connection that only began leaves nothing behind at the server.
        let (_seat, mut session) = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(SourceError::Cancelled),
            begun = begun => begun.map_err(|_| SourceError::Timeout(limit))??,
        };
        let ended = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(SourceError::Cancelled),
            () = tokio::time::sleep_until(overdue + SERVER_FIRST) => Err(SourceError::Timeout(limit)),
            answered = answer(&mut session.kept.connection.connection, query, tag, limits) => Ok(answered),
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
            Ok(Err(error)) => {
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
    async fn begin(&self, tag: Tag<'_>, overdue: Instant, limits: &Limits) -> Result<Session, SourceError> {
        let begin = |flavour| {
            statement::begin(flavour, tag.execution_id, overdue.saturating_duration_since(Instant::now()), limits)
        };
        for _ in 0..self.connections {
            let Some(mut kept) = self.stock.take() else { break };
            match begin_on(&mut kept.connection, begin).await {
                Ok(id) => return Ok(Session { kept, id }),
                Err(error) => tracing::debug!(%error, "a kept connection was dead"),
            }
        }
        let mut kept = Kept::new(self.connect().await?);
        let id = begin_on(&mut kept.connection, begin)
            .await
            .map_err(|error| classify(&error, Duration::ZERO, Duration::MAX))?;
        Ok(Session { kept, id })
    }

    async fn connect(&self) -> Result<Opened, SourceError> {
        match timeout(CONNECT_TIMEOUT, open(&self.options)).await {
            Ok(opened) => opened.map_err(|error| SourceError::connection(classify::text(&error))),
            Err(_) => Err(SourceError::connection(format!("no connection within {CONNECT_TIMEOUT:?}"))),
        }
    }

    /// Rolls back, and keeps the connection if that was answered.
    async fn end(&self, Session { mut kept, .. }: Session) {
        let end = kept.connection.connection.execute(sqlx::raw_sql(AssertSqlSafe(statement::end())));
        if let Ok(Ok(_)) = timeout(END_TIMEOUT, end).await {
            self.stock.put(kept);
        }
    }

    /// Ends what runs in `session` at the server, from another connection, and gives the session's connection up.
    async fn cancel(&self, session: Session) {
        // Invariant: the connection is held until the request is answered, so that its id cannot have passed to
        // somebody else's statement.
        let cancelled = timeout(END_TIMEOUT, async {
            let mut spare = match self.stock.take() {
                Some(kept) => kept,
                None => Kept::new(self.connect().await?),
            };
            let request = AssertSqlSafe(format!("KILL QUERY {}", session.id));
            let killed = spare.connection.connection.execute(sqlx::raw_sql(request)).await;
            killed.map_err(|error| classify(&error, Duration::ZERO, Duration::MAX))?;
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

async fn open(options: &MySqlConnectOptions) -> Result<Opened, sqlx::Error> {
    let mut connection = options.connect().await?;
    let greeting = connection.fetch_one(sqlx::raw_sql(statement::GREETING)).await?;
    let text = |index: usize| -> Result<String, sqlx::Error> {
        Ok(String::from_utf8_lossy(greeting.try_get_unchecked(index)?).into_owned())
    };
    let (version, sql_mode) = (text(0)?, text(1)?);
    connection.execute(sqlx::raw_sql(AssertSqlSafe(statement::settle(&sql_mode)))).await?;
    Ok(Opened { connection, flavour: Flavour::of(&version) })
}

async fn begin_on(opened: &mut Opened, begin: impl Fn(Flavour) -> String) -> Result<u64, sqlx::Error> {
    let text = AssertSqlSafe(begin(opened.flavour));
    let rows = opened.connection.fetch_all(sqlx::raw_sql(text)).await?;
    rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get_unchecked(0)
}

/// Runs `query`; once more if a table of it has changed since it was prepared.
async fn answer(
    connection: &mut MySqlConnection,
    query: &GuardedQuery<'_>,
    tag: Tag<'_>,
    limits: &Limits,
) -> Result<Answer, sqlx::Error> {
    match prepared_answer(connection, query, tag, limits).await {
        Err(error) if is_outdated(&error) => {
            connection.clear_cached_statements().await?;
            prepared_answer(connection, query, tag, limits).await
        }
        answered => answered,
    }
}

async fn prepared_answer(
    connection: &mut MySqlConnection,
    query: &GuardedQuery<'_>,
    tag: Tag<'_>,
    limits: &Limits,
) -> Result<Answer, sqlx::Error> {
    let plain = statement::plain(query, tag.alert_name);
    let prepared = connection.prepare(AssertSqlSafe(plain.clone()).into_sql_str()).await?;
    let limits = &limits.for_columns(prepared.columns().len());
    let cuts: Vec<_> = prepared.columns().iter().map(|column| cut_of(column.type_info())).collect();
    let is_cut = cuts.iter().any(|cut| *cut != Cut::Whole);
    let sql = if is_cut { statement::cut(query, tag.alert_name, &cuts, limits) } else { plain };
    let mut answer = Answer::default();
    let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let mut cells = cells(&row, if is_cut { &cuts } else { &[] }, limits)?;
        if is_cut {
            // The wrapped query calls its columns by their places.
            for ((name, _), column) in cells.iter_mut().zip(prepared.columns()) {
                *name = column.name().to_owned();
            }
        }
        if !answer.push(cells, limits) {
            break;
        }
    }
    Ok(answer)
}

/// How much of a column of this type is sent; which texts and bytes are long is not said, but which may be.
fn cut_of(column: &MySqlTypeInfo) -> Cut {
    match column.name() {
        "JSON" => Cut::Json,
        "GEOMETRY" => Cut::Geometry,
        name if name.ends_with("TEXT") || name.ends_with("BLOB") => Cut::Beginning,
        _ => Cut::Whole,
    }
}

fn cells(row: &MySqlRow, cuts: &[Cut], limits: &Limits) -> Result<Row, sqlx::Error> {
    let cell = |index: usize| -> Result<Value, sqlx::Error> {
        let raw = row.try_get_raw(index)?;
        // Not asked whether it is NULL: the driver takes zero dates for that.
        let Ok(bytes) = <&[u8] as sqlx::Decode<MySql>>::decode(raw.clone()) else { return Ok(Value::Null) };
        let meaning = match cuts.get(index) {
            Some(Cut::Json) => Meaning::Json,
            _ => meaning_of(&raw.type_info()),
        };
        value::json(meaning, bytes, limits.cell_bytes).ok_or_else(|| {
            let source = format!("its value is not what a {} is: write CAST(… AS CHAR)", raw.type_info().name());
            sqlx::Error::ColumnDecode { index: row.column(index).name().to_owned(), source: source.into() }
        })
    };
    let columns = row.columns().iter();
    columns.map(|column| Ok((column.name().to_owned(), cell(column.ordinal())?))).collect()
}

fn meaning_of(column: &MySqlTypeInfo) -> Meaning {
    match column.name() {
        // What the driver calls BOOLEAN is TINYINT(1), of either kind.
        "BOOLEAN" if *column == <u8 as Type<MySql>>::type_info() => Meaning::Unsigned,
        "BOOLEAN" | "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" => Meaning::Signed,
        "YEAR" => Meaning::Unsigned,
        name if name.ends_with("UNSIGNED") => Meaning::Unsigned,
        "BIT" => Meaning::Bits,
        "FLOAT" => Meaning::Single,
        "DOUBLE" => Meaning::Double,
        "DECIMAL" => Meaning::Digits,
        "DATE" => Meaning::Date,
        "DATETIME" => Meaning::Moment,
        "TIMESTAMP" => Meaning::UtcMoment,
        "TIME" => Meaning::Time,
        "JSON" => Meaning::Json,
        "SET" => Meaning::Text,
        // By the character set: the driver's name for the type says "binary" of texts that are compared by their bytes.
        _ if <str as Type<MySql>>::compatible(column) => Meaning::Text,
        _ => Meaning::Bytes,
    }
}
