//! What happens to definitions: edited in every file, or in one coordinator's before all others'.

use std::time::Duration;

use anyhow::Result;
use sqlx::PgPool;

use super::{EFFECT, Stage, over};
use crate::chaos::alerts;
use crate::chaos::history::{Definition, Fault, FaultKind};
use crate::cluster::Role;
use crate::eventually::eventually;
use crate::wall_clock::now;

/// Edits some alerts, whose fault lasts until the ledger has taken the new versions over.
pub(super) async fn edit(stage: Stage<'_>, count: usize, drawn: Duration) -> Result<Fault> {
    let mut files = stage.files.lock().await;
    let editable = stage.alerts - stage.editable;
    let drawn = drawn.as_millis() as usize;
    let mut changes: Vec<(usize, Option<Definition>)> = Vec::new();
    for turn in 0..count.min(editable) {
        let number = stage.editable + (drawn / 7 + turn * 13) % editable;
        if changes.iter().any(|(taken, _)| *taken == number) {
            continue;
        }
        let after = match files.current(number) {
            // One in three is taken out, and is put back by its next edit.
            Some(_) if (drawn + turn).is_multiple_of(3) => None,
            Some(before) => Some(alerts::edited(before, drawn + turn)),
            None => Some(alerts::edited(&alerts::definition(number), drawn + turn)),
        };
        changes.push((number, after));
    }
    let (from, versions) = (now(), newest_change(&stage.installation.pool).await.unwrap_or(i64::MAX));
    let named = changes.iter().map(|(number, after)| match after {
        Some(_) => alerts::name(*number),
        None => format!("{} taken out", alerts::name(*number)),
    });
    let detail = named.collect::<Vec<_>>().join(", ");
    files.change(changes, None)?;
    taken_over(stage, versions).await?;
    Ok(over(FaultKind::Edit, "files", from, detail))
}

/// One coordinator's file is a version ahead for a while.
pub(super) async fn split(stage: Stage<'_>, number: usize, drawn: Duration, length: Duration) -> Result<Fault> {
    let mut files = stage.files.lock().await;
    let coordinators = stage.installation.names(Role::Coordinator);
    let ahead = &coordinators[number % coordinators.len()];
    let number = stage.editable + number % (stage.alerts - stage.editable);
    let before = files.current(number).cloned().unwrap_or_else(|| alerts::definition(number));
    let after = alerts::edited(&before, drawn.as_millis() as usize);
    let (from, versions) = (now(), newest_change(&stage.installation.pool).await.unwrap_or(i64::MAX));
    files.change(vec![(number, Some(after))], Some(ahead))?;
    tokio::time::sleep(length * 2).await;
    files.level()?;
    // Perhaps by the one that was ahead already.
    taken_over(stage, versions).await?;
    Ok(over(FaultKind::SplitFiles, ahead, from, format!("{} there first", alerts::name(number))))
}

/// Waits until the versions in force have changed since.
async fn taken_over(stage: Stage<'_>, since: i64) -> Result<()> {
    let pool = &stage.installation.pool;
    let newest = || async { newest_change(pool).await };
    // Where it is not known what was in force before, nothing can be waited for.
    eventually("the ledger takes new versions over", EFFECT, newest, |newest| since == i64::MAX || *newest > since)
        .await
        .map(drop)
}

/// When the versions in force were changed last, in cursor values.
async fn newest_change(pool: &PgPool) -> Result<i64> {
    let sql = "SELECT COALESCE(GREATEST(MAX(valid_from), MAX(valid_until)), 0) FROM sqlsentinel_configs";
    Ok(sqlx::query_scalar(sql).fetch_one(pool).await?)
}
