//! What a worker does with jobs on a real NATS, without a coordinator: every job ends with one outcome stored before it
//! is acked, is run within its time, and is given back when the worker cannot finish it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use prometheus::Registry;
use sqlsentinel_common::alert::{ConfigHash, QueryOptions, SourceName};
use sqlsentinel_common::bus::{Bus, BusShape};
use sqlsentinel_common::config::{Config, load_str};
use sqlsentinel_common::health::{Health, Status};
use sqlsentinel_common::ids::ExecutionId;
use sqlsentinel_common::lifecycle::Tasks;
use sqlsentinel_common::messages::{Job, MESSAGE_VERSION, OutcomeMessage};
use sqlsentinel_common::outcome::{ErrorKind, RunStatus};
use sqlsentinel_common::process::Process;
use sqlsentinel_common::reload::LiveConfig;
use sqlsentinel_common::settings::{NatsLogin, NatsSettings};
use sqlsentinel_common::timestamp::Timestamp;
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::nats::Nats;
use sqlsentinel_tests::postgres::Postgres;
use sqlsentinel_tests::wall_clock;
use sqlsentinel_worker::Settings;
use sqlx::PgPool;

const SLEEP: &str = "SELECT 'OK' AS status, pg_sleep(600)";

struct Scene {
    nats: Nats,
    bus: Bus,
    settings: NatsSettings,
    config: Config,
    pool: PgPool,
    _target: Postgres,
}

impl Scene {
    /// A bus with its streams, and a configuration with a good, a missing and an unreachable database; no worker yet.
    async fn set() -> Result<Self> {
        let (nats, target) = tokio::try_join!(Nats::start(), Postgres::start())?;
        let url = target.create_database("target").await?;
        let yaml = format!(
            "databases:\n  good: {{url: '{url}'}}\n  unset: {{url: '${{SQLSENTINEL_NOT_SET}}'}}\n  away: {{url: 'postgresql://u:canary@127.0.0.1:1/d'}}\n\
             alerts:\n  - {{name: a, database: good, query: SELECT 1, schedule: '@daily'}}\n"
        );
        let config = load_str(&yaml, "alerts.yaml", &|_| None).context("configuration")?;
        let settings = NatsSettings {
            servers: vec![nats.url()],
            login: NatsLogin::Anonymous,
            ca_file: None,
            namespace: Default::default(),
        };
        let bus = Bus::connect(&settings, "test", &Health::default()).await?;
        let pool = target.pool("target").await?;
        let scene = Self { nats, bus, settings, config, pool, _target: target };
        scene.declare().await?;
        Ok(scene)
    }

    async fn declare(&self) -> Result<()> {
        let sources = self.config.sources.keys().cloned().map(|name| (name, None)).collect();
        let shape = BusShape { replicas: 1, max_ack_pending: 100 };
        let declared = || async { Ok(self.bus.declare(&shape, &sources).await?) };
        eventually("the streams are declared", SOON, declared, |()| true).await
    }

    async fn worker(&self, node: &str) -> Result<Worker> {
        let process = Process {
            node: node.to_owned(),
            health: Health::default(),
            registry: Registry::new(),
            tasks: Tasks::new(Duration::from_secs(60)),
        };
        let settings = Settings { nats: self.settings.clone(), concurrency: 4, source_connections: 2 };
        sqlsentinel_worker::start(settings, LiveConfig::fixed(self.config.clone()), &process).await?;
        Ok(Worker(process))
    }

    fn job(&self, source: &str, query: &str) -> Result<Job> {
        Ok(Job {
            version: MESSAGE_VERSION,
            execution_id: ExecutionId::manual(),
            alert_name: "a".to_owned(),
            scheduled_for: now(),
            attempt: 1,
            config_hash: ConfigHash::of("{}"),
            source: SourceName::try_from(source.to_owned())?,
            query: query.to_owned(),
            options: QueryOptions::default(),
            timeout_ms: 120_000,
            deadline: now().plus(Duration::from_secs(120)),
        })
    }

    async fn publish(&self, job: &Job) -> Result<()> {
        let published = || async { Ok(self.bus.publish_job(job).await?) };
        eventually("the job is published", SOON, published, |()| true).await
    }

