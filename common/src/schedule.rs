//! When an alert is due: (schedule, zone, moment) → next moment. Pure; the coordinator's planner asks it.
//!
//! A schedule is a cron pattern in a time zone, or `every <interval>` anchored to the Unix epoch. croner parses the
//! patterns and judges days; the rest is decided here, because croner's own search differs from what we promise:
//!
//! - **Both day fields restricted: either matches. A field that begins with `*` is no restriction**, so `0 0 */2 * 1`
//!   is every Monday that is an odd day, as in Vixie cron. (croner makes a union of it.)
//! - **Gap** (clocks go forward): the times that do not exist fire once, together, at the first moment after the gap.
//!   A pattern that covers all 24 hours needs no such fire: no elapsed time is lost to it.
//! - **Overlap** (clocks go back): an interval, which is a pattern whose second, minute or hour begins with `*`, fires
//!   on both passes; fixed times fire on the first pass only. (croner counts `0 1,2 * * *` as an interval.)

use std::fmt;
use std::str::FromStr;

use chrono_tz::Tz;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::timestamp::Timestamp;

mod clock_change;
mod cron;
mod every;
mod span;

use cron::CronRule;
use every::Every;

/// Longest schedule text, in bytes.
const MAX_TEXT: usize = 256;

/// When an alert is due, zone included. In JSON: `{"text": …, "timezone": …}`.
#[derive(Clone)]
pub struct Schedule {
    text: String,
    timezone: Tz,
    rule: Rule,
}

#[derive(Clone)]
enum Rule {
    Cron(Box<CronRule>),
    Every(Every),
}

/// A schedule that cannot be used. The texts say what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Nothing there.
    #[error("the schedule is empty: write five cron fields such as `*/5 * * * *`, or `every 30s`")]
    Empty,
    /// Longer than any real schedule.
    #[error("the schedule is longer than {MAX_TEXT} characters")]
    TooLong,
    /// Not five or six fields.
    #[error("a cron schedule has five fields (minute hour day month weekday), or six with seconds first; this has {0}")]
    Fields(usize),
    /// `@something` that is not known.
    #[error("`{0}` is not known: use @yearly, @monthly, @weekly, @daily, @hourly, or `every 30s`")]
    Nickname(String),
    /// A field that croner refuses.
    #[error(
        "not a cron schedule: {0} The fields are: [second 0-59] minute 0-59, hour 0-23, day 1-31, month 1-12, weekday 0-7"
    )]
    Cron(String),
    /// No date ever matches.
    #[error("`{0}` never fires: no date matches its day, month and weekday fields")]
    NeverFires(String),
    /// The interval of `every` cannot be read.
    #[error("`{0}` is not an interval: write `every 30s`, `every 5m`, `every 2h` or `every 1d`")]
    Interval(String),
    /// The interval of `every` is too short or too long.
    #[error("an interval is at least one second and at most 366 days")]
    IntervalRange,
}

impl Schedule {
    /// Reads `text` and makes sure that it fires at all.
    pub fn parse(text: &str, timezone: Tz) -> Result<Self, ScheduleError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(ScheduleError::Empty);
        }
        if text.len() > MAX_TEXT {
            return Err(ScheduleError::TooLong);
        }
        let rule = match every::interval_text(text) {
            Some(interval) => Rule::Every(Every::parse(interval)?),
            None => Rule::Cron(Box::new(CronRule::parse(text)?)),
        };
        Ok(Self { text: text.to_owned(), timezone, rule })
    }

    /// The first due moment strictly after `after`; none at the end of the calendar.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            Rule::Cron(rule) => rule.next_after(after, self.timezone),
            Rule::Every(every) => every.next_after(after),
        }
    }

    /// The text, as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The zone that the text's times are in.
    pub fn timezone(&self) -> Tz {
        self.timezone
    }

    /// Whether weekdays are given as numbers, which the Python system read as one day later.
    pub fn uses_numeric_weekday(&self) -> bool {
        matches!(&self.rule, Rule::Cron(rule) if rule.uses_numeric_weekday())
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.timezone == other.timezone
    }
}

impl Eq for Schedule {}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({:?} in {})", self.text, self.timezone.name())
    }
}

/// The JSON form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    text: String,
    timezone: String,
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written { text: self.text.clone(), timezone: self.timezone.name().to_owned() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        let timezone = Tz::from_str(&written.timezone).map_err(D::Error::custom)?;
        Self::parse(&written.text, timezone).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
