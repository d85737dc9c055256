//! The audit: what it finds when rows are deleted, added or changed by hand, and what it does not mistake for that.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use sqlsentinel_common::alert::{
    About, AlertDefinition, ConfigHash, JudgingRules, PlanningRules, QueryOptions, SourceName,
};
use sqlsentinel_common::audit::{Difference, Report, Tolerance};
use sqlsentinel_common::schedule::Schedule;
use sqlsentinel_common::store::audit::{Auditor, Look};
use sqlsentinel_common::store::definitions::Intent;
use sqlsentinel_common::store::leadership::{Mark, Term};
use sqlsentinel_common::timestamp::Timestamp;
use sqlsentinel_coordinator::agenda::{Agenda, Policy};
use sqlsentinel_coordinator::metrics::Metrics;
use sqlsentinel_coordinator::retention::Retention;
use sqlsentinel_tests::on_both_dialects;
use sqlsentinel_tests::stores::Fixture;
use sqlx::AssertSqlSafe;

on_both_dialects!(
    what_planning_writes_is_in_order_through_outages_changes_and_removals,
    a_fire_whose_row_is_deleted_is_missed,
    a_gap_that_is_deleted_leaves_its_fires_missed,
    a_fire_that_is_in_a_gap_too_is_doubled,
    what_a_version_planned_that_was_not_in_force_is_a_stray,
    a_row_after_the_alert_was_removed_is_a_stray,
    a_fire_from_before_a_change_is_judged_by_the_version_of_then,
    what_retention_has_purged_is_not_missed,
    only_what_is_planned_is_judged_and_only_in_the_window,
    a_ledger_that_nobody_plans_for_is_overdue,
    an_open_fire_long_after_its_deadline_is_overdue,
    of_many_alerts_that_differ_all_are_counted_and_some_are_named,
);

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const SECOND: i64 = 1_000_000;

async fn what_planning_writes_is_in_order_through_outages_changes_and_removals(fixture: Fixture) -> Result<()> {
    let mut ledger = Planned::of(fixture).await?;
    assert_eq!(ledger.report().await?, None, "before the first leader");
    ledger.begin(20 * 60).await?;
    ledger.adopt(&[("a", "every 10s"), ("b", "*/5 * * * * *"), ("c", "every 7s")]).await?;
    // A second at a time, then an outage, then a change of one and the removal of another.
    for _ in 0..30 {
        ledger.plan(1).await?;
    }
    ledger.plan(500).await?;
    ledger.adopt(&[("a", "every 3s"), ("c", "every 7s")]).await?;
    ledger.plan(10).await?;
    ledger.plan(300).await?;
    ledger.adopt(&[("b", "every 1s"), ("c", "every 7s")]).await?;
    ledger.plan(60).await?;
    let report = ledger.audited().await?;
    assert!(report.is_complete(), "{report}");
    assert!(report.due > 200 && report.accounted == report.due, "{report}");
    Ok(())
}

async fn a_fire_whose_row_is_deleted_is_missed(fixture: Fixture) -> Result<()> {
    let ledger = Planned::each_second(fixture).await?;
    let deleted = ledger.start + 12 * SECOND;
    ledger
        .execute(&format!("DELETE FROM sqlsentinel_fires WHERE alert_name = 'a' AND scheduled_for = {deleted}"))
        .await?;
    let report = ledger.audited().await?;
    assert_eq!(shown(&ledger, &report), ["a: 1 missed 12"]);
    assert_eq!(report.due - report.accounted, 1);
    // A pass that begins after it does not look there again.
    let after = Timestamp::from_micros(deleted);
    assert!(ledger.look(Look { after: Some(after), ..LOOK }).await?.is_some_and(|report| report.is_complete()));
    Ok(())
}

async fn a_gap_that_is_deleted_leaves_its_fires_missed(fixture: Fixture) -> Result<()> {
    let ledger = Planned::each_second(fixture).await?;
    ledger.plan(10).await?;
    assert!(ledger.audited().await?.is_complete());
    assert_eq!(ledger.execute("DELETE FROM sqlsentinel_gaps WHERE alert_name = 'b'").await?, 1);
    // Of ten fires the newest ran.
    let expected = ["b: 9 missed 31 32 33 34 35 36 37 38 39"];
    assert_eq!(shown(&ledger, &ledger.audited().await?), expected);
    Ok(())
}

