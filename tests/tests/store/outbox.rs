//! The outbox: one sender at a time, in order, with receipts that count only while their claim does.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use sqlsentinel_common::alert::AlertDefinition;
use sqlsentinel_common::outcome::RunStatus::{Alert, Error, Ok as AllOk};
use sqlsentinel_common::store::outbox::{Claim, ClaimRequest, NoticeKind, Receipt};

use sqlsentinel_tests::bench::{Bench, LEASE, alert};
use sqlsentinel_tests::on_both_dialects;
use sqlsentinel_tests::stores::Fixture;

on_both_dialects!(
    what_is_claimed_is_nobody_elses,
    a_claim_whose_lease_has_ended_is_claimed_again_and_marked,
    a_receipt_with_a_stale_token_changes_nothing,
    notifications_of_one_route_leave_in_order,
    a_dead_head_makes_way,
    a_failed_attempt_waits_and_is_not_marked,
    an_attempt_that_may_have_arrived_marks_every_later_one,
    a_route_in_pause_holds_up_nobody_else,
    a_route_that_has_enough_under_way_is_left_alone,
    the_history_says_who_was_told,
    the_end_of_errors_is_not_told_where_the_errors_were_not,
    what_was_left_of_one_alert_can_be_claimed_alone,
    the_backlog_counts_what_has_not_ended,
);

fn retry(seconds: u64, may_have_arrived: bool) -> Receipt {
    Receipt::Retry { after: Duration::from_secs(seconds), error: "no".to_owned(), may_have_arrived }
}

fn dead() -> Receipt {
    Receipt::Dead { error: "refused".to_owned(), may_have_arrived: false }
}

/// Alerts and ends `times` times: so many `alert` notifications for each route, in order.
async fn alert_again_and_again(bench: &Bench, definition: &AlertDefinition, times: u64) -> Result<()> {
    bench.define(definition).await?;
    for minute in 0..times {
        bench.run(definition, 2 * minute, Alert).await?;
        bench.run(definition, 2 * minute + 1, AllOk).await?;
    }
    Ok(())
}

async fn claim_one(bench: &Bench) -> Result<Claim> {
    let mut claims = bench.claim(10).await?;
    anyhow::ensure!(claims.len() == 1, "{} claims", claims.len());
    claims.pop().context("no claim")
}

async fn settle(bench: &Bench, claim: &Claim, receipt: &Receipt) -> Result<()> {
    anyhow::ensure!(bench.store.settle_notification(claim, receipt).await?, "stale claim");
    Ok(())
}

async fn notification(bench: &Bench, column: &str) -> Result<String> {
    bench.text(&format!("SELECT CAST({column} AS TEXT) FROM sqlsentinel_notifications")).await
}

async fn what_is_claimed_is_nobody_elses(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    for number in 0..30 {
        alert_again_and_again(&bench, &alert(&format!("alert-{number}"), &["ops"])?, 1).await?;
    }
    // Four senders at once, each until there is nothing left.
    let sender = || async {
        let mut claimed = Vec::new();
        loop {
            let claims = bench.claim(3).await?;
            if claims.is_empty() {
                return anyhow::Ok(claimed);
            }
            claimed.extend(claims.into_iter().map(|claim| claim.notification_id));
        }
    };
    let (a, b, c, d) = tokio::try_join!(sender(), sender(), sender(), sender())?;
    let all = [a, b, c, d].concat();
    // A sender may find others' locks and stop early; whatever is left then is claimed by the next look.
    let rest = bench.claim(100).await?.into_iter().map(|claim| claim.notification_id);
    let all: Vec<_> = all.into_iter().chain(rest).collect();
    assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (30, 30));
    assert_eq!(bench.number("SELECT COUNT(*) FROM sqlsentinel_notifications WHERE attempt = 1").await?, 30);
    Ok(())
}

async fn a_claim_whose_lease_has_ended_is_claimed_again_and_marked(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    alert_again_and_again(&bench, &alert("revenue", &["ops"])?, 1).await?;
    let first = claim_one(&bench).await?;
    assert_eq!((first.attempt, first.possible_duplicate), (1, false));
    assert_eq!(notification(&bench, "status").await?, "SENDING");
    assert_eq!(bench.claim(10).await?, [], "its lease goes on");

    bench.let_time_pass().await?;
    let second = claim_one(&bench).await?;
    assert_eq!(second.notification_id, first.notification_id);
    assert_eq!((second.attempt, second.possible_duplicate), (2, true));
    settle(&bench, &second, &Receipt::Sent).await?;
    assert_eq!(
        (notification(&bench, "status").await?, notification(&bench, "possible_duplicate").await?),
        ("SENT".into(), "1".into())
    );
    Ok(())
}

