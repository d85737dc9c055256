//! The configuration of a server for one host.

use anyhow::{Context, Result, ensure};
use sqlsentinel_tests::programs;
use tokio::process::Command;

#[tokio::test]
async fn the_nats_configuration_is_one_that_the_server_takes_and_syncs_always() -> Result<()> {
    let configuration = programs::root().join("deploy/nats/single.conf");
    let checked = Command::new(programs::nats_server()?).arg("-t").arg("-c").arg(&configuration).output().await?;
    ensure!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let text = std::fs::read_to_string(&configuration).context("cannot read the configuration")?;
    assert!(text.lines().any(|line| line.trim() == "sync_interval: always"));
    Ok(())
}
