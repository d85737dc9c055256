//! What is due: pure. Definitions and a cursor in, a [`Plan`] out.
//!
//! Invariant (accounted): every fire after the old cursor and up to the new one is in the plan exactly once, as a fire that
//! runs or inside one gap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use sqlsentinel_common::ids::{ClusterId, ExecutionId};
use sqlsentinel_common::store::definitions::InForce;
use sqlsentinel_common::store::fires::{NewFire, NewGap, Plan};
use sqlsentinel_common::timestamp::Timestamp;

/// Older fires were missed because nobody planned at the time; the newest runs for them all.
pub const MISFIRE: &str = "misfire";
/// Even the newest missed fire is too old to be worth a run.
pub const TOO_OLD: &str = "catchup_window";

/// What planning may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long a job may wait for a worker before its run is worth nothing; its time-out comes on top.
    pub queue_allowance: Duration,
    /// A missed fire older than this does not run.
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

    /// Takes everything due up to `now`. Of several missed fires of one alert the newest runs, the others are a gap.
    pub fn plan(&mut self, cluster: ClusterId, now: Timestamp, policy: Policy) -> Plan {
        let mut plan = Plan { planned_through: now, ..Plan::default() };
        while let Some(&Reverse((due, index))) = self.due.peek()
            && due <= now
        {
            self.due.pop();
            let entry = &self.entries[index];
            let missed = missed_fires(entry, due, now);
            if missed.newest < now.minus(policy.catchup_window) {
                plan.gaps.push(gap(entry, due, missed.newest, missed.older + 1, TOO_OLD));
            } else {
                if let Some(last_older) = missed.last_older {
                    plan.gaps.push(gap(entry, due, last_older, missed.older, MISFIRE));
                }
                plan.fires.push(fire(cluster, entry, missed.newest, now, policy));
            }
            self.enter(index, missed.newest);
        }
        plan
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

struct Missed {
    newest: Timestamp,
    last_older: Option<Timestamp>,
    older: i64,
}

/// The fires from `first` (included) up to `now`.
fn missed_fires(entry: &InForce, first: Timestamp, now: Timestamp) -> Missed {
    let mut missed = Missed { newest: first, last_older: None, older: 0 };
    while let Some(next) = entry.definition.schedule.next_after(missed.newest)
        && next <= now
    {
        missed = Missed { newest: next, last_older: Some(missed.newest), older: missed.older + 1 };
    }
    missed
}

fn fire(cluster: ClusterId, entry: &InForce, scheduled_for: Timestamp, now: Timestamp, policy: Policy) -> NewFire {
    let definition = &entry.definition;
    NewFire {
        execution_id: ExecutionId::of_fire(cluster, &definition.name, scheduled_for),
        alert_name: definition.name.clone(),
        scheduled_for,
        config_hash: entry.hash.clone(),
        source: definition.source.clone(),
        // From now, not from the nominal time: a fire that is caught up on has its whole time to run.
        deadline: now.plus(policy.queue_allowance + definition.timeout()),
    }
}

fn gap(entry: &InForce, first: Timestamp, last: Timestamp, fires: i64, reason: &'static str) -> NewGap {
    NewGap {
        alert_name: entry.definition.name.clone(),
        first_scheduled_for: first,
        last_scheduled_for: last,
        fires,
        reason,
        config_hash: entry.hash.clone(),
    }
}

#[cfg(test)]
mod tests {
    use sqlsentinel_common::alert::{AlertDefinition, ConfigHash, JudgingRules, SourceName};
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
}
