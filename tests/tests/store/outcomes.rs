//! The outcome transaction: once, whole, and in order.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::json;
use sqlsentinel_common::outcome::{RunStatus, Verdict};
use sqlsentinel_common::store::Dialect;
use sqlsentinel_common::store::outcomes::{FireProgress, RecordedRun, Trigger};
use sqlsentinel_notifier::record::{Fate, Recorder};

use sqlsentinel_tests::bench::{Bench, alert, outcome, verdict};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::on_both_dialects;
use sqlsentinel_tests::stores::Fixture;

on_both_dialects!(
    everything_a_run_said_is_recorded_faithfully,
    an_outcome_that_comes_twice_is_recorded_once,
    an_outcome_that_comes_twice_in_one_batch_is_recorded_once,
    an_expired_fire_is_superseded_by_its_outcome_once,
    an_outcome_without_a_fire_changes_nothing,
    a_batch_is_judged_in_the_order_of_its_fires,
    an_older_outcome_is_recorded_and_moves_nothing,
    every_route_is_told_and_in_one_order,
    errors_are_told_at_the_third_and_their_end_once,
    two_notifiers_on_one_alert_tell_once,
    a_fire_that_another_notifier_is_concluding_is_waited_for,
    a_batch_that_fails_leaves_nothing_behind,
    one_bad_outcome_costs_only_itself,
    an_outcome_whose_definition_cannot_be_read_is_left_for_another_notifier,
    a_state_of_the_python_system_goes_on,
    a_manual_run_is_judged_like_any_other,
);

const RECORDED: Option<Fate> = Some(Fate::Recorded { late: false });

async fn everything_a_run_said_is_recorded_faithfully(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let revenue = alert("revenue", &["ops"])?;
    bench.define(&revenue).await?;
    let said = Verdict {
        actual_value: Some(serde_json::from_str("8500.100000000000000000001")?),
        threshold: Some(json!("a lot")),
        context: serde_json::from_str("{\"region\":\"eu\",\"total\":1.10}")?,
        ..Verdict::bare(RunStatus::Alert)
    };
    let outcome = bench.fire(&revenue, 1, said).await?;
    assert_eq!(bench.recorder.record(&[&outcome]).await.fates, [RECORDED]);

    let executions = "SELECT CAST(VALUE AS TEXT) FROM sqlsentinel_executions";
    for (column, expected) in [
        ("id", outcome.execution_id.to_string().as_str()),
        ("alert_name", "revenue"),
        ("executed_at", "2026-01-01 00:01:00.250000"),
        ("status", "ALERT"),
        ("actual_value_json", "8500.100000000000000000001"),
        ("threshold", "NULL"),
        ("threshold_json", "\"a lot\""),
        ("triggered_by", "CRON"),
        ("context_data", "{\"region\":\"eu\",\"total\":1.10}"),
        ("worker", "worker-1"),
        ("delivery", "1"),
    ] {
        // PostgreSQL shows no trailing zeros of a second's fraction.
        let shown = bench.text(&executions.replace("VALUE", column)).await?;
        assert_eq!(shown.trim_end_matches('0'), expected.trim_end_matches('0'), "{column}");
    }
    assert_eq!(bench.number("SELECT COUNT(*) FROM sqlsentinel_executions WHERE actual_value = 8500.1").await?, 1);
    assert_eq!(bench.number("SELECT COUNT(*) FROM sqlsentinel_executions WHERE notification_sent = FALSE").await?, 1);
    let fire = "SELECT COUNT(*) FROM sqlsentinel_fires WHERE status = 'ALERT' AND finished_at > 0 AND late = 0";
    assert_eq!(bench.number(fire).await?, 1);
    let state = "SELECT COUNT(*) FROM sqlsentinel_state WHERE current_status = 'ALERT' AND consecutive_alerts = 1 \
                 AND last_alert_at = last_executed_at AND last_ok_at IS NULL AND updated_at IS NOT NULL";
    assert_eq!(bench.number(state).await?, 1);
    let queued = bench.text("SELECT payload FROM sqlsentinel_notifications").await?;
    assert!(queued.contains("8500.100000000000000000001"), "{queued}");
    Ok(())
}

