//! Pulling jobs from a real NATS: whoever waits notices what comes, at any time of the wait.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use sqlsentinel_common::alert::{ConfigHash, QueryOptions, SourceName};
use sqlsentinel_common::bus::{Bus, BusShape};
use sqlsentinel_common::health::Health;
use sqlsentinel_common::ids::ExecutionId;
use sqlsentinel_common::messages::{Job, MESSAGE_VERSION};
use sqlsentinel_common::settings::{NatsLogin, NatsSettings};
use sqlsentinel_common::timestamp::Timestamp;
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::nats::Nats;
use sqlsentinel_tests::wall_clock;

/// Longer than any test may take: a pull that returns has not come to its own end.
const LONG: Duration = Duration::from_secs(600);
/// Longer than every interval at which a client and its server look after each other.
const QUIET: Duration = Duration::from_secs(3);

fn job(source: &SourceName) -> Result<Job> {
    let now = Timestamp::from_micros(wall_clock::now());
    Ok(Job {
        version: MESSAGE_VERSION,
        execution_id: ExecutionId::manual(),
        alert_name: "a".to_owned(),
        scheduled_for: now,
        attempt: 1,
        config_hash: ConfigHash::of("{}"),
        source: source.clone(),
        query: "SELECT 1".to_owned(),
        options: QueryOptions::default(),
        timeout_ms: 1_000,
        deadline: now.plus(LONG),
    })
}

/// The client once lost the wake-up of a pull at which nothing had arrived for a while.
#[tokio::test]
async fn a_job_after_a_quiet_time_ends_the_wait_for_it() -> Result<()> {
    let nats = Nats::start().await?;
    let settings = NatsSettings {
        servers: vec![nats.url()],
        login: NatsLogin::Anonymous,
        ca_file: None,
        namespace: Default::default(),
    };
    let bus = Bus::connect(&settings, "test", &Health::default()).await?;
    let (busy, idle) = (SourceName::try_from("busy".to_owned())?, SourceName::try_from("idle".to_owned())?);
    let (shape, sources) =
        (BusShape { replicas: 1, max_ack_pending: 100 }, BTreeMap::from([(busy.clone(), None), (idle.clone(), None)]));
    let declared = || async { Ok(bus.declare(&shape, &sources).await?) };
    eventually("the streams are declared", SOON, declared, |()| true).await?;

    let (lane, other) = (bus.jobs(&busy).await?, bus.jobs(&idle).await?);
    for round in 0..2 {
        let expected = job(&busy)?;
        let publishing = async {
            // The quiet time is as long as a pull on another lane that comes back with nothing.
            anyhow::ensure!(other.next_batch(1, QUIET).await?.is_empty(), "a job in the idle lane");
            Ok(bus.publish_job(&expected).await?)
        };
        let pulling = async { Ok(lane.next_batch(4, LONG).await?) };
        let both = tokio::time::timeout(SOON, async { tokio::try_join!(pulling, publishing) });
        let (batch, ()) = both.await.with_context(|| format!("round {round}: nobody was woken"))??;
        let ids: Vec<_> = batch.iter().map(|delivery| delivery.message.execution_id).collect();
        assert_eq!(ids, [expected.execution_id]);
        assert_eq!(batch[0].delivery, 1, "it was handed out once");
        batch[0].ack().await?;
    }
    Ok(())
}
