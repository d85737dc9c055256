//! Silences: kept back when judging and when sending, told once when they end; and the rules that need a memory.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use sqlsentinel_common::alert::{AlertDefinition, JudgingRules, OnEvent};
use sqlsentinel_common::outcome::RunStatus::{self, Alert, Error, NoData, Ok as AllOk};
use sqlsentinel_common::store::Dialect;
use sqlsentinel_common::store::outbox::{NoticeKind, Receipt};
use sqlsentinel_common::store::outcomes::Instances;
use sqlsentinel_common::store::silences::{Past, SilenceRequest};
use sqlsentinel_notifier::judgement::judge_untold;
use sqlsentinel_notifier::record::Recorder;
use sqlsentinel_tests::bench::{Bench, alert};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::on_both_dialects;
use sqlsentinel_tests::stores::Fixture;

on_both_dialects!(
    a_silence_is_in_the_python_column_and_on_record,
    a_silence_of_the_python_system_counts_and_is_listed,
    an_alert_that_began_in_a_silence_is_told_once_when_it_ends,
    a_sweep_that_finds_what_another_is_telling_waits_and_tells_nothing,
    a_silence_that_ends_by_itself_is_swept_too,
    what_was_over_before_its_silence_is_not_told,
    the_end_of_a_told_alert_is_told_after_the_silence,
    a_queued_notification_waits_for_the_end_of_the_silence,
    a_queued_notification_that_is_over_by_then_is_not_worth_sending,
    the_end_of_an_alert_that_never_left_is_not_worth_sending,
    an_alert_that_is_disabled_or_gone_is_not_swept,
    a_definition_that_cannot_be_read_keeps_nobody_else_from_being_told,
    the_memory_of_rules_outlives_the_process,
    an_alert_by_errors_says_which_error_it_was,
);

const HOUR: Duration = Duration::from_secs(3600);

fn with(rules: JudgingRules, name: &str) -> Result<AlertDefinition> {
    Ok(AlertDefinition { rules, ..alert(name, &["ops"])? })
}

async fn silence(bench: &Bench, alert_name: &str) -> Result<()> {
    let request = SilenceRequest { alert_name, duration: HOUR, created_by: "eve", reason: None };
    bench.store.silence(&request).await?;
    Ok(())
}

/// As if the hour were over.
async fn let_silences_end(bench: &Bench) -> Result<()> {
    let micros = bench.store.now().await?.0.as_micros() - 1;
    bench.execute(&format!("UPDATE sqlsentinel_silences SET ends_at = {micros} WHERE ended_at IS NULL")).await?;
    bench
        .execute("UPDATE sqlsentinel_state SET silenced_until = '2020-01-01 00:00:00' WHERE silenced_until IS NOT NULL")
        .await?;
    Ok(())
}

async fn run_all(bench: &Bench, definition: &AlertDefinition, minute: u64, statuses: &[RunStatus]) -> Result<()> {
    for (minute, status) in (minute..).zip(statuses) {
        // Another process each time: what counts is in the database.
        let outcome = bench.fire(definition, minute, sqlsentinel_tests::bench::verdict(*status)).await?;
        let recorded = Recorder::new(bench.store.clone()).record(&[&outcome]).await;
        anyhow::ensure!(recorded.failure.is_none(), "{:?}", recorded.failure);
    }
    Ok(())
}

/// The kinds of all notifications so far, in their order.
async fn kinds(bench: &Bench) -> Result<Vec<String>> {
    let mut kinds = Vec::new();
    for sequence in 1..=bench.count("notifications").await? {
        kinds.push(
            bench.text(&format!("SELECT kind FROM sqlsentinel_notifications WHERE sequence = {sequence}")).await?,
        );
    }
    Ok(kinds)
}