async fn a_receipt_with_a_stale_token_changes_nothing(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    alert_again_and_again(&bench, &alert("revenue", &["ops"])?, 1).await?;
    let stale = claim_one(&bench).await?;
    bench.let_time_pass().await?;
    let current = claim_one(&bench).await?;
    for receipt in [Receipt::Sent, dead(), retry(60, true)] {
        assert!(!bench.store.settle_notification(&stale, &receipt).await?, "{receipt:?}");
        assert_eq!(notification(&bench, "status").await?, "SENDING");
    }
    assert_eq!(bench.number("SELECT COUNT(*) FROM sqlsentinel_executions WHERE notification_sent = TRUE").await?, 0);

    settle(&bench, &current, &Receipt::Sent).await?;
    assert!(!bench.store.settle_notification(&current, &dead()).await?, "it has ended");
    assert_eq!(notification(&bench, "status").await?, "SENT");
    Ok(())
}

async fn notifications_of_one_route_leave_in_order(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    alert_again_and_again(&bench, &alert("revenue", &["ops", "sales"])?, 3).await?;
    for sequence in 1..=3 {
        let heads = bench.claim(10).await?;
        let routes: BTreeSet<&str> = heads.iter().map(|claim| claim.route_key.as_str()).collect();
        assert_eq!(routes, ["ops", "sales"].into());
        for claim in &heads {
            assert_eq!(claim.sequence, sequence);
            settle(&bench, claim, &Receipt::Sent).await?;
        }
    }
    assert_eq!(bench.claim(10).await?, []);
    Ok(())
}

async fn a_dead_head_makes_way(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    alert_again_and_again(&bench, &alert("revenue", &["ops"])?, 2).await?;
    let head = claim_one(&bench).await?;
    settle(&bench, &head, &dead()).await?;
    assert_eq!(claim_one(&bench).await?.sequence, 2);
    let given_up = "SELECT COUNT(*) FROM sqlsentinel_notifications \
                    WHERE status = 'DEAD' AND last_error = 'refused' AND finished_at > 0 AND claim_token IS NULL";
    assert_eq!(bench.number(given_up).await?, 1);
    Ok(())
}

async fn a_failed_attempt_waits_and_is_not_marked(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    alert_again_and_again(&bench, &alert("revenue", &["ops"])?, 2).await?;
    let head = claim_one(&bench).await?;
    settle(&bench, &head, &retry(60, false)).await?;
    let found = bench.store.claim_notifications(ClaimRequest::new(9, LEASE)).await?;
    assert_eq!(found.claims, [], "neither the head nor what waits behind it");
    let due = found.next_due.context("something waits")?;
    assert!(due <= Duration::from_secs(60) && due > Duration::from_secs(50), "{due:?}");

    bench.let_time_pass().await?;
    let again = claim_one(&bench).await?;
    assert_eq!((again.notification_id, again.attempt, again.possible_duplicate), (head.notification_id, 2, false));
    Ok(())
}

async fn an_attempt_that_may_have_arrived_marks_every_later_one(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    alert_again_and_again(&bench, &alert("revenue", &["ops"])?, 1).await?;
    for (attempt, marked, receipt) in [(1, false, retry(1, true)), (2, true, retry(1, false)), (3, true, Receipt::Sent)]
    {
        let claim = claim_one(&bench).await?;
        assert_eq!((claim.attempt, claim.possible_duplicate), (attempt, marked));
        settle(&bench, &claim, &receipt).await?;
        bench.let_time_pass().await?;
    }
    Ok(())
}

async fn a_route_in_pause_holds_up_nobody_else(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    // More waits behind the dead channel's head than one look claims.
    alert_again_and_again(&bench, &alert("revenue", &["dead"])?, 5).await?;
    let head = claim_one(&bench).await?;
    settle(&bench, &head, &retry(300, false)).await?;
    alert_again_and_again(&bench, &alert("orders", &["alive"])?, 1).await?;
    let claims = bench.claim(1).await?;
    assert_eq!(claims.iter().map(|claim| claim.route_key.as_str()).collect::<Vec<_>>(), ["alive"]);
    // What waits behind a head does not even look due.
    let due = "SELECT COUNT(*) FROM sqlsentinel_notifications WHERE route_key = 'dead' AND next_attempt_at <= \
               (SELECT MAX(created_at) FROM sqlsentinel_notifications)";
    assert_eq!(bench.number(due).await?, 0);
    Ok(())
}

