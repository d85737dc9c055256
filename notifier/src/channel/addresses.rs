//! Where notifications must not go: link-local addresses and the clouds' metadata services, which hand credentials to
//! whoever asks from the right machine. Loopback and private networks are where many receivers are, and are allowed.
//!
//! Names are judged by what they resolve to, at the moment of connecting, so that no name can stand for an address
//! that is refused; addresses written in the URL never reach a resolver and are judged by [`is_refused`] alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The metadata services that are not link-local: Alibaba Cloud's, and Amazon's over IPv6.
const METADATA: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254))];

/// Every address of a name is refused.
#[derive(Debug, thiserror::Error)]
#[error("the name stands for link-local or metadata addresses only, which are refused")]
struct RefusedName;

/// Whether nothing may be sent to `address`, in whichever form it is written.
pub(super) fn is_refused(address: IpAddr) -> bool {
    let address = match address {
        IpAddr::V6(v6) => behind_nat64(v6).map_or_else(|| address.to_canonical(), IpAddr::V4),
        IpAddr::V4(_) => address,
    };
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    link_local || METADATA.contains(&address)
}

/// The IPv4 address that a NAT64 gateway would make of `address` (RFC 6052's well-known prefix).
fn behind_nat64(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))),
        _ => None,
    }
}

/// The system's resolver, without the addresses that are refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct GuardedResolver;

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let resolved: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            allowed(resolved).map_err(Into::into)
        })
    }
}

fn allowed(resolved: Vec<SocketAddr>) -> Result<Addrs, RefusedName> {
    let allowed: Vec<SocketAddr> = resolved.into_iter().filter(|address| !is_refused(address.ip())).collect();
    if allowed.is_empty() { Err(RefusedName) } else { Ok(Box::new(allowed.into_iter())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_and_metadata_addresses_are_refused_in_every_spelling() -> Result<(), std::net::AddrParseError> {
        for refused in [
            "169.254.169.254",
            "169.254.0.1",
            "100.100.100.200",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
        ] {
            assert!(is_refused(refused.parse()?), "{refused}");
        }
        for allowed in
            ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "100.100.100.201", "fd00::1", "fec0::1", "8.8.8.8"]
        {
            assert!(!is_refused(allowed.parse()?), "{allowed}");
        }
        Ok(())
    }

    #[test]
    fn a_name_loses_its_refused_addresses_and_is_refused_when_none_is_left() -> Result<(), std::net::AddrParseError> {
        let (good, bad): (SocketAddr, SocketAddr) = ("10.0.0.1:0".parse()?, "169.254.169.254:0".parse()?);
        assert!(matches!(allowed(vec![bad, good]).map(Iterator::collect::<Vec<_>>), Ok(left) if left == [good]));
        assert!(allowed(vec![bad]).is_err());
        Ok(())
    }
}