async fn a_silence_is_in_the_python_column_and_on_record(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let reason = Some("planned work");
    let request = SilenceRequest { alert_name: "revenue", duration: HOUR, created_by: "eve", reason };
    let until = bench.store.silence(&request).await?;
    let status = bench.store.alert_statuses(Some("revenue")).await?.remove(0);
    assert_eq!((status.silenced, status.silenced_until), (true, Some(until)));
    let listed = bench.store.silences(None, Past::LeftOut).await?;
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].ends_at, listed[0].created_by.as_str(), listed[0].reason.as_deref()), (until, "eve", reason));

    let longer = SilenceRequest { duration: HOUR * 24, created_by: "adam", reason: None, ..request };
    let longer = bench.store.silence(&longer).await?;
    let listed = bench.store.silences(Some("revenue"), Past::LeftOut).await?;
    assert_eq!(
        listed.iter().map(|silence| silence.ends_at).collect::<Vec<_>>(),
        [longer],
        "it takes the other's place"
    );

    assert!(bench.store.unsilence("revenue", "eve").await?);
    assert!(!bench.store.unsilence("revenue", "eve").await?);
    assert!(!bench.store.unsilence("never seen", "eve").await?);
    let status = bench.store.alert_statuses(Some("revenue")).await?.remove(0);
    assert_eq!((status.silenced, status.silenced_until), (false, None));
    assert!(bench.store.silences(None, Past::LeftOut).await?.is_empty());
    let past = bench.store.silences(Some("revenue"), Past::Included).await?;
    let by = |by: Option<&String>| by.cloned().unwrap_or_default();
    assert_eq!(past.iter().map(|silence| by(silence.ended_by.as_ref())).collect::<Vec<_>>(), ["eve", "adam"]);
    assert!(past.iter().all(|silence| !silence.in_force && silence.ended_at.is_some()), "{past:?}");
    assert!(bench.store.silences(Some("orders"), Past::Included).await?.is_empty());
    Ok(())
}

async fn a_silence_of_the_python_system_counts_and_is_listed(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let revenue = alert("revenue", &["ops"])?;
    bench.adopt(&revenue).await?;
    bench
        .execute(
            "INSERT INTO sqlsentinel_state (alert_name, consecutive_alerts, consecutive_oks, escalation_count, \
             notification_failures, current_status, silenced_until) \
             VALUES ('revenue', 0, 1, 0, 0, 'OK', '2999-01-01 00:00:00.5')",
        )
        .await?;
    run_all(&bench, &revenue, 1, &[Alert]).await?;
    assert_eq!(bench.count("notifications").await?, 0);
    assert!(bench.store.unsilence("revenue", "eve").await?);
    assert_eq!(bench.recorder.record_untold().await?, 1);
    Ok(())
}

async fn an_alert_that_began_in_a_silence_is_told_once_when_it_ends(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let revenue = alert("revenue", &["ops", "archive"])?;
    bench.adopt(&revenue).await?;
    silence(&bench, "revenue").await?;
    let said = sqlsentinel_common::outcome::Verdict {
        actual_value: Some(serde_json::from_str("8500.100000000000000000001")?),
        context: serde_json::from_str("{\"total\":1.10}")?,
        truncated: true,
        ..sqlsentinel_tests::bench::verdict(Alert)
    };
    let outcome = bench.fire(&revenue, 1, said).await?;
    bench.recorder.record(&[&outcome]).await;
    // Errors say nothing about the alert, so they don't take its place.
    run_all(&bench, &revenue, 2, &[Error]).await?;
    assert_eq!(bench.text("SELECT current_status FROM sqlsentinel_state").await?, "ALERT");
    assert_eq!((bench.count("notifications").await?, bench.recorder.record_untold().await?), (0, 0));

    bench.store.unsilence("revenue", "eve").await?;
    let others = [Recorder::new(bench.store.clone()), Recorder::new(bench.store.clone())];
    let (one, other) = tokio::join!(others[0].record_untold(), others[1].record_untold());
    assert_eq!(one? + other?, 2, "both routes, and each once");
    assert_eq!(bench.recorder.record_untold().await?, 0);
    run_all(&bench, &revenue, 3, &[Alert]).await?;
    assert_eq!(bench.count("notifications").await?, 2);
    for claim in bench.claim(9).await? {
        assert_eq!((claim.kind, claim.execution_id), (NoticeKind::Alert, outcome.execution_id));
        assert_eq!(claim.scheduled_for, outcome.scheduled_for);
        for part in ["8500.100000000000000000001", "{\"total\":1.10}", "\"status\":\"ALERT\"", "\"truncated\":true"] {
            assert!(claim.payload.contains(part), "{part}: {}", claim.payload);
        }
        assert!(!bench.store.overtaken(&claim).await?);
    }
    Ok(())
}

