//! Every member is stopped (SIGTERM) and started again, one after the other, while alerts run: what an upgrade does.
//! Nothing waits for a rescue then, nothing runs twice, and nothing is told with a doubt.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use sqlsentinel_tests::cluster::{Plan, Role, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::ledger::{Notification, Unaccounted};
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::sink::Answer;
use sqlsentinel_tests::target::Kind;
use sqlsentinel_tests::wall_clock::{SECOND, now};

const ALERTS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_misses_repeats_and_doubts_nothing() -> Result<()> {
    let plan = Plan::new(State::Postgres).with(Role::Coordinator, 2).with(Role::Worker, 2).with(Role::Notifier, 2);
    let mut scene = Scene::set(plan, Kind::Postgres).await?;
    let names: Vec<String> = (0..ALERTS).map(|number| format!("alert-{number}")).collect();
    let mut configuration = scene.configuration();
    for name in &names {
        scene.target.set(name, "OK", 0).await?;
        // So slow that every worker that is stopped is in the middle of some.
        let query = scene.target.slow_query(name, Duration::from_millis(200));
        configuration = configuration.alert_with(name, "every 1s", &query, &[("overlap", "allow"), ("misfire", "all")]);
    }
    // And every notifier that is stopped in the middle of a message.
    scene.sink.answer(Answer::Late(Duration::from_millis(200), 200));
    scene.play(&configuration)?;
    scene.until_more("alert-0", "OK", 2).await?;

    let mut calm = names.iter();
    let mut raised: Vec<&str> = Vec::new();
    // In the order that the guide gives.
    let order = [Role::Notifier, Role::Worker, Role::Coordinator];
    for member in order.into_iter().flat_map(|role| scene.cluster.names(Some(role))).collect::<Vec<_>>() {
        for name in calm.by_ref().take(3) {
            scene.target.set(name, "ALERT", 1).await?;
            raised.push(name);
        }
        let status = scene.cluster.terminate(&member).await?;
        ensure!(status.success(), "{member} ended with {status}:\n{}", scene.cluster.log(&member)?);
        scene.cluster.start_one(&member)?;
        let ready = || async { Ok(scene.cluster.page(&member, "/ready").await.map_or(0, |(status, _)| status)) };
        eventually(&format!("{member} is ready again"), SOON, ready, |status| *status == 200).await?;
        scene.until_more("alert-0", "ALERT", 1).await?;
    }

    let moment = now();
    let fires = scene.until_closed(moment, SOON).await?;
    let ledger = &scene.cluster.ledger;
    assert_eq!(ledger.audit(&names, SECOND, moment / SECOND * SECOND).await?, Unaccounted::default());
    assert_eq!(ledger.gaps(None).await?, [], "no fire was left out");
    let mut runs: BTreeMap<String, usize> = BTreeMap::new();
    for run in scene.runs("alert-")? {
        *runs.entry(run.application_name).or_default() += 1;
    }
    for fire in &fires {
        assert!(["OK", "ALERT"].contains(&fire.status.as_str()) && fire.attempt == 1, "{fire:?}");
        let ran: usize =
            runs.iter().filter(|(name, _)| name.contains(&fire.execution_id)).map(|(_, count)| count).sum();
        assert_eq!(ran, 1, "runs at the target of {fire:?}");
    }

    let sent = || async { ledger.notifications(None).await };
    let all_sent = |rows: &Vec<Notification>| rows.iter().all(|row| row.status == "SENT");
    let rows = eventually("everything is told", SOON, sent, all_sent).await?;
    assert_eq!(rows.len(), raised.len(), "{rows:?}");
    for name in raised {
        let about = scene.sink.about(name);
        assert_eq!(about.len(), 1, "{name} is told once: {about:?}");
        assert_ne!(about[0].json["possible_duplicate"], true, "{name} is told without a doubt");
    }
    scene.cluster.all_alive()
}
