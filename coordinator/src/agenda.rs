//! What is due: pure. Definitions and a cursor in, a [`Plan`] out.
//!
//! Invariant (accounted): every fire after the old cursor and up to the new one is in the plan exactly once, as a fire that
//! runs or inside one gap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use sqlsentinel_common::alert::{Misfire, Severity};
use sqlsentinel_common::ids::{ClusterId, ExecutionId};
use sqlsentinel_common::store::definitions::InForce;
use sqlsentinel_common::store::fires::{NewFire, NewGap, Plan};
use sqlsentinel_common::timestamp::Timestamp;

/// Nobody planned these when they were due, and the definition's policy leaves them out.
pub const MISFIRE: &str = "misfire";
/// These missed fires are too old to be worth a run.
pub const TOO_OLD: &str = "catchup_window";

/// Of alerts each of whose missed fires runs, one tick plans about so many; the next tick follows at once.
const CHUNK: usize = 5_000;
/// Under `misfire: skip` a fire that is late by no more than this was not missed: a fail-over takes some of it.
const SKIP_GRACE: Duration = Duration::from_secs(60);

/// What planning may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long a job may wait for a worker before its run is worth nothing; its time-out comes on top.
    pub queue_allowance: Duration,
    /// A missed fire older than this does not run, where its definition says nothing about it.
    pub catchup_window: Duration,
}

/// The definitions in force and when each is due next.
#[derive(Debug, Default)]
pub struct Agenda {
    entries: Vec<InForce>,
    due: BinaryHeap<Reverse<(Timestamp, usize)>>,
}

impl Agenda {
    /// The agenda from `cursor` on: everything due up to there is accounted for.
    pub fn new(in_force: Vec<InForce>, cursor: Timestamp) -> Self {
        let mut agenda = Self { entries: in_force, due: BinaryHeap::new() };
        for index in 0..agenda.entries.len() {
            let after = cursor.max(agenda.entries[index].valid_from);
            agenda.enter(index, after);
        }
        agenda
    }

    /// How many alerts have a fire to come.
    pub fn scheduled(&self) -> usize {
        self.due.len()
    }

    /// The next moment at which something is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.peek().map(|Reverse((due, _))| *due)
    }

    /// Takes everything due up to `now`, or up to an earlier moment if that is very much.
    pub fn plan(&mut self, cluster: ClusterId, now: Timestamp, policy: Policy) -> Plan {
        let through = self.end_of_chunk(now, policy);
        let mut plan = Plan { planned_through: through, ..Plan::default() };
        let tick = Tick { cluster, now, policy };
        while let Some(&Reverse((due, index))) = self.due.peek()
            && due <= through
        {
            self.due.pop();
            let entry = &self.entries[index];
            let newest = match entry.definition.planning.misfire {
                Misfire::All => tick.plan_each(&mut plan, entry, due, through),
                Misfire::Once | Misfire::Skip => tick.plan_newest(&mut plan, entry, due, through),
            };
            self.enter(index, newest);
        }
        plan
    }

    /// How far one tick plans: a long outage of alerts each of whose missed fires runs is more than one transaction
    /// should hold.
    fn end_of_chunk(&self, now: Timestamp, policy: Policy) -> Timestamp {
        let mut due = Vec::new();
        for &Reverse((first, index)) in &self.due {
            let entry = &self.entries[index];
            if first > now || entry.definition.planning.misfire != Misfire::All {
                continue;
            }
            let from = first.max(oldest_to_run(entry, now, policy));
            due.extend(fires(entry, from).take_while(|fire| *fire <= now).take(CHUNK + 1));
        }
        if due.len() <= CHUNK {
            return now;
        }
        *due.select_nth_unstable(CHUNK - 1).1
    }

    fn enter(&mut self, index: usize, after: Timestamp) {
        let definition = &self.entries[index].definition;
        if definition.enabled
            && let Some(due) = definition.schedule.next_after(after)
        {
            self.due.push(Reverse((due, index)));
        }
    }
}

/// The fires of `entry` at `from` and later.
fn fires(entry: &InForce, from: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
    let schedule = &entry.definition.schedule;
    std::iter::successors(schedule.next_after(just_before(from)), |fire| schedule.next_after(*fire))
}

/// The last fire of `entry` up to `through`, given its fire `first`: nearly always that one.
fn newest(entry: &InForce, first: Timestamp, through: Timestamp) -> Timestamp {
    let schedule = &entry.definition.schedule;
    match schedule.next_after(first) {
        Some(next) if next <= through => schedule.last_through(through).unwrap_or(next),
        _ => first,
    }
}

