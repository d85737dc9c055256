//! Every statement that must not reach a target database, on each of the three: the error that it gets, and the
//! database afterwards, which is what it was.

mod mysql;
mod postgres;
mod sqlite;

use anyhow::{Context, Result, ensure};
use sqlsentinel_common::alert::QueryOptions;
use sqlsentinel_common::outcome::ErrorKind;
use sqlsentinel_worker::source::Source;

use crate::ask::run_with;

/// Runs `query` as a worker does, and fails unless it is refused with a message that contains `said`.
async fn is_refused(source: &Source, query: &str, said: &str) -> Result<()> {
    for options in [QueryOptions::default(), QueryOptions { allow_unparsed: true, ..QueryOptions::default() }] {
        let error = run_with(source, query, &options).await?.error.with_context(|| format!("not refused: {query}"))?;
        ensure!(error.kind == ErrorKind::Refused, "{query}: {error:?}");
        // What the parser does not know may get another message where the alert allows such statements.
        ensure!(options.allow_unparsed || error.message.contains(said), "{query}: {error:?}");
    }
    Ok(())
}
