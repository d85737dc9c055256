//! What users of other alerting systems complain about most, each as the test that it does not happen here.
//!
//! Other complaints have their tests where their subject is: a leader that dies before a fire in [`super::leadership`],
//! files that are swapped in [`super::reload`], receivers in [`super::notifiers`] and the tests of channels.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sqlsentinel_tests::cluster::{Plan, Role, State};
use sqlsentinel_tests::configuration::Configuration;
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::ledger::Execution;
use sqlsentinel_tests::mariadb::Mariadb;
use sqlsentinel_tests::on_both_state_databases;
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::sink::Answer;
use sqlsentinel_tests::target::Kind;
use sqlsentinel_tests::wall_clock::{SECOND, now};
use sqlx::{AssertSqlSafe, Executor};

on_both_state_databases!(
    a_worker_that_dies_under_its_query_does_not_block_the_alert_for_ever,
    however_many_replicas_there_are_the_database_is_queried_once_a_fire,
    a_dead_receiver_gets_no_storm_of_retries_and_one_notice_of_each_alert_when_it_is_back,
    what_no_receiver_took_for_a_day_is_given_up_listed_and_sent_when_somebody_says_so,
    an_alert_that_is_taken_out_of_the_file_runs_no_more_and_keeps_its_history,
);

async fn a_worker_that_dies_under_its_query_does_not_block_the_alert_for_ever(state: State) -> Result<()> {
    let (allowance, timeout) = (1, 5);
    let plan = Plan::new(state).env("SQLSENTINEL_QUEUE_ALLOWANCE_SECONDS", allowance);
    let mut scene = Scene::set(plan.env("SQLSENTINEL_RESCUE_SECONDS", 1), Kind::Postgres).await?;
    scene.target.set("orders", "OK", 600).await?;
    let query = "SELECT status FROM signals, pg_sleep(value) WHERE name = 'orders'";
    let keys = [("overlap", "skip"), ("timeout", "5s")];
    scene.play(&scene.configuration().alert_with("orders", "every 1s", query, &keys))?;
    let runs = eventually("the query runs", SOON, || async { scene.runs("orders") }, |runs| !runs.is_empty()).await?;
    scene.cluster.kill("worker-1").await?;
    scene.target.set("orders", "OK", 0).await?;
    scene.cluster.start()?;

    scene.until_more("orders", "OK", 2).await?;
    let fires = scene.cluster.ledger.fires(Some("orders")).await?;
    let cut_off = fires.iter().position(|fire| runs[0].application_name.contains(&fire.execution_id));
    let later = &fires[cut_off.context("the run that was cut off has a fire")?..];
    assert_eq!(later[0].status, "EXPIRED", "{later:?}");
    assert!(["worker_lost", "backlog", "no_worker"].contains(&later[0].reason.as_str()), "{later:?}");
    let next = later.iter().position(|fire| fire.status == "OK").context("a later fire ran")?;
    // Its run counts until its deadline, and a fire is due every second.
    assert!(later[next].scheduled_for - later[0].scheduled_for <= 3 * (allowance + timeout) * SECOND, "{later:?}");
    for fire in &later[1..next] {
        assert!(["overlap", &later[0].reason].contains(&fire.reason.as_str()), "{fire:?}");
    }
    let history = scene.cluster.ctl(&["history", "--alert", "orders", "--limit", "100"]).await?;
    for reason in ["overlap", &later[0].reason] {
        assert!(history.output.contains(reason), "{reason}: {}", history.output);
    }
    Ok(())
}

