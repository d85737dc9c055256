//! The ledger of fires, on both dialects: planned once, queued within the lane, rescued and expired only while open.

use std::time::Duration;

use anyhow::Result;
use sqlsentinel_common::alert::{ConfigHash, Overlap, SourceName};
use sqlsentinel_common::ids::ExecutionId;
use sqlsentinel_common::store::fires::{Committed, NewFire, NewGap, Plan, QueuedFire};
use sqlsentinel_common::store::leadership::{Mark, Term};
use sqlsentinel_common::timestamp::Timestamp;
use sqlsentinel_tests::on_both_dialects;
use sqlsentinel_tests::stores::Fixture;

on_both_dialects!(
    a_fire_planned_twice_is_one_row_and_is_published_once,
    an_alert_with_an_open_execution_skips_its_next_fire,
    a_dead_execution_blocks_its_alert_no_longer_than_its_deadline,
    one_fire_waits_for_the_open_one_where_its_alert_says_so_and_no_more,
    fires_run_beside_each_other_where_their_alert_says_so,
    a_delayed_fire_waits_for_its_moment_and_takes_nobodys_place,
    beyond_the_lane_fires_wait_and_are_queued_by_deadline,
    the_worst_severity_is_queued_before_an_earlier_deadline,
    what_is_queued_together_is_published_by_severity_and_then_by_deadline,
    what_is_too_late_is_not_queued_and_keeps_nobody_waiting,
    each_source_has_a_lane_of_its_own,
    a_rescued_fire_has_the_next_attempt_and_is_published_again,
    a_fire_that_moved_on_is_not_rescued,
    only_open_fires_expire_and_they_say_why,
    open_fires_are_counted_by_source_with_their_first_deadline,
    a_gap_is_written_once,
    a_commit_says_what_it_has_decided_and_a_repeated_one_decides_nothing,
);

async fn a_fire_planned_twice_is_one_row_and_is_published_once(fixture: Fixture) -> Result<()> {
    let ledger = Ledger::of(fixture).await?;
    let fire = ledger.fire("a", 0, "default").await?;
    let first = ledger.plan(vec![fire.clone()], 10).await?;
    let again = ledger.plan(vec![fire.clone()], 10).await?;
    let queued = ledger.unpublished(Mark::default()).await?;
    assert_eq!(queued.len(), 1);
    assert_eq!((queued[0].execution_id, queued[0].attempt, queued[0].mark), (fire.execution_id, 1, first));
    assert!(ledger.unpublished(again).await?.is_empty());
    Ok(())
}

async fn an_alert_with_an_open_execution_skips_its_next_fire(fixture: Fixture) -> Result<()> {
    let ledger = Ledger::of(fixture).await?;
    ledger.plan(vec![ledger.fire("a", 0, "default").await?], 10).await?;
    ledger.plan(vec![ledger.fire("a", 1, "default").await?, ledger.fire("b", 1, "default").await?], 10).await?;
    assert_eq!(ledger.history().await?, ["a 0 QUEUED", "a 1 SKIPPED overlap", "b 1 QUEUED"]);
    Ok(())
}

async fn a_dead_execution_blocks_its_alert_no_longer_than_its_deadline(fixture: Fixture) -> Result<()> {
    let ledger = Ledger::of(fixture).await?;
    let mut dead = ledger.fire("a", 0, "default").await?;
    dead.deadline = ledger.now().await?.minus(Duration::from_secs(1));
    ledger.plan(vec![dead], 10).await?;
    ledger.plan(vec![ledger.fire("a", 1, "default").await?], 10).await?;
    assert_eq!(ledger.history().await?, ["a 0 QUEUED", "a 1 QUEUED"]);
    Ok(())
}

async fn one_fire_waits_for_the_open_one_where_its_alert_says_so_and_no_more(fixture: Fixture) -> Result<()> {
    let ledger = Ledger::of(fixture).await?;
    let mut fires = Vec::new();
    for second in 0..3 {
        let fire = NewFire { overlap: Overlap::QueueOne, ..ledger.fire("a", second, "default").await? };
        ledger.plan(vec![fire.clone()], 10).await?;
        fires.push(fire);
    }
    assert_eq!(ledger.history().await?, ["a 0 QUEUED", "a 1 WAITING", "a 2 SKIPPED overlap"]);
    assert_eq!(ledger.fixture.store.queue_waiting(&ledger.term, 10).await?, 0);
    ledger.expire(&fires[0]).await?;
    assert_eq!(ledger.fixture.store.queue_waiting(&ledger.term, 10).await?, 1);
    assert_eq!(ledger.history().await?, ["a 0 EXPIRED test", "a 1 QUEUED", "a 2 SKIPPED overlap"]);
    Ok(())
}

