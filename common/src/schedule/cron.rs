//! Cron patterns: which dates and times of day match, and at which moments those times happen in a time zone.
//!
//! The search walks dates, then the sorted times of a day, so it is bounded however sparse the pattern: the Gregorian
//! calendar repeats itself after 400 years, weekdays included, and what has not matched by then never will.

use chrono::{
    DateTime, Datelike, Days, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Timelike, Utc,
};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};
use croner::{CronComponent, CronPattern, Weekday};

use super::ScheduleError;
use super::clock_change::{end_of_gap, local, second_pass};
use crate::timestamp::Timestamp;

/// Years after which the calendar repeats itself exactly.
const CALENDAR_CYCLE: i32 = 400;

/// A parsed pattern.
#[derive(Clone)]
pub(super) struct CronRule {
    /// Asked about months and days only.
    dates: CronPattern,
    pub(super) hours: Values,
    pub(super) minutes: Values,
    pub(super) seconds: Values,
    /// A second, minute or hour field begins with `*`: fires on both passes of an overlap.
    interval: bool,
    /// No hour is left out: nothing to make up for after a gap.
    all_hours: bool,
    numeric_weekday: bool,
}

impl CronRule {
    /// Reads five or six fields, or a nickname.
    pub(super) fn parse(text: &str) -> Result<Self, ScheduleError> {
        let pattern = if text.starts_with('@') { nickname(text)? } else { text };
        let fields: Vec<&str> = pattern.split_whitespace().collect();
        let (second, [minute, hour, day, _, weekday]) = match fields.as_slice() {
            &[minute, hour, day, month, weekday] => ("0", [minute, hour, day, month, weekday]),
            &[second, minute, hour, day, month, weekday] => (second, [minute, hour, day, month, weekday]),
            other => return Err(ScheduleError::Fields(other.len())),
        };
        // croner knows only a bare `*` as no restriction. Where a day field merely begins with `*`, asking for both
        // fields is what Vixie cron does.
        let both_days = begins_with_star(day) || begins_with_star(weekday);
        let parser =
            CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).dom_and_dow(both_days).build();
        let cron = parser.parse(pattern).map_err(|error| ScheduleError::Cron(readable(&error)))?;
        let mut dates = cron.pattern;
        // There is no year field, and a set of five thousand years in each of 100,000 alerts is half a gigabyte.
        dates.years = CronComponent::new(0, 0, 0, 0);
        let hours = Values::of(&dates.hours);
        let rule = Self {
            hours,
            minutes: Values::of(&dates.minutes),
            seconds: Values::of(&dates.seconds),
            interval: [second, minute, hour].into_iter().any(begins_with_star),
            all_hours: hours == Values((1 << 24) - 1),
            numeric_weekday: names_weekday_by_number(weekday),
            dates,
        };
        // Any date will do: a whole cycle of the calendar is searched from it.
        match rule.next_wall(NaiveDateTime::default()) {
            Some(_) => Ok(rule),
            None => Err(ScheduleError::NeverFires(text.to_owned())),
        }
    }

    pub(super) fn uses_numeric_weekday(&self) -> bool {
        self.numeric_weekday
    }

    /// The first fire strictly after `after`.
    pub(super) fn next_after(&self, after: Timestamp, zone: Tz) -> Option<Timestamp> {
        // Fires are on whole seconds.
        let start = DateTime::from_timestamp(after.as_micros().div_euclid(1_000_000).checked_add(1)?, 0)?;
        let found = self.search(start, zone)?;
        if self.interval
            && let Some(again) = second_pass(start, zone)
            && found >= again
        {
            // The search went over the overlap's local times once; on the second pass they come again.
            return self.search(again, zone).map(Timestamp::from);
        }
        Some(found.into())
    }

    /// The first fire at `start` or later, where local times that `start` has already passed don't come again.
    fn search(&self, start: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        let mut wall = local(start, zone)?;
        loop {
            let due = self.next_wall(wall)?;
            let moment = match zone.from_local_datetime(&due) {
                MappedLocalTime::Single(moment) => Some(moment.to_utc()),
                MappedLocalTime::Ambiguous(one, other) => {
                    let (first, second) = (one.min(other).to_utc(), one.max(other).to_utc());
                    if first >= start { Some(first) } else { self.interval.then_some(second) }
                }
                MappedLocalTime::None if self.all_hours => None,
                MappedLocalTime::None => end_of_gap(due, zone),
            };
            match moment {
                Some(moment) if moment >= start => return Some(moment),
                // Invariant: `wall` only grows, and a gap or an overlap is finite, so this ends.
                _ => wall = due.checked_add_signed(TimeDelta::seconds(1))?,
            }
        }
    }

    /// The first matching local time at `from` or later, whether it exists in a zone or not.
    fn next_wall(&self, from: NaiveDateTime) -> Option<NaiveDateTime> {
        let mut date = from.date();
        if self.date_matches(date)
            && let Some(time) = self.next_time(from.time())
        {
            return Some(date.and_time(time));
        }
        let last_year = date.year().checked_add(CALENDAR_CYCLE)?;
        let first_time = self.next_time(NaiveTime::MIN)?;
        while date.year() <= last_year {
            date = if self.dates.month_match(date.month()).unwrap_or(false) {
                date.checked_add_days(Days::new(1))?
            } else {
                first_of_next_month(date)?
            };
            if self.date_matches(date) {
                return Some(date.and_time(first_time));
            }
        }
        None
    }

    pub(super) fn date_matches(&self, date: NaiveDate) -> bool {
        let weekday = Weekday::from_days_from_sunday(date.weekday().num_days_from_sunday());
        // croner's errors here are about dates that don't exist; `NaiveDate` holds none.
        self.dates.month_match(date.month()).unwrap_or(false)
            && self.dates.day_match(date.year(), date.month(), date.day(), weekday).unwrap_or(false)
    }

    /// The first matching time of day at `from` or later.
    fn next_time(&self, from: NaiveTime) -> Option<NaiveTime> {
        let (first_minute, first_second) = (self.minutes.from(0)?, self.seconds.from(0)?);
        let hour = self.hours.from(from.hour())?;
        if hour > from.hour() {
            return NaiveTime::from_hms_opt(hour, first_minute, first_second);
        }
        let within_hour = match self.minutes.from(from.minute()) {
            Some(minute) if minute > from.minute() => Some((minute, first_second)),
            Some(minute) => match self.seconds.from(from.second()) {
                Some(second) => Some((minute, second)),
                None => self.minutes.from(minute + 1).map(|minute| (minute, first_second)),
            },
            None => None,
        };
        match within_hour {
            Some((minute, second)) => NaiveTime::from_hms_opt(hour, minute, second),
            None => NaiveTime::from_hms_opt(self.hours.from(hour + 1)?, first_minute, first_second),
        }
    }
}