async fn a_fire_that_is_in_a_gap_too_is_doubled(fixture: Fixture) -> Result<()> {
    let ledger = Planned::each_second(fixture).await?;
    ledger.plan(10).await?;
    let (before, within) = (ledger.start + 30 * SECOND, ledger.start + 35 * SECOND);
    // Not another row: one that was missed then. The counts are what they were.
    ledger
        .execute(&format!(
            "UPDATE sqlsentinel_fires SET scheduled_for = {within} WHERE alert_name = 'a' AND scheduled_for = {before}"
        ))
        .await?;
    assert_eq!(shown(&ledger, &ledger.audited().await?), ["a: 1 missed 30", "a: 1 doubled 35"]);
    ledger.execute("UPDATE sqlsentinel_gaps SET fires = fires + 2 WHERE alert_name = 'b'").await?;
    let expected = ["a: 1 missed 30", "a: 1 doubled 35", "b: 2 miscounted 31"];
    assert_eq!(shown(&ledger, &ledger.audited().await?), expected);
    Ok(())
}

async fn what_a_version_planned_that_was_not_in_force_is_a_stray(fixture: Fixture) -> Result<()> {
    let ledger = Planned::each_second(fixture).await?;
    let moment = ledger.start + 20 * SECOND;
    ledger
        .execute(&format!(
            "UPDATE sqlsentinel_fires SET config_hash = 'another' WHERE alert_name = 'b' AND scheduled_for = {moment}"
        ))
        .await?;
    assert_eq!(shown(&ledger, &ledger.audited().await?), ["b: 1 missed 20", "b: 1 stray 20"]);
    Ok(())
}

async fn a_row_after_the_alert_was_removed_is_a_stray(fixture: Fixture) -> Result<()> {
    let ledger = Planned::each_second(fixture).await?;
    ledger.adopt(&[("b", "every 1s")]).await?;
    ledger.plan(1).await?;
    ledger.plan(1).await?;
    assert!(ledger.audited().await?.is_complete());
    let (last, later) = (ledger.start + 30 * SECOND, ledger.start + 31 * SECOND);
    ledger
        .execute(&format!(
            "UPDATE sqlsentinel_fires SET scheduled_for = {later} WHERE alert_name = 'a' AND scheduled_for = {last}"
        ))
        .await?;
    assert_eq!(shown(&ledger, &ledger.audited().await?), ["a: 1 missed 30", "a: 1 stray 31"]);
    Ok(())
}

async fn a_fire_from_before_a_change_is_judged_by_the_version_of_then(fixture: Fixture) -> Result<()> {
    let ledger = Planned::each_second(fixture).await?;
    ledger.adopt(&[("a", "every 10s"), ("b", "every 1s")]).await?;
    for _ in 0..10 {
        ledger.plan(1).await?;
    }
    let moments = [29, 31, 40].map(|second| (ledger.start + second * SECOND).to_string());
    let deleted = ledger
        .execute(&format!(
            "DELETE FROM sqlsentinel_fires WHERE alert_name = 'a' AND scheduled_for IN ({})",
            moments.join(", ")
        ))
        .await?;
    // By the old version second 29 was due, by the new one second 40, and second 31 by none.
    assert_eq!(deleted, 2);
    assert_eq!(shown(&ledger, &ledger.audited().await?), ["a: 1 missed 29", "a: 1 missed 40"]);
    Ok(())
}

async fn what_retention_has_purged_is_not_missed(fixture: Fixture) -> Result<()> {
    let mut ledger = Planned::of(fixture).await?;
    ledger.begin(20 * 24 * 60 * 60).await?;
    ledger.adopt(&[("a", "every 1h")]).await?;
    for _ in 0..(20 * 24) {
        ledger.plan(60 * 60).await?;
    }
    ledger.execute("UPDATE sqlsentinel_fires SET status = 'OK'").await?;
    let metrics = Metrics::register(&prometheus::Registry::new())?;
    let (store, term) = (ledger.fixture.store.clone(), ledger.term.clone().context("nobody leads")?);
    let purged = Retention { store, term, keep: Some(7 * DAY), metrics }.run_once(7 * DAY).await?;
    assert!(purged > 300, "{purged}");
    let report = ledger.look(Look { window: 6 * DAY, ..LOOK }).await?.context("a report")?;
    assert!(report.is_complete() && report.due == 6 * 24, "{report}");
    Ok(())
}

