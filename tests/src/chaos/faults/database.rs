//! What happens to the state database: restarted, slow, or back in time.

use std::time::Duration;

use anyhow::{Result, ensure};
use sqlx::{Connection, Executor, PgConnection};

use super::{EFFECT, Stage, over};
use crate::chaos::history::{Fault, FaultKind};
use crate::chaos::schedule::Link;
use crate::eventually::eventually;
use crate::postgres::Postgres;
use crate::proxy::Road;
use crate::wall_clock::now;

const SUBJECT: &str = "state";

pub(super) async fn restart(stage: Stage<'_>, length: Duration) -> Result<Fault> {
    let mut state = stage.installation.state.lock().await;
    let from = now();
    stop(&mut state).await?;
    tokio::time::sleep(length).await;
    state.start_again().await?;
    Ok(over(FaultKind::StateRestart, SUBJECT, from, ""))
}

async fn stop(state: &mut Postgres) -> Result<()> {
    state.stop().await?;
    ensure!(PgConnection::connect(&state.url("state")).await.is_err(), "a stopped database answers");
    Ok(())
}

pub(super) async fn slow(stage: Stage<'_>, by: Duration, length: Duration) -> Result<Fault> {
    let _state = stage.installation.state.lock().await;
    let members: Vec<_> = stage.installation.members.iter().filter(|member| member.has(Link::State)).collect();
    let hindered = || members.iter().map(|member| member.hindered(Link::State)).sum::<u64>();
    let (from, before) = (now(), hindered());
    members.iter().for_each(|member| member.set(Link::State, Road::Slow(by)));
    tokio::time::sleep(length * 2).await;
    let felt =
        eventually("slowness slows somebody", EFFECT, || async { Ok(hindered()) }, |times| *times > before).await;
    members.iter().for_each(|member| member.set(Link::State, Road::Open));
    felt?;
    Ok(over(FaultKind::StateSlow, SUBJECT, from, format!("{} ms each way", by.as_millis())))
}

/// A restart, at which the data is copied, and some seconds later another one, at which the copy takes its place.
pub(super) async fn roll_back(stage: Stage<'_>, length: Duration) -> Result<Vec<Fault>> {
    let mut state = stage.installation.state.lock().await;
    let lost_after = now();
    state.copy().await?;
    let restart = over(FaultKind::StateRestart, SUBJECT, lost_after, "for a copy of it");

    // Something is to be lost.
    tokio::time::sleep(length + Duration::from_secs(2)).await;
    let mut connection = PgConnection::connect(&state.url("state")).await?;
    connection.execute("CREATE TABLE chaos_mark ()").await?;
    connection.close().await?;

    let from = now();
    stop(&mut state).await?;
    state.put_back()?;
    state.start_again().await?;
    let mut connection = PgConnection::connect(&state.url("state")).await?;
    let gone: bool = sqlx::query_scalar("SELECT to_regclass('chaos_mark') IS NULL").fetch_one(&mut connection).await?;
    ensure!(gone, "a commit outlived the rollback");
    let seconds = (from - lost_after) / 1_000_000;
    let mut rollback = over(FaultKind::StateRollback, SUBJECT, from, format!("{seconds} s are lost"));
    rollback.lost_after = Some(lost_after);
    Ok(vec![restart, rollback])
}
