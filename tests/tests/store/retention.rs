//! What is old and over goes; what is open, what something refers to and what is young stays.

use std::time::Duration;

use anyhow::Result;
use prometheus::Registry;
use sqlsentinel_common::store::StoreError;
use sqlsentinel_common::store::leadership::Mark;
use sqlsentinel_common::store::leadership::Term;
use sqlsentinel_common::store::retention::{Expendable, Place};
use sqlsentinel_common::timestamp::Timestamp;
use sqlsentinel_coordinator::metrics::Metrics;
use sqlsentinel_coordinator::retention::Retention;
use sqlsentinel_tests::bench::Bench;
use sqlsentinel_tests::on_both_dialects;
use sqlsentinel_tests::stores::Fixture;

on_both_dialects!(
    what_is_old_and_over_goes_and_nothing_else,
    the_newest_run_of_an_alert_stays_however_old_it_is,
    what_a_state_or_an_open_notification_tells_of_stays,
    whoever_was_told_of_the_present_alert_is_remembered,
    a_version_stays_as_long_as_something_refers_to_it,
    more_than_a_page_goes_of_more_alerts_than_a_page_has,
    the_age_is_counted_from_the_cursor_and_not_from_the_clock,
    a_deposed_leader_deletes_nothing,
    a_row_that_is_open_again_is_not_deleted,
);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const KEEP: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// A ledger whose cursor is at the database's clock, and its leader.
struct Attic {
    bench: Bench,
    retention: Retention,
    /// 100 days before the cursor.
    old: Timestamp,
    /// 10 days before it.
    young: Timestamp,
}

impl Attic {
    async fn of(fixture: Fixture) -> Result<Self> {
        let bench = Bench::on(fixture).await?;
        let term = bench.store.claim_leadership("leader", Mark::default()).await?.term;
        let retention = Self::retention(&bench, term)?;
        let now = bench.store.now().await?.0;
        Ok(Self { bench, retention, old: now.minus(100 * DAY), young: now.minus(10 * DAY) })
    }

    fn retention(bench: &Bench, term: Term) -> Result<Retention> {
        let metrics = Metrics::register(&Registry::new())?;
        Ok(Retention { store: bench.store.clone(), term, keep: Some(KEEP), metrics })
    }

    async fn purge(&self) -> Result<u64> {
        Ok(self.retention.run_once(KEEP).await?)
    }

    /// What is left of `sqlsentinel_<table>`: the column's values, in their order.
    async fn left(&self, table: &str, column: &str) -> Result<String> {
        let table = format!("sqlsentinel_{table}");
        self.bench.text(&self.bench.aggregated(column, "' '", column, &table)).await
    }

    async fn fire(&self, alert: &str, id: &str, scheduled_for: Timestamp, status: &str) -> Result<()> {
        let sql = format!(
            "INSERT INTO sqlsentinel_fires (execution_id, alert_name, scheduled_for, config_hash, source, status, \
             deadline, attempt, epoch, seq) VALUES ('{id}', '{alert}', {}, 'v1', 'default', '{status}', 0, 1, 1, 1)",
            scheduled_for.as_micros()
        );
        self.bench.execute(&sql).await.map(drop)
    }

    async fn execution(&self, alert: &str, id: &str, executed_at: Timestamp) -> Result<()> {
        let sql = format!(
            "INSERT INTO sqlsentinel_executions (id, alert_name, executed_at, status, config_hash) \
             VALUES ('{id}', '{alert}', '{}', 'OK', 'v1')",
            executed_at.to_sql_text()
        );
        self.bench.execute(&sql).await.map(drop)
    }

    async fn notification(&self, id: &str, kind: &str, status: &str, at: Timestamp) -> Result<()> {
        let finished_at = if status == "PENDING" { "NULL".to_owned() } else { at.as_micros().to_string() };
        let sql = format!(
            "INSERT INTO sqlsentinel_notifications (notification_id, execution_id, alert_name, instance, route_key, \
             channel, kind, sequence, scheduled_for, payload, status, attempt, next_attempt_at, possible_duplicate, \
             created_at, finished_at) SELECT '{id}', 'of-{id}', 'revenue', '', 'ops', 'webhook', '{kind}', COUNT(*), 0, \
             '', '{status}', 1, 0, 0, 0, {finished_at} FROM sqlsentinel_notifications"
        );
        self.bench.execute(&sql).await.map(drop)
    }

    async fn state(&self, status: &str, columns: &str) -> Result<()> {
        let sql = format!(
            "INSERT INTO sqlsentinel_state (alert_name, consecutive_alerts, consecutive_oks, escalation_count, \
             notification_failures, current_status, {}) VALUES ('revenue', 0, 0, 0, 0, '{status}', {})",
            columns.split_once('=').map_or("updated_at", |(column, _)| column),
            columns.split_once('=').map_or("NULL", |(_, value)| value),
        );
        self.bench.execute(&sql).await.map(drop)
    }
}