async fn however_many_replicas_there_are_the_database_is_queried_once_a_fire(state: State) -> Result<()> {
    let plan = Plan::new(state).with(Role::Coordinator, 3).with(Role::Worker, 3).with(Role::Notifier, 3);
    let mut scene = Scene::set(plan, Kind::Postgres).await?;
    let names = ["orders-0", "orders-1", "orders-2"];
    let mut configuration = scene.configuration();
    for name in names {
        scene.target.set(name, "ALERT", 7).await?;
        configuration = configuration.alert(name, "every 1s", &scene.target.query(name));
    }
    scene.play(&configuration)?;
    for member in scene.cluster.names(None) {
        let ready = || async { Ok(scene.cluster.page(&member, "/ready").await?.0) };
        eventually(&format!("{member} is ready"), SOON, ready, |status| *status == 200).await?;
    }
    for name in names {
        scene.until_more(name, "ALERT", 5).await?;
    }

    let mut queried: BTreeMap<String, usize> = BTreeMap::new();
    for run in scene.runs("orders")? {
        *queried.entry(run.application_name).or_default() += 1;
    }
    assert!(queried.len() >= 5 * names.len() && queried.values().all(|count| *count == 1), "{queried:?}");
    let executions = scene.cluster.ledger.executions(None).await?;
    let workers: BTreeSet<_> = executions.iter().map(|run| run.worker.as_str()).collect();
    assert!(workers.len() > 1, "several workers share the fires: {workers:?}");
    for name in names {
        assert_eq!(scene.sink.about(name).len(), 1, "and nobody hears of it twice: {name}");
    }
    Ok(())
}

async fn a_dead_receiver_gets_no_storm_of_retries_and_one_notice_of_each_alert_when_it_is_back(
    state: State,
) -> Result<()> {
    const ALERTS: usize = 60;
    let mut scene = Scene::set(Plan::new(state), Kind::Sqlite).await?;
    scene.sink.answer(Answer::Status(503));
    let alert = |n| format!("- {{name: a{n}, schedule: every 2s, query: SELECT 'ALERT' AS status, notify: [ops]}}\n");
    let alerts: String = (0..ALERTS).map(alert).collect();
    let (database, hook) = (scene.target.url(), scene.sink.url("hook"));
    scene.cluster.configure(&format!(
        "database: {{url: '{database}'}}\nchannels: {{ops: {{channel: webhook, url: '{hook}'}}}}\nalerts:\n{alerts}"
    ))?;
    scene.cluster.start()?;
    let rows = || async { scene.cluster.ledger.notifications(None).await };
    eventually("each is to be told", SOON, rows, |rows| rows.len() == ALERTS).await?;
    // Long enough for each of them to be due again several times, and less than the circuit's first pause.
    let until = now() + 20 * SECOND;
    let planned = || async { Ok(scene.cluster.ledger.leadership().await?.planned_through) };
    eventually("time passes", SOON, planned, |through| *through > until).await?;

    // Five in a row open the circuit; what was under way beside them, eight at the most, had begun before.
    let tried = scene.sink.received().len();
    assert!((5..=13).contains(&tried), "{tried} requests");
    let health = scene.cluster.health("notifier-1").await?;
    assert_eq!(health["checks"]["notifications"]["status"], "degraded", "{health}");

    scene.sink.answer(Answer::Status(200));
    let sent = |rows: &Vec<_>| rows.iter().all(|row: &sqlsentinel_tests::ledger::Notification| row.status == "SENT");
    let rows = eventually("each is sent", Duration::from_secs(120), rows, sent).await?;
    assert_eq!(rows.len(), ALERTS, "and none was made anew");
    assert!(rows.iter().all(|row| !row.possible_duplicate), "{rows:?}");
    let received = scene.sink.received();
    let told: BTreeSet<&str> = received[tried..].iter().map(|request| request.header("idempotency-key")).collect();
    assert_eq!((received.len() - tried, told.len()), (ALERTS, ALERTS));
    Ok(())
}

