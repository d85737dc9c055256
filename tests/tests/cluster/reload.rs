//! The configuration of running processes: what is changed takes effect without a restart, what is broken changes
//! nothing, and coordinators with different files do not quarrel.

mod swaps;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sqlsentinel_tests::cluster::{Plan, Role, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::ledger::{OPEN, Unaccounted};
use sqlsentinel_tests::on_both_state_databases;
use sqlsentinel_tests::process::Signal;
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::target::{Kind, Target};
use sqlsentinel_tests::wall_clock::SECOND;

on_both_state_databases!(
    a_changed_query_is_what_the_next_fires_run,
    open_fires_of_a_removed_alert_end_as_skipped,
    a_standby_that_was_changed_leads_with_the_newest_set_and_its_former_leader_does_not_flap_back,
);

const SUCCESS: &str = "sqlsentinel_config_reloads_total{result=\"success\"}";
const FAILURE: &str = "sqlsentinel_config_reloads_total{result=\"failure\"}";

async fn metric(scene: &Scene, member: &str, series: &str) -> Result<f64> {
    let (_, text) = scene.cluster.page(member, "/metrics").await?;
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("{member} has no {series}"))?.parse()?)
}

/// Waits until a member has read its files `count` times since it started, and found them good.
async fn until_reloaded(scene: &Scene, member: &str, count: f64) -> Result<()> {
    let reloads = || async { metric(scene, member, SUCCESS).await };
    eventually(&format!("{member} has reloaded"), SOON, reloads, |reloads| *reloads >= count).await?;
    scene.cluster.all_alive()
}

/// Two signals, the first of which is fine; and the queries of an alert on either.
async fn two_signals(plan: Plan) -> Result<(Scene, String, String)> {
    let scene = Scene::set(plan, Kind::Sqlite).await?;
    scene.target.set("first", "OK", 1).await?;
    scene.target.set("second", "ALERT", 2).await?;
    let queries = (scene.target.query("first"), scene.target.query("second"));
    Ok((scene, queries.0, queries.1))
}

async fn a_changed_query_is_what_the_next_fires_run(state: State) -> Result<()> {
    let (mut scene, first, second) = two_signals(Plan::new(state)).await?;
    scene.play(&scene.configuration().alert("orders", "every 1s", &first))?;
    scene.until_more("orders", "OK", 2).await?;
    let began = scene.cluster.ledger.valid_from("orders").await?;

    scene.cluster.configure(scene.configuration().alert("orders", "every 1s", &second).text())?;
    let runs = scene.until_more("orders", "ALERT", 2).await?;
    scene.until_received("orders", 1).await?;
    let statuses: Vec<_> = runs.iter().map(|run| run.status.as_str()).collect();
    let changed = statuses.iter().position(|status| *status == "ALERT").context("an alert")?;
    assert!(statuses[changed..].iter().all(|status| *status == "ALERT"), "one moment parts them: {statuses:?}");

    // No fire is missing or there twice where one version ends and the next one begins.
    assert!(scene.cluster.ledger.valid_from("orders").await? > began);
    let until = scene.cluster.ledger.leadership().await?.planned_through;
    let audit = scene.cluster.ledger.audit_from("orders", began, SECOND, until).await?;
    assert_eq!(audit, Unaccounted::default());
    Ok(())
}

