//! Instances in the state database: what is remembered of each, what is told of each, and when it is forgotten.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use sqlsentinel_common::alert::{AlertDefinition, JudgingRules, OnEvent, QueryOptions};
use sqlsentinel_common::messages::OutcomeMessage;
use sqlsentinel_common::outcome::{InstanceVerdict, RunStatus, Verdict};
use sqlsentinel_common::store::outbox::Receipt;
use sqlsentinel_common::store::silences::SilenceRequest;
use sqlsentinel_notifier::record::Recorder;
use sqlsentinel_tests::bench::{Bench, alert, verdict};
use sqlsentinel_tests::on_both_dialects;
use sqlsentinel_tests::stores::Fixture;

on_both_dialects!(
    each_instance_is_remembered_told_and_forgotten_by_itself,
    what_an_instance_said_is_kept_with_every_digit,
    the_history_counts_instances_and_names_those_that_are_wrong,
    dashboards_see_the_worst_of_all,
    two_runs_in_one_batch_leave_what_two_batches_would,
    the_end_of_a_silence_tells_each_instance,
    a_notification_that_waited_for_a_silence_is_skipped_by_what_its_own_instance_is_in,
    a_key_that_comes_or_goes_leaves_nothing_behind,
    operators_see_what_is_wrong,
    two_notifiers_on_one_alert_tell_each_instance_once,
    as_many_instances_as_there_may_be_are_judged_in_one_transaction,
);

/// An alert with one route, whose rows are told apart by `region`.
fn regions(rules: JudgingRules) -> Result<AlertDefinition> {
    let options = QueryOptions { instance_key: vec!["region".to_owned()], ..QueryOptions::default() };
    Ok(AlertDefinition { rules, options, ..alert("regions", &["ops"])? })
}

fn with_ends() -> JudgingRules {
    JudgingRules { send_resolved: true, ..JudgingRules::default() }
}

/// What a query says of these regions.
fn rows(rows: &[(&str, RunStatus)]) -> Verdict {
    let instances = rows.iter().map(|(region, status)| {
        let context = serde_json::Map::from_iter([("region".to_owned(), json!(region))]);
        let row = Verdict { actual_value: Some(json!(region.len())), context, ..Verdict::bare(*status) };
        InstanceVerdict::new((*region).to_owned(), row)
    });
    let alert = rows.iter().any(|(_, status)| *status == RunStatus::Alert);
    let status = if alert { RunStatus::Alert } else { RunStatus::Ok };
    Verdict { instances: instances.collect(), ..Verdict::bare(status) }
}

async fn run(bench: &Bench, definition: &AlertDefinition, minute: u64, verdict: Verdict) -> Result<usize> {
    let outcome = bench.fire(definition, minute, verdict).await?;
    let recorded = bench.recorder.record(&[&outcome]).await;
    anyhow::ensure!(recorded.failure.is_none(), "{recorded:?}");
    Ok(recorded.notifications)
}

/// The names and statuses of what is remembered, in order.
async fn remembered(bench: &Bench) -> Result<String> {
    let each = "instance || ':' || status || CASE WHEN untold = 1 THEN '!' ELSE '' END";
    let list = bench.aggregated(each, "', '", "instance", "sqlsentinel_instances");
    bench.text(&list).await
}

/// What was told since sequence `after`, in order.
async fn told(bench: &Bench, after: i64) -> Result<String> {
    let from = format!("sqlsentinel_notifications WHERE sequence > {after}");
    bench.text(&bench.aggregated("instance || ' ' || kind", "', '", "sequence", &from)).await
}

