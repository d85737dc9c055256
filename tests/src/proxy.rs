//! A TCP proxy in this process: the road from one client to one server, which can be cut, blocked and slowed down.
//!
//! One proxy for each pair of client and server whose connection a test wants to break. The client must know no other
//! address of the server: NATS servers run with `no_advertise`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What becomes of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Road {
    /// It passes.
    Open,
    /// Connections break, and new ones are closed as soon as they are made.
    Cut,
    /// Connections stay, and nothing passes either way, as if a cable were pulled. What was sent meanwhile arrives later.
    Blocked,
    /// Each piece of data passes this much later.
    Slow(Duration),
}

/// The proxy. Dropping it closes its port and breaks its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    road: watch::Sender<Road>,
    hindered: Arc<AtomicU64>,
    server: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy on a port of its own, whose road to `target` (`host:port`) is open.
    pub async fn to(target: &str) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let road = watch::Sender::new(Road::Open);
        let hindered = Arc::new(AtomicU64::new(0));
        let way = Way { target: target.to_owned(), road: road.subscribe(), hindered: Arc::clone(&hindered) };
        let server = serving(listener, way);
        Ok(Self { address, road, hindered, server })
    }

    /// `127.0.0.1:<port>`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Sets what becomes of traffic from now on.
    pub fn set(&self, road: Road) {
        self.road.send_replace(road);
    }

    /// How many connections were broken or refused, and how many pieces of data were held up, so far: a fault that has
    /// changed nothing about this number has hit nobody.
    pub fn hindered(&self) -> u64 {
        self.hindered.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Clone)]
struct Way {
    target: String,
    road: watch::Receiver<Road>,
    hindered: Arc<AtomicU64>,
}

#[expect(clippy::disallowed_methods, reason = "the proxy owns the task and aborts it when it is dropped")]
fn serving(listener: TcpListener, way: Way) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Ok((client, _)) = listener.accept() => {
                    connections.spawn(connection(client, way.clone()));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    })
}

/// One connection, until either side closes it or the road is cut. Its end is all that anybody sees of an error.
async fn connection(client: TcpStream, mut way: Way) -> io::Result<()> {
    let hindered = Arc::clone(&way.hindered);
    let mut road = way.road.clone();
    tokio::select! {
        ended = pass_both_ways(client, &mut way) => ended,
        _ = road.wait_for(|road| *road == Road::Cut) => {
            hindered.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }
}

async fn pass_both_ways(client: TcpStream, way: &mut Way) -> io::Result<()> {
    way.passable().await;
    let server = TcpStream::connect(&way.target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut back = way.clone();
    tokio::try_join!(pass(from_client, to_server, way), pass(from_server, to_client, &mut back))?;
    Ok(())
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: &mut Way) -> io::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut piece).await?;
        way.passable().await;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&piece[..length]).await?;
    }
}

impl Way {
    /// Waits until something may pass.
    async fn passable(&mut self) {
        let road = *self.road.borrow_and_update();
        if road == Road::Open {
            return;
        }
        // A cut is counted once, where it ends the connection.
        if road != Road::Cut {
            self.hindered.fetch_add(1, Ordering::Relaxed);
        }
        if let Road::Slow(by) = road {
            tokio::time::sleep(by).await;
        }
        // The sender goes away with the proxy, whose end aborts this task. A cut ends the connection beside this.
        let _ = self.road.wait_for(|road| matches!(road, Road::Open | Road::Slow(_))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventually::{SOON, eventually};

    /// A server that sends back what it gets, and a proxy before it.
    async fn echo() -> Result<(JoinSet<()>, Proxy)> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?.to_string();
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        Ok((server, Proxy::to(&address).await?))
    }

    async fn said(stream: &mut TcpStream, text: &str) -> Result<String> {
        stream.write_all(text.as_bytes()).await?;
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back).await?;
        Ok(String::from_utf8(back)?)
    }

    #[tokio::test]
    async fn a_cut_breaks_connections_and_refuses_new_ones_until_it_heals() -> Result<()> {
        let (_server, proxy) = echo().await?;
        let mut stream = TcpStream::connect(proxy.address()).await?;
        assert_eq!(said(&mut stream, "one").await?, "one");
        assert_eq!(proxy.hindered(), 0);
        proxy.set(Road::Cut);
        assert!(said(&mut stream, "two").await.is_err());
        let mut stream = TcpStream::connect(proxy.address()).await?;
        assert!(said(&mut stream, "three").await.is_err());
        assert_eq!(proxy.hindered(), 2);
        proxy.set(Road::Open);
        let mut stream = TcpStream::connect(proxy.address()).await?;
        assert_eq!(said(&mut stream, "four").await?, "four");
        Ok(())
    }

    #[tokio::test]
    async fn what_is_blocked_arrives_when_the_road_opens() -> Result<()> {
        let (_server, proxy) = echo().await?;
        let mut stream = TcpStream::connect(proxy.address()).await?;
        assert_eq!(said(&mut stream, "one").await?, "one");
        proxy.set(Road::Blocked);
        stream.write_all(b"two").await?;
        eventually("the proxy holds it", SOON, || async { Ok(proxy.hindered()) }, |held| *held == 1).await?;
        let mut back = [0; 3];
        assert_eq!(stream.try_read(&mut back).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        proxy.set(Road::Slow(Duration::from_millis(1)));
        stream.read_exact(&mut back).await?;
        assert_eq!(&back, b"two");
        assert!(proxy.hindered() > 1, "the way back was slow");
        Ok(())
    }
}
