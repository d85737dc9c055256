//! Ports for servers that are stopped and started again on the same one.
//!
//! They lie below the range from which the kernel takes ports for outgoing connections (32768 and up): while such a
//! server is down, nobody is given its port by chance, and a client that keeps trying cannot connect to itself.

use std::net::TcpListener;

use anyhow::{Result, bail};
use rand::Rng;

/// A port on loopback that was free a moment ago. Whoever binds it must cope with having lost a race for it.
pub fn free() -> Result<u16> {
    for _ in 0..1_000 {
        let port = rand::rng().random_range(12_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between 12000 and 32000 on loopback")
}
