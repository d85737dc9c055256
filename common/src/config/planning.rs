//! `misfire`, `catchup_window`, `overlap` and `jitter`, of an alert and of `defaults`.
//!
//! Input: a checked section, and what holds where it says nothing. Output: [`PlanningRules`].

use std::time::Duration;

use super::keys::{shown, suggestion};
use super::section::{Item, Reader, Section};
use crate::alert::{Misfire, Overlap, PlanningRules};

/// The longest time that fires may be spread over.
const MOST_JITTER: Duration = Duration::from_secs(24 * 60 * 60);
/// The oldest missed fire that may run: history and definitions are kept for longer than this.
const MOST_CATCHUP: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What `section` says; where it says nothing, or something wrong, `defaults`.
pub(super) fn read(reader: &mut Reader<'_>, section: &Section<'_>, defaults: &PlanningRules) -> PlanningRules {
    let mut rules = *defaults;
    let overlap = section.get("overlap");
    if let Some(misfire) = section.get("misfire").and_then(|item| read_misfire(reader, &item)) {
        rules.misfire = misfire;
        // Missed fires come together: where each is to run, they run beside each other.
        if misfire == Misfire::All && overlap.is_none() {
            rules.overlap = Overlap::Allow;
        }
    }
    if let Some(item) = overlap
        && let Some(overlap) = read_overlap(reader, &item)
    {
        rules.overlap = overlap;
        if rules.misfire == Misfire::All && overlap != Overlap::Allow {
            let message = format!("`misfire: all` needs `overlap: allow`, and this is `{}`", overlap.as_str());
            let help = "missed fires come together, so each but the first would be skipped; leave out one of the two";
            reader.problem(item.node.place, &item.path, message, help);
        }
    }
    if let Some(item) = section.get("catchup_window")
        && let Some(window) =
            reader.duration(&item, Duration::from_secs(1)..=MOST_CATCHUP, "at least 1 second and at most 7 days")
    {
        rules.catchup_window_ms = u64::try_from(window.as_millis()).ok();
    }
    if let Some(item) = section.get("jitter")
        && let Some(jitter) = reader.duration(&item, Duration::ZERO..=MOST_JITTER, "at most 24 hours")
    {
        rules.jitter_ms = u64::try_from(jitter.as_millis()).unwrap_or_default();
    }
    rules
}

fn read_misfire(reader: &mut Reader<'_>, item: &Item<'_>) -> Option<Misfire> {
    read_word(reader, item, &Misfire::ALL.map(|misfire| (misfire.as_str(), misfire)))
}

fn read_overlap(reader: &mut Reader<'_>, item: &Item<'_>) -> Option<Overlap> {
    read_word(reader, item, &Overlap::ALL.map(|overlap| (overlap.as_str(), overlap)))
}

fn read_word<T: Copy>(reader: &mut Reader<'_>, item: &Item<'_>, words: &[(&'static str, T)]) -> Option<T> {
    let text = reader.text(item)?;
    let found = words.iter().find(|(word, _)| *word == text.trim()).map(|(_, value)| *value);
    if found.is_none() {
        let help = suggestion(&text, &words.iter().map(|(word, _)| *word).collect::<Vec<_>>());
        reader.problem(item.node.place, &item.path, format!("unknown policy `{}`", shown(&text)), help);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::{Config, ConfigProblem, load_str};
    use super::*;

    fn load(keys: &str) -> Result<Config, Vec<ConfigProblem>> {
        let text = format!(
            "database: {{url: 'sqlite:///t.db'}}\ndefaults: {{jitter: 1m, overlap: queue_one}}\nalerts:\n- {{name: a, query: q, schedule: '@daily', {keys}}}\n"
        );
        load_str(&text, "alerts.yaml", &|_| None).map_err(|errors| errors.0)
    }

    fn rules(keys: &str) -> PlanningRules {
        load(keys).unwrap_or_else(|problems| panic!("{keys}\n{problems:?}")).alerts[0].definition.planning
    }

    #[test]
    fn each_key_takes_the_place_of_the_one_in_defaults() {
        let defaults = PlanningRules { overlap: Overlap::QueueOne, jitter_ms: 60_000, ..PlanningRules::default() };
        assert_eq!(rules("enabled: true"), defaults);
        assert_eq!(rules("misfire: skip"), PlanningRules { misfire: Misfire::Skip, ..defaults });
        assert_eq!(rules("overlap: allow"), PlanningRules { overlap: Overlap::Allow, ..defaults });
        assert_eq!(rules("jitter: 0"), PlanningRules { jitter_ms: 0, ..defaults });
        assert_eq!(rules("catchup_window: 1h"), PlanningRules { catchup_window_ms: Some(3_600_000), ..defaults });
    }

    #[test]
    fn where_each_missed_fire_runs_they_run_beside_each_other() {
        let both = rules("misfire: all");
        assert_eq!((both.misfire, both.overlap), (Misfire::All, Overlap::Allow));
    }

    #[test]
    fn every_mistake_has_its_place() {
        for (keys, path, said) in [
            ("misfire: twice", "misfire", "use one of `once`, `all`, `skip`"),
            ("overlap: queue-one", "overlap", "did you mean `queue_one`?"),
            ("misfire: all, overlap: skip", "overlap", "needs `overlap: allow`"),
            ("jitter: soon", "jitter", "not a duration"),
            ("jitter: 25h", "jitter", "not at most 24 hours"),
            ("catchup_window: 0s", "catchup_window", "not at least 1 second"),
            ("catchup_window: 8d", "catchup_window", "at most 7 days"),
        ] {
            let problems = load(keys).expect_err(keys);
            let path = format!("alerts[0].{path}");
            assert!(problems.iter().any(|p| p.path == path && p.to_string().contains(said)), "{keys}\n{problems:?}");
        }
    }
}
