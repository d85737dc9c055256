//! How tests ask a source: as a worker does, and past the guard.

use std::time::Duration;

use anyhow::{Context, Result};
use sqlsentinel_common::alert::{QueryOptions, SourceName};
use sqlsentinel_common::config::normalise_database_url;
use sqlsentinel_common::ids::ExecutionId;
use sqlsentinel_common::outcome::{ErrorKind, Verdict};
use sqlsentinel_worker::answer::{Answer, Limits};
use sqlsentinel_worker::guard::GuardedQuery;
use sqlsentinel_worker::run::{Cancelled, Run, run_once};
use sqlsentinel_worker::source::{Bounds, Source, SourceError, Tag};
use tokio_util::sync::CancellationToken;

/// Longer than any test may take: a run that ends by this one has not been ended by what the test is about.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// A source with so many connections.
pub(crate) fn source(url: &str, connections: usize) -> Result<Source> {
    Ok(Source::open(SourceName::default_source(), &normalise_database_url(url)?, connections)?)
}

/// Runs `query` as a worker does.
pub(crate) async fn run(
    source: &Source,
    query: &str,
    timeout: Duration,
    cancel: &CancellationToken,
) -> Result<Verdict, Cancelled> {
    let options = &QueryOptions::default();
    let run = Run { alert_name: "daily revenue", execution_id: ExecutionId::manual(), query, options, timeout };
    run_once(source, &run, cancel).await
}

/// Runs `query` with options of its alert.
pub(crate) async fn run_with(source: &Source, query: &str, options: &QueryOptions) -> Result<Verdict> {
    let run = Run { alert_name: "a", execution_id: ExecutionId::manual(), query, options, timeout: LONG };
    Ok(run_once(source, &run, &CancellationToken::new()).await?)
}

/// Runs `query` on a source of its own.
pub(crate) async fn run_at(url: &str, query: &str) -> Result<Verdict> {
    run_with(&source(url, 1)?, query, &QueryOptions::default()).await
}

/// What would happen to `body` if the guard let it through.
pub(crate) async fn past_the_guard(source: &Source, body: &str) -> Result<Answer, SourceError> {
    past_the_guard_within(source, body, LONG, &Limits::default()).await
}

/// The same, within bounds of the test's own.
pub(crate) async fn past_the_guard_within(
    source: &Source,
    body: &str,
    timeout: Duration,
    limits: &Limits,
) -> Result<Answer, SourceError> {
    let bounds = Bounds { timeout, limits, cancel: &CancellationToken::new() };
    let tag = Tag { alert_name: "a", execution_id: ExecutionId::manual() };
    source.run(&GuardedQuery { leading: "", body }, tag, bounds).await
}

/// The kind and the words of a verdict's error.
pub(crate) fn error_of(verdict: &Verdict) -> Result<(ErrorKind, &str)> {
    let error = verdict.error.as_ref().with_context(|| format!("no error: {verdict:?}"))?;
    Ok((error.kind, &error.message))
}
