//! How many fires there are between two moments, and which is the last one, without going through all of them: after a
//! long outage that would take longer than a leader may be silent.
//!
//! A day on which no clock changes has as many fires as its pattern has times; other days are gone through fire by fire.

use chrono::{DateTime, Days, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

use super::Schedule;
use super::clock_change::local;
use super::cron::CronRule;
use crate::timestamp::Timestamp;

/// After so long a clock change has no more effects: no gap and no overlap is longer than a day.
const AFTERMATH: TimeDelta = TimeDelta::hours(26);
/// How far back the last fire is looked for, one after the other, in seconds: the calendar repeats itself after the last.
const LOOKBACKS: [i64; 7] = [60, 3_600, 86_400, 32 * 86_400, 366 * 86_400, 8 * 366 * 86_400, 400 * 366 * 86_400];

impl Schedule {
    /// How many fires there are from `first` to `last`, both included.
    pub fn count(&self, first: Timestamp, last: Timestamp) -> i64 {
        let (first, end) = (ceiling(first), ceiling(Timestamp::from_micros(last.as_micros().saturating_add(1))));
        match &self.rule {
            super::Rule::Every(every) => every.count(first, end),
            super::Rule::Cron(rule) => {
                let moments = DateTime::from_timestamp(first, 0).zip(DateTime::from_timestamp(end, 0));
                moments.map_or(0, |(first, end)| self.count_cron(rule, first, end))
            }
        }
    }

    /// The last fire at `moment` or before; none at the beginning of the calendar.
    pub fn last_through(&self, moment: Timestamp) -> Option<Timestamp> {
        LOOKBACKS.into_iter().find_map(|seconds| {
            let start = moment.as_micros().checked_sub(seconds.checked_mul(1_000_000)?)?;
            let first = self.next_after(Timestamp::from_micros(start)).filter(|fire| *fire <= moment)?;
            let fires = std::iter::successors(Some(first), |fire| self.next_after(*fire));
            fires.take_while(|fire| *fire <= moment).last()
        })
    }

    /// From `from` on and before `end`.
    fn count_cron(&self, rule: &CronRule, mut from: DateTime<Utc>, end: DateTime<Utc>) -> i64 {
        let mut fires = 0;
        while from < end {
            let Some((wall, next_day)) = day(from, self.timezone) else { break };
            let until = next_day.min(end);
            if is_calm(from, next_day, self.timezone) {
                let passed = wall.time() + (until - from);
                let through = (until < next_day).then_some(passed);
                fires += rule.count_on(wall, through);
                from = until;
            } else {
                // Past the aftermath, and so past every fire that the change moves.
                let until = next_day.checked_add_signed(AFTERMATH).unwrap_or(end).min(end);
                fires += self.each_between(from, until);
                from = until;
            }
        }
        fires
    }

    fn each_between(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> i64 {
        let (before, until) = (Timestamp::from_micros(Timestamp::from(from).as_micros() - 1), Timestamp::from(until));
        let fires = std::iter::successors(self.next_after(before), |fire| self.next_after(*fire));
        fires.take_while(|fire| *fire < until).fold(0, |count, _| count + 1)
    }
}

impl CronRule {
    /// The fires of `from`'s date, from its time of day on, and before `until` if that is on the same date.
    fn count_on(&self, from: NaiveDateTime, until: Option<NaiveTime>) -> i64 {
        if !self.date_matches(from.date()) {
            return 0;
        }
        let whole_day = self.hours.count() * self.minutes.count() * self.seconds.count();
        until.map_or(whole_day, |until| self.times_before(until)) - self.times_before(from.time())
    }

    /// How many times of day that match are before `time`.
    fn times_before(&self, time: NaiveTime) -> i64 {
        let (hour, minute, second) = (time.hour(), time.minute(), time.second());
        let in_minute = if self.minutes.has(minute) { self.seconds.below(second) } else { 0 };
        let in_hour = self.minutes.below(minute) * self.seconds.count() + in_minute;
        let whole_hours = self.hours.below(hour) * self.minutes.count() * self.seconds.count();
        whole_hours + if self.hours.has(hour) { in_hour } else { 0 }
    }
}

/// The first whole second at `moment` or later, since the Unix epoch.
fn ceiling(moment: Timestamp) -> i64 {
    -(-moment.as_micros()).div_euclid(1_000_000)
}

/// The local time at `from`, and when the next local date begins if no clock changes until then.
fn day(from: DateTime<Utc>, zone: Tz) -> Option<(NaiveDateTime, DateTime<Utc>)> {
    let wall = local(from, zone)?;
    let midnight = wall.date().checked_add_days(Days::new(1))?.and_time(NaiveTime::MIN);
    Some((wall, from.checked_add_signed(midnight - wall)?))
}

/// Whether no clock change touches a fire from `from` to `until`.
fn is_calm(from: DateTime<Utc>, until: DateTime<Utc>, zone: Tz) -> bool {
    let offset = |at: DateTime<Utc>| zone.offset_from_utc_datetime(&at.naive_utc()).fix();
    let Some(before) = from.checked_sub_signed(AFTERMATH) else { return false };
    let here = offset(from);
    // Zones that change twice within a few days exist in history; a look at noon costs little.
    [before, from - (from - before) / 2, from + (until - from) / 2, until].into_iter().all(|at| offset(at) == here)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATTERNS: [&str; 12] = [
        "* * * * *",
        "*/15 * * * *",
        "30 2 * * *",
        "0 0 * * *",
        "0 3,15 * * 1-5",
        "15,45 1-3 * * *",
        "*/20 */6 * * * *",
        "5 10 0-4 29 2 *",
        "0 12 1 * *",
        "0 0 13 * 5",
        "0 9 * * MON#1",
        "every 7m",
    ];
    /// Among them zones whose clocks change by half an hour, at midnight, and that have skipped a whole day.
    const ZONES: [&str; 7] = [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "America/Sao_Paulo",
        "Pacific/Apia",
        "Africa/Casablanca",
    ];

    /// From 2010-12-31, so that Samoa's missing day (2011-12-30) and changes of São Paulo (until 2019) are in reach.
    const BEGIN: i64 = 1_293_800_000;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn counting_and_looking_back_agree_with_going_through_all_fires(
            pattern in prop::sample::select(&PATTERNS[..]),
            zone in prop::sample::select(&ZONES[..]),
            first in BEGIN * 1_000_000..(BEGIN + 600 * 86_400) * 1_000_000,
            length in prop_oneof![0..3_600_000_000i64, 0..9 * 86_400_000_000i64],
        ) {
            let schedule = Schedule::parse(pattern, zone.parse().unwrap()).unwrap();
            let (first, last) = (Timestamp::from_micros(first), Timestamp::from_micros(first + length));
            let before = Timestamp::from_micros(first.as_micros() - 1);
            let fires = std::iter::successors(schedule.next_after(before), |fire| schedule.next_after(*fire));
            let fires: Vec<Timestamp> = fires.take_while(|fire| *fire <= last).collect();
            prop_assert_eq!(schedule.count(first, last), fires.len() as i64);
            if let Some(newest) = fires.last() {
                prop_assert_eq!(schedule.last_through(last), Some(*newest));
            }
        }
    }

    #[test]
    fn ends_count_and_the_last_fire_is_found_however_rare_it_is() {
        let at = |text: &str| Timestamp::from(text.parse::<DateTime<Utc>>().unwrap());
        let rare = Schedule::parse("0 0 29 2 *", Tz::UTC).unwrap();
        assert_eq!(rare.last_through(at("2027-12-31T00:00:00Z")), Some(at("2024-02-29T00:00:00Z")));
        assert_eq!(rare.last_through(at("2024-02-29T00:00:00Z")), Some(at("2024-02-29T00:00:00Z")));
        assert_eq!(rare.count(at("2020-02-29T00:00:00Z"), at("2028-02-29T00:00:00Z")), 3);
        assert_eq!(rare.count(at("2020-02-29T00:00:00.000001Z"), at("2028-02-28T23:59:59Z")), 1);
        assert_eq!(rare.count(at("2028-02-29T00:00:00Z"), at("2020-02-29T00:00:00Z")), 0);
    }
}