async fn fires_run_beside_each_other_where_their_alert_says_so(fixture: Fixture) -> Result<()> {
    let ledger = Ledger::of(fixture).await?;
    let mut fires = Vec::new();
    for second in 0..3 {
        fires.push(NewFire { overlap: Overlap::Allow, ..ledger.fire("a", second, "default").await? });
    }
    let last = fires.pop().into_iter().collect();
    ledger.plan(fires, 10).await?;
    ledger.plan(last, 10).await?;
    assert_eq!(ledger.history().await?, ["a 0 QUEUED", "a 1 QUEUED", "a 2 QUEUED"]);
    Ok(())
}

async fn a_delayed_fire_waits_for_its_moment_and_takes_nobodys_place(fixture: Fixture) -> Result<()> {
    let ledger = Ledger::of(fixture).await?;
    let store = &ledger.fixture.store;
    let moment = ledger.now().await?.plus(Duration::from_secs(600));
    let delayed = NewFire { not_before: moment, ..ledger.fire("a", 0, "default").await? };
    ledger.plan(vec![delayed], 1).await?;
    assert_eq!(store.next_waiting().await?, Some(moment));
    assert_eq!(store.queue_waiting(&ledger.term, 10).await?, 0);
    ledger.plan(vec![ledger.fire("b", 0, "default").await?], 1).await?;
    assert_eq!(ledger.history().await?, ["a 0 WAITING", "b 0 QUEUED"]);
    let past = ledger.start.as_micros();
    sqlx::query("UPDATE sqlsentinel_fires SET not_before = $1").bind(past).execute(&ledger.pool).await?;
    assert_eq!(store.queue_waiting(&ledger.term, 10).await?, 1);
    Ok(())
}

async fn the_worst_severity_is_queued_before_an_earlier_deadline(fixture: Fixture) -> Result<()> {
    let ledger = Ledger::of(fixture).await?;
    let mut fires = Vec::new();
    for (name, priority) in [("info", 3), ("warning", 2), ("critical", 0)] {
        let fire = ledger.fire(name, 0, "default").await?;
        let deadline = fire.deadline.minus(Duration::from_secs(u64::from(priority)));
        fires.push(NewFire { priority, deadline, ..fire });
    }
    ledger.plan(fires.clone(), 1).await?;
    assert_eq!(ledger.history().await?, ["critical 0 QUEUED", "info 0 WAITING", "warning 0 WAITING"]);
    ledger.expire(&fires[2]).await?;
    ledger.fixture.store.queue_waiting(&ledger.term, 1).await?;
    assert_eq!(ledger.history().await?, ["critical 0 EXPIRED test", "info 0 WAITING", "warning 0 QUEUED"]);
    Ok(())
}

async fn what_is_queued_together_is_published_by_severity_and_then_by_deadline(fixture: Fixture) -> Result<()> {
    let ledger = Ledger::of(fixture).await?;
    let mut fires = Vec::new();
    for (name, priority, seconds) in [("d", 3, 0), ("c", 2, 2), ("b", 2, 1), ("a", 0, 3)] {
        let fire = ledger.fire(name, 0, "default").await?;
        fires.push(NewFire { priority, deadline: fire.deadline.plus(Duration::from_secs(seconds)), ..fire });
    }
    ledger.plan(fires, 10).await?;
    let names: Vec<String> =
        ledger.unpublished(Mark::default()).await?.into_iter().map(|fire| fire.alert_name).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    Ok(())
}

