//! Cuts a verdict until it fits into one message. Pure.

use std::io::{self, Write};

use serde_json::{Map, Value};
use sqlsentinel_common::outcome::{InstanceVerdict, RunStatus, Verdict};

use crate::answer::fit;

/// Values are cut to half this, then to half of that, and so on, until the verdict fits.
const LARGEST_CUT: usize = 64 * 1024;
/// A value that is cut shorter than this says nothing.
const SMALLEST_CUT: usize = 64;

/// Cuts the longest values of `verdict` until its JSON has at most `budget` bytes; drops columns if that isn't enough.
/// Which instances there are, and what they are in, is never dropped.
pub(super) fn within(budget: usize, mut verdict: Verdict) -> Verdict {
    let mut limit = LARGEST_CUT;
    while !fits(&verdict, budget) && limit > SMALLEST_CUT {
        limit /= 2;
        verdict.truncated = true;
        cut(limit, &mut verdict.context, [&mut verdict.actual_value, &mut verdict.threshold]);
        for row in &mut verdict.instances {
            row.truncated |= cut(limit, &mut row.context, [&mut row.actual_value, &mut row.threshold]);
        }
    }
    // Only names are left to blame, very many or very long, or very many instances.
    for drop in DROPS {
        if !fits(&verdict, budget) {
            verdict.truncated = true;
            verdict.instances.iter_mut().for_each(drop);
        }
    }
    let mut names = verdict.context.keys().cloned().collect::<Vec<_>>();
    while !fits(&verdict, budget) {
        let Some(name) = names.pop() else { break };
        verdict.context.remove(&name);
    }
    verdict
}

/// What may be left out of instances, the least important first: what is all well says little.
const DROPS: [fn(&mut InstanceVerdict); 4] = [
    |row| {
        if row.status == RunStatus::Ok {
            drop_context(row);
        }
    },
    drop_context,
    |row| {
        if row.status == RunStatus::Ok {
            drop_values(row);
        }
    },
    drop_values,
];

fn drop_context(row: &mut InstanceVerdict) {
    row.truncated |= !row.context.is_empty();
    row.context = Map::new();
}

fn drop_values(row: &mut InstanceVerdict) {
    row.truncated |= row.actual_value.is_some() || row.threshold.is_some();
    (row.actual_value, row.threshold) = (None, None);
}

/// Whether anything was cut.
fn cut(limit: usize, context: &mut Map<String, Value>, values: [&mut Option<Value>; 2]) -> bool {
    let context = context.iter_mut().map(|(_, value)| value);
    let mut any = false;
    for value in context.chain(values.into_iter().flatten()) {
        let (shorter, cut) = fit(value.take(), limit);
        *value = shorter;
        any |= cut;
    }
    any
}

/// Whether the verdict's JSON has at most `budget` bytes. No more than that is ever written.
fn fits(verdict: &Verdict, budget: usize) -> bool {
    serde_json::to_writer(Left(budget), verdict).is_ok()
}

/// A writer that keeps nothing, and takes so many bytes.
struct Left(usize);

impl Write for Left {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::WriteZero)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
