//! What an error of the MySQL driver means for a run, by the server's error number.

use std::time::Duration;

use sqlx::Error;
use sqlx::mysql::MySqlDatabaseError;

use crate::source::SourceError;

/// What an error means for the connection that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It takes another statement, after a rollback.
    Usable,
    /// It is not to be trusted again.
    Lost,
}

/// Whether the connection survives `error`.
pub(super) fn fate(error: &Error) -> Fate {
    match number(error) {
        Some(number) if !ends_session(number) => Fate::Usable,
        _ => Fate::Lost,
    }
}

/// The run's error, where `elapsed` of `limit` had passed.
pub(super) fn classify(error: &Error, elapsed: Duration, limit: Duration) -> SourceError {
    if let Error::ColumnDecode { index, source } = error {
        return SourceError::Query(format!("column `{index}` cannot be read: {source}"));
    }
    let Some(number) = number(error) else { return SourceError::connection(text(error)) };
    let overdue = elapsed >= limit.saturating_sub(Duration::from_millis(50));
    match number {
        // MariaDB's and MySQL's time-outs; and a query that was interrupted: by its time-out, if that has passed, or
        // else by somebody at the server.
        1969 | 3024 => SourceError::Timeout(limit),
        1317 if overdue => SourceError::Timeout(limit),
        // Read-only transactions and servers; no right to a database, table, column, routine, or to act at all.
        1792 | 1290 | 1836 | 1044 | 1142 | 1143 | 1227 | 1370 => SourceError::Refused(text(error)),
        number if ends_session(number) || is_about_connecting(number) => SourceError::connection(text(error)),
        _ => SourceError::Query(text(error)),
    }
}

/// The server shuts down, was told to end this session, or lost a part of what was said.
fn ends_session(number: u16) -> bool {
    matches!(number, 1053 | 1077..=1080 | 1152..=1161 | 1184 | 1927 | 3169 | 4031)
}

/// Too many connections, rejected logins, no such database.
fn is_about_connecting(number: u16) -> bool {
    matches!(number, 1040 | 1045 | 1049 | 1129 | 1130 | 1203 | 1226 | 1698)
}

/// Whether the columns of a statement have changed since it was prepared: MariaDB's and MySQL's words for a list of
/// names that is longer or shorter than its SELECT.
pub(super) fn is_outdated(error: &Error) -> bool {
    matches!(number(error), Some(4002 | 1353))
}

/// The database's own words and its number; the driver's words for anything else.
pub(super) fn text(error: &Error) -> String {
    match (error, number(error)) {
        (Error::Database(database), Some(number)) => format!("{} (MySQL error {number})", database.message()),
        (other, _) => other.to_string(),
    }
}

fn number(error: &Error) -> Option<u16> {
    let database = error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?;
    Some(database.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_cannot_be_read_is_the_querys_error_and_says_which_and_a_lost_connection_is_not() {
        let unreadable =
            Error::ColumnDecode { index: "v".to_owned(), source: "its value is not what a VECTOR is".into() };
        let query = SourceError::Query("column `v` cannot be read: its value is not what a VECTOR is".to_owned());
        assert_eq!(classify(&unreadable, Duration::ZERO, Duration::MAX), query);
        assert_eq!(fate(&unreadable), Fate::Lost, "rows may still be on the way");
        let lost = classify(&Error::WorkerCrashed, Duration::ZERO, Duration::MAX);
        assert!(matches!(lost, SourceError::Connection(_)), "{lost:?}");
    }
}