fn just_before(moment: Timestamp) -> Timestamp {
    Timestamp::from_micros(moment.as_micros().saturating_sub(1))
}

fn oldest_to_run(entry: &InForce, now: Timestamp, policy: Policy) -> Timestamp {
    now.minus(entry.definition.planning.catchup_window().unwrap_or(policy.catchup_window))
}

/// What is the same for everything that one tick plans.
#[derive(Clone, Copy)]
struct Tick {
    cluster: ClusterId,
    now: Timestamp,
    policy: Policy,
}

impl Tick {
    /// Plans the fires from `first` to `through`, of which at most the newest runs; returns that.
    fn plan_newest(self, plan: &mut Plan, entry: &InForce, first: Timestamp, through: Timestamp) -> Timestamp {
        let definition = &entry.definition;
        let newest = newest(entry, first, through);
        let newer = definition.schedule.next_after(newest).is_some_and(|fire| fire <= self.now);
        let late = definition.planning.misfire == Misfire::Skip && newest < self.now.minus(SKIP_GRACE);
        if newest < oldest_to_run(entry, self.now, self.policy) {
            plan.gaps.extend(gap(entry, first, newest, TOO_OLD));
        } else if newer || late {
            plan.gaps.extend(gap(entry, first, newest, MISFIRE));
        } else {
            plan.gaps.extend(gap(entry, first, just_before(newest), MISFIRE));
            plan.fires.push(self.fire(entry, newest));
        }
        newest
    }

    /// Plans the fires from `first` to `through`, each of which runs if it is not too old; returns the newest.
    fn plan_each(self, plan: &mut Plan, entry: &InForce, first: Timestamp, through: Timestamp) -> Timestamp {
        let oldest = oldest_to_run(entry, self.now, self.policy);
        plan.gaps.extend(gap(entry, first, through.min(just_before(oldest)), TOO_OLD));
        let runs = fires(entry, first.max(oldest)).take_while(|fire| *fire <= through);
        plan.fires.extend(runs.map(|fire| self.fire(entry, fire)));
        newest(entry, first, through)
    }

    fn fire(self, entry: &InForce, scheduled_for: Timestamp) -> NewFire {
        let definition = &entry.definition;
        let not_before = scheduled_for.plus(definition.planning.delay(&definition.name));
        // From when it may run, not from the nominal time: a fire that is caught up on has its whole time to run.
        let begins = self.now.max(not_before);
        NewFire {
            execution_id: ExecutionId::of_fire(self.cluster, &definition.name, scheduled_for),
            alert_name: definition.name.clone(),
            scheduled_for,
            config_hash: entry.hash.clone(),
            source: definition.source.clone(),
            deadline: begins.plus(self.policy.queue_allowance + definition.timeout()),
            not_before,
            priority: definition.about.severity.unwrap_or(Severity::Warning).priority(),
            overlap: definition.planning.overlap,
        }
    }
}

/// The fires of `entry` from its fire `first` to the moment `last`, none of which runs; nothing if there is none.
fn gap(entry: &InForce, first: Timestamp, last: Timestamp, reason: &'static str) -> Option<NewGap> {
    let schedule = &entry.definition.schedule;
    Some(NewGap {
        alert_name: entry.definition.name.clone(),
        first_scheduled_for: first,
        last_scheduled_for: schedule.last_through(last).filter(|last| *last >= first)?,
        fires: schedule.count(first, last),
        reason,
        config_hash: entry.hash.clone(),
    })
}

#[cfg(test)]
mod tests {
    use sqlsentinel_common::alert::{
        About, AlertDefinition, ConfigHash, JudgingRules, Overlap, PlanningRules, QueryOptions, SourceName,
    };
    use sqlsentinel_common::schedule::Schedule;

    use super::*;

    const POLICY: Policy =
        Policy { queue_allowance: Duration::from_secs(300), catchup_window: Duration::from_secs(24 * 3600) };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn every(name: &str, interval: &str, valid_from: i64) -> InForce {
        let definition = AlertDefinition {
            name: name.to_owned(),
            description: String::new(),
            query: "SELECT 'OK' AS status".to_owned(),
            source: SourceName::default_source(),
            schedule: Schedule::parse(&format!("every {interval}"), "UTC".parse().unwrap()).unwrap(),
            timeout_ms: 30_000,
            enabled: true,
            notify: Vec::new(),
            error_after: 3,
            rules: JudgingRules::default(),
            options: QueryOptions::default(),
            planning: PlanningRules::default(),
            about: About::default(),
        };
        InForce { hash: ConfigHash::of(name), valid_from: at(valid_from), definition }
    }