async fn a_sweep_that_finds_what_another_is_telling_waits_and_tells_nothing(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let revenue = alert("revenue", &["ops"])?;
    bench.adopt(&revenue).await?;
    silence(&bench, "revenue").await?;
    run_all(&bench, &revenue, 1, &[Alert]).await?;
    bench.store.unsilence("revenue", "eve").await?;

    // The first sweep, held between taking the state's lock and its commit.
    let word = bench.store.untold("", 9).await?.remove(0);
    let mut first = bench.store.begin_outcomes().await?;
    let state = first.lock_states(&BTreeSet::from(["revenue"])).await?.remove("revenue");
    let (state, now) = (state.context("no state")?, first.now().await?);
    let told = judge_untold(&state, &Instances::new(), &word, &revenue, now)?.context("nothing to tell")?;
    let commit = async {
        if bench.dialect() == Dialect::Postgres {
            let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
            eventually("the second sweep waits", SOON, || bench.number(waiting), |waiting| *waiting > 0).await?;
        }
        // Only now: before the first write it is the lock alone that holds the second one up.
        first.save_states(&told.moved).await?;
        first.enqueue(&told.notifications).await?;
        anyhow::Ok(first.commit().await?)
    };
    let (second, committed) = tokio::join!(bench.recorder.record_untold(), commit);
    committed?;
    assert_eq!((told.notifications.len(), second?), (1, 0));
    assert_eq!(bench.count("notifications").await?, 1);
    Ok(())
}

async fn a_silence_that_ends_by_itself_is_swept_too(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let revenue = alert("revenue", &["ops"])?;
    bench.adopt(&revenue).await?;
    silence(&bench, "revenue").await?;
    run_all(&bench, &revenue, 1, &[Alert]).await?;
    let_silences_end(&bench).await?;
    assert_eq!(bench.recorder.record_untold().await?, 1);
    assert_eq!(bench.recorder.record_untold().await?, 0);
    // The history is gone: the state's own word is what is left.
    silence(&bench, "revenue").await?;
    run_all(&bench, &revenue, 2, &[AllOk, Alert]).await?;
    bench.execute("DELETE FROM sqlsentinel_executions").await?;
    let_silences_end(&bench).await?;
    assert_eq!(bench.recorder.record_untold().await?, 1);
    let payload = "SELECT payload FROM sqlsentinel_notifications WHERE sequence = 2";
    assert!(bench.text(payload).await?.contains("\"status\":\"ALERT\""));
    Ok(())
}

async fn what_was_over_before_its_silence_is_not_told(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let revenue = with(JudgingRules { send_resolved: true, ..JudgingRules::default() }, "revenue")?;
    bench.adopt(&revenue).await?;
    silence(&bench, "revenue").await?;
    run_all(&bench, &revenue, 1, &[Alert, AllOk, NoData, Error, Error, Error, AllOk]).await?;
    bench.store.unsilence("revenue", "eve").await?;
    assert_eq!(bench.recorder.record_untold().await?, 0);
    run_all(&bench, &revenue, 8, &[AllOk]).await?;
    assert_eq!(bench.count("notifications").await?, 0);
    Ok(())
}

async fn the_end_of_a_told_alert_is_told_after_the_silence(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let revenue = with(JudgingRules { send_resolved: true, ..JudgingRules::default() }, "revenue")?;
    bench.adopt(&revenue).await?;
    run_all(&bench, &revenue, 1, &[Alert]).await?;
    silence(&bench, "revenue").await?;
    run_all(&bench, &revenue, 2, &[AllOk]).await?;
    bench.store.unsilence("revenue", "eve").await?;
    assert_eq!(bench.recorder.record_untold().await?, 1);
    run_all(&bench, &revenue, 3, &[AllOk]).await?;
    assert_eq!(kinds(&bench).await?, ["alert", "resolved"]);
    Ok(())
}

