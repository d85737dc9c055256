//! The alerts of a chaos run: all policies that there are, mixed by an alert's number, and how they stand in a file.

use std::fmt::Write;
use std::time::Duration;

use super::history::{Definition, Misfire, Overlap};
use crate::target::Target;
use crate::wall_clock::SECOND;

const ZONES: [&str; 5] = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"];
const SEVERITIES: [&str; 4] = ["critical", "error", "warning", "info"];
/// Every pair that makes sense: missed fires come together, so that all of them run only where they may overlap.
const POLICIES: [(Misfire, Overlap); 7] = [
    (Misfire::Once, Overlap::Skip),
    (Misfire::All, Overlap::Allow),
    (Misfire::Skip, Overlap::QueueOne),
    (Misfire::Once, Overlap::QueueOne),
    (Misfire::Skip, Overlap::Skip),
    (Misfire::Once, Overlap::Allow),
    (Misfire::Skip, Overlap::Allow),
];
/// What a slow query takes: long enough for a worker to be killed in the middle of it.
const SLOW: Duration = Duration::from_millis(300);

/// An alert's name.
pub fn name(number: usize) -> String {
    format!("alert-{number:03}")
}

/// What the alert with this number is like at first.
pub fn definition(number: usize) -> Definition {
    let (misfire, overlap) = POLICIES[number % POLICIES.len()];
    Definition {
        schedule: schedule(number, overlap),
        timezone: ZONES[number % ZONES.len()].to_owned(),
        enabled: true,
        misfire,
        catchup_us: (number % 11 == 4).then_some(20 * SECOND),
        overlap,
        jitter_us: if number / 7 % 6 == 2 { 800_000 } else { 0 },
        timeout_us: 5 * SECOND,
        consecutive: if number % 8 == 1 { 2 } else { 1 },
        for_us: if number % 8 == 3 { 2 * SECOND } else { 0 },
        repeat_us: (number % 8 == 5).then_some(3 * SECOND),
        send_resolved: number.is_multiple_of(2),
    }
}

/// Every one to five seconds, as an interval or as a cron pattern. What must not overlap has two at least: that a busy
/// machine needs a second for a fire is no fault of the installation.
fn schedule(number: usize, overlap: Overlap) -> String {
    let seconds = (1 + number / 4 % 5).max(if overlap == Overlap::Allow { 1 } else { 2 });
    if number.is_multiple_of(4) { format!("*/{seconds} * * * * *") } else { format!("every {seconds}s") }
}

/// What an alert becomes when it is edited, by a number that is drawn: its schedule and its policies, but not when
/// somebody is told.
pub fn edited(before: &Definition, drawn: usize) -> Definition {
    let (misfire, overlap) = POLICIES[drawn % POLICIES.len()];
    Definition {
        enabled: !drawn.is_multiple_of(5),
        schedule: schedule(drawn, overlap),
        timezone: ZONES[drawn % ZONES.len()].to_owned(),
        misfire,
        overlap,
        jitter_us: if drawn / 7 % 6 == 2 { 500_000 } else { 0 },
        // So that the version is a new one, whatever was drawn.
        timeout_us: before.timeout_us + 1_000,
        ..before.clone()
    }
}

/// How it stands in a file.
pub fn entry(number: usize, definition: &Definition, target: &Target) -> String {
    let name = name(number);
    let query = if number % 10 == 7 { target.slow_query(&name, SLOW) } else { target.query(&name) };
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let milliseconds = |microseconds: i64| format!("{}ms", microseconds / 1_000);
    let mut keys = vec![
        ("schedule", text(&definition.schedule)),
        ("timezone", definition.timezone.clone()),
        ("query", text(&query)),
        ("enabled", definition.enabled.to_string()),
        ("timeout", milliseconds(definition.timeout_us)),
        ("severity", SEVERITIES[number % SEVERITIES.len()].to_owned()),
        ("misfire", serde_json::json!(definition.misfire).to_string()),
        ("overlap", serde_json::json!(definition.overlap).to_string()),
        ("jitter", milliseconds(definition.jitter_us)),
        ("consecutive", definition.consecutive.to_string()),
        ("for", milliseconds(definition.for_us)),
        ("send_resolved", definition.send_resolved.to_string()),
    ];
    keys.extend(definition.catchup_us.map(|window| ("catchup_window", milliseconds(window))));
    keys.extend(definition.repeat_us.map(|interval| ("repeat_interval", milliseconds(interval))));
    let mut entry = format!("  - name: {name}\n");
    for (key, value) in keys {
        // Writing to a String cannot fail.
        let _ = writeln!(entry, "    {key}: {value}");
    }
    entry
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn three_hundred_alerts_mix_every_policy_with_every_other() {
        let all: Vec<Definition> = (0..300).map(definition).collect();
        let planned: BTreeSet<String> =
            all.iter().map(|alert| format!("{:?} {:?} {}", alert.misfire, alert.overlap, alert.schedule)).collect();
        assert!(planned.len() >= 7 * 8, "{}", planned.len());
        assert_eq!(all.iter().map(|alert| &alert.timezone).collect::<BTreeSet<_>>().len(), ZONES.len());
        let some: [fn(&Definition) -> bool; 6] = [
            |alert| alert.jitter_us > 0,
            |alert| alert.consecutive > 1,
            |alert| alert.for_us > 0,
            |alert| alert.repeat_us.is_some(),
            |alert| alert.send_resolved,
            |alert| alert.catchup_us.is_some(),
        ];
        for has in some {
            let count = all.iter().filter(|alert| has(alert)).count();
            assert!((20..=150).contains(&count), "{count}");
        }
    }

    #[test]
    fn an_edit_is_always_a_new_version_that_tells_as_before() {
        for number in 0..50 {
            let (before, after) = (definition(number), edited(&definition(number), number * 7));
            assert_ne!(before, after);
            assert_eq!((before.consecutive, before.for_us), (after.consecutive, after.for_us));
        }
    }
}