async fn each_instance_is_remembered_told_and_forgotten_by_itself(fixture: Fixture) -> Result<()> {
    use RunStatus::{Alert, Ok as AllOk};
    let bench = Bench::on(fixture).await?;
    let regions = regions(with_ends())?;
    bench.define(&regions).await?;
    assert_eq!(run(&bench, &regions, 1, rows(&[("eu", Alert), ("us", Alert), ("asia", AllOk)])).await?, 2);
    assert_eq!(remembered(&bench).await?, ":OK, eu:ALERT, us:ALERT");
    assert_eq!(told(&bench, 0).await?, "eu alert, us alert");
    // The same again, by another notifier.
    assert_eq!(run(&bench, &regions, 2, rows(&[("eu", Alert), ("us", Alert), ("asia", AllOk)])).await?, 0);
    // One is well, one is not in the answer any more, one is new.
    assert_eq!(run(&bench, &regions, 3, rows(&[("eu", AllOk), ("asia", Alert)])).await?, 3);
    assert_eq!(told(&bench, 2).await?, "asia alert, eu resolved, us resolved");
    assert_eq!(remembered(&bench).await?, ":OK, asia:ALERT");
    assert_eq!(run(&bench, &regions, 4, rows(&[("asia", AllOk)])).await?, 1);
    assert_eq!(bench.count("instances").await?, 0);
    assert_eq!(bench.text("SELECT current_status FROM sqlsentinel_state").await?, "OK");
    // No two are one, although an execution has caused several of a kind.
    let names = "SELECT COUNT(DISTINCT notification_id) FROM sqlsentinel_notifications";
    assert_eq!((bench.number(names).await?, bench.count("notifications").await?), (6, 6));
    Ok(())
}

async fn what_an_instance_said_is_kept_with_every_digit(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let regions = regions(JudgingRules::default())?;
    bench.define(&regions).await?;
    let row = Verdict {
        actual_value: Some(serde_json::from_str("8500.100000000000000000001")?),
        threshold: Some(json!("a lot")),
        context: serde_json::from_str("{\"region\":\"it's ü\",\"total\":1.10}")?,
        ..Verdict::bare(RunStatus::Alert)
    };
    let instances = vec![InstanceVerdict::new("it's ü".to_owned(), row)];
    run(&bench, &regions, 1, Verdict { instances, ..Verdict::bare(RunStatus::Alert) }).await?;
    let kept = bench.text("SELECT verdict FROM sqlsentinel_instances WHERE instance = 'it''s ü'").await?;
    let expected = "{\"status\":\"ALERT\",\"actual_value\":8500.100000000000000000001,\"threshold\":\"a lot\",\
                    \"context\":{\"region\":\"it's ü\",\"total\":1.10}}";
    assert_eq!(kept, expected);
    let payload = bench.text("SELECT payload FROM sqlsentinel_notifications").await?;
    assert!(payload.contains("8500.100000000000000000001") && payload.contains("1.10"), "{payload}");
    Ok(())
}

async fn the_history_counts_instances_and_names_those_that_are_wrong(fixture: Fixture) -> Result<()> {
    use RunStatus::{Alert, Ok as AllOk};
    let bench = Bench::on(fixture).await?;
    let regions = regions(JudgingRules::default())?;
    bench.define(&regions).await?;
    run(&bench, &regions, 1, rows(&[("eu", Alert), ("us", AllOk), ("asia", Alert)])).await?;
    let context = bench.text("SELECT CAST(context_data AS TEXT) FROM sqlsentinel_executions").await?;
    let context: serde_json::Value = serde_json::from_str(&context)?;
    assert_eq!(context, json!({"instances": 3, "alerting": 2, "alerting_instances": ["eu", "asia"]}));
    let status = "SELECT status FROM sqlsentinel_executions WHERE actual_value IS NULL AND actual_value_json IS NULL";
    assert_eq!(bench.text(status).await?, "ALERT");
    assert_eq!(bench.text("SELECT status FROM sqlsentinel_fires").await?, "ALERT");
    Ok(())
}

async fn dashboards_see_the_worst_of_all(fixture: Fixture) -> Result<()> {
    use RunStatus::{Alert, NoData, Ok as AllOk};
    let bench = Bench::on(fixture).await?;
    let alarming = JudgingRules { on_no_data: OnEvent::Alert, ..JudgingRules::default() };
    let regions = regions(alarming)?;
    bench.define(&regions).await?;
    let state = "SELECT current_status || ' ' || consecutive_alerts || ' ' || consecutive_oks || ' ' || last_outcome \
                 FROM sqlsentinel_state";
    for (minute, said, seen) in [
        (1, rows(&[("eu", AllOk)]), "OK 0 1 OK"),
        (2, rows(&[("eu", Alert), ("us", AllOk)]), "ALERT 1 0 ALERT"),
        (3, rows(&[("eu", AllOk), ("us", Alert)]), "ALERT 2 0 ALERT"),
        (4, verdict(NoData), "ALERT 3 0 NO_DATA"),
        (5, rows(&[("eu", AllOk)]), "OK 0 1 OK"),
        (6, verdict(NoData), "ALERT 1 0 NO_DATA"),
    ] {
        run(&bench, &regions, minute, said).await?;
        assert_eq!(bench.text(state).await?, seen, "minute {minute}");
    }
    let times =
        "SELECT COUNT(*) FROM sqlsentinel_state WHERE last_alert_at = last_executed_at AND last_ok_at < last_alert_at";
    assert_eq!(bench.number(times).await?, 1);
    Ok(())
}