async fn an_outcome_that_comes_twice_is_recorded_once(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let revenue = alert("revenue", &["ops"])?;
    bench.define(&revenue).await?;
    let first = bench.fire(&revenue, 1, verdict(RunStatus::Alert)).await?;
    bench.recorder.record(&[&first]).await;

    let mut again = first.clone();
    (again.delivery, again.verdict) = (3, verdict(RunStatus::Ok));
    // Another notifier, which remembers nothing.
    let recorded = Recorder::new(bench.store.clone()).record(&[&again]).await;
    assert_eq!((recorded.fates.as_slice(), recorded.notifications), ([Some(Fate::Duplicate)].as_slice(), 0));
    bench.recorder.record(&[&first]).await;

    assert_eq!((bench.count("executions").await?, bench.count("notifications").await?), (1, 1));
    assert_eq!(bench.text("SELECT status FROM sqlsentinel_fires").await?, "ALERT");
    assert_eq!(bench.text("SELECT status FROM sqlsentinel_executions").await?, "ALERT");
    assert_eq!(bench.text("SELECT CAST(delivery AS TEXT) FROM sqlsentinel_executions").await?, "3");
    Ok(())
}

async fn an_outcome_that_comes_twice_in_one_batch_is_recorded_once(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let revenue = alert("revenue", &["ops"])?;
    bench.define(&revenue).await?;
    let first = bench.fire(&revenue, 1, verdict(RunStatus::Alert)).await?;
    let mut again = first.clone();
    again.delivery = 2;
    let recorded = bench.recorder.record(&[&first, &again]).await;
    assert_eq!(recorded.fates, [RECORDED, Some(Fate::Duplicate)]);
    assert_eq!((bench.count("executions").await?, bench.count("notifications").await?), (1, 1));
    assert_eq!(bench.text("SELECT CAST(delivery AS TEXT) FROM sqlsentinel_executions").await?, "2");
    Ok(())
}

async fn an_expired_fire_is_superseded_by_its_outcome_once(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let revenue = alert("revenue", &["ops"])?;
    bench.define(&revenue).await?;
    let late = bench.fire(&revenue, 1, verdict(RunStatus::Alert)).await?;
    bench.execute("UPDATE sqlsentinel_fires SET status = 'EXPIRED', reason = 'worker_lost', finished_at = 1").await?;
    let fates = bench.recorder.record(&[&late]).await.fates;
    assert_eq!(fates, [Some(Fate::Recorded { late: true })]);
    assert_eq!(bench.recorder.record(&[&late]).await.fates, [Some(Fate::Duplicate)]);
    let superseded = "SELECT COUNT(*) FROM sqlsentinel_fires \
                      WHERE status = 'ALERT' AND late = 1 AND reason IS NULL AND finished_at > 1";
    assert_eq!(bench.number(superseded).await?, 1);
    assert_eq!(bench.count("notifications").await?, 1);

    let removed = bench.fire(&revenue, 2, verdict(RunStatus::Ok)).await?;
    bench
        .execute("UPDATE sqlsentinel_fires SET status = 'SKIPPED', reason = 'removed' WHERE status = 'QUEUED'")
        .await?;
    assert_eq!(bench.recorder.record(&[&removed]).await.fates, [Some(Fate::Duplicate)]);
    assert_eq!(bench.number("SELECT COUNT(*) FROM sqlsentinel_fires WHERE status = 'SKIPPED'").await?, 1);
    Ok(())
}

async fn an_outcome_without_a_fire_changes_nothing(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let revenue = alert("revenue", &["ops"])?;
    bench.define(&revenue).await?;
    let unknown = outcome(&revenue, 1, verdict(RunStatus::Alert))?;
    assert_eq!(bench.recorder.record(&[&unknown]).await.fates, [Some(Fate::UnknownFire)]);
    for table in ["executions", "state", "notifications"] {
        assert_eq!(bench.count(table).await?, 0, "{table}");
    }
    Ok(())
}

