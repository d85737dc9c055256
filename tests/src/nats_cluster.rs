//! Three real nats-servers that form one JetStream cluster, each of which can be killed, wiped and started again.
//!
//! They find each other by their routes on loopback. `no_advertise`: clients know no other address of a node than the one
//! that they were given, a proxy's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::eventually::eventually;
use crate::ports;
use crate::process::{Launch, Proc};
use crate::programs;

/// How many nodes there are.
pub const NODES: usize = 3;
/// How long a cluster may take to elect its first leaders, on a busy machine.
const ELECTIONS: Duration = Duration::from_secs(60);
const READY: &str = "Server is ready";

/// The cluster. Dropping it ends its nodes.
#[derive(Debug)]
pub struct NatsCluster {
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    launch: Launch,
    store: PathBuf,
    port: u16,
    server: Mutex<Option<Proc>>,
}

impl NatsCluster {
    /// Starts all nodes, with their folders in `directory`, and waits until they answer as a cluster.
    pub async fn start(directory: &Path) -> Result<Self> {
        let ports = (0..NODES).map(|_| Ok((ports::free()?, ports::free()?))).collect::<Result<Vec<_>>>()?;
        let routes: Vec<String> = ports.iter().map(|(_, route)| format!("nats://127.0.0.1:{route}")).collect();
        let mut nodes = Vec::new();
        for (number, (port, route)) in ports.iter().enumerate() {
            let folder = directory.join(node_name(number));
            std::fs::create_dir_all(&folder)?;
            let file = folder.join("nats.conf");
            std::fs::write(&file, configuration(number, *port, *route, &routes, &folder))?;
            let launch = Launch::new(&node_name(number), programs::nats_server()?, &folder);
            let launch = launch.args([std::ffi::OsString::from("-c"), file.into()]);
            nodes.push(Node { launch, store: folder.join("store"), port: *port, server: Mutex::default() });
        }
        let cluster = Self { nodes };
        for node in &cluster.nodes {
            *node.server.lock().await = Some(node.launch.start()?);
        }
        cluster.elected().await?;
        Ok(cluster)
    }

    /// `127.0.0.1:<port>` of a node.
    pub fn address(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.nodes[node].port)
    }

    /// Kills a node (SIGKILL), and sees that nobody listens there any more.
    pub async fn kill(&self, node: usize) -> Result<()> {
        let server = self.nodes[node].server.lock().await.take();
        server.with_context(|| format!("{} is not running", node_name(node)))?.kill().await?;
        ensure!(TcpStream::connect(self.address(node)).await.is_err(), "{} is still there", node_name(node));
        Ok(())
    }

    /// Deletes everything that a killed node has stored, and says how many files that were.
    pub async fn wipe(&self, node: usize) -> Result<usize> {
        let Node { server, store, .. } = &self.nodes[node];
        ensure!(server.lock().await.is_none(), "{} is running", node_name(node));
        let files = files_in(store)?;
        std::fs::remove_dir_all(store)?;
        Ok(files)
    }

    /// Starts a killed node again, and waits until it listens.
    pub async fn start_again(&self, node: usize) -> Result<()> {
        let launch = &self.nodes[node].launch;
        let already = readiness(launch);
        *self.nodes[node].server.lock().await = Some(launch.start()?);
        let ready = || async { Ok(readiness(launch)) };
        eventually("nats-server listens", ELECTIONS, ready, |times| *times > already).await?;
        Ok(())
    }

    /// Waits until the cluster has a leader for streams.
    pub async fn elected(&self) -> Result<()> {
        let urls: Vec<String> = (0..NODES).map(|node| format!("nats://{}", self.address(node))).collect();
        let answers = || async {
            let client = async_nats::ConnectOptions::new().ignore_discovered_servers().connect(&urls).await?;
            let mut context = jetstream::new(client);
            context.set_timeout(Duration::from_secs(2));
            Ok(context.query_account().await?.limits.max_streams)
        };
        eventually("the NATS cluster has elected its leaders", ELECTIONS, answers, |_| true).await?;
        Ok(())
    }
}

/// What a node is called: `nats-0` and so on.
pub fn node_name(node: usize) -> String {
    format!("nats-{node}")
}

fn readiness(launch: &Launch) -> usize {
    std::fs::read_to_string(&launch.log).unwrap_or_default().matches(READY).count()
}

fn files_in(folder: &Path) -> Result<usize> {
    let mut files = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        files += if entry.file_type()?.is_dir() { files_in(&entry.path())? } else { 1 };
    }
    Ok(files)
}

fn configuration(number: usize, port: u16, route: u16, routes: &[String], folder: &Path) -> String {
    // `sync_interval: always` is what we ship: a killed server then loses nothing that it has acknowledged.
    format!(
        r#"
listen: "127.0.0.1:{port}"
server_name: "{name}"
jetstream {{
  store_dir: "{folder}/store"
  sync_interval: always
  max_memory_store: 64MB
  max_file_store: 1GB
}}
cluster {{
  name: "chaos"
  listen: "127.0.0.1:{route}"
  no_advertise: true
  routes: [{routes}]
}}
"#,
        name = node_name(number),
        folder = folder.display(),
        routes = routes.join(", "),
    )
}
