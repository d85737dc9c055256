//! How often the leader changed, and how long nobody led: from the fault that ended the old one's work, or else from the
//! last that it wrote, to the moment at which the new one took its epoch.

use std::collections::BTreeMap;

use crate::chaos::history::{FaultKind, History};
use crate::chaos::report::Durations;

/// All changes of the leader.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failovers {
    pub(super) count: u64,
    pub(super) durations: Durations,
}

/// When an epoch is known to have been in force.
#[derive(Clone, Copy)]
struct Term {
    taken: i64,
    last_seen: i64,
}

/// The changes, and the intervals in which nobody led.
pub(super) fn measure(history: &History) -> (Failovers, Vec<(i64, i64)>) {
    let mut terms: BTreeMap<i64, Term> = BTreeMap::new();
    let mut seen = |epoch: i64, taken: i64, at: i64| {
        let term = terms.entry(epoch).or_insert(Term { taken, last_seen: taken });
        term.taken = term.taken.min(taken);
        term.last_seen = term.last_seen.max(at);
    };
    // The row stays when its leader is gone: a sample says when the epoch was taken, and not that it is at work.
    for sample in &history.leadership {
        seen(sample.epoch, sample.acquired_at, sample.acquired_at);
    }
    for write in &history.writes {
        seen(write.epoch, write.at, write.at);
    }
    let terms: Vec<Term> = terms.into_values().collect();
    let leaderless: Vec<(i64, i64)> = terms
        .windows(2)
        .map(|pair| (gone(history, pair[0].last_seen, pair[1].taken), pair[1].taken))
        .filter(|(gone, back)| gone <= back)
        .collect();
    let durations = leaderless.iter().map(|(gone, back)| (back - gone) / 1_000).collect();
    let count = terms.len().saturating_sub(1) as u64;
    (Failovers { count, durations: Durations::of(durations) }, leaderless)
}

/// When the old leader was gone: between its last write and its successor, at the first fault that may have been it.
fn gone(history: &History, last_write: i64, taken: i64) -> i64 {
    let faults = history.faults.iter().filter(|fault| {
        let spares_leaders = matches!(
            fault.kind,
            FaultKind::CutTarget
                | FaultKind::Edit
                | FaultKind::SinkError
                | FaultKind::SinkReset
                | FaultKind::SinkTimeout
        );
        let spares_this = fault.subject.starts_with("worker") || fault.subject.starts_with("notifier");
        !spares_leaders && !spares_this && (last_write..=taken).contains(&fault.from)
    });
    faults.map(|fault| fault.from).min().unwrap_or(last_write)
}
