//! Every statement that must not reach a target database, on each of the three: the error that it gets, and the
//! database afterwards, which is what it was.

mod mysql;
mod postgres;
mod sqlite;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sqlsentinel_common::alert::{QueryOptions, SourceName};
use sqlsentinel_common::config::normalise_database_url;
use sqlsentinel_common::ids::ExecutionId;
use sqlsentinel_common::outcome::{ErrorKind, Verdict};
use sqlsentinel_worker::answer::{Answer, Limits};
use sqlsentinel_worker::guard::GuardedQuery;
use sqlsentinel_worker::run::{Run, run_once};
use sqlsentinel_worker::source::{Bounds, Source, SourceError, Tag};
use tokio_util::sync::CancellationToken;

/// Longer than any test may take.
const LONG: Duration = Duration::from_secs(120);

fn source(url: &str) -> Result<Source> {
    Ok(Source::open(SourceName::default_source(), &normalise_database_url(url)?, 1)?)
}

async fn verdict(source: &Source, query: &str, options: &QueryOptions) -> Result<Verdict> {
    let run = Run { alert_name: "a", execution_id: ExecutionId::manual(), query, options, timeout: LONG };
    Ok(run_once(source, &run, &CancellationToken::new()).await?)
}

/// Runs `query` as a worker does, and fails unless it is refused with a message that contains `said`.
async fn is_refused(source: &Source, query: &str, said: &str) -> Result<()> {
    for options in [QueryOptions::default(), QueryOptions { allow_unparsed: true, ..QueryOptions::default() }] {
        let error = verdict(source, query, &options).await?.error.with_context(|| format!("not refused: {query}"))?;
        ensure!(error.kind == ErrorKind::Refused, "{query}: {error:?}");
        // What the parser does not know may get another message where the alert allows such statements.
        ensure!(options.allow_unparsed || error.message.contains(said), "{query}: {error:?}");
    }
    Ok(())
}

/// What would happen to `body` if the guard let it through.
async fn past_the_guard(source: &Source, body: &str) -> Result<Answer, SourceError> {
    let (cancel, limits) = (CancellationToken::new(), Limits::default());
    let bounds = Bounds { timeout: LONG, limits: &limits, cancel: &cancel };
    let tag = Tag { alert_name: "a", execution_id: ExecutionId::manual() };
    source.run(&GuardedQuery { leading: "", body }, tag, bounds).await
}