async fn open_fires_of_a_removed_alert_end_as_skipped(state: State) -> Result<()> {
    let (mut scene, first, second) = two_signals(Plan::new(state).with(Role::Worker, 0)).await?;
    let stays = scene.configuration().alert("stays", "every 1s", &first);
    scene.play(&stays.clone().alert("goes", "every 1s", &second))?;
    let of = |alert: &'static str| {
        let ledger = &scene.cluster.ledger;
        move || async move { ledger.fires(Some(alert)).await }
    };
    let is_open = |status: &str| OPEN.contains(&status);
    for alert in ["goes", "stays"] {
        eventually("it has an open fire", SOON, of(alert), |fires| fires.iter().any(|fire| is_open(&fire.status)))
            .await?;
    }
    scene.cluster.configure(stays.text())?;
    let fires =
        eventually("no fire of it is open", SOON, of("goes"), |fires| fires.iter().all(|fire| !is_open(&fire.status)))
            .await?;
    let removed = fires.iter().filter(|fire| (fire.status.as_str(), fire.reason.as_str()) == ("SKIPPED", "removed"));
    assert!(removed.count() >= 1, "{fires:?}");
    assert!(of("stays")().await?.iter().any(|fire| is_open(&fire.status)), "others wait for a worker still");
    scene.cluster.all_alive()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_file_keeps_the_old_definitions_and_says_so_until_it_is_mended() -> Result<()> {
    let (mut scene, first, _) = two_signals(Plan::new(State::Sqlite)).await?;
    let good = scene.configuration().alert("orders", "every 1s", &first);
    scene.play(&good)?;
    scene.until_more("orders", "OK", 1).await?;
    for member in scene.cluster.names(None) {
        assert_eq!((metric(&scene, &member, SUCCESS).await?, metric(&scene, &member, FAILURE).await?), (0.0, 0.0));
    }

    scene.cluster.configure(&good.text().replace("query:", "qery:").replace("schedule:", "shedule:"))?;
    let configuration = |member: String| {
        let cluster = &scene.cluster;
        move || {
            let member = member.clone();
            async move { Ok(cluster.health(&member).await?["checks"]["configuration"].clone()) }
        }
    };
    for member in scene.cluster.names(None) {
        let told =
            |check: &Value| check["status"] == "degraded" && check["message"].to_string().contains("alerts.yaml:");
        eventually("its health says so", SOON, configuration(member.clone()), told).await?;
        assert_eq!(metric(&scene, &member, FAILURE).await?, 1.0, "{member}");
        assert_eq!(metric(&scene, &member, "sqlsentinel_config_last_reload_successful").await?, 0.0, "{member}");
        let ready = || async { Ok(scene.cluster.page(&member, "/ready").await?.0) };
        eventually(&format!("{member} serves what it has"), SOON, ready, |status| *status == 200).await?;
        let log = scene.cluster.log(&member)?;
        let errors = log.lines().filter(|line| line.contains(r#""level":"ERROR""#));
        let told = errors.filter(|line| line.contains("`qery`") && line.contains("`shedule`"));
        assert_eq!(told.count(), 1, "{member} names every problem, once: {log}");
    }
    scene.until_more("orders", "OK", 2).await?;

    scene.cluster.configure(good.text())?;
    for member in scene.cluster.names(None) {
        let mended = |check: &Value| check["status"] == "healthy";
        eventually("its health is good again", SOON, configuration(member.clone()), mended).await?;
        assert_eq!(metric(&scene, &member, SUCCESS).await?, 1.0, "{member}");
    }
    scene.until_more("orders", "OK", 1).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_come_move_and_go_without_a_restart() -> Result<()> {
    let (mut scene, first, _) = two_signals(Plan::new(State::Sqlite)).await?;
    scene.play(&scene.configuration().alert("orders", "every 1s", &first))?;
    scene.until_more("orders", "OK", 1).await?;

    let folder = scene.cluster.directory().join("another");
    std::fs::create_dir(&folder)?;
    let another = Target::sqlite(&folder).await?;
    another.set("first", "ALERT", 3).await?;
    let yaml = |default: &str, late: Option<&str>| {
        let alert = |name: &str, database: &str| {
            format!("  - {{name: {name}, database: {database}, schedule: every 1s, query: \"{first}\", notify: []}}\n")
        };
        let databases = late.map(|url| format!("databases: {{late: {{url: '{url}'}}}}\n")).unwrap_or_default();
        let late = late.map(|_| alert("late", "late")).unwrap_or_default();
        format!("database: {{url: '{default}'}}\n{databases}alerts:\n{}{late}", alert("orders", "default"))
    };

    // It comes; what was there goes on.
    scene.cluster.configure(&yaml(scene.target.url(), Some(another.url())))?;
    scene.until_more("late", "ALERT", 2).await?;
    scene.until_more("orders", "OK", 1).await?;
    // It moves: the same definitions, another place.
    scene.cluster.configure(&yaml(another.url(), Some(another.url())))?;
    scene.until_more("orders", "ALERT", 2).await?;
    // It goes.
    scene.cluster.configure(&yaml(another.url(), None))?;
    let health = || async { scene.cluster.health("worker-1").await };
    let one = |health: &Value| health["checks"]["jobs"]["message"] == "1 of 1 sources in order";
    eventually("one lane is left", SOON, health, one).await?;
    scene.until_more("orders", "ALERT", 2).await?;
    assert!(!scene.cluster.log("worker-1")?.contains("cannot pull jobs"), "{}", scene.cluster.log("worker-1")?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_notification_goes_where_the_changed_channel_leads() -> Result<()> {
    let (mut scene, first, _) = two_signals(Plan::new(State::Sqlite)).await?;
    scene.target.set("first", "ALERT", 1).await?;
    let configuration = scene.configuration().alert("orders", "every 1s", &first);
    scene.play(&configuration)?;
    assert_eq!(scene.until_received("orders", 1).await?[0].path, "/hook");
    scene.target.set("first", "OK", 1).await?;
    scene.until_more("orders", "OK", 1).await?;

    scene.cluster.configure(&configuration.text().replace("/hook", "/changed"))?;
    until_reloaded(&scene, "notifier-1", 1.0).await?;
    scene.target.set("first", "ALERT", 1).await?;
    let received = scene.until_received("orders", 2).await?;
    assert_eq!(received[1].path, "/changed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_reads_what_did_not_change_and_ends_nobody() -> Result<()> {
    let (mut scene, first, _) = two_signals(Plan::new(State::Sqlite).with(Role::Coordinator, 2)).await?;
    scene.play(&scene.configuration().alert("orders", "every 1s", &first))?;
    scene.until_more("orders", "OK", 1).await?;
    for member in scene.cluster.names(None) {
        let ready = || async { Ok(scene.cluster.page(&member, "/ready").await?.0) };
        eventually("it is ready", SOON, ready, |status| *status == 200).await?;
        // Without a change nobody else makes it read its files.
        assert_eq!(metric(&scene, &member, SUCCESS).await?, 0.0, "{member}");
        scene.cluster.process(&member)?.signal(Signal::HUP)?;
        until_reloaded(&scene, &member, 1.0).await?;
        scene.cluster.process(&member)?.signal(Signal::HUP)?;
        until_reloaded(&scene, &member, 2.0).await?;
    }
    scene.until_more("orders", "OK", 1).await?;
    Ok(())
}

async fn a_standby_that_was_changed_leads_with_the_newest_set_and_its_former_leader_does_not_flap_back(
    state: State,
) -> Result<()> {
    let (mut scene, first, second) = two_signals(Plan::new(state).with(Role::Coordinator, 2)).await?;
    let old = scene.configuration().alert("orders", "every 1s", &first);
    let new = scene.configuration().alert("orders", "every 1s", &second);
    for coordinator in scene.cluster.names(Some(Role::Coordinator)) {
        scene.cluster.configure_one(&coordinator, old.text())?;
    }
    scene.play(&old)?;
    scene.until_more("orders", "OK", 1).await?;
    let (former, reign) = scene.cluster.leader().await?;
    let others = scene.cluster.names(Some(Role::Coordinator));
    let standby = others.into_iter().find(|name| *name != former).context("a standby")?;
    let ready = || async { Ok(scene.cluster.page(&standby, "/ready").await?.0) };
    eventually("the standby is ready", SOON, ready, |status| *status == 200).await?;

    // The standby holds what it was told, and the leader leads on.
    scene.cluster.configure_one(&standby, new.text())?;
    until_reloaded(&scene, &standby, 1.0).await?;
    let runs = scene.until_more("orders", "OK", 2).await?;
    ensure!(runs.iter().all(|run| run.status == "OK"), "only leaders decide: {runs:?}");
    scene.cluster.kill(&former).await?;
    let (_, reign) = scene.cluster.successor_of(&reign).await?;
    scene.until_more("orders", "ALERT", 1).await?;

    // Back with its old file, the former leader leads with what the cluster runs by now.
    scene.cluster.start_one(&former)?;
    let ready = || async { Ok(scene.cluster.page(&former, "/ready").await?.0) };
    eventually("it stands by", SOON, ready, |status| *status == 200).await?;
    scene.cluster.kill(&standby).await?;
    let (_, reign) = scene.cluster.successor_of(&reign).await?;
    until_drift(&scene, &former, 1.0).await?;
    scene.until_more("orders", "ALERT", 2).await?;
    let planned = scene.cluster.ledger.valid_from("orders").await?;

    // And the other one, whose change was served long ago, does not bring it up again after a newer one.
    scene.cluster.start_one(&standby)?;
    let ready = || async { Ok(scene.cluster.page(&standby, "/ready").await?.0) };
    eventually("it stands by", SOON, ready, |status| *status == 200).await?;
    assert_eq!(scene.cluster.ledger.valid_from("orders").await?, planned);
    scene.cluster.configure_one(&former, new.text())?;
    until_drift(&scene, &former, 0.0).await?;
    scene.cluster.configure_one(&former, old.text())?;
    scene.until_more("orders", "OK", 1).await?;
    scene.cluster.kill(&former).await?;
    scene.cluster.successor_of(&reign).await?;
    let runs = scene.until_more("orders", "OK", 2).await?;
    ensure!(runs.last().is_some_and(|run| run.status == "OK"), "the last change stays in force: {runs:?}");
    Ok(())
}

/// Waits until a leader says whether its file is what is in force (0) or an older one (1).
async fn until_drift(scene: &Scene, name: &str, expected: f64) -> Result<()> {
    let drift = || async { metric(scene, name, "sqlsentinel_definitions_drift").await };
    eventually("it says how its file is", SOON, drift, |drift| *drift == expected).await?;
    Ok(())
}