async fn what_is_old_and_over_goes_and_nothing_else(fixture: Fixture) -> Result<()> {
    let attic = Attic::of(fixture).await?;
    for (at, age) in [(attic.old, "old"), (attic.young, "young")] {
        let (micros, text) = (at.as_micros(), at.to_sql_text());
        for status in ["OK", "ALERT", "ERROR", "NO_DATA", "SKIPPED", "EXPIRED", "WAITING", "QUEUED"] {
            attic.fire(status, &format!("{age}-{status}"), at, status).await?;
        }
        attic.execution("revenue", &format!("{age}-run"), at).await?;
        attic.notification(&format!("{age}-sent"), "resolved", "SENT", at).await?;
        for sql in [
            format!("INSERT INTO sqlsentinel_gaps VALUES ('{age}', 1, {micros}, 2, 'misfire', 'v1', 1, 1)"),
            format!(
                "INSERT INTO sqlsentinel_silences (silence_id, alert_name, created_by, begins_at, ends_at, ended_at) \
                 VALUES ('{age}-ran-out', 'a', 'eve', 0, {micros}, NULL), \
                 ('{age}-ended', 'a', 'eve', 0, 9000000000000000, {micros})"
            ),
            format!(
                "INSERT INTO sqlsentinel_configs (id, alert_name, config_hash, config_yaml, loaded_at, active, \
                 valid_from, valid_until) VALUES ('{age}-replaced', 'a', 'x', '', '{text}', FALSE, 0, {micros}), \
                 ('{age}-in-force', 'b', 'x', '', '{text}', TRUE, 0, NULL), \
                 ('{age}-python', 'c', 'x', '', '{text}', FALSE, NULL, NULL), \
                 ('{age}-python-active', 'd', 'x', '', '{text}', TRUE, NULL, NULL)"
            ),
        ] {
            attic.bench.execute(&sql).await?;
        }
    }

    assert_eq!(attic.purge().await?, 6 + 1 + 1 + 1 + 2 + 2);
    assert_eq!(attic.purge().await?, 0);
    for (table, column, left) in [
        (
            "fires",
            "execution_id",
            "old-QUEUED old-WAITING young-ALERT young-ERROR young-EXPIRED young-NO_DATA young-OK young-QUEUED \
             young-SKIPPED young-WAITING",
        ),
        ("executions", "id", "young-run"),
        ("notifications", "notification_id", "young-sent"),
        ("gaps", "alert_name", "young"),
        ("silences", "silence_id", "young-ended young-ran-out"),
        (
            "configs",
            "id",
            "old-in-force old-python-active young-in-force young-python young-python-active young-replaced",
        ),
    ] {
        assert_eq!(attic.left(table, column).await?, left, "{table}");
    }
    let counted = |what: Expendable| attic.retention.metrics.purged_rows.with_label_values(&[what.table()]).get();
    assert_eq!(Expendable::ALL.map(counted), [1, 1, 6, 1, 2, 2, 0]);
    Ok(())
}

async fn the_newest_run_of_an_alert_stays_however_old_it_is(fixture: Fixture) -> Result<()> {
    let attic = Attic::of(fixture).await?;
    for (alert, id, before) in [("a", "a1", 300), ("a", "a2", 200), ("b", "b1", 300), ("c", "c1", 300), ("c", "c2", 1)]
    {
        attic.execution(alert, id, attic.old.plus(100 * DAY).minus(before * DAY)).await?;
    }
    attic.purge().await?;
    assert_eq!(attic.left("executions", "id").await?, "a2 b1 c2");
    Ok(())
}

async fn what_a_state_or_an_open_notification_tells_of_stays(fixture: Fixture) -> Result<()> {
    let attic = Attic::of(fixture).await?;
    for id in ["condition", "of-waiting", "of-instance", "plain"] {
        attic.execution("revenue", id, attic.old).await?;
    }
    attic.execution("revenue", "newest", attic.young).await?;
    attic.state("ALERT", "condition_execution_id='condition'").await?;
    attic.notification("waiting", "alert", "PENDING", attic.old).await?;
    let sql = "INSERT INTO sqlsentinel_instances (alert_name, instance, status, execution_id, scheduled_for, verdict, \
               consecutive_alerts, untold) VALUES ('revenue', 'eu', 'ALERT', 'of-instance', 0, '{}', 1, 1)";
    attic.bench.execute(sql).await?;
    attic.purge().await?;
    assert_eq!(attic.left("executions", "id").await?, "condition newest of-instance of-waiting");
    assert_eq!(attic.left("notifications", "notification_id").await?, "waiting");
    Ok(())
}

