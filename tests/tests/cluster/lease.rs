//! The lease on a real NATS: it expires unless it is renewed, every time, and nobody writes over somebody else's.

use std::time::Duration;

use anyhow::{Context, Result};
use sqlsentinel_common::bus::Bus;
use sqlsentinel_common::clock::BootInstant;
use sqlsentinel_common::health::Health;
use sqlsentinel_common::ids::TermId;
use sqlsentinel_common::settings::{NatsLogin, NatsSettings};
use sqlsentinel_common::store::leadership::{Mark, Term};
use sqlsentinel_common::subjects::Namespace;
use sqlsentinel_coordinator::lease::{Found, Lease, LeaseError, LeaseKey, LeaseTimes, LeaseValue};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::nats::Nats;

const TIMES: LeaseTimes = LeaseTimes { ttl: Duration::from_secs(2) };

struct Bench {
    key: LeaseKey,
    bus: Bus,
    nats: Nats,
}

impl Bench {
    async fn new() -> Result<Self> {
        let nats = Nats::start().await?;
        let settings = NatsSettings {
            servers: vec![nats.url()],
            login: NatsLogin::Anonymous,
            ca_file: None,
            namespace: Namespace::default(),
        };
        let bus = Bus::connect(&settings, "lease-test", &Health::default()).await?;
        let declare = || async { Ok(bus.declare_bucket(1).await?) };
        eventually("the bucket", SOON, declare, |()| true).await?;
        Ok(Self { key: LeaseKey::new(bus.clone(), TIMES), bus, nats })
    }

    /// Takes the lease as `node` as soon as it is free.
    async fn take(&self, node: &str) -> Result<Lease> {
        let free = self.until("the lease is free", |found| found.holder.is_none()).await?;
        let (value, began) = (LeaseValue::new(node, Mark::default()), BootInstant::now());
        let revision = self.key.write(&value, free.revision).await?;
        Ok(Lease::held(self.key.clone(), value, revision, began))
    }

    async fn until(&self, awaited: &str, expected: impl Fn(&Found) -> bool) -> Result<Found> {
        eventually(awaited, SOON, || async { Ok(self.key.read().await?) }, expected).await
    }

    async fn holder(&self) -> Result<String> {
        Ok(self.key.read().await?.holder.context("nobody holds the lease")?.node)
    }
}

#[tokio::test]
async fn it_expires_after_every_fail_over_and_not_just_the_first() -> Result<()> {
    let bench = Bench::new().await?;
    // Written over nothing, over a marker of expiry, and over a marker again: the client's own call loses the time to
    // live at the second.
    for node in ["first", "second", "third"] {
        bench.take(node).await?;
        assert_eq!(bench.holder().await?, node);
    }
    bench.until("the third expires too", |found| found.holder.is_none()).await?;
    Ok(())
}

#[tokio::test]
async fn a_renewed_lease_lives_and_a_renewal_keeps_its_time_to_live() -> Result<()> {
    let bench = Bench::new().await?;
    let mut lease = bench.take("holder").await?;
    let first = bench.key.read().await?.revision;
    tokio::select! {
        error = lease.keep() => anyhow::bail!("lost: {error}"),
        renewed = bench.until("three renewals", |found| found.revision >= first + 3) => { renewed?; }
    }
    assert_eq!(bench.holder().await?, "holder");
    drop(lease);
    bench.until("it expires when nobody renews it any more", |found| found.holder.is_none()).await?;
    Ok(())
}

#[tokio::test]
async fn of_two_candidates_that_saw_it_free_one_gets_it() -> Result<()> {
    let bench = Bench::new().await?;
    let free = bench.key.read().await?;
    bench.key.write(&LeaseValue::new("quick", Mark::default()), free.revision).await?;
    let late = bench.key.write(&LeaseValue::new("late", Mark::default()), free.revision).await;
    assert!(matches!(late, Err(LeaseError::Superseded)), "{late:?}");
    assert_eq!(bench.holder().await?, "quick");
    Ok(())
}

#[tokio::test]
async fn who_was_superseded_stops_keeping_and_cannot_give_away_what_is_not_his() -> Result<()> {
    let bench = Bench::new().await?;
    let mut lease = bench.take("old").await?;
    let found = bench.key.read().await?;
    bench.key.write(&LeaseValue::new("new", Mark::default()), found.revision).await?;
    assert!(matches!(lease.keep().await, LeaseError::Superseded));
    lease.release().await;
    assert_eq!(bench.holder().await?, "new");
    Ok(())
}

#[tokio::test]
async fn a_renewal_of_our_own_that_was_stored_late_is_not_taken_for_somebody_elses() -> Result<()> {
    let bench = Bench::new().await?;
    let (value, began) = (LeaseValue::new("holder", Mark::default()), BootInstant::now());
    let revision = bench.key.write(&value, 0).await?;
    let mut lease = Lease::held(bench.key.clone(), value.clone(), revision, began);
    // What a renewal leaves behind that timed out here and was stored there.
    bench.key.write(&value, revision).await?;
    let term = Term::new(7, TermId::random());
    let first = lease.state_term(&term).await;
    assert!(matches!(first, Err(LeaseError::Indeterminate(_))), "{first:?}");
    lease.state_term(&term).await?;
    assert_eq!(bench.key.read().await?.holder.map(|holder| holder.epoch), Some(7));
    Ok(())
}

#[tokio::test]
async fn a_lease_that_cannot_be_renewed_is_given_up_though_nobody_has_taken_it() -> Result<()> {
    let mut bench = Bench::new().await?;
    let mut lease = bench.take("holder").await?;
    bench.nats.kill().await?;
    let lost = lease.keep().await;
    assert!(matches!(lost, LeaseError::Indeterminate(_)), "{lost:?}");
    Ok(())
}

#[tokio::test]
async fn the_bucket_can_be_declared_by_everybody_at_once() -> Result<()> {
    let bench = Bench::new().await?;
    let (one, two) = tokio::join!(bench.bus.declare_bucket(1), bench.bus.declare_bucket(1));
    one?;
    two?;
    Ok(())
}