async fn what_is_too_late_is_not_queued_and_keeps_nobody_waiting(fixture: Fixture) -> Result<()> {
    let ledger = Ledger::of(fixture).await?;
    let first = ledger.fire("a", 0, "default").await?;
    let late = NewFire {
        deadline: ledger.now().await?.minus(Duration::from_secs(1)),
        ..ledger.fire("b", 0, "default").await?
    };
    let last = NewFire { priority: 3, ..ledger.fire("c", 0, "default").await? };
    ledger.plan(vec![first.clone()], 1).await?;
    ledger.plan(vec![late, last], 1).await?;
    ledger.expire(&first).await?;
    assert_eq!(ledger.fixture.store.queue_waiting(&ledger.term, 1).await?, 1);
    assert_eq!(ledger.history().await?, ["a 0 EXPIRED test", "b 0 WAITING", "c 0 QUEUED"]);
    Ok(())
}

async fn beyond_the_lane_fires_wait_and_are_queued_by_deadline(fixture: Fixture) -> Result<()> {
    let ledger = Ledger::of(fixture).await?;
    let mut fires = Vec::new();
    for (index, name) in ["c", "b", "a"].into_iter().enumerate() {
        let mut fire = ledger.fire(name, 0, "default").await?;
        fire.deadline = fire.deadline.plus(Duration::from_secs(index as u64));
        fires.push(fire);
    }
    ledger.plan(fires.clone(), 1).await?;
    assert_eq!(ledger.history().await?, ["a 0 WAITING", "b 0 WAITING", "c 0 QUEUED"]);
    assert!(ledger.fixture.store.next_waiting().await?.is_some_and(|from| from <= ledger.start));
    assert_eq!(ledger.fixture.store.queue_waiting(&ledger.term, 1).await?, 0);

    ledger.expire(&fires[0]).await?;
    assert_eq!(ledger.fixture.store.queue_waiting(&ledger.term, 1).await?, 1);
    assert_eq!(ledger.history().await?, ["a 0 WAITING", "b 0 QUEUED", "c 0 EXPIRED test"]);
    let published = ledger.unpublished(Mark::default()).await?;
    assert_eq!(published.iter().map(|fire| (&*fire.alert_name, fire.attempt)).collect::<Vec<_>>(), [("b", 1)]);
    Ok(())
}

async fn each_source_has_a_lane_of_its_own(fixture: Fixture) -> Result<()> {
    let ledger = Ledger::of(fixture).await?;
    let fires = vec![
        ledger.fire("a", 0, "slow").await?,
        ledger.fire("b", 0, "slow").await?,
        ledger.fire("c", 0, "quick").await?,
    ];
    ledger.plan(fires, 1).await?;
    let history = ledger.history().await?;
    assert_eq!(history.iter().filter(|line| line.contains("QUEUED")).count(), 2, "{history:?}");
    assert!(history.contains(&"c 0 QUEUED".to_owned()), "{history:?}");
    Ok(())
}

async fn a_rescued_fire_has_the_next_attempt_and_is_published_again(fixture: Fixture) -> Result<()> {
    let ledger = Ledger::of(fixture).await?;
    let mark = ledger.plan(vec![ledger.fire("a", 0, "default").await?], 10).await?;
    let lost = ledger.unsettled(mark).await?;
    assert_eq!(lost.len(), 1);
    assert_eq!(ledger.fixture.store.requeue(&ledger.term, &lost).await?, 1);
    let again = ledger.unpublished(mark).await?;
    assert_eq!(again.iter().map(|fire| fire.attempt).collect::<Vec<_>>(), [2]);
    // Not yet published again, so not to be looked for.
    assert!(ledger.unsettled(mark).await?.is_empty());
    Ok(())
}

async fn a_fire_that_moved_on_is_not_rescued(fixture: Fixture) -> Result<()> {
    let ledger = Ledger::of(fixture).await?;
    let (one, two) = (ledger.fire("a", 0, "default").await?, ledger.fire("b", 0, "default").await?);
    let mark = ledger.plan(vec![one.clone(), two], 10).await?;
    let seen: Vec<QueuedFire> = ledger.unsettled(mark).await?;
    ledger.expire(&one).await?;
    assert_eq!(ledger.fixture.store.requeue(&ledger.term, &seen).await?, 1);
    assert_eq!(ledger.fixture.store.requeue(&ledger.term, &seen).await?, 0);
    Ok(())
}

