//! Which fires run: after an outage, while an earlier one is open, and spread over time, as each definition says.

use std::time::Duration;

use anyhow::Result;
use sqlsentinel_common::alert::PlanningRules;
use sqlsentinel_tests::cluster::{Plan, Role, State};
use sqlsentinel_tests::ledger::{Fire, Unaccounted};
use sqlsentinel_tests::on_both_state_databases;
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::target::Kind;
use sqlsentinel_tests::wall_clock::{SECOND, now, sleep_until};

on_both_state_databases!(
    after_an_outage_each_alert_catches_up_as_its_definition_says,
    one_fire_at_most_waits_for_a_run_that_takes_too_long,
    fires_run_beside_a_slow_one_where_the_definition_says_so,
    jitter_delays_the_run_and_leaves_the_nominal_time,
);

async fn after_an_outage_each_alert_catches_up_as_its_definition_says(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state), Kind::Sqlite).await?;
    scene.target.set("orders", "OK", 7).await?;
    let query = scene.target.query("orders");
    let configuration = scene
        .configuration()
        .alert("once", "every 1s", &query)
        .alert_with("all", "every 1s", &query, &[("misfire", "all")])
        .alert_with("window", "every 1s", &query, &[("misfire", "all"), ("catchup_window", "3s")]);
    scene.play(&configuration)?;
    scene.until_more("window", "OK", 1).await?;
    scene.cluster.kill("coordinator-1").await?;
    let outage = scene.cluster.ledger.leadership().await?.planned_through;
    sleep_until(outage + 8 * SECOND).await;
    scene.cluster.start_one("coordinator-1")?;
    let back = now();
    scene.until_closed(back + SECOND, Duration::from_secs(60)).await?;

    let missed = |fire: &Fire| fire.scheduled_for > outage && fire.scheduled_for <= outage + 7 * SECOND;
    let ledger = &scene.cluster.ledger;
    let ran = async |alert: &str| anyhow::Ok(ledger.fires(Some(alert)).await?.into_iter().filter(missed).count());
    assert_eq!((ran("once").await?, ran("all").await?), (0, 7));
    assert!(ledger.gaps(Some("all")).await?.is_empty());
    // Seven missed fires are older than three seconds but for some of them; how many depends on how long a start takes.
    let too_old = ledger.gaps(Some("window")).await?;
    assert_eq!(too_old.len(), 1, "{too_old:?}");
    assert!(too_old[0].last < back - 2 * SECOND, "{too_old:?}");
    let alerts = ["once", "all", "window"].map(str::to_owned);
    assert_eq!(ledger.audit(&alerts, SECOND, back).await?, Unaccounted::default());
    Ok(())
}

async fn one_fire_at_most_waits_for_a_run_that_takes_too_long(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state), Kind::Postgres).await?;
    scene.target.set("orders", "OK", 7).await?;
    let query = scene.target.slow_query("orders", Duration::from_secs(3));
    let configuration = scene.configuration().alert_with("orders", "every 1s", &query, &[("overlap", "queue_one")]);
    scene.play(&configuration)?;
    scene.until_more("orders", "OK", 3).await?;

    let fires = scene.cluster.ledger.fires(Some("orders")).await?;
    let ran: Vec<_> = fires.iter().filter(|fire| fire.status == "OK").map(|fire| fire.scheduled_for).collect();
    // The one that waited was due while its predecessor ran, not after it.
    assert!(ran.windows(2).all(|pair| pair[1] - pair[0] <= 3 * SECOND), "{fires:?}");
    assert!(
        fires.iter().any(|fire| (fire.status.as_str(), fire.reason.as_str()) == ("SKIPPED", "overlap")),
        "{fires:?}"
    );
    assert_eq!(most_at_once(&fires), 1, "{fires:?}");
    Ok(())
}

async fn fires_run_beside_a_slow_one_where_the_definition_says_so(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state), Kind::Postgres).await?;
    scene.target.set("orders", "OK", 7).await?;
    let query = scene.target.slow_query("orders", Duration::from_secs(3));
    scene.play(&scene.configuration().alert_with("orders", "every 1s", &query, &[("overlap", "allow")]))?;
    scene.until_more("orders", "OK", 3).await?;

    let fires = scene.cluster.ledger.fires(Some("orders")).await?;
    assert!(fires.iter().all(|fire| fire.status != "SKIPPED"), "{fires:?}");
    assert!(most_at_once(&fires) > 1, "{fires:?}");
    Ok(())
}

async fn jitter_delays_the_run_and_leaves_the_nominal_time(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state), Kind::Sqlite).await?;
    scene.target.set("orders", "OK", 7).await?;
    let keys = [("jitter", "4s"), ("overlap", "allow")];
    let delay = PlanningRules { jitter_ms: 4_000, ..PlanningRules::default() }.delay("orders");
    scene.play(&scene.configuration().alert_with("orders", "every 5s", &scene.target.query("orders"), &keys))?;
    scene.until_more("orders", "OK", 2).await?;

    for fire in scene.cluster.ledger.fires(Some("orders")).await? {
        assert_eq!(fire.scheduled_for % (5 * SECOND), 0, "{fire:?}");
        let Some(queued_at) = fire.queued_at else { continue };
        assert!(queued_at - fire.scheduled_for >= i64::try_from(delay.as_micros())?, "{fire:?}");
    }
    Ok(())
}

/// How many of `fires` were queued or running at one moment.
fn most_at_once(fires: &[Fire]) -> i32 {
    let begins = fires.iter().filter_map(|fire| Some((fire.queued_at?, 1)));
    let ends = fires.iter().filter_map(|fire| fire.queued_at.and(fire.finished_at)).map(|end| (end, -1));
    let mut changes: Vec<(i64, i32)> = begins.chain(ends).collect();
    // Ends first: SQLite's clock has milliseconds.
    changes.sort_unstable();
    let mut open = 0;
    changes
        .into_iter()
        .map(|(_, change)| {
            open += change;
            open
        })
        .max()
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_one_database_no_more_runs_at_once_than_its_configuration_says() -> Result<()> {
    let mut scene = Scene::set(Plan::new(State::Postgres).with(Role::Worker, 2), Kind::Postgres).await?;
    scene.target.set("orders", "OK", 7).await?;
    let query = scene.target.slow_query("orders", Duration::from_millis(300));
    let names = ["a", "b", "c", "d"];
    let configuration =
        names.iter().fold(scene.configuration(), |configuration, name| configuration.alert(name, "every 2s", &query));
    let limited = configuration.text().replacen("alerts:\n", "  max_concurrency: 1\nalerts:\n", 1);
    scene.cluster.configure(&limited)?;
    scene.cluster.start()?;
    for name in names {
        scene.until_more(name, "OK", 2).await?;
    }

    let ledger = scene.cluster.ledger.pool();
    let overlapping: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM sqlsentinel_executions a JOIN sqlsentinel_executions b ON a.id <> b.id \
         AND a.executed_at <= b.executed_at \
         AND b.executed_at < a.executed_at + a.execution_duration_ms * INTERVAL '1 millisecond'",
    )
    .fetch_one(ledger)
    .await?;
    assert_eq!(overlapping, 0);
    Ok(())
}