    /// The outcomes of `jobs`, in their order. Other outcomes are passed over: a publication that was not confirmed may
    /// be stored all the same, and then again.
    async fn outcomes(&self, jobs: &[Job]) -> Result<Vec<OutcomeMessage>> {
        let mut outcomes = BTreeMap::new();
        let lane = self.bus.results().await?;
        let missing = |outcomes: &BTreeMap<String, OutcomeMessage>| {
            jobs.iter().filter(|job| !outcomes.contains_key(&job.execution_id.to_string())).count()
        };
        while missing(&outcomes) > 0 {
            let batch = lane.next_batch(jobs.len(), Duration::from_secs(2));
            for delivery in tokio::time::timeout(SOON, batch).await.context("no outcome")?? {
                delivery.ack().await?;
                outcomes.insert(delivery.message.execution_id.to_string(), delivery.message);
            }
        }
        Ok(jobs.iter().filter_map(|job| outcomes.remove(&job.execution_id.to_string())).collect())
    }

    async fn until_jobs_left(&self, expected: u64) -> Result<()> {
        let depth = || self.nats.depth("JOBS");
        eventually(&format!("{expected} jobs are stored"), SOON, depth, |depth| *depth == Some(expected)).await?;
        Ok(())
    }

    async fn until_running(&self, expected: i64) -> Result<()> {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid() AND state = 'active'";
        let running = || async { Ok(sqlx::query_scalar::<_, i64>(sql).fetch_one(&self.pool).await?) };
        eventually(&format!("{expected} queries run"), SOON, running, |running| *running == expected).await?;
        Ok(())
    }
}

struct Worker(Process);

impl Worker {
    async fn stop(self) -> Result<()> {
        self.0.tasks.request_stop();
        self.0.tasks.wait().await
    }

    async fn abort(self) -> Result<()> {
        self.0.tasks.abort();
        self.0.tasks.wait().await
    }

    fn figure(&self, name: &str) -> f64 {
        let families = self.0.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        family.map_or(-1.0, |family| {
            let metric = &family.get_metric()[0];
            metric.get_counter().get_value() + metric.get_gauge().get_value()
        })
    }
}

