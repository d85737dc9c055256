//! Thirty seconds in which any process may be killed at any moment, and an audit afterwards that computes for itself
//! what should have happened.
//!
//! `SEED=<number>` repeats the choices of an earlier run (not its timing); each run prints its seed.

#![expect(clippy::print_stdout, reason = "the runner shows what was measured")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sqlsentinel_tests::cluster::{Cluster, Plan, Role, State};
use sqlsentinel_tests::eventually::eventually;
use sqlsentinel_tests::ledger::{Ledger, Unaccounted};
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::sink::Answer;
use sqlsentinel_tests::target::{Kind, Target};
use sqlsentinel_tests::wall_clock::{SECOND, now};

const ALERTS: usize = 55;
/// How many of them change their status meanwhile.
const CHANGING: usize = 15;
const LOOP: Duration = Duration::from_secs(30);
/// What is under way when the killing ends may have to wait for a redelivery, a rescue or a deadline.
const QUIET: Duration = Duration::from_secs(150);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fire_run_and_notification_is_accounted_for_whatever_is_killed() -> Result<()> {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| rand::rng().random());
    println!("SEED={seed}");
    let plan = Plan::new(State::Postgres).with(Role::Coordinator, 2).with(Role::Worker, 2).with(Role::Notifier, 2);
    // A short lease: with the usual one, half of the time would pass without a leader whom one could kill.
    let plan = plan.env("SQLSENTINEL_LEASE_TTL_SECONDS", 2).env("SQLSENTINEL_RESCUE_SECONDS", 2);
    let plan = plan.env("SQLSENTINEL_CLAIM_LEASE_SECONDS", 15);
    let mut scene = Scene::set(plan, Kind::Postgres).await?;
    let names: Vec<String> = (0..ALERTS).map(|number| format!("alert-{number}")).collect();
    let mut configuration = scene.configuration();
    for name in &names {
        scene.target.set(name, "OK", 0).await?;
        // Slow enough for a worker to be killed in the middle of it.
        let query = scene.target.slow_query(name, Duration::from_millis(100));
        configuration = configuration.alert_with(name, "every 1s", &query, &[("timeout", "5s")]);
    }
    // And for a notifier between sending and the receipt.
    scene.sink.answer(Answer::Late(Duration::from_millis(100), 200));
    scene.play(&configuration)?;
    scene.until_more("alert-0", "OK", 2).await?;

    let (killed, changed) = {
        let (ledger, target) = (scene.cluster.ledger.clone(), scene.target.clone());
        let change = change_signals(&ledger, &target, &names[..CHANGING]);
        let mut rng = StdRng::seed_from_u64(seed);
        tokio::try_join!(kill_members(&mut scene.cluster, &mut rng), change)?
    };
    println!("killed {killed:?}");
    println!("raised {} alarms", changed.values().sum::<i64>());
    assert!(killed.values().sum::<usize>() >= 10, "the loop was to kill: {killed:?}");
    assert!(killed.keys().any(|name| name.starts_with("coordinator")), "{killed:?}");

    let moment = now();
    scene.until_closed(moment, QUIET).await?;
    expected_notifications_arrived(&scene, &changed).await?;
    every_due_fire_is_accounted_for(&scene, &names, moment / SECOND * SECOND).await?;
    runs_match_the_record(&scene, moment).await
}

/// Kills a member three times a second or so, the leader in one case of three, and starts it again a moment later.
async fn kill_members(cluster: &mut Cluster, rng: &mut StdRng) -> Result<BTreeMap<String, usize>> {
    let mut killed: BTreeMap<String, usize> = BTreeMap::new();
    let mut down: Vec<(Instant, String)> = Vec::new();
    let began = Instant::now();
    while began.elapsed() < LOOP {
        tokio::time::sleep(Duration::from_millis(rng.random_range(100..600))).await;
        let leader = cluster.ledger.leadership().await?.holder;
        let names = cluster.names(None);
        let victim = if rng.random_ratio(1, 3) { leader } else { names[rng.random_range(0..names.len())].clone() };
        let absence = Duration::from_millis(rng.random_range(100..1_500));
        if cluster.is_running(&victim) {
            ensure_alive(cluster, &victim)?;
            cluster.kill(&victim).await?;
            *killed.entry(victim.clone()).or_default() += 1;
            down.push((Instant::now() + absence, victim));
        }
        let (due, later): (Vec<_>, Vec<_>) = down.into_iter().partition(|(when, _)| *when <= Instant::now());
        down = later;
        for (_, name) in due {
            cluster.start_one(&name)?;
        }
    }
    cluster.start()?;
    Ok(killed)
}

fn ensure_alive(cluster: &Cluster, name: &str) -> Result<()> {
    let ended = cluster.process(name)?.ended()?;
    ensure!(ended.is_none(), "{name} ended by itself ({ended:?}):\n{}", cluster.log(name)?);
    Ok(())
}

