//! The keys that say when somebody is told, of an alert and of `defaults`.
//!
//! Input: a checked section, and what holds where it says nothing. Output: [`Judging`]. A key of an alert takes the
//! place of the same key of `defaults` as a whole.

use std::time::Duration;

use super::keys::{self, shown, suggestion};
use super::raw::Value;
use super::section::{Item, Reader, Section};
use crate::alert::{JudgingRules, OnEvent};

/// After how many errors in a row they are told, or count, if nothing is said.
const ERROR_AFTER: u32 = 3;
/// The longest time that `for` and `repeat_interval` may name.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The most that may be asked for in a row.
const MOST_IN_A_ROW: u32 = 1_000_000;

/// When somebody is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judging {
    pub(super) rules: JudgingRules,
    pub(super) error_after: u32,
}

impl Default for Judging {
    fn default() -> Self {
        Self { rules: JudgingRules::default(), error_after: ERROR_AFTER }
    }
}

impl Judging {
    /// What `section` says; where it says nothing, or something wrong, `self`.
    pub(super) fn overridden_by(&self, reader: &mut Reader<'_>, section: &Section<'_>) -> Self {
        let mut judging = self.clone();
        let rules = &mut judging.rules;
        if let Some(time) =
            section.get("for").and_then(|item| reader.duration(&item, Duration::ZERO..=LONGEST, "at most 366 days"))
        {
            rules.for_ms = whole_millis(time);
        }
        if let Some(count) = section.get("consecutive").and_then(|item| read_count(reader, &item)) {
            rules.consecutive = count;
        }
        if let Some(interval) = section.get("repeat_interval").and_then(|item| read_interval(reader, &item)) {
            rules.repeat_interval_ms = interval.map(whole_millis);
        }
        if let Some(resolved) = section.get("send_resolved").and_then(|item| reader.boolean(&item)) {
            rules.send_resolved = resolved;
        }
        if let Some((action, after)) = section.get("on_error").and_then(|item| read_on_error(reader, &item)) {
            rules.on_error = action;
            judging.error_after = after;
        }
        if let Some(action) = section.get("on_no_data").and_then(|item| read_action(reader, &item)) {
            rules.on_no_data = action;
        }
        judging
    }
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A duration, or `never`.
fn read_interval(reader: &mut Reader<'_>, item: &Item<'_>) -> Option<Option<Duration>> {
    if matches!(&item.node.value, Value::Text(text) if text.trim() == "never") {
        return Some(None);
    }
    let limits = "at least 1 second and at most 366 days";
    reader.duration(item, Duration::from_secs(1)..=LONGEST, limits).map(Some)
}

fn read_count(reader: &mut Reader<'_>, item: &Item<'_>) -> Option<u32> {
    let text = reader.scalar(item, "a whole number")?;
    let count = text.trim().parse().ok().filter(|count| (1..=MOST_IN_A_ROW).contains(count));
    if count.is_none() {
        let message = format!("not a whole number from 1 to {MOST_IN_A_ROW}");
        reader.problem(item.node.place, &item.path, message, "");
    }
    count
}

/// An action, or a mapping of `action` and `after`.
fn read_on_error(reader: &mut Reader<'_>, item: &Item<'_>) -> Option<(OnEvent, u32)> {
    if !matches!(item.node.value, Value::Map(_)) {
        return read_action(reader, item).map(|action| (action, ERROR_AFTER));
    }
    let section = reader.section(item, keys::ON_ERROR)?;
    let action = match section.get("action") {
        Some(item) => read_action(reader, &item),
        None => Some(OnEvent::default()),
    };
    let after = section.get("after").map(|item| (read_count(reader, &item), item));
    if let (Some(OnEvent::Keep), Some((_, item))) = (action, &after) {
        let message = "`after` says nothing where errors change nothing and are not told";
        reader.problem(item.node.place, &item.path, message, "remove it, or use another `action` than `keep`");
        return None;
    }
    let after = match after {
        Some((count, _)) => count?,
        None => ERROR_AFTER,
    };
    Some((action?, after))
}

fn read_action(reader: &mut Reader<'_>, item: &Item<'_>) -> Option<OnEvent> {
    let text = reader.text(item)?;
    let action = OnEvent::ALL.into_iter().find(|action| action.as_str() == text.trim());
    if action.is_none() {
        let help = suggestion(&text, &OnEvent::ALL.map(OnEvent::as_str));
        reader.problem(item.node.place, &item.path, format!("unknown action `{}`", shown(&text)), help);
    }
    action
}

#[cfg(test)]
mod tests {
    use super::super::{Config, ConfigProblem, load_str};
    use super::*;

    /// A file with these lines at its top and these of its one alert.
    fn file(top: &str, alert: &str) -> String {
        format!(
            "database: {{url: 'sqlite:///t.db'}}\n{top}alerts:\n- name: a\n  query: SELECT 1\n  schedule: '@daily'\n{alert}"
        )
    }