/// A set of numbers below 64, one bit each.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Values(u64);

impl Values {
    /// The values of a second, minute or hour field.
    fn of(field: &CronComponent) -> Self {
        Self(field.values().into_iter().fold(0, |bits, value| bits | 1u64.checked_shl(value.into()).unwrap_or(0)))
    }

    /// The smallest that is `low` or more.
    fn from(self, low: u32) -> Option<u32> {
        let left = self.0 & u64::MAX.checked_shl(low).unwrap_or(0);
        (left != 0).then(|| left.trailing_zeros())
    }

    pub(super) fn has(self, value: u32) -> bool {
        self.0 & 1 << value != 0
    }

    pub(super) fn count(self) -> i64 {
        self.0.count_ones().into()
    }

    /// How many are smaller than `limit`.
    pub(super) fn below(self, limit: u32) -> i64 {
        Self(self.0 & ((1 << limit) - 1)).count()
    }
}

fn nickname(text: &str) -> Result<&'static str, ScheduleError> {
    match text.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => Ok("0 0 1 1 *"),
        "@monthly" => Ok("0 0 1 * *"),
        "@weekly" => Ok("0 0 * * SUN"),
        "@daily" | "@midnight" => Ok("0 0 * * *"),
        "@hourly" => Ok("0 * * * *"),
        _ => Err(ScheduleError::Nickname(text.to_owned())),
    }
}

fn begins_with_star(field: &str) -> bool {
    field.starts_with(['*', '?'])
}

/// Whether the weekday field holds a number that means a day: not a step's, and not the `#2` of "second".
fn names_weekday_by_number(field: &str) -> bool {
    field.split(',').any(|part| {
        let day = part.split(['/', '#']).next().unwrap_or_default();
        day.contains(|c: char| c.is_ascii_digit())
    })
}

/// croner's message without its type's name in front.
fn readable(error: &croner::errors::CronError) -> String {
    use croner::errors::CronError as E;
    match error {
        E::InvalidPattern(text) | E::IllegalCharacters(text) | E::ComponentError(text) => text.clone(),
        other => other.to_string(),
    }
}

fn first_of_next_month(date: NaiveDate) -> Option<NaiveDate> {
    let (year, month) =
        if date.month() == 12 { (date.year().checked_add(1)?, 1) } else { (date.year(), date.month() + 1) };
    NaiveDate::from_ymd_opt(year, month, 1)
}