async fn a_queued_notification_waits_for_the_end_of_the_silence(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    for name in ["revenue", "orders"] {
        let definition = alert(name, &["ops"])?;
        bench.adopt(&definition).await?;
        run_all(&bench, &definition, 1, &[Alert]).await?;
    }
    silence(&bench, "revenue").await?;
    let names = |claims: &[sqlsentinel_common::store::outbox::Claim]| {
        claims.iter().map(|claim| claim.alert_name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&bench.claim(9).await?), ["orders"]);
    bench.store.unsilence("revenue", "eve").await?;
    let claims = bench.claim(9).await?;
    assert_eq!((names(&claims), claims[0].attempt), (vec!["revenue".to_owned()], 1));
    assert!(!bench.store.overtaken(&claims[0]).await?, "the alert is on");
    assert_eq!(bench.recorder.record_untold().await?, 0, "it was queued already");
    Ok(())
}

async fn a_queued_notification_that_is_over_by_then_is_not_worth_sending(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    // Each is queued before the silence; then this happens, and so much of it is over.
    let cases: [(&str, &[RunStatus], &[RunStatus], bool); 6] = [
        ("over", &[Alert], &[AllOk], true),
        ("again", &[Alert], &[AllOk, Alert], true),
        ("on", &[Alert], &[Alert], false),
        ("answered", &[Error, Error, Error], &[AllOk], true),
        ("failing", &[Error, Error, Error], &[Error], false),
        ("rows", &[NoData], &[AllOk], true),
    ];
    for (name, before, during, _) in cases {
        let definition = alert(name, &["ops"])?;
        bench.adopt(&definition).await?;
        run_all(&bench, &definition, 1, before).await?;
        silence(&bench, name).await?;
        run_all(&bench, &definition, 9, during).await?;
    }
    let_silences_end(&bench).await?;
    let claims = bench.claim(9).await?;
    assert_eq!(claims.len(), cases.len());
    for (name, .., over) in cases {
        let Some(claim) = claims.iter().find(|claim| claim.alert_name == name) else { anyhow::bail!("no {name}") };
        assert_eq!(bench.store.overtaken(claim).await?, over, "{name}");
    }
    // The alert that has begun again is told by the sweep, so the first one's notification stays over.
    assert_eq!(bench.recorder.record_untold().await?, 1);
    let Some(again) = claims.iter().find(|claim| claim.alert_name == "again") else { anyhow::bail!("not claimed") };
    assert!(bench.store.overtaken(again).await?);

    // Without a silence, a receiver that was away hears everything.
    let late = alert("late", &["ops"])?;
    bench.adopt(&late).await?;
    run_all(&bench, &late, 1, &[Alert, AllOk]).await?;
    let claims = bench.claim(9).await?;
    let Some(late) = claims.iter().find(|claim| claim.alert_name == "late") else { anyhow::bail!("not claimed") };
    assert!(!bench.store.overtaken(late).await?);
    Ok(())
}

async fn the_end_of_an_alert_that_never_left_is_not_worth_sending(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let routes = ["never_left", "may_have_arrived", "sent", "repeated"];
    let rules = JudgingRules { send_resolved: true, repeat_interval_ms: Some(60_000), ..JudgingRules::default() };
    let revenue = AlertDefinition { rules, ..alert("revenue", &routes)? };
    bench.adopt(&revenue).await?;
    for (minute, status, kind) in [(1, Alert, "alert"), (2, Alert, "repeat")] {
        run_all(&bench, &revenue, minute, &[status]).await?;
        for claim in bench.claim(9).await? {
            assert_eq!(claim.kind.as_str(), kind);
            assert!(!bench.store.never_left(&claim).await?, "a repetition is another chance");
            let dead = |may_have_arrived| Receipt::Dead { error: "no".to_owned(), may_have_arrived };
            let receipt = match (claim.route_key.as_str(), minute) {
                ("sent", 1) | ("repeated", 2) => Receipt::Sent,
                ("may_have_arrived", _) => dead(true),
                _ => dead(false),
            };
            assert!(bench.store.settle_notification(&claim, &receipt).await?);
        }
    }
    run_all(&bench, &revenue, 3, &[AllOk]).await?;
    let claims = bench.claim(9).await?;
    assert_eq!(claims.len(), routes.len());
    for claim in claims {
        assert_eq!(claim.kind, NoticeKind::Resolved);
        assert_eq!(bench.store.never_left(&claim).await?, claim.route_key == "never_left", "{}", claim.route_key);
    }
    Ok(())
}