async fn only_open_fires_expire_and_they_say_why(fixture: Fixture) -> Result<()> {
    let ledger = Ledger::of(fixture).await?;
    let mut late = ledger.fire("a", 0, "default").await?;
    late.deadline = ledger.now().await?.minus(Duration::from_secs(1));
    ledger.plan(vec![late.clone(), ledger.fire("b", 0, "default").await?], 10).await?;
    let overdue = ledger.fixture.store.overdue(0, 10).await?;
    assert_eq!(overdue.iter().map(|fire| (&*fire.alert_name, fire.queued)).collect::<Vec<_>>(), [("a", true)]);
    assert_eq!(
        ledger.fixture.store.expire(&ledger.term, &[(late.execution_id, "worker_lost")]).await?,
        ["worker_lost"]
    );
    assert_eq!(ledger.fixture.store.expire(&ledger.term, &[(late.execution_id, "backlog")]).await?, [] as [&str; 0]);
    assert_eq!(ledger.history().await?, ["a 0 EXPIRED worker_lost", "b 0 QUEUED"]);
    Ok(())
}

async fn a_gap_is_written_once(fixture: Fixture) -> Result<()> {
    let ledger = Ledger::of(fixture).await?;
    let gap = NewGap {
        alert_name: "a".to_owned(),
        first_scheduled_for: ledger.start,
        last_scheduled_for: ledger.start.plus(Duration::from_secs(4)),
        fires: 5,
        reason: "misfire",
        config_hash: ConfigHash::of("a"),
    };
    for _ in 0..2 {
        let plan = Plan { gaps: vec![gap.clone()], planned_through: ledger.now().await?, ..Plan::default() };
        ledger.fixture.store.commit_plan(&ledger.term, &plan, Mark::default(), 10).await?;
    }
    assert_eq!(ledger.gaps().await?, [("a".to_owned(), 5)]);
    Ok(())
}

async fn a_commit_says_what_it_has_decided_and_a_repeated_one_decides_nothing(fixture: Fixture) -> Result<()> {
    let ledger = Ledger::of(fixture).await?;
    let (running, beside) = (ledger.fire("a", 0, "default").await?, ledger.fire("b", 0, "default").await?);
    let first = ledger.commit(vec![running, beside], 1).await?;
    assert_eq!((first.planned, first.skipped), (2, 0), "one is queued, and one waits for room");
    let second = vec![ledger.fire("a", 1, "default").await?, ledger.fire("c", 1, "default").await?];
    let counts = |committed: &Committed| (committed.planned, committed.skipped);
    assert_eq!(counts(&ledger.commit(second.clone(), 10).await?), (1, 1));
    assert_eq!(counts(&ledger.commit(second, 10).await?), (0, 0));

    let gap = |reason, second, fires| NewGap {
        alert_name: "a".to_owned(),
        first_scheduled_for: ledger.start.plus(Duration::from_secs(second)),
        last_scheduled_for: ledger.start.plus(Duration::from_secs(second + fires - 1)),
        fires: fires as i64,
        reason,
        config_hash: ConfigHash::of("a"),
    };
    let gaps = vec![gap("misfire", 10, 2), gap("misfire", 20, 3), gap("catchup_window", 30, 4)];
    let plan = Plan { gaps, planned_through: ledger.now().await?, ..Plan::default() };
    let commit = || ledger.fixture.store.commit_plan(&ledger.term, &plan, Mark::default(), 10);
    let expected = [("catchup_window".to_owned(), 4), ("misfire".to_owned(), 5)].into();
    assert_eq!(commit().await?.in_gaps, expected);
    assert!(commit().await?.in_gaps.is_empty());
    Ok(())
}

