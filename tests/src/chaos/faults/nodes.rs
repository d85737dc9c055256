//! What happens to NATS nodes: killed, or killed and started again with nothing of what they had stored.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Stage, over};
use crate::chaos::history::{Fault, FaultKind};
use crate::nats_cluster::node_name;
use crate::wall_clock::now;

pub(super) async fn lose(stage: Stage<'_>, node: usize, length: Duration) -> Result<Fault> {
    let nats = stage.installation.nats.lock().await;
    let from = now();
    nats.kill(node).await?;
    tokio::time::sleep(length).await;
    nats.start_again(node).await?;
    Ok(over(FaultKind::NatsLoss, &node_name(node), from, ""))
}

pub(super) async fn wipe(stage: Stage<'_>, nodes: &[usize], length: Duration) -> Result<Fault> {
    let nats = stage.installation.nats.lock().await;
    let from = now();
    for node in nodes {
        nats.kill(*node).await?;
    }
    let mut files = 0;
    for node in nodes {
        files += nats.wipe(*node).await?;
    }
    ensure!(files > 0, "there was nothing to wipe");
    tokio::time::sleep(length / 2).await;
    for node in nodes {
        nats.start_again(*node).await?;
    }
    nats.elected().await?;
    let names: Vec<String> = nodes.iter().map(|node| node_name(*node)).collect();
    Ok(over(FaultKind::NatsWipe, &names.join(","), from, format!("{files} files")))
}
