//! SQLite: a file opened for reading, one statement, ended through the progress handler.
//!
//! Values arrive as SQLite stored them: INTEGER and REAL as numbers, TEXT as text, BLOB as `\x` hexadecimal (as
//! PostgreSQL writes bytes), infinities as texts. SQLite has no dates, booleans or JSON of its own: they are what
//! the query made them.

use std::os::unix::fs::MetadataExt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use serde_json::{Number, Value};
use sqlsentinel_common::alert::hex;
use sqlsentinel_common::secret::Secret;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Error, Executor, Row as _, TypeInfo, ValueRef};
use tokio::time::{Instant, timeout, timeout_at};

use super::stock::{Kept, Stock};
use super::{Bounds, SourceError};
use crate::answer::{Answer, Limits, Row};
use crate::guard::GuardedQuery;

/// How often a running statement looks whether it should end, in instructions of SQLite's machine: some microseconds.
const LOOKS_EVERY: i32 = 1_000;
/// How long a statement that was told to end may take to do so: a large sort is one instruction.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait for a writer that locks the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The most memory that SQLite may use in this process: without it one `zeroblob` could take the process down.
const HEAP_BYTES: u64 = 256 * 1024 * 1024;

/// One SQLite file.
#[derive(Debug)]
pub(super) struct Sqlite {
    options: SqliteConnectOptions,
    stock: Stock<Opened>,
}

/// A connection, and the file that it reads: a file that was replaced under its name has another identity, and the
/// connection would go on reading the old one.
#[derive(Debug)]
struct Opened {
    connection: SqliteConnection,
    file: Option<FileIdentity>,
}

/// Device and inode.
type FileIdentity = (u64, u64);

/// Ends the running statement when it is dropped or told to.
struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.now();
    }
}

impl Sqlite {
    pub(super) fn open(url: &Secret, connections: usize) -> Result<Self, SourceError> {
        let options = SqliteConnectOptions::from_str(url.expose())
            .map_err(|_| SourceError::connection("its URL cannot be read"))?;
        let in_memory = url.expose() == "sqlite::memory:";
        let options = options
            // There is nothing to protect in a database that begins and ends with its connection.
            .read_only(!in_memory)
            .create_if_missing(false)
            .immutable(false)
            .pragma("query_only", "1")
            .pragma("hard_heap_limit", HEAP_BYTES.to_string())
            .busy_timeout(BUSY_TIMEOUT)
            .row_buffer_size(1)
            // The driver would log slow statements with their text.
            .disable_statement_logging();
        Ok(Self { options, stock: Stock::new(connections) })
    }

    pub(super) async fn run(&self, query: &GuardedQuery<'_>, bounds: Bounds<'_>) -> Result<Answer, SourceError> {
        let Bounds { timeout: limit, limits, cancel } = bounds;
        let overdue = Instant::now() + limit;
        let prepared = timeout_at(overdue, async {
            let seat = self.stock.seat().await;
            self.connection().await.map(|(kept, interrupt)| (seat, kept, interrupt))
        });
        let (_seat, mut kept, interrupt) = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(SourceError::Cancelled),
            prepared = prepared => prepared.map_err(|_| SourceError::Timeout(limit))??,
        };
        let (ended, answered) = {
            let mut work = std::pin::pin!(answer(&mut kept.connection.connection, query.body, limits));
            let early = tokio::select! {
                biased;
                () = cancel.cancelled() => Err(SourceError::Cancelled),
                () = tokio::time::sleep_until(overdue) => Err(SourceError::Timeout(limit)),
                answered = &mut work => Ok(answered),
            };
            match early {
                Ok(answered) => (Ok(()), Some(answered)),
                Err(error) => {
                    interrupt.now();
                    (Err(error), timeout(END_TIMEOUT, work).await.ok())
                }
            }
        };
        // A connection that did not answer is closed by its own thread as soon as it does.
        let Some(answered) = answered else { return ended.and(Err(SourceError::Cancelled)) };
        let answered = answered.map_err(|error| classify(&error));
        let rolled_back = timeout(END_TIMEOUT, roll_back(&mut kept.connection.connection)).await;
        match (&answered, rolled_back) {
            (Err(SourceError::Connection(_)), _) => {}
            (_, Ok(Ok(()))) => self.stock.put(kept),
            // Invariant: an answer counts only if its connection still answers. The driver's thread panics when it
            // has no memory for a copy of a value, and its rows then end as if there were no more.
            (Ok(_), _) => return ended.and(Err(SourceError::Limit("the answer is too large to be held".to_owned()))),
            (Err(_), _) => {}
        }
        ended.and(answered)
    }

    /// A connection that looks at its own interrupt while a statement runs.
    async fn connection(&self) -> Result<(Kept<Opened>, Interrupt), SourceError> {
        let file = self.file().await;
        let mut kept = match self.stock.take() {
            Some(kept) if kept.connection.file == file => kept,
            _ => {
                let connection = self.options.connect().await.map_err(|error| classify(&error))?;
                Kept::new(Opened { connection, file })
            }
        };
        let flag = Arc::new(AtomicBool::new(false));
        let interrupt = Interrupt(Arc::clone(&flag));
        let mut handle = kept.connection.connection.lock_handle().await.map_err(|error| classify(&error))?;
        handle.set_progress_handler(LOOKS_EVERY, move || !flag.load(Ordering::Relaxed));
        drop(handle);
        Ok((kept, interrupt))
    }

    /// The identity of the file that has the name now; none if there is none, or no file at all (in memory).
    async fn file(&self) -> Option<FileIdentity> {
        let metadata = tokio::fs::metadata(self.options.get_filename()).await.ok()?;
        Some((metadata.dev(), metadata.ino()))
    }
}

