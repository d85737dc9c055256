//! Notifiers: away, killed at the worst moment, several at once, and in front of a receiver that fails.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use sqlsentinel_tests::cluster::{Plan, Role, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::on_both_state_databases;
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::sink::Answer;
use sqlsentinel_tests::target::Kind;
use sqlsentinel_tests::wall_clock::{SECOND, now};

on_both_state_databases!(
    while_notifiers_are_away_the_target_is_still_queried_once_a_fire,
    what_was_sent_without_a_receipt_is_sent_again_and_marked,
    two_notifiers_send_one_notification,
    a_receiver_that_recovers_gets_one_notification,
    a_receiver_that_was_not_there_gets_one_notification_when_it_is,
    an_outcome_that_cannot_be_recorded_costs_the_others_of_its_batch_nothing,
    what_a_receiver_refuses_for_good_is_dead_and_not_repeated,
);

async fn while_notifiers_are_away_the_target_is_still_queried_once_a_fire(state: State) -> Result<()> {
    let rescue_seconds: i64 = 2;
    let plan = Plan::new(state).env("SQLSENTINEL_RESCUE_SECONDS", rescue_seconds);
    let mut scene = Scene::set(plan, Kind::Postgres).await?;
    scene.target.set("orders", "ALERT", 7).await?;
    scene.play(&scene.configuration().alert("orders", "every 1s", &scene.target.query("orders")))?;
    // The alert has been told, receipt and all: what is killed next has nothing under way.
    let told = || async { scene.cluster.ledger.notifications(Some("orders")).await };
    eventually("the alert is told", SOON, told, |seen| seen.iter().any(|notice| notice.status == "SENT")).await?;
    scene.cluster.kill_all(Role::Notifier).await?;

    // One more run, whose outcome then waits; the alert's next fires do not overlap it. Several rescues pass meanwhile.
    let judged = scene.cluster.ledger.executions(Some("orders")).await?.len();
    eventually("a run goes unjudged", SOON, || async { Ok(scene.runs("orders")?.len()) }, |runs| *runs > judged)
        .await?;
    let until = now() + 5 * rescue_seconds * SECOND;
    let planned = || async { Ok(scene.cluster.ledger.leadership().await?.planned_through) };
    eventually("the leader goes on for several rescues", SOON, planned, |through| *through > until).await?;
    // And perhaps one that was recorded, but not acked any more.
    assert!(scene.cluster.nats.depth("RESULTS").await?.is_some_and(|depth| depth >= 1), "the outcome waits");
    let moment = now();
    scene.cluster.start()?;
    let fires = scene.until_closed(moment, SOON).await?;

    let mut runs: BTreeMap<String, usize> = BTreeMap::new();
    for run in scene.runs("orders")? {
        *runs.entry(run.application_name).or_default() += 1;
    }
    assert!(runs.len() > judged && runs.values().all(|count| *count == 1), "{runs:?}");
    assert!(fires.iter().all(|fire| fire.attempt <= 1), "nothing was rescued: {fires:?}");
    assert!(fires.iter().all(|fire| fire.status == "ALERT" || fire.status == "SKIPPED"), "{fires:?}");
    assert_eq!(scene.sink.received().len(), 1);
    Ok(())
}

async fn what_was_sent_without_a_receipt_is_sent_again_and_marked(state: State) -> Result<()> {
    let plan = Plan::new(state).env("SQLSENTINEL_CLAIM_LEASE_SECONDS", 15);
    let mut scene = Scene::set(plan, Kind::Sqlite).await?;
    scene.target.set("orders", "ALERT", 7).await?;
    scene.sink.answer(Answer::Hang);
    scene.play(&scene.configuration().alert("orders", "every 1s", &scene.target.query("orders")))?;
    let first = scene.until_received("orders", 1).await?.remove(0);
    scene.cluster.kill("notifier-1").await?;
    scene.sink.answer(Answer::Status(200));
    scene.cluster.start()?;

    let second = scene.until_received("orders", 2).await?.remove(1);
    assert_ne!(first.json["possible_duplicate"], true);
    assert_eq!(second.json["possible_duplicate"], true);
    assert_eq!(second.header("idempotency-key"), first.header("idempotency-key"));
    let rows = || async { scene.cluster.ledger.notifications(Some("orders")).await };
    let rows =
        eventually("the receipt is kept", SOON, rows, |rows| rows.iter().all(|row| row.status == "SENT")).await?;
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].attempt, rows[0].possible_duplicate), (2, true));
    scene.until_more("orders", "ALERT", 3).await?;
    assert_eq!(scene.sink.received().len(), 2);
    Ok(())
}

async fn two_notifiers_send_one_notification(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state).with(Role::Notifier, 2).with(Role::Worker, 2), Kind::Sqlite).await?;
    let mut configuration = scene.configuration();
    let names: Vec<String> = (0..10).map(|number| format!("alert-{number}")).collect();
    for name in &names {
        scene.target.set(name, "ALERT", 7).await?;
        configuration = configuration.alert(name, "every 1s", &scene.target.query(name));
    }
    scene.play(&configuration)?;
    for name in &names {
        scene.until_received(name, 1).await?;
        scene.until_more(name, "ALERT", 3).await?;
        assert_eq!(scene.sink.about(name).len(), 1, "{name}");
    }
    Ok(())
}