async fn open_fires_are_counted_by_source_with_their_first_deadline(fixture: Fixture) -> Result<()> {
    let ledger = Ledger::of(fixture).await?;
    assert!(ledger.fixture.store.open_fires().await?.is_empty());
    let (ended, mut overdue) = (ledger.fire("a", 0, "shop").await?, ledger.fire("b", 0, "shop").await?);
    overdue.deadline = ledger.now().await?.minus(Duration::from_secs(60));
    let later = [ledger.fire("c", 0, "shop").await?, ledger.fire("d", 0, "warehouse").await?];
    ledger.plan([vec![ended.clone(), overdue], later.to_vec()].concat(), 2).await?;
    ledger.expire(&ended).await?;

    let mut open = ledger.fixture.store.open_fires().await?;
    open.sort_by(|a, b| (&a.source, &a.status).cmp(&(&b.source, &b.status)));
    let counted: Vec<_> = open.iter().map(|of| (of.source.as_str(), of.status.as_str(), of.fires)).collect();
    assert_eq!(counted, [("shop", "QUEUED", 1), ("shop", "WAITING", 1), ("warehouse", "QUEUED", 1)]);
    let is_past: Vec<bool> = open.iter().map(|of| of.past_deadline_us >= 60_000_000).collect();
    assert_eq!(is_past, [true, false, false], "{open:?}");
    Ok(())
}

struct Ledger {
    fixture: Fixture,
    term: Term,
    start: Timestamp,
    pool: sqlx::AnyPool,
}

impl Ledger {
    async fn of(fixture: Fixture) -> Result<Self> {
        let claimed = fixture.store.claim_leadership("leader", Mark::default()).await?;
        let url = sqlsentinel_common::config::normalise_database_url(fixture.url())?;
        let pool = sqlx::AnyPool::connect(url.url.expose()).await?;
        Ok(Self { start: claimed.planned_through, term: claimed.term, fixture, pool })
    }

    async fn now(&self) -> Result<Timestamp> {
        Ok(self.fixture.store.now().await?.0)
    }

    /// A fire of `alert` in the second `second` of this ledger's life, with half a minute to its deadline.
    async fn fire(&self, alert: &str, second: u64, source: &str) -> Result<NewFire> {
        let scheduled_for = self.start.plus(Duration::from_secs(second));
        Ok(NewFire {
            execution_id: ExecutionId::of_fire(self.fixture.cluster, alert, scheduled_for),
            alert_name: alert.to_owned(),
            scheduled_for,
            config_hash: ConfigHash::of(alert),
            source: SourceName::try_from(source.to_owned())?,
            deadline: self.now().await?.plus(Duration::from_secs(30)),
            not_before: self.start,
            priority: 2,
            overlap: Overlap::Skip,
        })
    }

    async fn plan(&self, fires: Vec<NewFire>, lane: i64) -> Result<Mark> {
        Ok(self.commit(fires, lane).await?.mark)
    }

    async fn commit(&self, fires: Vec<NewFire>, lane: i64) -> Result<Committed> {
        let plan = Plan { fires, planned_through: self.now().await?, ..Plan::default() };
        Ok(self.fixture.store.commit_plan(&self.term, &plan, Mark::default(), lane).await?)
    }

    async fn unpublished(&self, after: Mark) -> Result<Vec<QueuedFire>> {
        Ok(self.fixture.store.unpublished(after).await?)
    }

    /// However recently they were queued: SQLite's clock has milliseconds, and a test is quicker.
    async fn unsettled(&self, published: Mark) -> Result<Vec<QueuedFire>> {
        Ok(self.fixture.store.unsettled(published, -1_000_000, 10).await?)
    }

    async fn expire(&self, fire: &NewFire) -> Result<()> {
        assert_eq!(self.fixture.store.expire(&self.term, &[(fire.execution_id, "test")]).await?, ["test"]);
        Ok(())
    }

    /// `alert second STATUS reason` of every fire.
    async fn history(&self) -> Result<Vec<String>> {
        let rows: Vec<(String, i64, String, Option<String>)> = sqlx::query_as(
            "SELECT alert_name, scheduled_for, status, reason FROM sqlsentinel_fires ORDER BY alert_name, scheduled_for",
        )
        .fetch_all(&self.pool)
        .await?;
        let line = |(alert, scheduled_for, status, reason): (String, i64, String, Option<String>)| {
            let second = (scheduled_for - self.start.as_micros()) / 1_000_000;
            format!("{alert} {second} {status} {}", reason.unwrap_or_default()).trim_end().to_owned()
        };
        Ok(rows.into_iter().map(line).collect())
    }

    async fn gaps(&self) -> Result<Vec<(String, i64)>> {
        Ok(sqlx::query_as("SELECT alert_name, fires FROM sqlsentinel_gaps").fetch_all(&self.pool).await?)
    }
}
