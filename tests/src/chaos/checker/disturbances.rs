//! When the system was disturbed, and by what: what may explain that a fire did not run.

use crate::chaos::history::{Fault, FaultKind, History};

/// What a fault may have kept from working.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Planning: the coordinators, and what they need.
    Planning,
    /// Any step from planning to the record of a run.
    Running,
}

/// The times of all faults, each until its effects may last.
#[derive(Debug)]
pub(super) struct Disturbances<'a> {
    faults: &'a [Fault],
    recovery_us: i64,
    /// When nobody led, as [`super::failovers`] found it.
    leaderless: Vec<(i64, i64)>,
}

impl<'a> Disturbances<'a> {
    pub(super) fn new(history: &'a History, leaderless: Vec<(i64, i64)>) -> Self {
        Self { faults: &history.faults, recovery_us: history.recovery_us, leaderless }
    }

    /// Whether any fault's window holds this moment.
    pub(super) fn cover(&self, moment: i64) -> bool {
        self.faults.iter().any(|fault| self.touches(fault, moment, moment))
    }

    /// Whether `part` may not have worked at some time between two moments.
    pub(super) fn hinder(&self, part: Part, from: i64, until: i64) -> bool {
        let leaderless = self.leaderless.iter().any(|(gone, back)| *gone <= until && from <= back + self.recovery_us);
        leaderless || self.faults.iter().any(|fault| hits(fault, part) && self.touches(fault, from, until))
    }

    /// Whether one fault lasted from the one moment to the other, but for `slack`: it may have held up a transaction that
    /// long.
    pub(super) fn held_up(&self, from: i64, until: i64, slack: i64) -> bool {
        let lasted = |fault: &Fault| fault.from <= from + slack && until <= fault.until + slack;
        self.faults.iter().any(|fault| hits(fault, Part::Running) && lasted(fault))
    }

    /// Whether a fault of this kind was there at some time between two moments.
    pub(super) fn had(&self, kind: FaultKind, from: i64, until: i64) -> bool {
        self.faults.iter().any(|fault| fault.kind == kind && self.touches(fault, from, until))
    }

    /// How often it may have been forgotten between two moments that a job was published: the broker's memory of it goes
    /// with its nodes, and the ledger's with a rollback. Each time it may be published again as if it were the first.
    pub(super) fn forgettings(&self, from: i64, until: i64) -> i64 {
        let forgets = |fault: &&Fault| match fault.kind {
            // One node of three leaves two that know.
            FaultKind::NatsWipe => fault.subject.matches("nats").count() > 1 || fault.subject == "nats",
            FaultKind::StateRollback => true,
            _ => false,
        };
        let times = self.faults.iter().filter(forgets).filter(|fault| self.touches(fault, from, until)).count();
        i64::try_from(times).unwrap_or(i64::MAX)
    }

    /// Whether commits between two moments may be lost, some of them at least.
    pub(super) fn rolled_back(&self, from: i64, until: i64) -> bool {
        self.lost().any(|(after, to)| after <= until && from <= to)
    }

    /// The intervals whose commits a rollback lost.
    pub(super) fn lost(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        let rollbacks = self.faults.iter().filter(|fault| fault.kind == FaultKind::StateRollback);
        // What was under way when the database was taken away may have been done without its record, too.
        rollbacks.map(|fault| (fault.lost_after.unwrap_or(fault.from), fault.until))
    }

    fn touches(&self, fault: &Fault, from: i64, until: i64) -> bool {
        let over = match fault.lost_after {
            Some(lost) => lost..=fault.until + self.recovery_us,
            None => fault.from..=fault.until + self.recovery_us,
        };
        *over.start() <= until && from <= *over.end()
    }
}

fn hits(fault: &Fault, part: Part) -> bool {
    use FaultKind::*;
    let hits_workers_alone = fault.subject.starts_with("worker") || fault.subject.starts_with("notifier");
    match (fault.kind, part) {
        (SinkError | SinkReset | SinkTimeout | Edit, _) => false,
        (CutTarget, Part::Planning) => false,
        (Kill | Freeze | CutNats | CutState, Part::Planning) => !hits_workers_alone,
        _ => true,
    }
}
