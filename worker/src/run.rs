//! One run of one query: guard, source, verdict. The worker's jobs and `ctl run` both come through here.

use std::time::Duration;

use sqlsentinel_common::alert::QueryOptions;
use sqlsentinel_common::config::{from_environment, without_credentials};
use sqlsentinel_common::ids::ExecutionId;
use sqlsentinel_common::outcome::{ErrorKind, Verdict};
use tokio_util::sync::CancellationToken;

use crate::answer::Limits;
use crate::guard;
use crate::query_text::QueryText;
use crate::source::{Bounds, Source, Tag};
use crate::verdict::judge;

/// Longest error text, in characters.
const MAX_ERROR_CHARS: usize = 2_000;

/// What is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The alert's name.
    pub alert_name: &'a str,
    /// The execution's id.
    pub execution_id: ExecutionId,
    /// The SQL text, as written.
    pub query: &'a str,
    /// How it is run and its answer read.
    pub options: &'a QueryOptions,
    /// How long it may take.
    pub timeout: Duration,
}

/// The run was cancelled before it had a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the run was cancelled")]
pub struct Cancelled;

/// Runs `run` on `source` and judges the answer. Whatever goes wrong is a verdict too, except being cancelled.
pub async fn run_once(source: &Source, run: &Run<'_>, cancel: &CancellationToken) -> Result<Verdict, Cancelled> {
    let text = match QueryText::expand(run.query, &run.options.query_env, &without_credentials(&from_environment)) {
        Ok(text) => text,
        Err(unset) => return Ok(failed(ErrorKind::Refused, &unset.to_string())),
    };
    let query = match guard::check_with(&text.text, source.kind(), run.options) {
        Ok(query) => query,
        Err(refusal) => return Ok(failed(ErrorKind::Refused, &text.without_values(&refusal.to_string()))),
    };
    let tag = Tag { alert_name: run.alert_name, execution_id: run.execution_id };
    let bounds = Bounds { timeout: run.timeout, limits: &Limits::of(run.options), cancel };
    match source.run(&query, tag, bounds).await {
        Ok(answer) => Ok(judge(answer, &run.options.instance_key)),
        Err(error) => match error.into_run_error() {
            Some(error) => {
                let message = text.without_values(&error.message);
                Ok(failed(error.kind, &format!("database `{}`: {message}", source.name())))
            }
            None => Err(Cancelled),
        },
    }
}

/// The verdict of a run that failed; what is too long is cut.
fn failed(kind: ErrorKind, message: &str) -> Verdict {
    match message.char_indices().nth(MAX_ERROR_CHARS) {
        None => Verdict::error(kind, message),
        Some(_) => Verdict::error(kind, message.chars().take(MAX_ERROR_CHARS - 1).chain(['…']).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_text_is_cut_by_characters() {
        let message = |length| failed(ErrorKind::Query, &"ü".repeat(length)).error.map(|error| error.message);
        assert_eq!(message(2_000), Some("ü".repeat(2_000)));
        assert_eq!(message(2_001), Some(format!("{}…", "ü".repeat(1_999))));
    }
}