    fn cluster() -> ClusterId {
        "6f1f3b1e-0000-4000-8000-000000000001".parse().unwrap()
    }

    #[test]
    fn a_fire_on_time_runs_and_leaves_no_gap() {
        let mut agenda = Agenda::new(vec![every("a", "10s", 0)], at(100));
        assert_eq!(agenda.next_due(), Some(at(110)));
        let plan = agenda.plan(cluster(), at(110), POLICY);
        assert_eq!(plan.gaps, []);
        assert_eq!(plan.fires.len(), 1);
        assert_eq!(plan.fires[0].scheduled_for, at(110));
        assert_eq!(plan.fires[0].deadline, at(110 + 300 + 30));
        assert_eq!(agenda.next_due(), Some(at(120)));
    }

    #[test]
    fn after_an_outage_the_newest_runs_and_the_older_ones_are_one_gap() {
        let mut agenda = Agenda::new(vec![every("a", "10s", 0)], at(100));
        let plan = agenda.plan(cluster(), at(155), POLICY);
        assert_eq!(plan.fires.iter().map(|fire| fire.scheduled_for).collect::<Vec<_>>(), [at(150)]);
        assert_eq!(plan.gaps.len(), 1);
        let gap = &plan.gaps[0];
        assert_eq!((gap.first_scheduled_for, gap.last_scheduled_for, gap.fires), (at(110), at(140), 4));
        assert_eq!(gap.reason, MISFIRE);
    }

    #[test]
    fn what_is_older_than_the_catch_up_window_does_not_run() {
        let mut agenda = Agenda::new(vec![every("a", "1d", 0)], at(0));
        let day = 24 * 3600;
        let plan =
            agenda.plan(cluster(), at(3 * day - 1), Policy { catchup_window: Duration::from_secs(3600), ..POLICY });
        assert_eq!(plan.fires, []);
        assert_eq!((plan.gaps[0].fires, plan.gaps[0].reason), (2, TOO_OLD));
        assert_eq!(agenda.next_due(), Some(at(3 * day)));
    }

    #[test]
    fn a_definition_has_no_fires_before_it_came_into_force() {
        let agenda = Agenda::new(vec![every("a", "10s", 200)], at(100));
        assert_eq!(agenda.next_due(), Some(at(210)));
    }

    #[test]
    fn a_disabled_alert_is_never_due() {
        let mut entry = every("a", "10s", 0);
        entry.definition.enabled = false;
        assert_eq!(Agenda::new(vec![entry], at(0)).next_due(), None);
    }

    #[test]
    fn however_planning_is_cut_into_ticks_every_fire_is_accounted_for_once() {
        let intervals = ["1s", "3s", "7s", "60s"];
        for steps in [vec![100], vec![1; 100], vec![13, 1, 50, 7, 29], vec![99, 1]] {
            let entries = intervals.iter().map(|interval| every(interval, interval, 0)).collect();
            let mut agenda = Agenda::new(entries, at(0));
            let (mut now, mut covered) = (0, std::collections::BTreeMap::<String, i64>::new());
            for step in &steps {
                now += step;
                let plan = agenda.plan(cluster(), at(now), POLICY);
                for fire in plan.fires {
                    *covered.entry(fire.alert_name).or_default() += 1;
                }
                for gap in plan.gaps {
                    *covered.entry(gap.alert_name).or_default() += gap.fires;
                }
            }
            let due: Vec<i64> = vec![100, 33, 14, 1];
            assert_eq!(intervals.map(|interval| covered[interval]).to_vec(), due, "{steps:?}");
        }
    }

    fn ruled(name: &str, interval: &str, planning: PlanningRules) -> InForce {
        let mut entry = every(name, interval, 0);
        entry.definition.planning = planning;
        entry
    }

    #[test]
    fn each_missed_fire_runs_where_the_definition_says_so_within_the_catch_up_window() {
        let planning =
            PlanningRules { misfire: Misfire::All, catchup_window_ms: Some(25_000), ..PlanningRules::default() };
        let plan = Agenda::new(vec![ruled("a", "10s", planning)], at(100)).plan(cluster(), at(155), POLICY);
        assert_eq!(plan.fires.iter().map(|fire| fire.scheduled_for).collect::<Vec<_>>(), [at(130), at(140), at(150)]);
        let gap = &plan.gaps[0];
        assert_eq!((gap.first_scheduled_for, gap.last_scheduled_for, gap.fires), (at(110), at(120), 2));
        assert_eq!(gap.reason, TOO_OLD);
    }