async fn what_no_receiver_took_for_a_day_is_given_up_listed_and_sent_when_somebody_says_so(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state), Kind::Sqlite).await?;
    scene.target.set("orders", "ALERT", 7).await?;
    scene.sink.away().await;
    scene.play(&scene.configuration().alert("orders", "every 1s", &scene.target.query("orders")))?;
    let rows = || async { scene.cluster.ledger.notifications(Some("orders")).await };
    eventually("it is tried", SOON, rows, |rows| rows.iter().any(|row| row.attempt >= 1)).await?;
    // As if it had been tried for a day: the next failure is the last.
    let yesterday = "UPDATE sqlsentinel_notifications SET first_attempt_at = first_attempt_at - 86400000000";
    sqlx::query(yesterday).execute(scene.cluster.ledger.pool()).await?;
    eventually("it is given up", SOON, rows, |rows| rows.iter().all(|row| row.status == "DEAD")).await?;
    scene.until_more("orders", "ALERT", 2).await?;

    scene.sink.back().await?;
    let listed = scene.cluster.ctl(&["notifications", "--status", "dead"]).await?;
    assert!(listed.output.contains("given up after 24 h"), "{listed:?}");
    assert!(scene.sink.received().is_empty(), "what was given up is not sent by itself");
    let dead = rows().await?;
    let replayed = scene.cluster.ctl(&["replay", &dead[0].id]).await?;
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    eventually("it is sent", SOON, rows, |rows| rows.iter().all(|row| row.status == "SENT")).await?;
    let arrived = scene.until_received("orders", 1).await?;
    assert_eq!((arrived.len(), arrived[0].header("idempotency-key")), (1, dead[0].id.as_str()));
    Ok(())
}

async fn an_alert_that_is_taken_out_of_the_file_runs_no_more_and_keeps_its_history(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state), Kind::Sqlite).await?;
    scene.target.set("stays", "OK", 1).await?;
    scene.target.set("goes", "ALERT", 2).await?;
    let stays = scene.configuration().alert("stays", "every 1s", &scene.target.query("stays"));
    let both = stays.clone().alert("goes", "every 1s", &scene.target.query("goes"));
    scene.play(&both)?;
    scene.until_received("goes", 1).await?;
    scene.until_more("goes", "ALERT", 2).await?;

    scene.cluster.configure(stays.text())?;
    let in_force = || async { Ok(scene.cluster.ledger.valid_from("goes").await.is_ok()) };
    eventually("it is not in force any more", SOON, in_force, |in_force| !in_force).await?;
    let gone = now();
    scene.until_closed(gone, SOON).await?;
    let ran = scene.cluster.ledger.executions(Some("goes")).await?.len();
    scene.until_more("stays", "OK", 3).await?;
    let fires = scene.cluster.ledger.fires(Some("goes")).await?;
    assert!(fires.iter().all(|fire| fire.scheduled_for <= gone), "{fires:?}");
    assert_eq!(scene.cluster.ledger.executions(Some("goes")).await?.len(), ran);
    assert_eq!(scene.cluster.ledger.state("goes").await?.as_deref(), Some("ALERT"));
    let history = scene.cluster.ctl(&["history", "--alert", "goes", "--limit", "1000"]).await?;
    assert!(history.output.matches(" ALERT ").count() >= ran, "{}", history.output);
    let validated = scene.cluster.ctl(&["validate"]).await?;
    assert_eq!(validated.code, Some(0), "{validated:?}");

    // Back in the file it is the same alert: what was told is not told again.
    scene.cluster.configure(both.text())?;
    scene.until_more("goes", "ALERT", 2).await?;
    assert_eq!(scene.sink.about("goes").len(), 1);
    Ok(())
}

/// The scheduler's own clock ticks once for all of them; a second of grace would lose the most of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_alerts_due_together_all_run() -> Result<()> {
    const ALERTS: i64 = 10_000;
    const EVERY: i64 = 30;
    let mut scene = Scene::set(Plan::new(State::Postgres), Kind::Sqlite).await?;
    let alert = |n| format!("- {{name: a{n}, schedule: every {EVERY}s, query: SELECT 'OK' AS status, notify: []}}\n");
    let alerts: String = (0..ALERTS).map(alert).collect();
    scene.cluster.configure(&format!("database: {{url: '{}'}}\nalerts:\n{alerts}", scene.target.url()))?;
    scene.cluster.start()?;
    let ledger = &scene.cluster.ledger;
    let from = || async { ledger.valid_from("a0").await };
    let from = eventually("they are in force", Duration::from_secs(120), from, |_| true).await?;
    let due = (from / (EVERY * SECOND) + 1) * EVERY * SECOND;
    let ended = || async {
        let sql = "SELECT COUNT(*), COUNT(DISTINCT f.alert_name) FROM sqlsentinel_fires f \
             JOIN sqlsentinel_executions e ON e.id = f.execution_id WHERE f.scheduled_for = $1 AND f.status = 'OK'";
        Ok(sqlx::query_as::<_, (i64, i64)>(sql).bind(due).fetch_one(ledger.pool()).await?)
    };
    let all = eventually("all of them ran", Duration::from_secs(150), ended, |(_, alerts)| *alerts >= ALERTS).await?;
    assert_eq!(all, (ALERTS, ALERTS));
    scene.cluster.all_alive()
}

