//! State databases of released versions (`tests/fixtures/<version>/state.*.sql`) go on under this one, and this one goes
//! on where a newer one has changed the schema.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;
use sqlsentinel_tests::cluster::{Cluster, Plan, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::ledger::OPEN;
use sqlsentinel_tests::on_both_state_databases;
use sqlsentinel_tests::released::{self, VERSIONS};
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::sink::Answer;
use sqlsentinel_tests::target::Kind;
use sqlx::{AssertSqlSafe, Executor, Row};

on_both_state_databases!(
    a_state_database_of_a_released_version_goes_on,
    a_migration_of_a_released_version_stays_as_it_was_and_no_later_one_comes_before_it,
    an_older_program_runs_on_a_newer_schema_until_a_migration_says_otherwise,
);

async fn json(cluster: &Cluster, arguments: &[&str]) -> Result<Value> {
    let ended = cluster.ctl(&[arguments, &["--output", "json"]].concat()).await?;
    serde_json::from_str(&ended.output).with_context(|| format!("{arguments:?}: {}", ended.output))
}

async fn count(cluster: &Cluster, rows: &str) -> Result<usize> {
    let sql = format!("SELECT COUNT(*) FROM {rows}");
    let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(cluster.ledger.pool()).await?;
    Ok(usize::try_from(row.try_get::<i64, _>(0)?)?)
}

async fn a_state_database_of_a_released_version_goes_on(state: State) -> Result<()> {
    for version in VERSIONS {
        let (mut scene, receivers) = released::scene(state).await?;
        receivers.hangs.answer(Answer::Status(200));
        released::load(version, state, &scene.cluster).await?;
        released::complete(state, scene.cluster.ledger.pool()).await.context(version)?;
        let init = scene.cluster.ctl(&["init"]).await?;
        assert_eq!(init.code, Some(0), "{version}: {}", init.output);
        scene.cluster.configure(&receivers.configuration(version, scene.target.url())?)?;
        operators_read_every_row(&scene.cluster).await.context(version)?;

        let ledger = scene.cluster.ledger.clone();
        let (fires, executions) = (ledger.fires(None).await?, ledger.executions(None).await?);
        let (sets, epoch) = (count(&scene.cluster, "sqlsentinel_config_sets").await?, ledger.leadership().await?.epoch);
        scene.cluster.start()?;
        for (alert, status) in [("fine", "OK"), ("told", "ALERT"), ("broken", "ERROR"), ("empty", "NO_DATA")] {
            scene.until_more(alert, status, 1).await?;
        }
        assert_eq!(ledger.leadership().await?.epoch, epoch + 1);
        assert_eq!(count(&scene.cluster, "sqlsentinel_config_sets").await?, sets, "an untouched file is what it was");

        // What was under way then ends.
        let was: BTreeSet<String> = fires.iter().map(|fire| fire.execution_id.clone()).collect();
        let open = || async {
            let now = ledger.fires(None).await?.into_iter().filter(|fire| OPEN.contains(&fire.status.as_str()));
            Ok(now.filter(|fire| was.contains(&fire.execution_id)).count())
        };
        eventually("no fire of then is open", SOON, open, |open| *open == 0).await?;
        let again = || async { Ok(receivers.hangs.about("hangs")) };
        let again = eventually("what was being sent is sent again", SOON, again, |again| !again.is_empty()).await?;
        assert_eq!(again[0].json["possible_duplicate"], true, "{}", again[0].json);
        assert!(receivers.hook.about("told").is_empty(), "an alert that goes on is not told again");

        // And nothing that was there is gone or judged again.
        let now = ledger.fires(None).await?;
        for fire in fires.iter().filter(|fire| !OPEN.contains(&fire.status.as_str())) {
            assert!(now.contains(fire), "{version}: {fire:?}");
        }
        let now = ledger.executions(None).await?;
        for execution in executions {
            assert!(now.contains(&execution), "{version}: {execution:?}");
        }
        let audit = || async { scene.cluster.ctl(&["audit"]).await };
        eventually("the audit finds nothing", SOON, audit, |audit| audit.code == Some(0)).await?;
        scene.cluster.all_alive()?;
    }
    Ok(())
}

/// By every command that reads the state database.
async fn operators_read_every_row(cluster: &Cluster) -> Result<()> {
    let rows = async |arguments: &[&str]| json(cluster, arguments).await?.as_array().map(Vec::len).context("no list");
    let manual = "sqlsentinel_executions WHERE triggered_by = 'MANUAL'";
    let lines = count(cluster, "sqlsentinel_fires").await? + count(cluster, "sqlsentinel_gaps").await?;
    assert_eq!(rows(&["history", "--limit", "100000"]).await?, lines + count(cluster, manual).await?);
    let notifications = rows(&["notifications", "--limit", "100000"]).await?;
    assert_eq!(notifications, count(cluster, "sqlsentinel_notifications").await?);
    assert_eq!(rows(&["silences", "--all"]).await?, count(cluster, "sqlsentinel_silences").await?);
    let state_db = match &cluster.postgres {
        Some(server) => server.url("state"),
        None => format!("sqlite:///{}", cluster.directory().join("state.db").display()),
    };
    let status = json(cluster, &["status", "--state-db", &state_db, "--alert", "many"]).await?;
    assert!(status.to_string().contains("\"bad\""), "its instances: {status}");
    let audit = json(cluster, &["audit"]).await?;
    let totals = audit["totals"].as_object().context("totals")?;
    assert!(totals.values().all(|total| total == 0) && audit["accounted"] == audit["due"], "{audit}");
    Ok(())
}

async fn a_migration_of_a_released_version_stays_as_it_was_and_no_later_one_comes_before_it(
    state: State,
) -> Result<()> {
    for version in VERSIONS {
        let cluster = Plan::new(state).servers().await?;
        released::load(version, state, &cluster).await?;
        let sql = "SELECT version, description, checksum FROM _sqlx_migrations ORDER BY version";
        let rows = sqlx::query(sql).fetch_all(cluster.ledger.pool()).await?;
        let named = |version: i64, description: &str, checksum: &[u8]| {
            let checksum: String = checksum.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{version:04} {description}: {checksum}")
        };
        let read = |row: &sqlx::any::AnyRow| {
            Ok(named(row.try_get(0)?, &row.try_get::<String, _>(1)?, &row.try_get::<Vec<u8>, _>(2)?))
        };
        let then = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
        let newest: i64 = rows.last().context("no migration")?.try_get(0)?;
        let now = match state {
            State::Sqlite => sqlx::migrate!("../common/migrations/sqlite"),
            State::Postgres => sqlx::migrate!("../common/migrations/postgres"),
        };
        let now: Vec<_> = now
            .iter()
            .filter(|migration| migration.version <= newest)
            .map(|migration| named(migration.version, &migration.description, &migration.checksum))
            .collect();
        assert_eq!(now, then, "{version}");
    }
    Ok(())
}

async fn an_older_program_runs_on_a_newer_schema_until_a_migration_says_otherwise(state: State) -> Result<()> {
    let mut scene = Scene::set(Plan::new(state), Kind::Sqlite).await?;
    scene.target.set("orders", "ALERT", 7).await?;
    assert_eq!(scene.cluster.ctl(&["init"]).await?.code, Some(0));
    let pool = scene.cluster.ledger.pool().clone();
    for table in ["sqlsentinel_fires", "sqlsentinel_executions", "sqlsentinel_state", "sqlsentinel_notifications"] {
        let column = format!("ALTER TABLE {table} ADD COLUMN invented INTEGER NOT NULL DEFAULT 7");
        pool.execute(AssertSqlSafe(column)).await?;
    }
    let checksum = if state == State::Sqlite { "x'00'" } else { "'\\x00'" };
    let newer = format!(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'invented', TRUE, {checksum}, 0)"
    );
    pool.execute(AssertSqlSafe(newer)).await?;

    let init = json(&scene.cluster, &["init"]).await?;
    assert_eq!((&init["was"], &init["schema_version"]), (&"newer".into(), &9999.into()), "{init}");
    scene.play(&scene.configuration().alert("orders", "every 1s", &scene.target.query("orders")))?;
    scene.until_received("orders", 1).await?;
    scene.until_more("orders", "ALERT", 2).await?;

    // A version later takes away what this program uses: it says so, and does nothing.
    pool.execute("UPDATE _sqlx_migrations SET description = 'needs 9000 drop invented' WHERE version = 9999").await?;
    let said = "its schema has version 9999, for programs that know version 9000";
    let init = scene.cluster.ctl(&["init"]).await?;
    assert!(init.code == Some(1) && init.output.contains(said), "{init:?}");
    let (leader, reign) = scene.cluster.leader().await?;
    scene.cluster.terminate(&leader).await?;
    scene.cluster.start_one(&leader)?;
    let status = scene.cluster.process(&leader)?.wait(SOON).await?;
    assert_eq!(status.code(), Some(1), "{}", scene.cluster.log(&leader)?);
    assert!(scene.cluster.log(&leader)?.contains(said), "{}", scene.cluster.log(&leader)?);
    assert_eq!(scene.cluster.ledger.leadership().await?.epoch, reign.epoch);
    Ok(())
}
