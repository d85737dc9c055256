//! Every due fire is accounted for, and one that did not run has a reason: a policy whose condition was really there, or
//! a fault.

use std::collections::{BTreeMap, BTreeSet};

use super::clock;
use super::disturbances::{Disturbances, Part};
use super::due::{Due, name};
use crate::chaos::history::{Definition, Edit, FaultKind, Fire, Gap, History, Misfire, Overlap};
use crate::chaos::report::{Finding, Rule};

/// How far two moments that different transactions read may be apart from the order in which they took effect: on a busy
/// machine half a second passes between what a planning statement reads and what it writes.
const COMMIT_US: i64 = 1_500_000;
/// What is caught up on by default.
const CATCHUP_US: i64 = 24 * 3_600_000_000;

/// How many due fires are accounted for, and what is wrong with the others, and with the ledger.
pub(super) fn check(history: &History, due: &Due<'_>, disturbances: &Disturbances<'_>) -> (u64, Vec<Finding>) {
    let judge = Judge::new(history, disturbances);
    let mut findings = Vec::new();
    let mut covered: BTreeSet<(&str, i64)> = BTreeSet::new();
    for fire in history.ledger.fires.iter().filter(|fire| judge.is_watched(fire.scheduled_for)) {
        let which = name(&fire.alert, fire.scheduled_for);
        match due.by(&fire.alert, fire.scheduled_for) {
            None => findings.push(one(Rule::Invented, format!("{which} was never due"))),
            Some(definition) => {
                covered.insert((&fire.alert, fire.scheduled_for));
                if let Some(what) = judge.unexplained(fire, definition) {
                    findings.push(one(Rule::Missed, format!("{which}: {what}")));
                }
            }
        }
    }
    for gap in &history.ledger.gaps {
        let watched = gap.first.max(history.begin + 1)..=gap.last.min(history.until);
        let fires: Vec<i64> = due.between(&gap.alert, *watched.start(), *watched.end()).collect();
        let whole = judge.is_watched(gap.first) && judge.is_watched(gap.last);
        let counted = i64::try_from(fires.len()).unwrap_or(i64::MAX);
        if whole && counted != gap.fires {
            let what = format!("{} fires, and {counted} were due", gap.fires);
            findings.push(one(Rule::Invented, format!("{} has a gap of {what}", name(&gap.alert, gap.first))));
        }
        covered.extend(fires.iter().map(|moment| (gap.alert.as_str(), *moment)));
        let definition = fires.last().and_then(|moment| due.by(&gap.alert, *moment));
        if let Some(what) = definition.and_then(|definition| judge.unexplained_gap(gap, definition)) {
            let what = format!("{} and {} more: {what}", name(&gap.alert, gap.first), fires.len() - 1);
            findings.push(Finding { rule: Rule::Missed, times: fires.len() as u64, what });
        }
    }
    let mut accounted = 0;
    for (alert, moment, _) in due.fires() {
        if covered.contains(&(alert, moment)) {
            accounted += 1;
        } else {
            findings.push(one(Rule::Missed, format!("{} is not in the ledger", name(alert, moment))));
        }
    }
    (accounted, findings)
}

fn one(rule: Rule, what: String) -> Finding {
    super::finding(rule, what)
}

struct Judge<'a> {
    history: &'a History,
    disturbances: &'a Disturbances<'a>,
    by_alert: BTreeMap<&'a str, Vec<&'a Fire>>,
    /// When each leader's transaction was, as far as the writes say.
    written: BTreeMap<(i64, i64), i64>,
}

impl<'a> Judge<'a> {
    fn new(history: &'a History, disturbances: &'a Disturbances<'a>) -> Self {
        let mut by_alert: BTreeMap<&str, Vec<&Fire>> = BTreeMap::new();
        for fire in &history.ledger.fires {
            by_alert.entry(&fire.alert).or_default().push(fire);
        }
        let written = history.writes.iter().map(|write| ((write.epoch, write.seq), write.at)).collect();
        Self { history, disturbances, by_alert, written }
    }

    fn is_watched(&self, moment: i64) -> bool {
        (self.history.begin + 1..=self.history.until).contains(&moment)
    }

