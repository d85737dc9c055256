//! What can go wrong at a target database, classified once, here: nobody else reads a driver's error.

use std::time::Duration;

use sqlsentinel_common::outcome::{ErrorKind, RunError};

/// Why there is no answer. The texts hold no credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Not reached, not let in, or lost on the way.
    #[error("{0}")]
    Connection(String),
    /// The time ran out, and the query was cancelled.
    #[error("no answer within {}", seconds(*.0))]
    Timeout(Duration),
    /// The database refused to write, or refused the role.
    #[error("{0}")]
    Refused(String),
    /// The database answered with an error.
    #[error("{0}")]
    Query(String),
    /// The answer is larger than what may be held.
    #[error("{0}")]
    Limit(String),
    /// Whoever ran it wanted it ended.
    #[error("the run was cancelled")]
    Cancelled,
}

impl SourceError {
    /// This error as a run's; none if the run was cancelled, which is no result.
    pub fn into_run_error(self) -> Option<RunError> {
        let kind = match self {
            Self::Connection(_) => ErrorKind::Connection,
            Self::Timeout(_) => ErrorKind::Timeout,
            Self::Refused(_) => ErrorKind::Refused,
            Self::Query(_) => ErrorKind::Query,
            Self::Limit(_) => ErrorKind::Limit,
            Self::Cancelled => return None,
        };
        Some(RunError { kind, message: self.to_string() })
    }

    pub(super) fn connection(text: impl std::fmt::Display) -> Self {
        Self::Connection(format!("the database could not be reached: {text}"))
    }

    /// The same error, with every occurrence of a password hidden: a last fence, drivers should not show it.
    pub(super) fn without(self, password: Option<&str>) -> Self {
        // A password of a few letters would be found in plain words, and hide nothing that matters.
        let Some(password) = password.filter(|password| password.len() >= 4) else { return self };
        let hide = |text: String| if text.contains(password) { text.replace(password, "***") } else { text };
        match self {
            Self::Connection(text) => Self::Connection(hide(text)),
            Self::Refused(text) => Self::Refused(hide(text)),
            Self::Query(text) => Self::Query(hide(text)),
            Self::Limit(text) => Self::Limit(hide(text)),
            other => other,
        }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_millis() as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_kind_and_a_cancelled_run_has_none() {
        let text = || "x".to_owned();
        for (error, kind) in [
            (SourceError::Connection(text()), Some(ErrorKind::Connection)),
            (SourceError::Timeout(Duration::from_millis(1_500)), Some(ErrorKind::Timeout)),
            (SourceError::Refused(text()), Some(ErrorKind::Refused)),
            (SourceError::Query(text()), Some(ErrorKind::Query)),
            (SourceError::Limit(text()), Some(ErrorKind::Limit)),
            (SourceError::Cancelled, None),
        ] {
            assert_eq!(error.into_run_error().map(|error| error.kind), kind);
        }
        assert_eq!(SourceError::Timeout(Duration::from_millis(1_500)).to_string(), "no answer within 1.5 s");
    }

    #[test]
    fn a_password_does_not_survive_in_a_text() {
        let error = SourceError::Query("bad canary, bad".to_owned());
        assert_eq!(error.clone().without(Some("canary")).to_string(), "bad ***, bad");
        assert_eq!(error.without(Some("bad")).to_string(), "bad canary, bad");
    }
}
