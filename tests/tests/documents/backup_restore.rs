//! The guide to backups, followed: its commands are run against a cluster that goes on after the copy.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sqlsentinel_tests::cluster::{Plan, Role, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::ledger::{Ledger, OPEN, Unaccounted};
use sqlsentinel_tests::nats::Nats;
use sqlsentinel_tests::on_both_state_databases;
use sqlsentinel_tests::postgres::Postgres;
use sqlsentinel_tests::process::Launch;
use sqlsentinel_tests::programs;
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::sink::Answer;
use sqlsentinel_tests::target::Kind;
use sqlsentinel_tests::wall_clock::{SECOND, now};
use sqlx::{AssertSqlSafe, Executor};

use crate::markdown::{read, texts_marked};

on_both_state_databases!(
    a_copy_of_a_running_cluster_is_restored_by_the_guide,
    a_copy_is_restored_on_another_machine,
    a_nats_that_lost_its_files_costs_no_fire,
);

const GUIDE: &str = "docs/guides/backup-restore.md";
/// In the copy, its news could not be delivered yet.
const WAITS: &str = "waits";
/// Its news is told after the copy.
const FLIPS: &str = "flips";
const ALERTS: [&str; 3] = ["orders", WAITS, FLIPS];

#[derive(Clone, Copy, PartialEq)]
enum Lost {
    StateDatabase,
    Everything,
}

async fn a_copy_of_a_running_cluster_is_restored_by_the_guide(state: State) -> Result<()> {
    is_restored(state, Lost::StateDatabase).await
}

async fn a_copy_is_restored_on_another_machine(state: State) -> Result<()> {
    is_restored(state, Lost::Everything).await
}

/// Who owns the state database: a superuser, and once it is restored somebody who is none.
const BEFORE: &str = "postgres";
const AFTER: &str = "sqlsentinel_state";

/// The state database's URL for this owner.
fn state_url(scene: &Scene, owner: &str) -> String {
    match &scene.cluster.postgres {
        Some(server) => server.url("state").replacen(&format!("{BEFORE}@"), &format!("{owner}@"), 1),
        None => format!("sqlite:///{}", scene.cluster.directory().join("state.db").display()),
    }
}

/// Runs the commands of the guide's block as its reader does, in the folder of the state database.
async fn follow(scene: &Scene, mark: &str, owner: &str) -> Result<()> {
    let script = texts_marked(&read(GUIDE)?, &format!("sh {mark}")).pop();
    // The harness calls its file otherwise.
    let script =
        script.with_context(|| format!("the guide has no block `sh {mark}`"))?.replace("sqlsentinel.db", "state.db");
    let mut launch = Launch::new(mark, "/bin/sh".into(), scene.cluster.directory()).args(["-eu", "-c", &script]);
    let folder = |program: &Path| program.parent().unwrap_or(Path::new("/")).display().to_string();
    let path =
        [folder(&programs::postgres("pg_dump")?), folder(&programs::ours("sqlsentinel-ctl")?), "/bin:/usr/bin".into()];
    let mut variables = BTreeMap::from([
        ("PATH", path.join(":")),
        ("BACKUP", scene.cluster.directory().join("state.backup").display().to_string()),
        ("STATE_DB_URL", state_url(scene, owner)),
        ("NATS_URL", scene.cluster.nats.url()),
    ]);
    if let Some(server) = &scene.cluster.postgres {
        variables.extend([
            ("ADMIN_URL", server.url("postgres")),
            ("DATABASE", "state".into()),
            ("OWNER", owner.into()),
        ]);
    }
    launch.env.extend(variables.into_iter().map(|(name, value)| (name.to_owned(), value)));
    let process = launch.start()?;
    let status = process.wait(SOON).await?;
    ensure!(status.success(), "{mark}: {status}\n{}", process.log()?);
    Ok(())
}

/// A cluster that runs, and has news that cannot be delivered.
async fn running(state: State) -> Result<Scene> {
    let plan = Plan::new(state).with(Role::Coordinator, 2).env("SQLSENTINEL_RESCUE_SECONDS", 1);
    let mut scene = Scene::set(plan, Kind::Sqlite).await?;
    let mut configuration = scene.configuration();
    for name in ALERTS {
        scene.target.set(name, "OK", 7).await?;
        configuration = configuration.alert(name, "every 1s", &scene.target.query(name));
    }
    scene.play(&configuration)?;
    scene.until_more("orders", "OK", 2).await?;
    scene.sink.answer(Answer::Status(503));
    scene.target.set(WAITS, "ALERT", 120).await?;
    scene.until_received(WAITS, 1).await?;
    Ok(scene)
}

