//! What an error of the PostgreSQL driver means for a run, by its SQLSTATE.

use std::time::Duration;

use sqlx::Error;

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
    match error {
        Error::Database(database) if !ends_session(database.code().as_deref().unwrap_or_default()) => Fate::Usable,
        _ => Fate::Lost,
    }
}

/// The run's error, where `elapsed` of `limit` had passed.
pub(super) fn classify(error: &Error, elapsed: Duration, limit: Duration) -> SourceError {
    let Error::Database(database) = error else {
        return SourceError::connection(text(error));
    };
    let code = database.code().unwrap_or_default();
    match code.as_ref() {
        // Cancelled: by its time-out, if that has passed; otherwise by somebody at the server.
        "57014" if elapsed >= limit.saturating_sub(Duration::from_millis(50)) => SourceError::Timeout(limit),
        "25006" | "42501" => SourceError::Refused(text(error)),
        code if ends_session(code) || is_about_connecting(code) => SourceError::connection(text(error)),
        _ => SourceError::Query(text(error)),
    }
}

/// Connection failures, and the server ending the session.
fn ends_session(code: &str) -> bool {
    code.starts_with("08") || code.starts_with("57P") || matches!(code, "25P03" | "25P04")
}

/// Too many connections, rejected logins, no such database.
fn is_about_connecting(code: &str) -> bool {
    code.starts_with("28") || matches!(code, "53300" | "3D000")
}

/// The database's own words, with its hint and its code; the driver's words for anything else.
pub(super) fn text(error: &Error) -> String {
    match error {
        Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            let hint = database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().and_then(|error| error.hint());
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            format!("{}{hint} (SQLSTATE {code})", database.message())
        }
        other => other.to_string(),
    }
}