async fn only_what_is_planned_is_judged_and_only_in_the_window(fixture: Fixture) -> Result<()> {
    let ledger = Planned::each_second(fixture).await?;
    let cursor = ledger.start + 30 * SECOND;
    // A fire that no cursor has passed yet is not missed, and one before the window is not looked at.
    let report = ledger.look(Look { window: Duration::from_secs(10), ..LOOK }).await?.context("a report")?;
    assert_eq!((report.after.as_micros(), report.through.as_micros()), (cursor - 10 * SECOND, cursor));
    assert_eq!((report.due, report.accounted), (20, 20));
    ledger.execute(&format!("DELETE FROM sqlsentinel_fires WHERE scheduled_for <= {}", cursor - 10 * SECOND)).await?;
    let report = ledger.look(Look { window: Duration::from_secs(10), ..LOOK }).await?.context("a report")?;
    assert!(report.is_complete(), "{report}");
    assert_eq!(ledger.audited().await?.accounted, 20);
    Ok(())
}

async fn a_ledger_that_nobody_plans_for_is_overdue(fixture: Fixture) -> Result<()> {
    // Its cursor is twenty minutes behind the clock.
    let ledger = Planned::each_second(fixture).await?;
    let tolerance = Tolerance { planning: Duration::from_secs(600), ..Tolerance::default() };
    let report = ledger.look(Look { tolerance, ..LOOK }).await?.context("a report")?;
    assert!(report.is_complete() && !report.is_in_order(), "{report}");
    assert!((1_100.0..1_500.0).contains(&report.overdue.planning_behind_seconds), "{report}");
    // Two alerts, each due every second.
    assert!((2_200..3_000).contains(&report.overdue.unplanned), "{report}");
    assert!(ledger.audited().await?.is_in_order(), "within its tolerance");
    Ok(())
}

async fn an_open_fire_long_after_its_deadline_is_overdue(fixture: Fixture) -> Result<()> {
    let ledger = Planned::each_second(fixture).await?;
    ledger.execute("UPDATE sqlsentinel_fires SET status = 'OK'").await?;
    let (now, _) = ledger.fixture.store.now().await?;
    let open = |ago: Duration| {
        let deadline = now.minus(ago).as_micros();
        let first = ledger.start + SECOND;
        format!(
            "UPDATE sqlsentinel_fires SET status = 'QUEUED', deadline = {deadline} \
             WHERE alert_name = 'a' AND scheduled_for = {first}"
        )
    };
    let settling = LOOK.tolerance.settling;
    ledger.execute(&open(settling / 2)).await?;
    assert!(ledger.audited().await?.is_in_order());
    ledger.execute(&open(2 * settling)).await?;
    let report = ledger.audited().await?;
    assert_eq!((report.overdue.open, report.is_in_order(), report.is_complete()), (1, false, true));
    Ok(())
}

async fn of_many_alerts_that_differ_all_are_counted_and_some_are_named(fixture: Fixture) -> Result<()> {
    let mut ledger = Planned::of(fixture).await?;
    ledger.begin(20 * 60).await?;
    let names: Vec<String> = (0..3_000).map(|number| format!("alert-{number:04}")).collect();
    let alerts: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "every 5s")).collect();
    ledger.adopt(&alerts).await?;
    ledger.plan(5).await?;
    assert!(ledger.audited().await?.is_complete());
    let deleted = ledger.execute("DELETE FROM sqlsentinel_fires").await?;
    let report = ledger.audited().await?;
    assert_eq!((report.due - report.accounted, deleted), (3_000, 3_000));
    assert!(report.differences.len() < 100 && !report.differences[0].moments.is_empty(), "{report}");
    Ok(())
}

/// A day back, and patient: tests plan for a time that is past.
const LOOK: Look = Look { window: DAY, after: None, tolerance: Tolerance { planning: HOUR, settling: HOUR } };

/// A ledger planned by what coordinators plan by, at the test's own pace.
struct Planned {
    fixture: Fixture,
    pool: sqlx::AnyPool,
    term: Option<Term>,
    /// Where the first cursor is: a whole minute, in microseconds.
    start: i64,
}