    #[test]
    fn no_missed_fire_runs_where_the_definition_says_so_but_a_fail_over_misses_none() {
        let planning = PlanningRules { misfire: Misfire::Skip, ..PlanningRules::default() };
        let runs = |interval: &str, now: i64| {
            let plan = Agenda::new(vec![ruled("a", interval, planning)], at(0)).plan(cluster(), at(now), POLICY);
            let gap = plan.gaps.first().map(|gap| (gap.fires, gap.reason));
            (plan.fires.iter().map(|fire| fire.scheduled_for).collect::<Vec<_>>(), gap)
        };
        assert_eq!(runs("300s", 309), (vec![at(300)], None));
        assert_eq!(runs("300s", 361), (vec![], Some((1, MISFIRE))));
        assert_eq!(runs("300s", 610), (vec![at(600)], Some((1, MISFIRE))));
    }

    #[test]
    fn a_long_outage_is_planned_in_chunks_and_every_fire_is_accounted_for_once() {
        let all = PlanningRules { misfire: Misfire::All, ..PlanningRules::default() };
        let entries = vec![ruled("all", "1s", all), ruled("both", "2s", all), every("once", "7s", 0)];
        let mut agenda = Agenda::new(entries, at(0));
        let (end, mut through) = (at(9_000), at(0));
        let (mut runs, mut gaps) = (std::collections::BTreeMap::<String, Vec<Timestamp>>::new(), 0);
        while through < end {
            let plan = agenda.plan(cluster(), end, POLICY);
            assert!(plan.planned_through > through && plan.fires.len() <= CHUNK + 3, "{}", plan.fires.len());
            through = plan.planned_through;
            for fire in plan.fires {
                runs.entry(fire.alert_name).or_default().push(fire.scheduled_for);
            }
            gaps += plan.gaps.iter().map(|gap| gap.fires).sum::<i64>();
        }
        assert_eq!(runs["all"], (1..=9_000).map(at).collect::<Vec<_>>());
        assert_eq!(runs["both"].len(), 4_500);
        assert_eq!((runs["once"].as_slice(), gaps), ([at(8_995)].as_slice(), 9_000 / 7 - 1));
    }

    /// As long as nobody can tell how long it takes: an hour would be 3,600 steps, and a year's worth of 10,000 alerts
    /// three hundred billion.
    #[test]
    fn the_length_of_an_outage_costs_planning_nothing() {
        let entries = (0..10_000).map(|number| every(&number.to_string(), "1s", 0)).collect();
        let year = 366 * 24 * 3600;
        let plan = Agenda::new(entries, at(0)).plan(cluster(), at(year), POLICY);
        assert_eq!((plan.fires.len(), plan.gaps.len()), (10_000, 10_000));
        assert!(plan.fires.iter().all(|fire| fire.scheduled_for == at(year)));
        assert!(plan.gaps.iter().all(|gap| (gap.fires, gap.last_scheduled_for) == (year - 1, at(year - 1))));
    }

    #[test]
    fn jitter_delays_a_fire_and_its_deadline_and_leaves_its_nominal_time() {
        let planning = PlanningRules { jitter_ms: 60_000, overlap: Overlap::Allow, ..PlanningRules::default() };
        let entry = ruled("a", "10s", planning);
        let delay = planning.delay("a");
        assert!(delay > Duration::ZERO);
        let plan = Agenda::new(vec![entry], at(100)).plan(cluster(), at(110), POLICY);
        let fire = &plan.fires[0];
        assert_eq!((fire.scheduled_for, fire.not_before), (at(110), at(110).plus(delay)));
        assert_eq!(fire.deadline, at(110 + 300 + 30).plus(delay));
        assert_eq!(fire.overlap, Overlap::Allow);
    }

    #[test]
    fn the_worst_severity_is_queued_first_and_what_says_nothing_is_a_warning() {
        let priority = |severity| {
            let mut entry = every("a", "10s", 0);
            entry.definition.about.severity = severity;
            Agenda::new(vec![entry], at(100)).plan(cluster(), at(110), POLICY).fires[0].priority
        };
        assert!(priority(Some(Severity::Critical)) < priority(Some(Severity::Error)));
        assert!(priority(None) < priority(Some(Severity::Info)));
        assert_eq!(priority(None), priority(Some(Severity::Warning)));
    }
}