    fn load(top: &str, alert: &str) -> Config {
        load_str(&file(top, alert), "alerts.yaml", &|_| None).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn judged(top: &str, alert: &str) -> Judging {
        let definition = load(top, alert).alerts.remove(0).definition;
        Judging { rules: definition.rules, error_after: definition.error_after }
    }

    fn problem(top: &str, alert: &str) -> ConfigProblem {
        let mut errors = load_str(&file(top, alert), "alerts.yaml", &|_| None).expect_err(alert).0;
        assert_eq!(errors.len(), 1, "{errors:?}");
        errors.remove(0)
    }

    const EVERY_KEY: &str = "  for: 5m\n  consecutive: 4\n  repeat_interval: 1h 30m\n  send_resolved: yes\n  \
                             on_error: {action: alert, after: 7}\n  on_no_data: ok\n";

    fn every_key() -> Judging {
        let rules = JudgingRules {
            for_ms: 300_000,
            consecutive: 4,
            repeat_interval_ms: Some(5_400_000),
            send_resolved: true,
            on_error: OnEvent::Alert,
            on_no_data: OnEvent::Ok,
        };
        Judging { rules, error_after: 7 }
    }

    #[test]
    fn nothing_said_is_what_it_always_was() {
        let judging = judged("", "");
        assert!(judging.rules.is_default());
        assert_eq!(judging.error_after, 3);
    }

    #[test]
    fn every_key_works_in_an_alert_and_in_defaults() {
        assert_eq!(judged("", EVERY_KEY), every_key());
        assert_eq!(judged(&format!("defaults:\n{EVERY_KEY}"), ""), every_key());
    }

    #[test]
    fn a_key_of_an_alert_takes_the_place_of_the_default_and_no_other_key_does() {
        let defaults = format!("defaults:\n{EVERY_KEY}");
        let rules = every_key().rules;
        for (key, expected) in [
            ("for: 0", Judging { rules: JudgingRules { for_ms: 0, ..rules.clone() }, ..every_key() }),
            ("consecutive: 1", Judging { rules: JudgingRules { consecutive: 1, ..rules.clone() }, ..every_key() }),
            (
                "repeat_interval: never",
                Judging { rules: JudgingRules { repeat_interval_ms: None, ..rules.clone() }, ..every_key() },
            ),
            (
                "send_resolved: off",
                Judging { rules: JudgingRules { send_resolved: false, ..rules.clone() }, ..every_key() },
            ),
            // As a whole: `after` is not the default's.
            (
                "on_error: ok",
                Judging { rules: JudgingRules { on_error: OnEvent::Ok, ..rules.clone() }, error_after: 3 },
            ),
            (
                "on_error: {after: 1}",
                Judging { rules: JudgingRules { on_error: OnEvent::Notify, ..rules.clone() }, error_after: 1 },
            ),
            ("on_no_data: keep", Judging { rules: JudgingRules { on_no_data: OnEvent::Keep, ..rules }, ..every_key() }),
        ] {
            assert_eq!(judged(&defaults, &format!("  {key}\n")), expected, "{key}");
        }
    }

    #[test]
    fn defaults_have_a_timeout_and_a_zone() {
        let definition =
            |alert: &str| load("defaults: {timeout: 2m, timezone: Europe/Berlin}\n", alert).alerts.remove(0).definition;
        let inherited = definition("");
        assert_eq!((inherited.timeout_ms, inherited.schedule.timezone().name()), (120_000, "Europe/Berlin"));
        let own = definition("  timeout: 7\n  timezone: UTC\n");
        assert_eq!((own.timeout_ms, own.schedule.timezone().name()), (7_000, "UTC"));
    }

    #[test]
    fn what_is_wrong_is_said_once_and_where_it_stands() {
        for (alert, column, path, message) in [
            ("  for: soon\n", 8, "for", "not a duration"),
            ("  for: -5\n", 8, "for", "not a duration"),
            ("  for: 367d\n", 8, "for", "not at most 366 days"),
            ("  for: [1]\n", 8, "for", "found a list, expected a duration such as `5m`"),
            ("  repeat_interval: 0\n", 20, "repeat_interval", "not at least 1 second and at most 366 days"),
            ("  repeat_interval: always\n", 20, "repeat_interval", "not a duration"),
            ("  consecutive: 0\n", 16, "consecutive", "not a whole number from 1 to 1000000"),
            ("  consecutive: 1.5\n", 16, "consecutive", "not a whole number from 1 to 1000000"),
            ("  send_resolved: perhaps\n", 18, "send_resolved", "neither `true` nor `false`"),
            ("  on_no_data: nothing\n", 15, "on_no_data", "unknown action `nothing`"),
            ("  on_error: alrt\n", 13, "on_error", "unknown action `alrt`"),
            ("  on_error: {action: alrt}\n", 22, "on_error.action", "unknown action `alrt`"),
            ("  on_error: {after: 0}\n", 21, "on_error.after", "not a whole number from 1 to 1000000"),
            ("  on_error: {often: 1}\n", 14, "on_error.often", "unknown key `often`"),
            (
                "  on_error: {action: keep, after: 2}\n",
                35,
                "on_error.after",
                "`after` says nothing where errors change nothing and are not told",
            ),
        ] {
            let found = problem("", alert);
            let (line, path) = (6, format!("alerts[0].{path}"));
            assert_eq!(
                (found.line, found.column, found.path, found.message.as_str()),
                (line, column, path, message),
                "{alert}"
            );
            // In `defaults` it is one problem, however many alerts there are.
            let second = "- {name: b, query: q, schedule: '@daily'}\n";
            let found = problem(&format!("defaults:\n{alert}"), second);
            assert_eq!((found.line, found.message.as_str()), (3, message), "{alert}");
        }
        assert_eq!(problem("", "  on_error: alrt\n").help, "did you mean `alert`?");
    }

    #[test]
    fn a_zone_is_not_named_in_two_places() {
        let found = problem("timezone: UTC\ndefaults: {timezone: UTC}\n", "");
        assert_eq!(found.message, "`timezone` and `defaults.timezone` are both there");
    }

    #[test]
    fn defaults_take_no_key_that_would_do_nothing() {
        for (key, message) in [("name", "unknown key `name`"), ("querry", "unknown key `querry`")] {
            assert_eq!(problem(&format!("defaults: {{{key}: x}}\n"), "").message, message);
        }
    }
}
