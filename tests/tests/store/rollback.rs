//! A state database that has gone back in time: who notices, and what is marked. Here a few statements put its rows back;
//! whole servers are put back in the cluster's tests.

use std::time::Duration;

use anyhow::Result;
use sqlsentinel_common::alert::AlertDefinition;
use sqlsentinel_common::outcome::RunStatus::{Alert, Ok as AllOk};
use sqlsentinel_common::store::fires::Plan;
use sqlsentinel_common::store::leadership::{Mark, Term};
use sqlsentinel_common::store::{StoreError, StoreRole};
use sqlsentinel_notifier::record::Fate;
use sqlsentinel_tests::bench::{Bench, alert, outcome, verdict};
use sqlsentinel_tests::on_both_dialects;
use sqlsentinel_tests::stores::Fixture;

on_both_dialects!(
    a_leader_whose_commits_are_lost_changes_nothing_more_and_knows_why,
    a_leader_whose_whole_term_is_lost_is_not_told_that_another_one_leads,
    the_next_leader_marks_what_may_have_been_sent,
    a_sender_does_not_wait_for_the_leader_to_notice,
    what_only_a_sender_has_seen_reaches_what_is_told_next_and_the_next_leader,
    what_an_alert_tells_first_after_it_is_marked_and_nothing_later,
    an_outcome_whose_fire_has_yet_to_be_planned_again_is_kept_until_then,
);

/// Minutes after the first fire of a bench: long after any clock of today.
const LATER: u64 = 10_000_000;

async fn commit(fixture: &Fixture, term: &Term) -> Result<Mark, StoreError> {
    let (now, _) = fixture.store.now().await?;
    let plan = Plan { planned_through: now, ..Plan::default() };
    fixture.store.commit_plan(term, &plan, Mark::default(), 10).await.map(|committed| committed.mark)
}

async fn put_back(bench: &Bench, epoch: i64, seq: i64) -> Result<()> {
    bench.execute(&format!("UPDATE sqlsentinel_leadership SET epoch = {epoch}, seq = {seq}")).await?;
    Ok(())
}

async fn marked(bench: &Bench) -> Result<i64> {
    bench.number("SELECT COUNT(*) FROM sqlsentinel_notifications WHERE possible_duplicate = 1").await
}

async fn a_leader_whose_commits_are_lost_changes_nothing_more_and_knows_why(fixture: Fixture) -> Result<()> {
    let other = Bench::on_same(&fixture).await?;
    let term = fixture.store.claim_leadership("leader", Mark::default()).await?.term;
    for _ in 0..3 {
        commit(&fixture, &term).await?;
    }
    assert_eq!(term.last_commit(), Mark { epoch: 1, seq: 3 });
    put_back(&other, 1, 2).await?;
    let before = fixture.store.leadership().await?;
    let refused = commit(&fixture, &term).await;
    let (known, found) = (Mark { epoch: 1, seq: 3 }, Mark { epoch: 1, seq: 2 });
    assert!(
        matches!(refused, Err(StoreError::RolledBack { known: k, found: f }) if (k, f) == (known, found)),
        "{refused:?}"
    );
    assert_eq!(fixture.store.leadership().await?, before);
    Ok(())
}

async fn a_leader_whose_whole_term_is_lost_is_not_told_that_another_one_leads(fixture: Fixture) -> Result<()> {
    let other = Bench::on_same(&fixture).await?;
    fixture.store.claim_leadership("former", Mark::default()).await?;
    let term = fixture.store.claim_leadership("leader", Mark::default()).await?.term;
    put_back(&other, 1, 7).await?;
    let refused = commit(&fixture, &term).await;
    assert!(matches!(refused, Err(StoreError::RolledBack { .. })), "{refused:?}");
    put_back(&other, 3, 0).await?;
    let refused = commit(&fixture, &term).await;
    assert!(matches!(refused, Err(StoreError::Deposed)), "{refused:?}");
    Ok(())
}

async fn the_next_leader_marks_what_may_have_been_sent(fixture: Fixture) -> Result<()> {
    let coordinator = fixture.another(StoreRole::Leader)?;
    let bench = Bench::on(fixture).await?;
    let revenue = alert("revenue", &["ops", "sales"])?;
    bench.define(&revenue).await?;
    bench.run(&revenue, 1, Alert).await?;
    let first = coordinator.claim_leadership("first", Mark::default()).await?;
    assert_eq!((first.rolled_back, marked(&bench).await?), (None, 0));

    // The lease told of a later commit than the row has, though the epoch is the same.
    let known = Mark { epoch: 1, seq: 5 };
    let second = coordinator.claim_leadership("second", known).await?;
    let Some(rollback) = second.rolled_back else { anyhow::bail!("not noticed") };
    assert_eq!((rollback.known, rollback.found), (known, Mark { epoch: 1, seq: 0 }));
    assert_eq!((rollback.notifications, marked(&bench).await?), (2, 2));
    assert_eq!(rollback.uncertain_from, second.planned_through);
    assert_eq!(second.term.epoch, 2);
    assert_eq!(bench.count("rollbacks").await?, 1);

    let third = coordinator.claim_leadership("third", second.term.last_commit()).await?;
    assert_eq!((third.rolled_back, bench.count("rollbacks").await?), (None, 1));
    Ok(())
}