const STUCK: &str = "SELECT status FROM locked";

/// One connection, one job at a time: only a query that has ended lets another one run.
fn with_one_slot(configuration: &Configuration) -> String {
    configuration.text().replacen("alerts:\n", "  max_concurrency: 1\n  pool_size: 1\nalerts:\n", 1)
}

fn is_timeout(runs: &[Execution]) -> bool {
    runs.iter().all(|run| run.status != "ERROR" || run.error.contains("no answer within 1 s"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_hangs_on_a_lock_of_postgresql_is_cancelled_there_and_frees_its_slot() -> Result<()> {
    let mut scene = Scene::set(Plan::new(State::Sqlite), Kind::Postgres).await?;
    scene.target.set("orders", "OK", 7).await?;
    scene.target.run("CREATE TABLE locked AS SELECT 'OK' AS status").await?;
    let pool = scene.target_pool().await?;
    let mut holder = pool.begin().await?;
    holder.execute("LOCK TABLE locked IN ACCESS EXCLUSIVE MODE").await?;
    let configuration = scene.configuration().alert_with("stuck", "every 4s", STUCK, &[("timeout", "1s")]);
    let configuration = configuration.alert("orders", "every 1s", &scene.target.query("orders"));
    scene.cluster.configure(&with_one_slot(&configuration))?;
    scene.cluster.start()?;

    let waiting = || async {
        let sql = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%locked%'";
        Ok(sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await?)
    };
    eventually("it hangs", SOON, waiting, |count| *count == 1).await?;
    let stuck = scene.until_more("stuck", "ERROR", 2).await?;
    ensure!(is_timeout(&stuck), "{stuck:?}");
    scene.until_more("orders", "OK", 2).await?;
    eventually("nobody waits at the server", SOON, waiting, |count| *count == 0).await?;
    holder.rollback().await?;
    scene.until_more("stuck", "OK", 1).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_hangs_on_a_lock_of_mariadb_is_cancelled_there_and_frees_its_slot() -> Result<()> {
    let server = Mariadb::start().await?;
    let url = server.create_database("shop").await?;
    let mut scene = Scene::set(Plan::new(State::Sqlite), Kind::Sqlite).await?;
    let pool = server.pool("shop").await?;
    pool.execute("CREATE TABLE locked (status VARCHAR(9) NOT NULL)").await?;
    pool.execute("INSERT INTO locked VALUES ('OK')").await?;
    let mut holder = pool.acquire().await?;
    holder.execute("LOCK TABLES locked WRITE").await?;
    let configuration = Configuration::new(&url, &scene.sink.url("hook"));
    let configuration = configuration.alert_with("stuck", "every 4s", STUCK, &[("timeout", "1s")]);
    let configuration = configuration.alert("orders", "every 1s", "SELECT 'OK' AS status");
    scene.cluster.configure(&with_one_slot(&configuration))?;
    scene.cluster.start()?;

    let waiting = || async {
        let sql =
            "SELECT COUNT(*) FROM information_schema.processlist WHERE state LIKE '%lock%' AND info LIKE '%stuck%'";
        Ok(sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql)).fetch_one(&pool).await?)
    };
    // The look itself mentions it too, but waits for no lock.
    eventually("it hangs", SOON, waiting, |count| *count == 1).await?;
    let stuck = scene.until_more("stuck", "ERROR", 2).await?;
    ensure!(is_timeout(&stuck), "{stuck:?}");
    scene.until_more("orders", "OK", 2).await?;
    eventually("nobody waits at the server", SOON, waiting, |count| *count == 0).await?;
    holder.execute("UNLOCK TABLES").await?;
    scene.until_more("stuck", "OK", 1).await?;
    Ok(())
}