    /// What is wrong with how a due fire ended; none if nothing is.
    fn unexplained(&self, fire: &Fire, definition: &Definition) -> Option<String> {
        match (fire.status.as_str(), fire.reason.as_str()) {
            ("OK" | "ALERT" | "ERROR" | "NO_DATA", _) => None,
            ("SKIPPED", "overlap") => self.unexplained_overlap(fire, definition),
            ("SKIPPED", "removed") if self.was_removed(fire) => None,
            ("EXPIRED", _) if self.disturbances.hinder(Part::Running, fire.scheduled_for, fire.deadline) => None,
            ("SKIPPED" | "EXPIRED", reason) => Some(format!("{} ({reason}) for no reason", fire.status)),
            (status, _) => Some(format!("never ended, it is {status}")),
        }
    }

    /// `overlap` is a reason only if an earlier fire of the alert was open when this one was planned.
    fn unexplained_overlap(&self, fire: &Fire, definition: &Definition) -> Option<String> {
        if definition.overlap == Overlap::Allow {
            return Some("skipped for overlap, which its policy allows".to_owned());
        }
        let planned = fire.finished_at.unwrap_or(fire.scheduled_for);
        let in_its_way = |other: &&Fire| {
            other.scheduled_for < fire.scheduled_for
                && other.deadline > planned - COMMIT_US
                && other.finished_at.is_none_or(|ended| self.may_precede(planned, ended))
                && !(other.status == "SKIPPED" && other.reason == "overlap")
                && (definition.overlap == Overlap::Skip || self.may_have_waited(other, planned))
        };
        let was_in_its_way = self.by_alert.get(fire.alert.as_str()).into_iter().flatten().any(in_its_way);
        (!was_in_its_way)
            .then(|| format!("skipped for overlap at {}, when no earlier fire was in its way", clock(planned)))
    }

    /// Whether what took effect at `first`, as its transaction read the clock, may have done so before what did at `second`.
    /// A transaction that was held up between its statement and its commit takes effect later than it says.
    fn may_precede(&self, first: i64, second: i64) -> bool {
        first <= second + COMMIT_US || self.disturbances.held_up(second, first, COMMIT_US)
    }

    /// Under `queue_one` only a fire that waits is in the way. Each time that a fire is queued again replaces the first.
    fn may_have_waited(&self, other: &Fire, planned: i64) -> bool {
        other.attempt != 1 || other.queued_at.is_none_or(|queued| self.may_precede(planned, queued))
    }

    fn was_removed(&self, fire: &Fire) -> bool {
        let ended = fire.finished_at.unwrap_or(fire.scheduled_for);
        let alert = self.history.alerts.iter().find(|alert| alert.name == fire.alert);
        let edits = alert.map(|alert| alert.edits.as_slice()).unwrap_or_default();
        let next = |index: usize| edits.get(index + 1).map_or(i64::MAX, |next: &Edit| next.at);
        let taken_out = edits.iter().enumerate().any(|(index, edit)| {
            edit.definition.is_none() && edit.at <= ended + COMMIT_US && next(index) > fire.scheduled_for
        });
        taken_out || self.disturbances.had(FaultKind::SplitFiles, fire.scheduled_for, ended)
    }

    /// What is wrong with a gap; none if nothing is.
    fn unexplained_gap(&self, gap: &Gap, definition: &Definition) -> Option<String> {
        let written = self.written.get(&(gap.epoch, gap.seq)).copied();
        // Planned late, that is after the next was due. What kept planning from it was there between the two.
        let hindered = self.disturbances.hinder(Part::Planning, gap.first, written.unwrap_or(gap.last));
        match gap.reason.as_str() {
            _ if !hindered => Some(format!("a gap ({}) although nothing kept it from being planned", gap.reason)),
            "catchup_window" => {
                let window = definition.catchup_us.unwrap_or(CATCHUP_US);
                let young = written.is_some_and(|written| gap.last > written - window);
                young.then(|| "left out as too old, within the time that is caught up on".to_owned())
            }
            "misfire" if definition.misfire == Misfire::All => {
                Some("left out, where its policy is that each missed fire runs".to_owned())
            }
            "misfire" => None,
            other => Some(format!("a gap for an unknown reason, `{other}`")),
        }
    }
}