async fn an_alert_that_is_disabled_or_gone_is_not_swept(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    for name in ["gone", "disabled"] {
        let definition = alert(name, &["ops"])?;
        bench.adopt(&definition).await?;
        silence(&bench, name).await?;
        run_all(&bench, &definition, 1, &[Alert]).await?;
    }
    bench.execute("UPDATE sqlsentinel_configs SET valid_until = 2, active = FALSE").await?;
    let disabled = AlertDefinition { enabled: false, ..alert("disabled", &["ops"])? };
    bench.adopt(&disabled).await?;
    let_silences_end(&bench).await?;
    assert_eq!(bench.recorder.record_untold().await?, 0);
    bench.execute("UPDATE sqlsentinel_configs SET valid_until = NULL WHERE alert_name = 'gone'").await?;
    assert_eq!(bench.recorder.record_untold().await?, 1, "it is back");
    Ok(())
}

async fn a_definition_that_cannot_be_read_keeps_nobody_else_from_being_told(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    for name in ["a", "b"] {
        let definition = alert(name, &["ops"])?;
        bench.adopt(&definition).await?;
        silence(&bench, name).await?;
        run_all(&bench, &definition, 1, &[Alert]).await?;
    }
    bench.execute("UPDATE sqlsentinel_definitions SET definition = '{\"future\":1}' WHERE alert_name = 'a'").await?;
    let_silences_end(&bench).await?;
    assert_eq!(bench.recorder.record_untold().await?, 1);
    assert_eq!(bench.text("SELECT alert_name FROM sqlsentinel_notifications").await?, "b");
    Ok(())
}

async fn the_memory_of_rules_outlives_the_process(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let rules = JudgingRules {
        for_ms: 60_000,
        consecutive: 3,
        repeat_interval_ms: Some(120_000),
        send_resolved: true,
        ..JudgingRules::default()
    };
    let revenue = with(rules, "revenue")?;
    bench.adopt(&revenue).await?;
    run_all(&bench, &revenue, 1, &[Alert, Alert]).await?;
    assert_eq!(bench.text("SELECT current_status FROM sqlsentinel_state").await?, "PENDING");
    assert_eq!(bench.count("notifications").await?, 0);
    run_all(&bench, &revenue, 3, &[Alert, Alert, Alert, AllOk]).await?;
    assert_eq!(kinds(&bench).await?, ["alert", "repeat", "resolved"]);
    assert_eq!(bench.text("SELECT current_status FROM sqlsentinel_state").await?, "OK");
    let cleared = "SELECT COUNT(*) FROM sqlsentinel_state WHERE alerting_since IS NULL AND untold = 0";
    assert_eq!(bench.number(cleared).await?, 1);
    Ok(())
}

async fn an_alert_by_errors_says_which_error_it_was(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let revenue = with(JudgingRules { on_error: OnEvent::Alert, ..JudgingRules::default() }, "revenue")?;
    bench.adopt(&revenue).await?;
    silence(&bench, "revenue").await?;
    run_all(&bench, &revenue, 1, &[Error, Error, Error]).await?;
    bench.store.unsilence("revenue", "eve").await?;
    assert_eq!(bench.recorder.record_untold().await?, 1);
    assert_eq!(kinds(&bench).await?, ["alert"]);
    let payload = bench.text("SELECT payload FROM sqlsentinel_notifications").await?;
    for part in ["\"status\":\"ERROR\"", "orders", "\"kind\":\"query\"", "\"consecutive_errors\":3"] {
        assert!(payload.contains(part), "{part}: {payload}");
    }
    Ok(())
}
