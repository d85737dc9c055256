//! What happens at the webhook receiver: it refuses, breaks connections, or never answers.

use std::time::Duration;

use anyhow::Result;

use super::{EFFECT, Stage, over};
use crate::chaos::history::{Fault, FaultKind};
use crate::eventually::eventually;
use crate::sink::Answer;
use crate::wall_clock::now;

const SUBJECT: &str = "sink";

pub(super) async fn refuse(stage: Stage<'_>, status: u16, length: Duration) -> Result<Fault> {
    let answer = match status {
        429 => Answer::StatusWithHeader(429, "Retry-After", "1".to_owned()),
        other => Answer::Status(other),
    };
    answering(stage, FaultKind::SinkError, answer, length, status.to_string()).await
}

pub(super) async fn reset(stage: Stage<'_>, length: Duration) -> Result<Fault> {
    answering(stage, FaultKind::SinkReset, Answer::Reset, length, String::new()).await
}

pub(super) async fn hang(stage: Stage<'_>, length: Duration) -> Result<Fault> {
    answering(stage, FaultKind::SinkTimeout, Answer::Hang, length, String::new()).await
}

/// Answers everything like this, until somebody has been answered so.
async fn answering(
    stage: Stage<'_>,
    kind: FaultKind,
    answer: Answer,
    length: Duration,
    detail: String,
) -> Result<Fault> {
    let sink = stage.installation.sink.lock().await;
    let (from, before) = (now(), sink.count());
    sink.answer(answer);
    tokio::time::sleep(length).await;
    let felt =
        eventually("somebody is answered so", EFFECT, || async { Ok(sink.count()) }, |count| *count > before).await;
    sink.answer(Answer::Status(200));
    let felt = felt? - before;
    Ok(over(kind, SUBJECT, from, format!("{detail} {felt} requests").trim_start()))
}