/// Raises an alarm on each of `names` again and again, each time with the next value, and always waits until the
/// cluster has judged it before it changes anything. Returns how many alarms it raised for each.
async fn change_signals(ledger: &Ledger, target: &Target, names: &[String]) -> Result<BTreeMap<String, i64>> {
    let began = Instant::now();
    let rounds = names.iter().map(|name| async move {
        let mut alarms = 0;
        while began.elapsed() < LOOP {
            alarms += 1;
            for status in ["ALERT", "OK"] {
                target.set(name, status, alarms).await?;
                let state = || async { ledger.state(name).await };
                eventually("the state follows", QUIET, state, |state| state.as_deref() == Some(status)).await?;
            }
        }
        anyhow::Ok((name.clone(), alarms))
    });
    Ok(futures::future::try_join_all(rounds).await?.into_iter().collect())
}

/// Every alarm was told, under one id, and told again only with the mark.
async fn expected_notifications_arrived(scene: &Scene, changed: &BTreeMap<String, i64>) -> Result<()> {
    let rows = || async { scene.cluster.ledger.notifications(None).await };
    let rows =
        eventually("nothing is left to send", QUIET, rows, |rows| rows.iter().all(|row| row.status == "SENT")).await?;
    let ids: BTreeSet<&str> = rows.iter().filter(|row| row.kind == "alert").map(|row| row.id.as_str()).collect();

    let mut told: BTreeMap<(String, i64), BTreeSet<String>> = BTreeMap::new();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for request in scene.sink.received() {
        let id = request.header("idempotency-key").to_owned();
        if request.text("status") == "ALERT" {
            let value = request.json["actual_value"].as_i64().context("an alarm has its number as value")?;
            told.entry((request.text("alert_name").to_owned(), value)).or_default().insert(id.clone());
            assert!(ids.contains(id.as_str()), "what arrived is in the ledger: {id}");
        }
        let marked = request.json["possible_duplicate"] == true;
        assert!(seen.insert(id) || marked, "a repetition without its mark: {:?}", request.json);
    }
    let expected: BTreeSet<(String, i64)> =
        changed.iter().flat_map(|(name, alarms)| (1..=*alarms).map(|alarm| (name.clone(), alarm))).collect();
    assert_eq!(told.keys().cloned().collect::<BTreeSet<_>>(), expected);
    let twice: Vec<_> = told.iter().filter(|(_, ids)| ids.len() != 1).collect();
    assert!(twice.is_empty(), "one alarm is one notification: {twice:?}");
    Ok(())
}

/// Each second of each alert is one fire or lies in one gap, and each fire that ran has one record.
async fn every_due_fire_is_accounted_for(scene: &Scene, names: &[String], until: i64) -> Result<()> {
    let ledger = &scene.cluster.ledger;
    assert_eq!(ledger.audit(names, SECOND, until).await?, Unaccounted::default());
    for gap in ledger.gaps(None).await? {
        assert_eq!(gap.fires, (gap.last - gap.first) / SECOND + 1, "a gap counts what it covers: {gap:?}");
    }
    let executions = ledger.executions(None).await?;
    let records: BTreeSet<&str> = executions.iter().map(|run| run.id.as_str()).collect();
    assert_eq!(records.len(), executions.len(), "no execution has two records");
    let fires = ledger.fires(None).await?;
    let due: Vec<_> = fires.iter().filter(|fire| fire.scheduled_for <= until).collect();
    let mut ran = 0;
    for fire in &due {
        let has_run = !["SKIPPED", "EXPIRED"].contains(&fire.status.as_str());
        assert_eq!(records.contains(fire.execution_id.as_str()), has_run, "{fire:?}");
        ran += usize::from(has_run);
    }
    let gaps: i64 = ledger.gaps(None).await?.iter().map(|gap| gap.fires).sum();
    println!("{} fires, {ran} of which ran, and {gaps} fires in gaps", due.len());
    assert!(ran > ALERTS * 10, "the loop was to run: {ran} records");
    Ok(())
}

/// What ran at the target is what the records say: no execution ran more often than it was handed out, and none of
/// those that have a verdict ran never.
async fn runs_match_the_record(scene: &Scene, moment: i64) -> Result<()> {
    let fires = scene.cluster.ledger.fires(None).await?;
    let closed: BTreeSet<_> =
        fires.into_iter().filter(|fire| fire.scheduled_for <= moment).map(|fire| fire.execution_id).collect();
    let mut runs: BTreeMap<String, i64> = BTreeMap::new();
    for run in scene.runs("alert-")? {
        *runs.entry(run.application_name).or_default() += 1;
    }
    let (mut total, mut repeated) = (0, 0);
    for run in scene.cluster.ledger.executions(None).await? {
        if !closed.contains(&run.id) || run.status == "ERROR" {
            continue;
        }
        let ran: i64 = runs.iter().filter(|(name, _)| name.contains(&run.id)).map(|(_, count)| count).sum();
        assert!((1..=run.attempt * run.delivery).contains(&ran), "{run:?} ran {ran} times at the target");
        total += ran;
        repeated += i64::from(ran > 1);
    }
    println!("{total} runs at the target, {repeated} executions ran more than once");
    Ok(())
}