async fn a_batch_is_judged_in_the_order_of_its_fires(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let revenue = alert("revenue", &["ops"])?;
    bench.define(&revenue).await?;
    let mut batch = Vec::new();
    for (minute, status) in [(4, RunStatus::Ok), (2, RunStatus::Ok), (3, RunStatus::Alert), (1, RunStatus::Alert)] {
        batch.push(bench.fire(&revenue, minute, verdict(status)).await?);
    }
    let recorded = bench.recorder.record(&batch.iter().collect::<Vec<_>>()).await;
    assert_eq!((recorded.fates.len(), recorded.notifications), (4, 2));
    assert_eq!(bench.text("SELECT current_status FROM sqlsentinel_state").await?, "OK");
    let of_minute_1 = format!("sequence = 1 AND execution_id = '{}'", batch[3].execution_id);
    let of_minute_3 = format!("sequence = 2 AND execution_id = '{}'", batch[2].execution_id);
    let both = format!("SELECT COUNT(*) FROM sqlsentinel_notifications WHERE ({of_minute_1}) OR ({of_minute_3})");
    assert_eq!(bench.number(&both).await?, 2);
    Ok(())
}

async fn an_older_outcome_is_recorded_and_moves_nothing(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let revenue = alert("revenue", &["ops"])?;
    bench.define(&revenue).await?;
    bench.run(&revenue, 5, RunStatus::Ok).await?;
    let recorded = bench.run(&revenue, 4, RunStatus::Alert).await?;
    assert_eq!((recorded.fates.as_slice(), recorded.notifications), ([RECORDED].as_slice(), 0));
    assert_eq!(bench.count("executions").await?, 2);
    assert_eq!(bench.text("SELECT current_status FROM sqlsentinel_state").await?, "OK");
    assert_eq!(bench.count("notifications").await?, 0);
    Ok(())
}

async fn every_route_is_told_and_in_one_order(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let revenue = alert("revenue", &["ops", "sales"])?;
    bench.define(&revenue).await?;
    for (minute, status) in [(1, RunStatus::Alert), (2, RunStatus::Ok), (3, RunStatus::NoData), (4, RunStatus::Alert)] {
        bench.run(&revenue, minute, status).await?;
    }
    for route in ["ops", "sales"] {
        for (sequence, kind) in [(1, "alert"), (2, "no_data"), (3, "alert")] {
            let told = format!(
                "SELECT kind FROM sqlsentinel_notifications WHERE route_key = '{route}' AND sequence = {sequence}"
            );
            assert_eq!(bench.text(&told).await?, kind, "{route} {sequence}");
        }
    }
    assert_eq!(bench.count("notifications").await?, 6);
    Ok(())
}

async fn errors_are_told_at_the_third_and_their_end_once(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let revenue = alert("revenue", &["ops"])?;
    bench.define(&revenue).await?;
    let mut told = Vec::new();
    for (minute, status) in (1..).zip([RunStatus::Error; 5].into_iter().chain([RunStatus::Ok; 2])) {
        told.push(bench.run(&revenue, minute, status).await?.notifications);
    }
    assert_eq!(told, [0, 0, 1, 0, 0, 1, 0]);
    let error = "SELECT payload FROM sqlsentinel_notifications WHERE kind = 'error'";
    assert!(bench.text(error).await?.contains("does not exist"));
    assert_eq!(bench.number("SELECT COUNT(*) FROM sqlsentinel_notifications WHERE kind = 'error_resolved'").await?, 1);
    assert_eq!(bench.text("SELECT error_kind FROM sqlsentinel_executions WHERE status = 'ERROR'").await?, "query");
    Ok(())
}

async fn two_notifiers_on_one_alert_tell_once(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let revenue = alert("revenue", &["ops"])?;
    bench.define(&revenue).await?;
    let mut outcomes = Vec::new();
    for minute in 1..=20 {
        outcomes.push(bench.fire(&revenue, minute, verdict(RunStatus::Alert)).await?);
    }
    // Both have every outcome, in opposite orders, and work at once.
    let (one, other) = (Recorder::new(bench.store.clone()), Recorder::new(bench.store.clone()));
    let forward = async {
        for outcome in &outcomes {
            let recorded = one.record(&[outcome]).await;
            assert!(recorded.failure.is_none(), "{:?}", recorded.failure);
        }
    };
    let backward = async {
        for pair in outcomes.rchunks(2) {
            let recorded = other.record(&pair.iter().rev().collect::<Vec<_>>()).await;
            assert!(recorded.failure.is_none(), "{:?}", recorded.failure);
        }
    };
    tokio::join!(forward, backward);
    assert_eq!(bench.count("executions").await?, 20);
    assert_eq!(bench.number("SELECT COUNT(*) FROM sqlsentinel_fires WHERE status = 'ALERT'").await?, 20);
    assert_eq!(bench.count("notifications").await?, 1);
    Ok(())
}

