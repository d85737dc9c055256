//! A deposed leader changes nothing: in the order of commits, epochs never fall.

use super::clock;
use crate::chaos::history::History;
use crate::chaos::report::{Finding, Rule};

pub(super) fn check(history: &History) -> Vec<Finding> {
    let (mut highest, mut findings) = (i64::MIN, Vec::new());
    for write in &history.writes {
        if write.epoch < highest {
            let (table, key, at) = (&write.table, &write.key, clock(write.at));
            let what = format!("{table} {key} was written at {at} in epoch {}, after epoch {highest}", write.epoch);
            findings.push(super::finding(Rule::StaleWrite, what));
        }
        highest = highest.max(write.epoch);
    }
    findings
}