async fn two_runs_in_one_batch_leave_what_two_batches_would(fixture: Fixture) -> Result<()> {
    use RunStatus::{Alert, Ok as AllOk};
    let bench = Bench::on(fixture).await?;
    let regions = regions(with_ends())?;
    bench.define(&regions).await?;
    let later = bench.fire(&regions, 2, rows(&[("eu", AllOk), ("us", Alert)])).await?;
    let earlier = bench.fire(&regions, 1, rows(&[("eu", Alert)])).await?;
    let recorded = bench.recorder.record(&[&later, &earlier]).await;
    assert_eq!(recorded.notifications, 3, "{recorded:?}");
    assert_eq!(told(&bench, 0).await?, "eu alert, eu resolved, us alert");
    assert_eq!(remembered(&bench).await?, ":OK, us:ALERT");
    Ok(())
}

async fn the_end_of_a_silence_tells_each_instance(fixture: Fixture) -> Result<()> {
    use RunStatus::{Alert, Ok as AllOk};
    let bench = Bench::on(fixture).await?;
    let regions = regions(with_ends())?;
    bench.adopt(&regions).await?;
    run(&bench, &regions, 1, rows(&[("eu", Alert), ("us", Alert)])).await?;
    silence(&bench).await?;
    assert_eq!(run(&bench, &regions, 2, rows(&[("eu", AllOk), ("us", Alert), ("asia", Alert)])).await?, 0);
    assert_eq!(remembered(&bench).await?, ":OK, asia:ALERT!, eu:OK!, us:ALERT");
    assert_eq!(bench.recorder.record_untold().await?, 0);
    bench.store.unsilence("regions", "eve").await?;
    assert_eq!(bench.recorder.record_untold().await?, 2);
    assert_eq!(told(&bench, 2).await?, "asia alert, eu resolved");
    let said = "SELECT payload FROM sqlsentinel_notifications WHERE instance = 'asia'";
    assert!(bench.text(said).await?.contains("\"actual_value\":4"));
    assert_eq!(remembered(&bench).await?, ":OK, asia:ALERT, us:ALERT");
    assert_eq!(bench.recorder.record_untold().await?, 0);
    Ok(())
}

async fn silence(bench: &Bench) -> Result<()> {
    let request =
        SilenceRequest { alert_name: "regions", duration: Duration::from_secs(3_600), created_by: "eve", reason: None };
    bench.store.silence(&request).await?;
    Ok(())
}

async fn a_notification_that_waited_for_a_silence_is_skipped_by_what_its_own_instance_is_in(
    fixture: Fixture,
) -> Result<()> {
    use RunStatus::{Alert, Ok as AllOk};
    let bench = Bench::on(fixture).await?;
    let alarming = JudgingRules { on_no_data: OnEvent::Alert, ..JudgingRules::default() };
    let regions = regions(alarming)?;
    bench.adopt(&regions).await?;
    run(&bench, &regions, 1, verdict(RunStatus::NoData)).await?;
    run(&bench, &regions, 2, rows(&[("eu", Alert), ("us", Alert)])).await?;
    silence(&bench).await?;
    run(&bench, &regions, 3, rows(&[("us", Alert)])).await?;
    bench.store.unsilence("regions", "eve").await?;
    let mut overtaken = Vec::new();
    for claim in bench.claim(9).await? {
        overtaken.push((claim.instance.clone(), bench.store.overtaken(&claim).await?));
    }
    overtaken.sort();
    // The alert itself had no data and has some again; eu has ended; us goes on.
    assert_eq!(overtaken, [(String::new(), true), ("eu".to_owned(), true), ("us".to_owned(), false)]);

    run(&bench, &regions, 4, rows(&[("us", AllOk)])).await?;
    let (claims, count) = (bench.claim(9).await?, bench.count("instances").await?);
    assert_eq!((claims.len(), count), (0, 0), "all of them are under way");
    bench.let_time_pass().await?;
    let us = bench.claim(9).await?.into_iter().find(|claim| claim.instance == "us").context("no claim")?;
    assert!(bench.store.overtaken(&us).await?, "nothing is remembered of it");
    assert!(bench.store.settle_notification(&us, &Receipt::Sent).await?);
    Ok(())
}