async fn whoever_was_told_of_the_present_alert_is_remembered(fixture: Fixture) -> Result<()> {
    let attic = Attic::of(fixture).await?;
    for (id, kind) in [
        ("1-alert", "alert"),
        ("2-resolved", "resolved"),
        ("3-error", "error"),
        ("4-alert", "alert"),
        ("5-error", "error"),
        ("6-repeat", "repeat"),
    ] {
        attic.notification(id, kind, "DEAD", attic.old).await?;
    }
    attic.state("ALERT", "error_notified=1").await?;
    attic.purge().await?;
    assert_eq!(attic.left("notifications", "notification_id").await?, "4-alert 5-error 6-repeat");

    // The end is not told yet: what it is the end of is looked up when it is sent.
    attic.bench.execute("UPDATE sqlsentinel_state SET current_status = 'OK', error_notified = 0").await?;
    attic.notification("7-resolved", "resolved", "PENDING", attic.young).await?;
    assert_eq!(attic.purge().await?, 0);
    attic
        .bench
        .execute("UPDATE sqlsentinel_notifications SET status = 'SENT', finished_at = 1 WHERE finished_at IS NULL")
        .await?;
    assert_eq!(attic.purge().await?, 4);
    Ok(())
}

async fn a_version_stays_as_long_as_something_refers_to_it(fixture: Fixture) -> Result<()> {
    let attic = Attic::of(fixture).await?;
    for hash in ["fire", "gap", "run", "config", "nobody"] {
        let sql = format!("INSERT INTO sqlsentinel_definitions VALUES ('{hash}', 'revenue', '{{}}')");
        attic.bench.execute(&sql).await?;
    }
    attic.fire("revenue", "f", attic.old, "QUEUED").await?;
    attic.bench.execute("UPDATE sqlsentinel_fires SET config_hash = 'fire'").await?;
    attic.execution("revenue", "e", attic.old).await?;
    attic.bench.execute("UPDATE sqlsentinel_executions SET config_hash = 'run'").await?;
    let gap = format!(
        "INSERT INTO sqlsentinel_gaps VALUES ('revenue', 1, {}, 2, 'misfire', 'gap', 1, 1)",
        attic.young.as_micros()
    );
    attic.bench.execute(&gap).await?;
    let config = "INSERT INTO sqlsentinel_configs (id, alert_name, config_hash, config_yaml, loaded_at, active, valid_from) \
                  VALUES ('c', 'revenue', 'config', '', '2020-01-01 00:00:00', TRUE, 0)";
    attic.bench.execute(config).await?;
    assert_eq!(attic.purge().await?, 1);
    assert_eq!(attic.left("definitions", "config_hash").await?, "config fire gap run");
    Ok(())
}

async fn more_than_a_page_goes_of_more_alerts_than_a_page_has(fixture: Fixture) -> Result<()> {
    let attic = Attic::of(fixture).await?;
    // 600 alerts, the first of them with 600 fires more.
    let sql = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1200) \
         INSERT INTO sqlsentinel_fires (execution_id, alert_name, scheduled_for, config_hash, source, status, deadline, \
         attempt, epoch, seq) SELECT 'e' || n, CASE WHEN n > 600 THEN 'a' ELSE 'b' || n END, n, 'v', 's', 'OK', 0, 1, 1, 1 \
         FROM numbers";
    attic.bench.execute(sql).await?;
    attic.fire("zz", "young", attic.young, "OK").await?;
    attic.fire("zzz", "old", attic.old, "OK").await?;
    assert_eq!(attic.purge().await?, 1201);
    assert_eq!(attic.left("fires", "execution_id").await?, "young");
    Ok(())
}

async fn the_age_is_counted_from_the_cursor_and_not_from_the_clock(fixture: Fixture) -> Result<()> {
    let attic = Attic::of(fixture).await?;
    attic.fire("revenue", "old", attic.old, "OK").await?;
    let behind = format!("UPDATE sqlsentinel_leadership SET planned_through = {}", attic.young.minus(KEEP).as_micros());
    attic.bench.execute(&behind).await?;
    assert_eq!(attic.purge().await?, 0, "planning has come no further than that");
    Ok(())
}

async fn a_deposed_leader_deletes_nothing(fixture: Fixture) -> Result<()> {
    let attic = Attic::of(fixture).await?;
    attic.fire("revenue", "old", attic.old, "OK").await?;
    let successor = attic.bench.store.claim_leadership("successor", Mark::default()).await?.term;
    assert!(matches!(attic.retention.run_once(KEEP).await, Err(StoreError::Deposed)));
    assert_eq!(attic.left("fires", "execution_id").await?, "old");
    assert_eq!(Attic::retention(&attic.bench, successor)?.run_once(KEEP).await?, 1);
    Ok(())
}

async fn a_row_that_is_open_again_is_not_deleted(fixture: Fixture) -> Result<()> {
    let attic = Attic::of(fixture).await?;
    attic.notification("dead", "error", "DEAD", attic.old).await?;
    let what = Expendable::Notifications;
    let seen = attic.bench.store.expendable(what, attic.young, &Place::default()).await?;
    assert_eq!(seen.keys.len(), 1);
    attic.bench.execute("UPDATE sqlsentinel_notifications SET status = 'PENDING'").await?;
    assert_eq!(attic.bench.store.purge(&attic.retention.term, what, &seen.keys).await?, 0);
    Ok(())
}
