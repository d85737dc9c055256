//! A real nats-server with JetStream, on a port and in a folder of its own, which can be killed and started again.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_nats::jetstream;
use tempfile::TempDir;

use crate::eventually::{SOON, eventually};
use crate::ports;
use crate::process::{Launch, Proc};
use crate::programs;

/// A NATS server of this test's own. Its streams survive [`Nats::kill`] and [`Nats::start_again`].
#[derive(Debug)]
pub struct Nats {
    directory: TempDir,
    launch: Launch,
    port: u16,
    server: Option<Proc>,
}

impl Nats {
    /// Starts a server and waits until it serves.
    pub async fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("sqlsentinel-nats-").tempdir()?;
        let configuration = directory.path().join("nats.conf");
        let mut launch = Launch::new("nats-server", programs::nats_server()?, directory.path());
        launch = launch.args([std::ffi::OsString::from("-c"), configuration.clone().into()]);
        // A port may be lost to another test between choosing and binding it: choose again.
        for _ in 0..10 {
            let port = ports::free()?;
            std::fs::write(&configuration, configuration_text(port, &directory.path().display().to_string()))?;
            if let Some(server) = serving(&launch).await? {
                return Ok(Self { directory, launch, port, server: Some(server) });
            }
        }
        bail!("nats-server found no free port ten times")
    }

    /// `nats://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Its process id; none while it is not running.
    pub fn pid(&self) -> Option<i32> {
        self.server.as_ref().map(Proc::pid)
    }

    /// The folder of its streams.
    pub fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// A client's connection, for looking into streams.
    pub async fn jetstream(&self) -> Result<jetstream::Context> {
        let client = async_nats::connect(self.url()).await?;
        let mut context = jetstream::new(client);
        context.set_timeout(Duration::from_secs(3));
        Ok(context)
    }

    /// How many messages a stream holds; none if there is no such stream.
    pub async fn depth(&self, stream: &str) -> Result<Option<u64>> {
        match self.jetstream().await?.get_stream(stream).await {
            Ok(mut stream) => Ok(Some(stream.info().await?.state.messages)),
            Err(error) if error.kind() == jetstream::context::GetStreamErrorKind::Request => bail!(error),
            Err(_) => Ok(None),
        }
    }

    /// Kills the server (SIGKILL).
    pub async fn kill(&mut self) -> Result<()> {
        self.server.take().context("nats-server is not running")?.kill().await?;
        Ok(())
    }

    /// Starts it again on the same port and store.
    pub async fn start_again(&mut self) -> Result<()> {
        self.server = Some(serving(&self.launch).await?.context("nats-server's port was taken meanwhile")?);
        Ok(())
    }
}

/// The running server, or none if its port was taken.
async fn serving(launch: &Launch) -> Result<Option<Proc>> {
    const READY: &str = "Server is ready";
    let already = std::fs::read_to_string(&launch.log).unwrap_or_default().matches(READY).count();
    let server = launch.start()?;
    let state = || async { Ok((server.log()?.matches(READY).count() > already, server.ended()?.is_some())) };
    let (ready, _) = eventually("nats-server serves", SOON, state, |(ready, ended)| *ready || *ended).await?;
    if ready {
        return Ok(Some(server));
    }
    let log = server.log()?;
    if log.contains("address already in use") { Ok(None) } else { bail!("nats-server ended at once:\n{log}") }
}

fn configuration_text(port: u16, directory: &str) -> String {
    // `sync_interval: always` is what we ship: a killed server then loses nothing that it has acknowledged.
    // `no_advertise`: clients must know no other address than the one they were given (a proxy's, say).
    format!(
        r#"
listen: "127.0.0.1:{port}"
server_name: "test-{port}"
jetstream {{
  store_dir: "{directory}/store"
  sync_interval: always
  max_memory_store: 64MB
  max_file_store: 1GB
}}
cluster {{ no_advertise: true }}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_acknowledged_survives_a_kill_on_the_same_port() -> Result<()> {
        let mut nats = Nats::start().await?;
        let stream = jetstream::stream::Config {
            name: "S".to_owned(),
            subjects: vec!["s.>".to_owned()],
            ..jetstream::stream::Config::default()
        };
        assert_eq!(nats.depth("S").await?, None);
        let context = nats.jetstream().await?;
        context.create_stream(stream).await?;
        context.publish("s.1", "kept".into()).await?.await?;
        let url = nats.url();
        nats.kill().await?;
        assert!(async_nats::connect(&url).await.is_err());
        nats.start_again().await?;
        assert_eq!(nats.url(), url);
        assert_eq!(nats.depth("S").await?, Some(1));
        Ok(())
    }

    #[tokio::test]
    async fn two_servers_do_not_meet() -> Result<()> {
        let (one, two) = tokio::try_join!(Nats::start(), Nats::start())?;
        assert_ne!(one.url(), two.url());
        Ok(())
    }
}