async fn a_key_that_comes_or_goes_leaves_nothing_behind(fixture: Fixture) -> Result<()> {
    use RunStatus::Alert;
    let bench = Bench::on(fixture).await?;
    let keyed = regions(with_ends())?;
    let plain = AlertDefinition { options: QueryOptions::default(), ..keyed.clone() };
    bench.define(&keyed).await?;
    bench.define(&plain).await?;
    run(&bench, &plain, 1, verdict(Alert)).await?;
    run(&bench, &keyed, 2, rows(&[("eu", Alert)])).await?;
    assert_eq!(told(&bench, 0).await?, " alert,  resolved, eu alert");
    assert_eq!(remembered(&bench).await?, ":OK, eu:ALERT");
    run(&bench, &plain, 3, verdict(Alert)).await?;
    assert_eq!(told(&bench, 3).await?, " alert, eu resolved");
    assert_eq!(bench.count("instances").await?, 0);
    assert_eq!(bench.text("SELECT current_status FROM sqlsentinel_state").await?, "ALERT");
    Ok(())
}

async fn operators_see_what_is_wrong(fixture: Fixture) -> Result<()> {
    use RunStatus::{Alert, Ok as AllOk};
    let bench = Bench::on(fixture).await?;
    let regions = regions(JudgingRules::default())?;
    bench.define(&regions).await?;
    run(&bench, &regions, 1, rows(&[("eu", Alert), ("us", Alert), ("asia", AllOk)])).await?;
    let status = bench.store.alert_statuses(Some("regions")).await?.remove(0);
    assert_eq!((status.status.as_deref(), status.instances_alerting), (Some("ALERT"), 2));
    let instances = bench.store.instance_statuses("regions").await?;
    let shown: Vec<_> = instances.iter().map(|one| (one.instance.as_str(), one.status.as_str())).collect();
    assert_eq!(shown, [("eu", "ALERT"), ("us", "ALERT")]);
    assert!(instances.iter().all(|one| one.alerting_since == status.last_check && one.told_at == status.last_check));
    Ok(())
}

async fn two_notifiers_on_one_alert_tell_each_instance_once(fixture: Fixture) -> Result<()> {
    use RunStatus::{Alert, Ok as AllOk};
    let bench = Bench::on(fixture).await?;
    let regions = regions(JudgingRules::default())?;
    bench.define(&regions).await?;
    let mut outcomes = Vec::new();
    for minute in 1..=20 {
        outcomes.push(bench.fire(&regions, minute, rows(&[("eu", Alert), ("us", Alert), ("asia", AllOk)])).await?);
    }
    // Both have every outcome, in opposite orders, and work at once.
    let (one, other) = (Recorder::new(bench.store.clone()), Recorder::new(bench.store.clone()));
    let record = async |recorder: &Recorder, outcomes: Vec<&OutcomeMessage>| {
        for outcome in outcomes {
            let recorded = recorder.record(&[outcome]).await;
            assert!(recorded.failure.is_none(), "{:?}", recorded.failure);
        }
    };
    tokio::join!(record(&one, outcomes.iter().collect()), record(&other, outcomes.iter().rev().collect()));
    assert_eq!(bench.count("executions").await?, 20);
    let mut all: Vec<String> = told(&bench, 0).await?.split(", ").map(str::to_owned).collect();
    all.sort();
    assert_eq!(all, ["eu alert", "us alert"]);
    assert_eq!(remembered(&bench).await?, ":OK, eu:ALERT, us:ALERT");
    Ok(())
}

async fn as_many_instances_as_there_may_be_are_judged_in_one_transaction(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let regions = regions(with_ends())?;
    bench.define(&regions).await?;
    let names: Vec<String> = (0..1_000).map(|n| format!("{n:04}{}", "x".repeat(150))).collect();
    let all = |status| rows(&names.iter().map(|name| (name.as_str(), status)).collect::<Vec<_>>());
    assert_eq!(run(&bench, &regions, 1, all(RunStatus::Alert)).await?, 1_000);
    assert_eq!(bench.count("instances").await?, 1_001);
    assert_eq!(run(&bench, &regions, 2, all(RunStatus::Ok)).await?, 1_000);
    assert_eq!(bench.count("instances").await?, 0);
    Ok(())
}