fn now() -> Timestamp {
    Timestamp::from_micros(wall_clock::now())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_job_ends_with_an_outcome_and_a_bad_source_costs_only_its_own() -> Result<()> {
    let scene = Scene::set().await?;
    let worker = scene.worker("w1").await?;
    let jobs = [
        scene.job("good", "SELECT 'ALERT' AS status, 8500.0 AS actual_value")?,
        scene.job("good", "SELECT 'OK' AS status WHERE false")?,
        scene.job("good", "DROP TABLE t")?,
        Job { timeout_ms: 200, ..scene.job("good", SLEEP)? },
        Job { deadline: now().plus(Duration::from_secs(3)), ..scene.job("good", SLEEP)? },
        scene.job("unset", "SELECT 'OK' AS status")?,
        scene.job("away", "SELECT 'OK' AS status")?,
    ];
    for job in &jobs {
        scene.publish(job).await?;
    }
    let outcomes = scene.outcomes(&jobs).await?;
    let expected = [
        (RunStatus::Alert, None),
        (RunStatus::NoData, None),
        (RunStatus::Error, Some(ErrorKind::Refused)),
        (RunStatus::Error, Some(ErrorKind::Timeout)),
        (RunStatus::Error, Some(ErrorKind::Timeout)),
        (RunStatus::Error, Some(ErrorKind::Connection)),
        (RunStatus::Error, Some(ErrorKind::Connection)),
    ];
    for ((job, outcome), expected) in jobs.iter().zip(outcomes).zip(expected) {
        let error = outcome.verdict.error.as_ref();
        assert_eq!((outcome.verdict.status, error.map(|error| error.kind)), expected, "{}: {error:?}", job.query);
        assert_eq!((outcome.attempt, outcome.delivery, outcome.worker.as_str()), (1, 1, "w1"));
        assert!(!error.is_some_and(|error| error.message.contains("canary")), "{error:?}");
    }
    scene.until_jobs_left(0).await?;
    let check = worker.0.health.snapshot().checks.remove("alert_database").context("no check")?;
    assert_eq!(check.status, Status::Degraded, "{check:?}");
    eventually(
        "nothing is held",
        SOON,
        || async { Ok(worker.figure("sqlsentinel_worker_jobs_in_flight")) },
        |held| *held == 0.0,
    )
    .await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_past_its_deadline_is_acked_and_not_run() -> Result<()> {
    let scene = Scene::set().await?;
    let worker = scene.worker("w1").await?;
    scene.publish(&Job { deadline: now(), ..scene.job("good", "SELECT 'OK' AS status")? }).await?;
    scene.until_jobs_left(0).await?;
    assert_eq!(worker.figure("sqlsentinel_worker_overdue_jobs_total"), 1.0);
    assert_eq!(scene.nats.depth("RESULTS").await?, Some(0));
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aborted_worker_cancels_its_query_and_gives_the_job_to_another() -> Result<()> {
    let scene = Scene::set().await?;
    let first = scene.worker("w1").await?;
    let job = scene.job("good", SLEEP)?;
    scene.publish(&job).await?;
    scene.until_running(1).await?;
    first.abort().await?;
    scene.until_running(0).await?;
    let second = scene.worker("w2").await?;
    // Well before the broker would have handed it out again by itself.
    scene.until_running(1).await?;
    assert_eq!(second.figure("sqlsentinel_worker_redeliveries_total"), 1.0);
    second.abort().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_nobody_finishes_is_given_up_without_another_run() -> Result<()> {
    let scene = Scene::set().await?;
    let job = scene.job("good", "SELECT 'OK' AS status")?;
    scene.publish(&job).await?;
    for _ in 0..5 {
        let lane = scene.bus.jobs(&job.source).await?;
        let batch = lane.next_batch(1, Duration::from_secs(5)).await?;
        batch.first().context("no job")?.nak(Duration::ZERO).await?;
    }
    let worker = scene.worker("w1").await?;
    let outcome = scene.outcomes(std::slice::from_ref(&job)).await?.remove(0);
    assert_eq!(outcome.verdict.error.as_ref().map(|error| error.kind), Some(ErrorKind::Abandoned));
    assert_eq!(outcome.delivery, 6);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_loses_nats_cancels_its_query_and_its_job_is_run_when_nats_is_back() -> Result<()> {
    let mut scene = Scene::set().await?;
    let worker = scene.worker("w1").await?;
    let job = scene.job("good", SLEEP)?;
    scene.publish(&job).await?;
    scene.until_running(1).await?;
    scene.nats.kill().await?;
    scene.until_running(0).await?;
    assert_eq!(worker.figure("sqlsentinel_worker_cancelled_runs_total"), 1.0);
    scene.nats.start_again().await?;
    scene.until_running(1).await?;
    worker.abort().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_waits_for_nats_and_lanes_are_opened_again_when_streams_come_back() -> Result<()> {
    let mut scene = Scene::set().await?;
    let worker = scene.worker("w1").await?;
    let job = scene.job("good", "SELECT 'OK' AS status, pg_sleep(2)")?;
    scene.publish(&job).await?;
    eventually(
        "the job is held",
        SOON,
        || async { Ok(worker.figure("sqlsentinel_worker_jobs_in_flight")) },
        |held| *held == 1.0,
    )
    .await?;
    scene.nats.kill().await?;
    let failures = || async { Ok(worker.figure("sqlsentinel_worker_publish_failures_total")) };
    eventually("the outcome cannot be published", SOON, failures, |failures| *failures > 0.0).await?;
    scene.nats.start_again().await?;
    let outcome = scene.outcomes(std::slice::from_ref(&job)).await?.remove(0);
    assert_eq!(outcome.verdict.status, RunStatus::Ok);
    scene.until_jobs_left(0).await?;

    let jetstream = scene.nats.jetstream().await?;
    jetstream.delete_stream("JOBS").await?;
    let ready = || async { Ok(worker.0.health.snapshot().checks.remove("jobs").map(|check| check.status)) };
    eventually("the worker says that it has no lane", SOON, ready, |status| *status == Some(Status::Unhealthy)).await?;
    scene.declare().await?;
    eventually("the worker has its lanes again", SOON, ready, |status| *status == Some(Status::Healthy)).await?;
    let job = scene.job("good", "SELECT 'ALERT' AS status")?;
    scene.publish(&job).await?;
    let outcome = scene.outcomes(std::slice::from_ref(&job)).await?.remove(0);
    assert_eq!(outcome.verdict.status, RunStatus::Alert);
    worker.stop().await
}
