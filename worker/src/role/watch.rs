//! Looks at the role of each source when the worker starts and then rarely, apart from jobs.

use std::sync::Arc;
use std::time::Duration;

use super::sentence;
use crate::execute::Executor;

/// How often a role is looked at: grants change seldom.
const EVERY: Duration = Duration::from_secs(5 * 60);
/// How soon it is looked at again if the database could not be asked.
const AGAIN: Duration = Duration::from_secs(30);
/// Looks at the role of one source until a stop is requested.
pub async fn run(executor: Arc<Executor>) -> anyhow::Result<()> {
    let stop = &executor.stop.requested;
    let mut could_write = false;
    while let (Ok(source), false) = (&executor.source, stop.is_cancelled()) {
        let pause = match source.role(stop).await {
            Ok(Some(role)) => {
                if role.could_write.is_some() && !could_write {
                    tracing::warn!(source = %executor.name, "{}", sentence(&executor.name, &role).unwrap_or_default());
                }
                could_write = role.could_write.is_some();
                executor.reach.role(&executor.name, role);
                EVERY
            }
            Ok(None) => break,
            // Whether it can be reached is what runs report.
            Err(error) => {
                tracing::debug!(source = %executor.name, %error, "the database's role is not known");
                AGAIN
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    stop.cancelled().await;
    Ok(())
}
