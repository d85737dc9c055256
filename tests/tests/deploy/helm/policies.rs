//! Who may talk to whom, by the NetworkPolicies that the chart makes. No network enforces them here: they are judged by
//! the rules that Kubernetes documents.

use std::net::IpAddr;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sqlsentinel_tests::helm::{manifests, set};

use super::{COMPONENTS, items, pods};

/// Somebody who is no pod of ours.
#[derive(Clone, Copy, Debug)]
struct Peer {
    name: &'static str,
    namespace: &'static str,
    address: &'static str,
    port: u16,
    protocol: &'static str,
}

const fn peer(name: &'static str, namespace: &'static str, address: &'static str, port: u16) -> Peer {
    Peer { name, namespace, address, port, protocol: "TCP" }
}

const PEERS: [Peer; 9] = [
    Peer { protocol: "UDP", ..peer("dns", "kube-system", "10.96.0.10", 53) },
    peer("nats", "nats", "10.1.0.1", 4222),
    peer("monitoring of nats", "nats", "10.1.0.1", 8222),
    peer("state", "postgres", "10.1.0.2", 5432),
    peer("shop", "shop", "10.1.0.3", 3306),
    peer("webhook", "", "203.0.113.7", 443),
    peer("mail", "", "2001:db8::25", 587),
    peer("credentials of the cloud", "", "169.254.169.254", 443),
    peer("another pod of ours", "alerts", "10.1.0.4", 9464),
];

/// Whether a block of addresses, as `10.0.0.0/8`, holds `address`.
fn holds(block: &str, address: IpAddr) -> Result<bool> {
    let (network, length) = block.split_once('/').context("a block without a length")?;
    let (network, length): (IpAddr, u32) = (network.parse()?, length.parse()?);
    Ok(match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    })
}

/// Whether one entry of `to` or `from` means `peer`.
fn means(entry: &Value, peer: Peer) -> Result<bool> {
    if let Some(block) = entry["ipBlock"]["cidr"].as_str() {
        let address = peer.address.parse()?;
        for except in items(&entry["ipBlock"]["except"]) {
            if holds(except.as_str().context("an exception")?, address)? {
                return Ok(false);
            }
        }
        return holds(block, address);
    }
    let namespace = &entry["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"];
    Ok(namespace.as_str().context("the tests choose by a namespace's name")? == peer.namespace)
}

/// Whether the policies let a pod with `labels` talk to `peer` at its port (`egress`), or `peer` to the pod at that port
/// (`ingress`).
fn may(policies: &[&Value], labels: &Value, direction: (&str, &str, &str), peer: Peer) -> Result<bool> {
    let (kind, rules, side) = direction;
    let chosen = |policy: &&&Value| {
        let wanted = policy["spec"]["podSelector"]["matchLabels"].as_object();
        wanted.is_some_and(|wanted| wanted.iter().all(|(key, value)| labels[key] == *value))
            && items(&policy["spec"]["policyTypes"]).any(|one| one == kind)
    };
    let chosen: Vec<_> = policies.iter().filter(chosen).collect();
    for rule in chosen.iter().flat_map(|policy| items(&policy["spec"][rules])) {
        let port = |port: &Value| port["port"] == peer.port && port["protocol"] == peer.protocol;
        let at_port = rule["ports"].is_null() || items(&rule["ports"]).any(port);
        let mut with_peer = rule[side].is_null();
        for entry in items(&rule[side]) {
            with_peer |= means(entry, peer)?;
        }
        if at_port && with_peer {
            return Ok(true);
        }
    }
    // Who is chosen by no policy may do anything.
    Ok(chosen.is_empty())
}

const OUT: (&str, &str, &str) = ("Egress", "egress", "to");
const IN: (&str, &str, &str) = ("Ingress", "ingress", "from");

