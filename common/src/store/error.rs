//! Why the state database did not do what it was asked, classified once, here: callers decide by the variant and never by
//! a text or a code.

use std::time::Duration;

use super::leadership::Mark;
use super::{ACQUIRE_TIMEOUT, STATEMENT_TIMEOUT};

/// Why the state database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, is starting, or lost the connection.
    #[error("the state database is not available: {0}")]
    Unavailable(String),
    /// It did not answer in time.
    #[error("the state database did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// Another transaction was in the way; the same one may succeed now.
    #[error("the state database asks to try again: {0}")]
    Conflict(String),
    /// Another coordinator leads by now: whatever was asked has changed nothing.
    #[error("deposed: another coordinator has taken over the ledger")]
    Deposed,
    /// The database has lost what this leader had committed: whatever was asked has changed nothing.
    #[error("the state database has gone back in time: it stands at {found:?}, and {known:?} was committed")]
    RolledBack {
        /// A place in its history that was committed.
        known: Mark,
        /// The place at which it stands now.
        found: Mark,
    },
    /// The new cursor lies ahead of the database's clock.
    #[error("refused to plan ahead of the state database's clock")]
    AheadOfClock,
    /// The schema is not there (yet), or is not of this version.
    #[error("the state database has no schema of this version: {0}; start a coordinator or run `sqlsentinel-ctl init`")]
    Schema(String),
    /// The database refused these values, and will refuse them again: what is wrong is the data, not the database.
    #[error("the state database refused a value: {0}")]
    Invalid(String),
    /// The database refused, and will refuse again.
    #[error("the state database refused: {0}")]
    Refused(String),
    /// A stored value cannot be read.
    #[error("the state database holds a value that cannot be read: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// Whether the same step may succeed later without anyone mending anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Timeout(_) | Self::Conflict(_) | Self::Schema(_))
    }

    /// Whether this one piece of data is at fault, so that the same step succeeds without it.
    pub fn is_about_the_data(&self) -> bool {
        matches!(self, Self::Invalid(_))
    }

    /// A stored text that is not what its column holds.
    pub(crate) fn corrupt(error: impl ToString) -> Self {
        Self::Corrupt(error.to_string())
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let text = error.to_string();
        match &error {
            // The message alone: the whole error ends in a line of the server's own source.
            sqlx::Error::Database(database) => {
                of_code(database.code().as_deref().unwrap_or_default(), database.message().to_owned())
            }
            // The pool keeps the cause to itself.
            sqlx::Error::PoolTimedOut => Self::Unavailable(format!(
                "no connection within {} s: check that it runs and that --state-db (STATE_DB_URL) names it",
                ACQUIRE_TIMEOUT.as_secs()
            )),
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolClosed
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed => Self::Unavailable(text),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
                Self::Corrupt(text)
            }
            _ => Self::Refused(text),
        }
    }
}

/// By PostgreSQL's five characters (appendix A of its manual) or SQLite's extended result code.
fn of_code(code: &str, text: String) -> StoreError {
    match code.parse::<u32>() {
        Ok(number) if code.len() < 5 => of_sqlite(number, text),
        _ => of_sqlstate(code, text),
    }
}

fn of_sqlstate(code: &str, text: String) -> StoreError {
    match (code, code.get(..2).unwrap_or_default()) {
        // Serialisation, deadlock, lock not available.
        ("40001" | "40P01" | "55P03", _) => StoreError::Conflict(text),
        // Query cancelled.
        ("57014", _) => StoreError::Timeout(STATEMENT_TIMEOUT),
        // Undefined table or column: migrations have not run here.
        ("42P01" | "42703", _) => StoreError::Schema(text),
        // A read-only transaction (a demoted primary), idle in transaction for too long, any connection exception, out
        // of resources, operator intervention (shutdown, crash, starting up), a fault of the system under it.
        ("25006" | "25P03", _) | (_, "08" | "53" | "57" | "58") => StoreError::Unavailable(text),
        // A missing value is a column that this build does not know, which no other data would mend.
        ("23502", _) => StoreError::Refused(text),
        // Data exceptions and violated constraints.
        (_, "22" | "23") => StoreError::Invalid(text),
        _ => StoreError::Refused(text),
    }
}

fn of_sqlite(code: u32, text: String) -> StoreError {
    match (code, code & 0xff) {
        // SQLITE_BUSY and SQLITE_LOCKED.
        (_, 5 | 6) => StoreError::Conflict(text),
        // SQLITE_READONLY, IOERR, FULL, CANTOPEN.
        (_, 8 | 10 | 13 | 14) => StoreError::Unavailable(text),
        // SQLITE_CONSTRAINT_NOTNULL, as above.
        (1299, _) => StoreError::Refused(text),
        // SQLITE_TOOBIG, SQLITE_CONSTRAINT and SQLITE_MISMATCH.
        (_, 18..=20) => StoreError::Invalid(text),
        _ if text.contains("no such table") || text.contains("no such column") => StoreError::Schema(text),
        _ => StoreError::Refused(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_whether_to_wait_to_repeat_or_to_give_up() {
        let kind = |code: &str, text: &str| match of_code(code, text.to_owned()) {
            StoreError::Conflict(_) => "conflict",
            StoreError::Unavailable(_) => "unavailable",
            StoreError::Timeout(_) => "timeout",
            StoreError::Schema(_) => "schema",
            StoreError::Invalid(_) => "invalid",
            _ => "refused",
        };
        let table = [
            ("40001", "conflict"),
            ("40P01", "conflict"),
            ("55P03", "conflict"),
            ("57014", "timeout"),
            ("57P01", "unavailable"),
            ("57P03", "unavailable"),
            ("53300", "unavailable"),
            ("53100", "unavailable"),
            ("25006", "unavailable"),
            ("25P03", "unavailable"),
            ("08006", "unavailable"),
            ("42P01", "schema"),
            ("42501", "refused"),
            ("23505", "invalid"),
            ("22021", "invalid"),
            ("23502", "refused"),
            ("5", "conflict"),
            ("517", "conflict"),
            ("6", "conflict"),
            ("8", "unavailable"),
            ("13", "unavailable"),
            ("14", "unavailable"),
            ("2067", "invalid"),
            ("1299", "refused"),
            ("1", "refused"),
        ];
        for (code, expected) in table {
            assert_eq!(kind(code, "some text"), expected, "{code}");
        }
        assert_eq!(kind("1", "no such table: sqlsentinel_fires"), "schema");
    }
}