async fn answer(connection: &mut SqliteConnection, sql: &str, limits: &Limits) -> Result<Answer, Error> {
    connection.execute("BEGIN DEFERRED").await?;
    let mut answer = Answer::default();
    let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        if !answer.push(columns(&row, limits)?, limits) {
            break;
        }
    }
    Ok(answer)
}

/// The progress handler may still say "end": it is taken off first.
async fn roll_back(connection: &mut SqliteConnection) -> Result<(), Error> {
    connection.lock_handle().await?.remove_progress_handler();
    connection.execute("ROLLBACK").await.map(|_| ())
}

fn columns(row: &SqliteRow, limits: &Limits) -> Result<Row, Error> {
    let limits = &limits.for_columns(row.len());
    let value = |index| -> Result<Value, Error> {
        let raw = row.try_get_raw(index)?;
        if raw.is_null() {
            return Ok(Value::Null);
        }
        let type_name = raw.type_info().name().to_owned();
        Ok(match type_name.as_str() {
            "INTEGER" => Value::from(row.try_get_unchecked::<i64, _>(index)?),
            "REAL" => real(row.try_get_unchecked(index)?),
            "BLOB" => Value::String(format!("\\x{}", hex(beginning(row.try_get_unchecked(index)?, limits)))),
            _ => {
                let text = beginning(row.try_get_unchecked(index)?, limits);
                Value::String(String::from_utf8_lossy(text).into_owned())
            }
        })
    };
    row.columns().iter().map(|column| Ok((column.name().to_owned(), value(column.ordinal())?))).collect()
}

/// Not the whole, which may have a hundred megabytes: one byte more than fits is enough to be seen as too long.
fn beginning<'a>(bytes: &'a [u8], limits: &Limits) -> &'a [u8] {
    &bytes[..bytes.len().min(limits.cell_bytes + 1)]
}

/// A REAL; SQLite turns NaN into NULL, and JSON has no infinity.
fn real(value: f64) -> Value {
    match Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None => Value::from(if value > 0.0 { "Infinity" } else { "-Infinity" }),
    }
}

/// What an error of the SQLite driver means for a run, by SQLite's primary result code.
fn classify(error: &Error) -> SourceError {
    let Error::Database(database) = error else {
        return SourceError::connection(error);
    };
    let code: i32 = database.code().and_then(|code| code.parse().ok()).unwrap_or(0);
    let text = format!("{} (SQLite code {code})", database.message());
    match code & 0xff {
        // PERM, READONLY, AUTH.
        3 | 8 | 23 => SourceError::Refused(text),
        // NOMEM, TOOBIG.
        7 | 18 => SourceError::Limit(format!("the query needs more memory than it may have: {text}")),
        // BUSY, IOERR, CORRUPT, CANTOPEN, NOTADB.
        5 | 10 | 11 | 14 | 26 => SourceError::connection(text),
        _ => SourceError::Query(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reals_keep_what_json_can_say_and_say_the_rest_in_words() {
        for (value, text) in [
            (8500.0, "8500.0"),
            (0.1, "0.1"),
            (-1e300, "-1e+300"),
            (f64::INFINITY, "\"Infinity\""),
            (f64::NEG_INFINITY, "\"-Infinity\""),
        ] {
            assert_eq!(real(value).to_string(), text);
        }
    }
}