async fn is_restored(state: State, lost: Lost) -> Result<()> {
    let mut scene = running(state).await?;
    let copied = now();
    let history = scene.cluster.ledger.executions(None).await?;
    follow(&scene, if state == State::Sqlite { "backup-sqlite" } else { "backup-postgres" }, BEFORE).await?;

    // It goes on: what waited is delivered, something else is told, and seconds pass.
    scene.sink.answer(Answer::Status(200));
    scene.target.set(FLIPS, "ALERT", 120).await?;
    for name in [WAITS, FLIPS] {
        let sent = || async { scene.cluster.ledger.notifications(Some(name)).await };
        eventually("it is told", SOON, sent, |rows| rows.iter().any(|row| row.status == "SENT")).await?;
    }
    let row = || async { scene.cluster.ledger.leadership().await };
    eventually("five seconds are planned", SOON, row, |row| row.planned_through > copied + 5 * SECOND).await?;
    let told = scene.sink.received().len();

    restore(&mut scene, state, lost).await?;

    // All of the past is there, and what is due since the copy is accounted for once.
    for name in ALERTS {
        scene.until_more(name, if name == "orders" { "OK" } else { "ALERT" }, 2).await?;
    }
    let now_there = scene.cluster.ledger.executions(None).await?;
    for run in history {
        assert!(now_there.contains(&run), "{run:?} was in the copy");
    }
    let moment = now();
    scene.until_closed(moment, Duration::from_secs(120)).await?;
    let (names, until) = (ALERTS.map(str::to_owned), moment / SECOND * SECOND);
    assert_eq!(scene.cluster.ledger.audit(&names, SECOND, until).await?, Unaccounted::default());
    // What was told after the copy is told again, and says so.
    for name in [WAITS, FLIPS] {
        let again = || async {
            Ok(scene.sink.received()[told..].iter().filter(|request| request.text("alert_name") == name).count())
        };
        eventually(&format!("{name} is told again"), SOON, again, |count| *count > 0).await?;
    }
    for request in scene.sink.received().split_off(told) {
        assert_eq!(request.json["possible_duplicate"], true, "it may have been told: {}", request.json);
    }
    let checked = || async { follow(&scene, "check", AFTER).await };
    eventually("the cluster is well", SOON, checked, |()| true).await?;
    scene.cluster.all_alive()
}

/// Loses what is lost, and does what the guide says.
async fn restore(scene: &mut Scene, state: State, lost: Lost) -> Result<()> {
    let leave_workers = lost == Lost::StateDatabase;
    for name in scene.cluster.names(None) {
        if !(leave_workers && name.starts_with("worker")) {
            scene.cluster.terminate(&name).await?;
        }
    }
    scene.cluster.ledger.pool().close().await;
    if lost == Lost::Everything {
        scene.cluster.nats = Nats::start().await?;
        if state == State::Postgres {
            scene.cluster.postgres = Some(Postgres::start().await?);
        }
        let nats = scene.cluster.nats.url();
        scene.cluster.change_env("NATS_URL", &nats);
    }
    if let Some(server) = &scene.cluster.postgres {
        let statement = format!("CREATE ROLE {AFTER} LOGIN");
        server.pool("postgres").await?.execute(AssertSqlSafe(statement)).await?;
    }
    let state_db = state_url(scene, AFTER);
    scene.cluster.change_env("STATE_DB_URL", &state_db);
    match (state, lost) {
        (State::Sqlite, _) => follow(scene, "restore-sqlite", AFTER).await?,
        (State::Postgres, Lost::StateDatabase) => {
            follow(scene, "aside-postgres", AFTER).await?;
            follow(scene, "restore-postgres", AFTER).await?;
        }
        (State::Postgres, Lost::Everything) => follow(scene, "restore-postgres", AFTER).await?,
    }
    let reader = state_db.replacen("sqlite:///", "sqlite://", 1);
    scene.cluster.ledger = Ledger::open(&reader)?;
    scene.cluster.start()
}

async fn a_nats_that_lost_its_files_costs_no_fire(state: State) -> Result<()> {
    let mut scene = running(state).await?;
    scene.sink.answer(Answer::Status(200));
    // So that jobs and outcomes are under way: nobody takes them.
    scene.cluster.kill_all(Role::Notifier).await?;
    let depth = || async { scene.cluster.nats.depth("RESULTS").await };
    eventually("outcomes wait", SOON, depth, |depth| depth.is_some_and(|depth| depth > 0)).await?;
    let fires = scene.cluster.ledger.fires(None).await?;
    let open: Vec<_> = fires.into_iter().filter(|fire| OPEN.contains(&fire.status.as_str())).collect();
    assert!(!open.is_empty(), "their fires wait for them");
    scene.cluster.nats.kill().await?;
    std::fs::remove_dir_all(scene.cluster.nats.store())?;
    scene.cluster.nats.start_again().await?;
    scene.cluster.start()?;

    for name in ALERTS {
        scene.until_more(name, if name == WAITS { "ALERT" } else { "OK" }, 2).await?;
    }
    let moment = now();
    let fires = scene.until_closed(moment, Duration::from_secs(120)).await?;
    for lost in open {
        let ended = fires.iter().find(|fire| fire.execution_id == lost.execution_id).context("it is gone")?;
        assert!(["OK", "ALERT"].contains(&ended.status.as_str()), "it was published again, and run: {ended:?}");
    }
    assert!(fires.iter().all(|fire| fire.status != "EXPIRED"), "{fires:?}");
    let (names, until) = (ALERTS.map(str::to_owned), moment / SECOND * SECOND);
    assert_eq!(scene.cluster.ledger.audit(&names, SECOND, until).await?, Unaccounted::default());
    let sent = || async { scene.cluster.ledger.notifications(None).await };
    let sent = eventually("it is told", SOON, sent, |rows| rows.iter().all(|row| row.status == "SENT")).await?;
    assert_eq!(sent.len(), 1, "the state that it was judged by is not on NATS: {sent:?}");
    let checked = || async { follow(&scene, "check", BEFORE).await };
    eventually("the cluster is well", SOON, checked, |()| true).await
}