async fn a_route_that_has_enough_under_way_is_left_alone(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    alert_again_and_again(&bench, &alert("revenue", &["busy", "free"])?, 1).await?;
    let busy = ["busy".to_owned()];
    let request = ClaimRequest { except_routes: &busy, ..ClaimRequest::new(9, LEASE) };
    let claims = bench.store.claim_notifications(request).await?.claims;
    assert_eq!(claims.iter().map(|claim| claim.route_key.as_str()).collect::<Vec<_>>(), ["free"]);
    Ok(())
}

async fn the_history_says_who_was_told(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    alert_again_and_again(&bench, &alert("revenue", &["ops", "sales"])?, 1).await?;
    let claims = bench.claim(10).await?;
    let error = "SELECT notification_error FROM sqlsentinel_executions WHERE status = 'ALERT'";
    let sent = "SELECT COUNT(*) FROM sqlsentinel_executions WHERE notification_sent = TRUE";
    settle(&bench, &claims[0], &retry(1, false)).await?;
    assert_eq!((bench.text(error).await?, bench.number(sent).await?), ("no".to_owned(), 0));
    settle(&bench, &claims[1], &Receipt::Sent).await?;
    assert_eq!((bench.text(error).await?, bench.number(sent).await?), ("no".to_owned(), 1));
    bench.let_time_pass().await?;
    let again = claim_one(&bench).await?;
    settle(&bench, &again, &Receipt::Sent).await?;
    assert_eq!((bench.text(error).await?, bench.number(sent).await?), ("NULL".to_owned(), 1));
    Ok(())
}

async fn the_end_of_errors_is_not_told_where_the_errors_were_not(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    let routes = ["never_left", "may_have_arrived", "sent"];
    let revenue = alert("revenue", &routes)?;
    bench.define(&revenue).await?;
    for minute in 1..=3 {
        bench.run(&revenue, minute, Error).await?;
    }
    for claim in bench.claim(10).await? {
        let receipt = match claim.route_key.as_str() {
            "never_left" => dead(),
            "may_have_arrived" => Receipt::Dead { error: "silence".to_owned(), may_have_arrived: true },
            _ => Receipt::Sent,
        };
        settle(&bench, &claim, &receipt).await?;
    }
    bench.run(&revenue, 4, AllOk).await?;
    for claim in bench.claim(10).await? {
        assert_eq!(claim.kind, NoticeKind::ErrorResolved);
        let never_left = bench.store.never_left(&claim).await?;
        assert_eq!(never_left, claim.route_key == "never_left", "{}", claim.route_key);
    }
    Ok(())
}

async fn what_was_left_of_one_alert_can_be_claimed_alone(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    for name in ["revenue", "orders"] {
        alert_again_and_again(&bench, &alert(name, &["ops"])?, 1).await?;
    }
    let only = ["orders".to_owned()];
    let request = ClaimRequest { only_alerts: Some(&only), ..ClaimRequest::new(9, LEASE) };
    let claims = bench.store.claim_notifications(request).await?.claims;
    assert_eq!(claims.iter().map(|claim| claim.alert_name.as_str()).collect::<Vec<_>>(), ["orders"]);
    Ok(())
}

async fn the_backlog_counts_what_has_not_ended(fixture: Fixture) -> Result<()> {
    let bench = Bench::on(fixture).await?;
    assert_eq!(bench.store.outbox_backlog().await?.active, 0);
    alert_again_and_again(&bench, &alert("revenue", &["ops"])?, 3).await?;
    bench.execute("UPDATE sqlsentinel_notifications SET created_at = created_at - 60000000 WHERE sequence = 2").await?;
    let claim = claim_one(&bench).await?;
    settle(&bench, &claim, &Receipt::Sent).await?;
    let backlog = bench.store.outbox_backlog().await?;
    assert_eq!(backlog.active, 2);
    assert!(backlog.oldest >= Duration::from_secs(60), "{backlog:?}");
    Ok(())
}