async fn a_sender_does_not_wait_for_the_leader_to_notice(fixture: Fixture) -> Result<()> {
    let coordinator = fixture.another(StoreRole::Leader)?;
    let bench = Bench::on(fixture).await?;
    let revenue = alert("revenue", &["ops"])?;
    bench.define(&revenue).await?;
    bench.run(&revenue, LATER, Alert).await?;
    coordinator.claim_leadership("leader", Mark::default()).await?;
    put_back(&bench, 4, 9).await?;
    let claims = bench.claim(10).await?;
    assert_eq!(claims.iter().map(|claim| claim.possible_duplicate).collect::<Vec<_>>(), [false]);

    // As the database was before that: the notification is there, and has not been sent.
    put_back(&bench, 4, 3).await?;
    bench.execute("UPDATE sqlsentinel_notifications SET status = 'PENDING', attempt = 0, next_attempt_at = 0").await?;
    let claims = bench.claim(10).await?;
    assert_eq!(claims.iter().map(|claim| claim.possible_duplicate).collect::<Vec<_>>(), [true]);
    Ok(())
}

/// The leader died before the lease stated its last commits, and no coordinator has seen them.
async fn what_only_a_sender_has_seen_reaches_what_is_told_next_and_the_next_leader(fixture: Fixture) -> Result<()> {
    let coordinator = fixture.another(StoreRole::Leader)?;
    let bench = Bench::on(fixture).await?;
    let revenue = alert("revenue", &["ops"])?;
    bench.define(&revenue).await?;
    bench.run(&revenue, 0, AllOk).await?;
    coordinator.claim_leadership("leader", Mark::default()).await?;
    let (known, found) = (Mark { epoch: 1, seq: 9 }, Mark { epoch: 1, seq: 3 });
    put_back(&bench, known.epoch, known.seq).await?;
    bench.claim(10).await?;
    put_back(&bench, found.epoch, found.seq).await?;
    for _ in 0..2 {
        bench.claim(10).await?;
    }
    assert_eq!(bench.count("rollbacks").await?, 1, "noticed once, however often it is seen");
    tell(&bench, &revenue, LATER).await?;
    assert_eq!(marked(&bench).await?, 1);

    let Some(rollback) = coordinator.claim_leadership("next", found).await?.rolled_back else {
        anyhow::bail!("the next leader was not told")
    };
    assert_eq!((rollback.known, rollback.found), (known, found));
    let after = coordinator.claim_leadership("after it", Mark::default()).await?;
    assert_eq!((after.rolled_back, bench.count("rollbacks").await?), (None, 2));

    // Once more, in an epoch whose leader had noticed one when it took it.
    coordinator.claim_leadership("who noticed", Mark { epoch: 9, seq: 9 }).await?;
    let (known, found) = (Mark { epoch: 10, seq: 9 }, Mark { epoch: 10, seq: 3 });
    for place in [known, found] {
        put_back(&bench, place.epoch, place.seq).await?;
        bench.claim(10).await?;
    }
    let again = coordinator.claim_leadership("last", found).await?.rolled_back;
    assert_eq!(again.map(|rollback| (rollback.known, rollback.found)), Some((known, found)));
    Ok(())
}

async fn tell(bench: &Bench, definition: &AlertDefinition, minute: u64) -> Result<()> {
    bench.run(definition, minute, Alert).await?;
    Ok(())
}

async fn what_an_alert_tells_first_after_it_is_marked_and_nothing_later(fixture: Fixture) -> Result<()> {
    let coordinator = fixture.another(StoreRole::Leader)?;
    let bench = Bench::on(fixture).await?;
    let (known, new) = (alert("known", &["ops"])?, alert("new", &["ops"])?);
    bench.define(&known).await?;
    bench.define(&new).await?;
    // Judged before the database went back; what it has told since then is forgotten.
    bench.run(&known, 0, AllOk).await?;
    coordinator.claim_leadership("first", Mark::default()).await?;
    coordinator.claim_leadership("second", Mark { epoch: 7, seq: 7 }).await?;

    tell(&bench, &known, LATER).await?;
    assert_eq!(marked(&bench).await?, 1);
    bench.run(&known, LATER + 1, AllOk).await?;
    tell(&bench, &known, LATER + 2).await?;
    // Nobody had heard of this one before, and what it says is about a later time.
    tell(&bench, &new, LATER).await?;
    assert_eq!((bench.count("notifications").await?, marked(&bench).await?), (3, 1));
    Ok(())
}

async fn an_outcome_whose_fire_has_yet_to_be_planned_again_is_kept_until_then(fixture: Fixture) -> Result<()> {
    let coordinator = fixture.another(StoreRole::Leader)?;
    let bench = Bench::on(fixture).await?;
    let revenue = alert("revenue", &["ops"])?;
    bench.define(&revenue).await?;
    coordinator.claim_leadership("leader", Mark::default()).await?;
    let ran = outcome(&revenue, 1, verdict(AllOk))?;
    let cursor = |moment: i64| format!("UPDATE sqlsentinel_leadership SET planned_through = {moment}");
    bench.execute(&cursor(ran.scheduled_for.minus(Duration::from_secs(5)).as_micros())).await?;
    assert_eq!(bench.recorder.record(&[&ran]).await.fates, [Some(Fate::NotPlannedYet)]);
    assert_eq!(bench.count("executions").await?, 0);

    // Planned past it, and it was not among the fires: a gap covers it.
    bench.execute(&cursor(ran.scheduled_for.as_micros())).await?;
    assert_eq!(bench.recorder.record(&[&ran]).await.fates, [Some(Fate::UnknownFire)]);
    Ok(())
}