/// Whom each pod of a set reaches, by names.
fn reached(values: &str, more: &Value) -> Result<Vec<(String, Vec<&'static str>)>> {
    let manifests = manifests(&set(values), more)?;
    let policies: Vec<&Value> = manifests.iter().filter(|one| one["kind"] == "NetworkPolicy").collect();
    let mut reached = Vec::new();
    for (component, metadata, _) in pods(&manifests) {
        let mut names = Vec::new();
        for peer in PEERS {
            if may(&policies, &metadata["labels"], OUT, peer)? {
                names.push(peer.name);
            }
        }
        reached.push((component.to_owned(), names));
    }
    reached.sort();
    Ok(reached)
}

fn expected(table: [(&str, &[&'static str]); 5]) -> Vec<(String, Vec<&'static str>)> {
    table.into_iter().map(|(component, names)| (component.to_owned(), names.to_vec())).collect()
}

#[test]
fn each_component_reaches_what_it_needs_and_nothing_else() -> Result<()> {
    let by_place = expected([
        ("coordinator", &["dns", "nats", "state"]),
        ("healthcheck", &["dns", "nats"]),
        ("migrate", &["dns", "state"]),
        ("notifier", &["dns", "nats", "state", "webhook", "mail"]),
        ("worker", &["dns", "nats", "shop"]),
    ]);
    assert_eq!(reached("everything", &json!({}))?, by_place);
    // By ports alone a worker cannot be kept from the state database: only its lack of a password does that.
    let by_ports = expected([
        ("coordinator", &["dns", "nats", "state"]),
        ("healthcheck", &["dns", "nats"]),
        ("migrate", &["dns", "state"]),
        ("notifier", &["dns", "nats", "state", "webhook", "mail"]),
        ("worker", &["dns", "nats", "state", "shop"]),
    ]);
    assert_eq!(reached("private-authorities", &json!({}))?, by_ports);
    Ok(())
}

/// One of the servers listens at a port of its own.
#[test]
fn the_ports_of_nats_are_those_of_its_url() -> Result<()> {
    let nats_at = |url: &str| -> Result<bool> {
        let reached = reached("private-authorities", &json!({"nats": {"url": url}}))?;
        Ok(reached.iter().all(|(component, names)| names.contains(&"nats") == (component != "migrate")))
    };
    assert!(nats_at("tls://nats-0:4223,tls://nats-1")?, "4222 where none is said");
    assert!(nats_at("nats://nats:4222")?);
    assert!(!nats_at("nats://nats:4223")?);
    Ok(())
}

#[test]
fn only_prometheus_reaches_our_pods_and_only_where_metrics_are_read() -> Result<()> {
    let prometheus = peer("prometheus", "monitoring", "10.1.0.5", 9464);
    let stranger = peer("a stranger", "shop", "10.1.0.6", 9464);
    let other_port = Peer { port: 80, ..prometheus };
    for (values, admitted) in [
        ("everything", vec!["prometheus"]),
        ("insecure-hpa", vec!["prometheus", "a stranger"]),
        ("private-authorities", vec![]),
    ] {
        let manifests = manifests(&set(values), &json!({}))?;
        let policies: Vec<&Value> = manifests.iter().filter(|one| one["kind"] == "NetworkPolicy").collect();
        for (component, metadata, _) in pods(&manifests) {
            for peer in [prometheus, stranger, other_port] {
                let expected =
                    COMPONENTS.contains(&component) && admitted.contains(&peer.name) && peer.port == prometheus.port;
                let allowed = may(&policies, &metadata["labels"], IN, peer)?;
                assert_eq!(allowed, expected, "{values}: {} to {component} at {}", peer.name, peer.port);
            }
        }
    }
    Ok(())
}

#[test]
fn who_is_chosen_by_no_policy_may_do_anything() -> Result<()> {
    let policies = manifests(&set("everything"), &json!({}))?;
    let policies: Vec<&Value> = policies.iter().filter(|one| one["kind"] == "NetworkPolicy").collect();
    assert!(may(&policies, &json!({"app": "other"}), OUT, PEERS[2])?);
    assert!(holds("10.0.0.0/8", "10.255.0.1".parse()?)? && !holds("10.0.0.0/8", "11.0.0.1".parse()?)?);
    assert!(holds("0.0.0.0/0", "11.0.0.1".parse()?)? && !holds("::/0", "11.0.0.1".parse()?)?);
    Ok(())
}