impl Planned {
    async fn of(fixture: Fixture) -> Result<Self> {
        let url = sqlsentinel_common::config::normalise_database_url(fixture.url())?;
        let pool = sqlx::AnyPool::connect(url.url.expose()).await?;
        Ok(Self { fixture, pool, term: None, start: 0 })
    }

    /// Two alerts whose thirty fires each have run, twenty minutes ago.
    async fn each_second(fixture: Fixture) -> Result<Self> {
        let mut ledger = Self::of(fixture).await?;
        ledger.begin(20 * 60).await?;
        ledger.adopt(&[("a", "every 1s"), ("b", "every 1s")]).await?;
        for _ in 0..30 {
            ledger.plan(1).await?;
        }
        Ok(ledger)
    }

    /// Takes the lead of a ledger whose cursor is so many seconds ago, or up to a minute more.
    async fn begin(&mut self, ago: i64) -> Result<()> {
        let claimed = self.fixture.store.claim_leadership("leader", Mark::default()).await?;
        self.start = (claimed.planned_through.as_micros() / SECOND - ago) / 60 * 60 * SECOND;
        self.term = Some(claimed.term);
        self.execute(&format!("UPDATE sqlsentinel_leadership SET planned_through = {}", self.start)).await?;
        Ok(())
    }

    async fn adopt(&self, alerts: &[(&str, &str)]) -> Result<()> {
        let mut set = BTreeMap::new();
        for (name, schedule) in alerts {
            let definition = definition(name, schedule)?;
            set.insert(ConfigHash::of(&definition.canonical_json()?), definition);
        }
        let by_hash = set.iter().map(|(hash, definition)| (hash.clone(), definition)).collect();
        let set_hash = ConfigHash::of(&format!("{alerts:?}"));
        let term = self.term.as_ref().context("nobody leads")?;
        self.fixture.store.adopt(term, &set_hash, &by_hash, Intent::Wanted).await?;
        Ok(())
    }

    /// One tick, so many seconds after the cursor.
    async fn plan(&self, seconds: i64) -> Result<()> {
        let store = &self.fixture.store;
        let cursor = store.leadership().await?.context("nobody leads")?.planned_through;
        let now = cursor.plus(Duration::from_secs(u64::try_from(seconds)?));
        let policy = Policy { queue_allowance: HOUR, catchup_window: DAY };
        let plan = Agenda::new(store.definitions_in_force().await?, cursor).plan(self.fixture.cluster, now, policy);
        store.commit_plan(self.term.as_ref().context("nobody leads")?, &plan, Mark::default(), 1_000_000).await?;
        Ok(())
    }

    async fn execute(&self, sql: &str) -> Result<u64> {
        Ok(sqlx::query(AssertSqlSafe(sql)).execute(&self.pool).await.context(sql.to_owned())?.rows_affected())
    }

    async fn look(&self, look: Look) -> Result<Option<Report>> {
        Ok(Auditor::of(self.fixture.store.clone()).audit(look).await?)
    }

    async fn report(&self) -> Result<Option<Report>> {
        self.look(LOOK).await
    }

    async fn audited(&self) -> Result<Report> {
        self.report().await?.context("nothing was planned")
    }
}

/// `alert: fires kind second…` of every difference.
fn shown(ledger: &Planned, report: &Report) -> Vec<String> {
    let second = |moment: &Timestamp| ((moment.as_micros() - ledger.start) / SECOND).to_string();
    let line = |difference: &Difference| {
        let seconds: Vec<String> = difference.moments.iter().map(second).collect();
        let Difference { alert_name, fires, kind, .. } = difference;
        format!("{alert_name}: {fires} {} {}", kind.as_str(), seconds.join(" "))
    };
    report.differences.iter().map(line).collect()
}

fn definition(name: &str, schedule: &str) -> Result<AlertDefinition> {
    Ok(AlertDefinition {
        name: name.to_owned(),
        description: String::new(),
        query: "SELECT 'OK' AS status".to_owned(),
        source: SourceName::default_source(),
        schedule: Schedule::parse(schedule, "UTC".parse()?)?,
        timeout_ms: 1_000,
        enabled: true,
        notify: Vec::new(),
        error_after: 3,
        rules: JudgingRules::default(),
        options: QueryOptions::default(),
        planning: PlanningRules::default(),
        about: About::default(),
    })
}