async fn a_receiver_that_recovers_gets_one_notification(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state), Kind::Sqlite).await?;
    scene.target.set("orders", "ALERT", 7).await?;
    scene.sink.answer_once(Answer::Status(503));
    scene.sink.answer_once(Answer::StatusWithHeader(429, "retry-after", "1".to_owned()));
    scene.play(&scene.configuration().alert("orders", "every 1s", &scene.target.query("orders")))?;

    let arrived = scene.until_received("orders", 3).await?;
    assert!(arrived[2].at - arrived[1].at >= Duration::from_millis(900), "Retry-After is kept");
    let rows = || async { scene.cluster.ledger.notifications(Some("orders")).await };
    let rows = eventually("it is sent", SOON, rows, |rows| rows.iter().all(|row| row.status == "SENT")).await?;
    assert_eq!((rows.len(), rows[0].attempt, rows[0].possible_duplicate), (1, 3, false));
    assert!(arrived.iter().all(|request| request.header("idempotency-key") == rows[0].id));
    scene.until_more("orders", "ALERT", 3).await?;
    assert_eq!(scene.sink.received().len(), 3);
    Ok(())
}

async fn a_receiver_that_was_not_there_gets_one_notification_when_it_is(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state), Kind::Sqlite).await?;
    scene.target.set("orders", "ALERT", 7).await?;
    scene.sink.away().await;
    scene.play(&scene.configuration().alert("orders", "every 1s", &scene.target.query("orders")))?;
    let rows = || async { scene.cluster.ledger.notifications(Some("orders")).await };
    eventually("two attempts", SOON, rows, |rows| rows.iter().any(|row| row.attempt >= 2)).await?;
    assert_eq!(scene.sink.received().len(), 0);
    scene.sink.back().await?;

    let told = scene.until_received("orders", 1).await?.remove(0);
    assert_ne!(told.json["possible_duplicate"], true, "nothing of the attempts before can have arrived");
    let rows = || async { scene.cluster.ledger.notifications(Some("orders")).await };
    let sent = eventually("it is sent", SOON, rows, |rows| rows.iter().all(|row| row.status == "SENT")).await?;
    assert_eq!(
        (sent.len(), sent[0].possible_duplicate, sent[0].id.as_str()),
        (1, false, told.header("idempotency-key"))
    );
    scene.until_more("orders", "ALERT", 3).await?;
    assert_eq!(scene.sink.received().len(), 1);
    Ok(())
}

async fn an_outcome_that_cannot_be_recorded_costs_the_others_of_its_batch_nothing(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state), Kind::Sqlite).await?;
    let mut names: Vec<String> = (0..5).map(|number| format!("good-{number}")).collect();
    names.push("poison".to_owned());
    let mut configuration = scene.configuration();
    for name in &names {
        scene.target.set(name, "OK", 7).await?;
        configuration = configuration.alert(name, "every 1s", &scene.target.query(name));
    }
    scene.play(&configuration)?;
    for name in &names {
        scene.until_more(name, "OK", 1).await?;
    }
    // Their next outcomes wait together, the poisoned one among them.
    scene.cluster.kill_all(Role::Notifier).await?;
    let refuse = match state {
        State::Postgres => {
            "ALTER TABLE sqlsentinel_executions ADD CONSTRAINT no_poison CHECK (alert_name <> 'poison') NOT VALID"
        }
        State::Sqlite => {
            "CREATE TRIGGER no_poison BEFORE INSERT ON sqlsentinel_executions WHEN NEW.alert_name = 'poison' \
             BEGIN SELECT RAISE(ABORT, 'no poison'); END"
        }
    };
    sqlx::query(refuse).execute(scene.cluster.ledger.pool()).await?;
    let so_far = scene.cluster.ledger.executions(Some("poison")).await?.len();
    let waiting = || async { scene.cluster.nats.depth("RESULTS").await };
    let all = u64::try_from(names.len())?;
    eventually("an outcome of each waits", SOON, waiting, |depth| depth.is_some_and(|depth| depth >= all)).await?;
    scene.cluster.start()?;

    for name in &names[..5] {
        scene.until_more(name, "OK", 2).await?;
    }
    let dead = || async { scene.cluster.nats.depth("DEAD").await };
    eventually("the poisoned one is put away", SOON, dead, |depth| depth.is_some_and(|depth| depth >= 1)).await?;
    assert_eq!(scene.cluster.ledger.executions(Some("poison")).await?.len(), so_far);
    let (_, metrics) = scene.cluster.page("notifier-1", "/metrics").await?;
    let figure = |name: &str| {
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(&format!("sqlsentinel_outcomes_total{{result=\"{name}\"}} ")));
        line.and_then(|value| value.parse::<f64>().ok())
    };
    assert!(figure("dead_lettered").is_some_and(|count| count >= 1.0), "{metrics}");
    assert!(figure("recorded").is_some_and(|count| count >= 10.0), "{metrics}");
    Ok(())
}

async fn what_a_receiver_refuses_for_good_is_dead_and_not_repeated(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state), Kind::Sqlite).await?;
    scene.target.set("orders", "ALERT", 7).await?;
    scene.sink.answer(Answer::Status(410));
    scene.play(&scene.configuration().alert("orders", "every 1s", &scene.target.query("orders")))?;
    let rows = || async { scene.cluster.ledger.notifications(Some("orders")).await };
    let dead = |rows: &Vec<sqlsentinel_tests::ledger::Notification>| rows.iter().any(|row| row.status == "DEAD");
    eventually("it is dead", SOON, rows, dead).await?;
    scene.until_more("orders", "ALERT", 3).await?;
    assert_eq!(scene.sink.received().len(), 1);
    Ok(())
}