async fn a_fire_that_another_notifier_is_concluding_is_waited_for(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let revenue = alert("revenue", &["ops"])?;
    bench.define(&revenue).await?;
    let outcome = bench.fire(&revenue, 1, verdict(RunStatus::Alert)).await?;
    let mut first = bench.store.begin_outcomes().await?;
    let fires = first.lock_fires(&BTreeSet::from([outcome.execution_id])).await?;
    assert_eq!(fires[&outcome.execution_id].progress, FireProgress::Open);
    let run = RecordedRun {
        outcome: &outcome,
        alert_name: "revenue",
        scheduled_for: outcome.scheduled_for,
        config_hash: &outcome.config_hash,
        trigger: Trigger::Cron,
        late: false,
    };
    first.conclude_fires([run].iter()).await?;
    let commit = async {
        if bench.dialect() == Dialect::Postgres {
            let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
            eventually("the second notifier waits", SOON, || bench.number(waiting), |waiting| *waiting > 0).await?;
        }
        anyhow::Ok(first.commit().await?)
    };
    let messages = [&outcome];
    let (second, committed) = tokio::join!(bench.recorder.record(&messages), commit);
    committed?;
    assert_eq!((second.fates.as_slice(), second.notifications), ([Some(Fate::Duplicate)].as_slice(), 0));
    Ok(())
}

/// Makes the database refuse every row of `table` whose `column` is `poison`.
async fn refuse_poison(bench: &Bench, table: &str, column: &str) -> Result<()> {
    match bench.dialect() {
        Dialect::Postgres => {
            let check =
                format!("ALTER TABLE sqlsentinel_{table} ADD CONSTRAINT no_poison CHECK ({column} <> 'poison')");
            bench.execute(&check).await?;
        }
        Dialect::Sqlite => {
            let trigger = format!(
                "CREATE TRIGGER no_poison BEFORE INSERT ON sqlsentinel_{table} WHEN NEW.{column} = 'poison' \
                 BEGIN SELECT RAISE(ABORT, 'no poison'); END"
            );
            bench.execute(&trigger).await?;
        }
    }
    Ok(())
}

async fn a_batch_that_fails_leaves_nothing_behind(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    // Refused by the very last statement, when fire, history and state are written already.
    refuse_poison(&bench, "notifications", "route_key").await?;
    let revenue = alert("revenue", &["poison"])?;
    bench.define(&revenue).await?;
    let recorded = bench.run(&revenue, 1, RunStatus::Alert).await?;
    assert!(matches!(recorded.fates.as_slice(), [Some(Fate::Invalid(_))]), "{recorded:?}");
    assert_eq!(bench.text("SELECT status FROM sqlsentinel_fires").await?, "QUEUED");
    for table in ["executions", "state", "notifications"] {
        assert_eq!(bench.count(table).await?, 0, "{table}");
    }
    Ok(())
}

async fn one_bad_outcome_costs_only_itself(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    refuse_poison(&bench, "executions", "worker").await?;
    let mut batch = Vec::new();
    for number in 0..9 {
        let definition = alert(&format!("alert-{number}"), &["ops"])?;
        bench.define(&definition).await?;
        batch.push(bench.fire(&definition, 1, verdict(RunStatus::Alert)).await?);
    }
    batch[4].worker = "poison".to_owned();
    let recorded = bench.recorder.record(&batch.iter().collect::<Vec<_>>()).await;
    assert!(recorded.failure.is_none());
    assert_eq!(recorded.notifications, 8);
    for (place, fate) in recorded.fates.iter().enumerate() {
        let bad = matches!(fate, Some(Fate::Invalid(_)));
        assert_eq!((bad, *fate == RECORDED), (place == 4, place != 4), "{place}: {fate:?}");
    }
    assert_eq!(bench.number("SELECT COUNT(*) FROM sqlsentinel_fires WHERE status = 'QUEUED'").await?, 1);

    if bench.dialect() == Dialect::Postgres {
        // The kind that comes by itself: a text that PostgreSQL cannot hold.
        let definition = alert("nul", &["ops"])?;
        bench.define(&definition).await?;
        let mut nul = verdict(RunStatus::Alert);
        nul.context.insert("name".to_owned(), json!("a\0b"));
        nul.actual_value = Some(json!("a\0b"));
        let mut outcome = bench.fire(&definition, 1, nul).await?;
        outcome.worker = "a\0b".to_owned();
        assert!(matches!(bench.recorder.record(&[&outcome]).await.fates.as_slice(), [Some(Fate::Invalid(_))]));
    }
    Ok(())
}

async fn an_outcome_whose_definition_cannot_be_read_is_left_for_another_notifier(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let (newer, known) = (alert("newer", &["ops"])?, alert("known", &["ops"])?);
    bench.define(&newer).await?;
    bench.define(&known).await?;
    bench
        .execute("UPDATE sqlsentinel_definitions SET definition = '{\"name\": \"newer\", \"v2\": 1}' WHERE alert_name = 'newer'")
        .await?;
    let (first, second) = (
        bench.fire(&newer, 1, verdict(RunStatus::Alert)).await?,
        bench.fire(&known, 1, verdict(RunStatus::Alert)).await?,
    );
    let fates = bench.recorder.record(&[&first, &second]).await.fates;
    assert!(matches!(fates.as_slice(), [Some(Fate::Unreadable(_)), RECORDED]), "{fates:?}");
    assert_eq!(bench.number("SELECT COUNT(*) FROM sqlsentinel_fires WHERE status = 'QUEUED'").await?, 1);

    // The upgraded notifier reads it; so does this one, once it can.
    let json = newer.canonical_json()?.replace('\'', "''");
    bench
        .execute(&format!("UPDATE sqlsentinel_definitions SET definition = '{json}' WHERE alert_name = 'newer'"))
        .await?;
    assert_eq!(bench.recorder.record(&[&first]).await.fates, [RECORDED]);
    Ok(())
}

async fn a_state_of_the_python_system_goes_on(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    bench
        .execute(
            "INSERT INTO sqlsentinel_state (alert_name, current_status, consecutive_alerts, last_ok_at, silenced_until) \
             VALUES ('revenue', 'ALERT', 7, '2025-01-02 03:04:05.000006', '2025-01-02 03:04:05')",
        )
        .await?;
    let revenue = alert("revenue", &["ops"])?;
    bench.define(&revenue).await?;
    assert_eq!(bench.run(&revenue, 1, RunStatus::Alert).await?.notifications, 0);
    let goes_on = "SELECT COUNT(*) FROM sqlsentinel_state WHERE consecutive_alerts = 8 AND current_status = 'ALERT' \
                   AND last_ok_at = '2025-01-02 03:04:05.000006' AND silenced_until IS NOT NULL";
    assert_eq!(bench.number(goes_on).await?, 1);
    Ok(())
}

async fn a_manual_run_is_judged_like_any_other(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let revenue = alert("revenue", &["ops"])?;
    let first = outcome(&revenue, 1, verdict(RunStatus::Alert))?;
    let second = outcome(&revenue, 2, verdict(RunStatus::Alert))?;
    assert_eq!(bench.recorder.record_manual(&revenue, &first).await?.notifications.len(), 1);
    assert_eq!(bench.recorder.record_manual(&revenue, &second).await?.notifications.len(), 0);
    let manual = "SELECT COUNT(*) FROM sqlsentinel_executions WHERE triggered_by = 'MANUAL' AND status = 'ALERT'";
    assert_eq!(bench.number(manual).await?, 2);
    assert_eq!((bench.count("fires").await?, bench.count("definitions").await?), (0, 1));
    Ok(())
}
