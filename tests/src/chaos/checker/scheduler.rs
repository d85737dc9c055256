//! When an alert is due, by a scheduler of the checker's own: it tries every second. Far too slow to run alerts by, and
//! too simple to be wrong in the same way as what it judges; the two share the time zones and nothing else.

use std::collections::BTreeSet;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use chrono::{DateTime, Datelike, NaiveDateTime, TimeDelta, TimeZone, Timelike};
use chrono_tz::Tz;

const SECOND: i64 = 1_000_000;

/// The moments after `after`, up to and including `until`, at which a schedule is due, in microseconds.
pub fn due(schedule: &str, timezone: &str, after: i64, until: i64) -> Result<Vec<i64>> {
    let schedule = schedule.trim();
    let seconds = after.div_euclid(SECOND) + 1..=until.div_euclid(SECOND);
    if let Some(interval) = schedule.strip_prefix("every ") {
        let interval = interval_seconds(interval.trim())?;
        return Ok(seconds.filter(|second| second % interval == 0).map(|second| second * SECOND).collect());
    }
    let pattern = Pattern::from_str(schedule)?;
    let zone = Tz::from_str(timezone).ok().with_context(|| format!("`{timezone}` is no time zone"))?;
    let mut due = Vec::new();
    for second in seconds {
        if pattern.is_due(zone, second)? {
            due.push(second * SECOND);
        }
    }
    Ok(due)
}

fn interval_seconds(text: &str) -> Result<i64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        other => bail!("`{other}` is no unit"),
    };
    let interval = digits.parse::<i64>()? * unit;
    ensure!(interval > 0, "an interval of nothing");
    Ok(interval)
}

/// The six fields of a cron pattern, each as the numbers that match it.
struct Pattern {
    second: BTreeSet<u32>,
    minute: BTreeSet<u32>,
    hour: BTreeSet<u32>,
    day: BTreeSet<u32>,
    month: BTreeSet<u32>,
    weekday: BTreeSet<u32>,
    /// Both day fields are restrictions: a day needs to match one of them. Else it has to match both.
    either_day: bool,
    /// It means an interval, not times of the day: when clocks go back, it goes on.
    is_interval: bool,
}

impl FromStr for Pattern {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut fields: Vec<&str> = text.split_whitespace().collect();
        let has_seconds = fields.len() == 6;
        if fields.len() == 5 {
            fields.insert(0, "0");
        }
        let [second, minute, hour, day, month, weekday] = fields[..] else { bail!("`{text}` has not 5 or 6 fields") };
        let restricts = |field: &str| !field.starts_with('*');
        Ok(Self {
            second: numbers(second, 0, 59)?,
            minute: numbers(minute, 0, 59)?,
            hour: numbers(hour, 0, 23)?,
            day: numbers(day, 1, 31)?,
            month: numbers(month, 1, 12)?,
            weekday: numbers(weekday, 0, 7)?.into_iter().map(|day| day % 7).collect(),
            either_day: restricts(day) && restricts(weekday),
            is_interval: (has_seconds && !restricts(second)) || !restricts(minute) || !restricts(hour),
        })
    }
}

/// The numbers that a field names: `*`, `7`, `1-5`, `*/15`, `10-40/10`, and lists of these.
fn numbers(field: &str, least: u32, most: u32) -> Result<BTreeSet<u32>> {
    let mut numbers = BTreeSet::new();
    for part in field.split(',') {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let step: usize = step.parse()?;
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (from.parse()?, to.parse()?),
            None if range == "*" => (least, most),
            None if part.contains('/') => (range.parse()?, most),
            None => (range.parse()?, range.parse()?),
        };
        ensure!(step > 0 && least <= from && from <= to && to <= most, "`{part}` is not between {least} and {most}");
        numbers.extend((from..=to).step_by(step));
    }
    Ok(numbers)
}

impl Pattern {
    fn is_due(&self, zone: Tz, second: i64) -> Result<bool> {
        let now = local(zone, second)?;
        let before = local(zone, second - 1)?;
        // Clocks have just gone forward: what would have been due in the time that does not exist is due now, once.
        let skipped = (now - before).num_seconds() - 1;
        if skipped > 0 && self.hour.len() < 24 {
            let missing = (1..=skipped).map(|seconds| before + TimeDelta::seconds(seconds));
            if missing.into_iter().any(|moment| self.matches(moment)) {
                return Ok(true);
            }
        }
        if !self.matches(now) {
            return Ok(false);
        }
        // Clocks have gone back, and it is the second time that they show this.
        let earliest = zone.from_local_datetime(&now).earliest().context("a time that clocks show exists")?;
        Ok(self.is_interval || earliest.timestamp() == second)
    }

    fn matches(&self, moment: NaiveDateTime) -> bool {
        let day = self.day.contains(&moment.day());
        let weekday = self.weekday.contains(&moment.weekday().num_days_from_sunday());
        self.second.contains(&moment.second())
            && self.minute.contains(&moment.minute())
            && self.hour.contains(&moment.hour())
            && self.month.contains(&moment.month())
            && if self.either_day { day || weekday } else { day && weekday }
    }
}

fn local(zone: Tz, second: i64) -> Result<NaiveDateTime> {
    let moment = DateTime::from_timestamp(second, 0).context("a moment beyond the calendar")?;
    Ok(moment.with_timezone(&zone).naive_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
    }

    /// What is due on the night after `day`, from 23:00 UTC on, for six hours.
    fn night(schedule: &str, zone: &str, day: &str) -> Vec<String> {
        let from = micros(&format!("{day}T23:00:00Z"));
        let due = due(schedule, zone, from - 1, from + 6 * 3_600 * SECOND).unwrap();
        due.iter().map(|moment| DateTime::from_timestamp_micros(*moment).unwrap().format("%H:%M").to_string()).collect()
    }

    #[test]
    fn an_interval_is_due_at_its_multiples_after_one_moment_up_to_another() {
        assert_eq!(due("every 10s", "UTC", 10 * SECOND, 40 * SECOND).unwrap(), [20, 30, 40].map(|s| s * SECOND));
        assert_eq!(due("every 1m", "UTC", 59_999_999, 60_000_000).unwrap(), [60_000_000]);
        assert_eq!(due("every 2h", "UTC", 0, 2 * 3_600 * SECOND).unwrap().len(), 1);
    }

    #[test]
    fn a_pattern_is_due_where_its_fields_match() {
        let hour = |schedule| due(schedule, "UTC", 0, 3_600 * SECOND).unwrap().len();
        assert_eq!(hour("*/5 * * * * *"), 720);
        assert_eq!(hour("0,30 10-20 * * * *"), 22);
        assert_eq!(hour("5/20 * * * * *"), 180);
        assert_eq!(hour("*/15 * * * *"), 4);
        // The first of January 1970 was a Thursday.
        assert_eq!(hour("0 1 1 * 5"), 1);
        assert_eq!(hour("0 1 */2 * 5"), 0);
        assert_eq!(hour("0 1 * * 4"), 1);
        assert_eq!(hour("0 1 * * 7"), 0);
    }

    #[test]
    fn a_pattern_is_in_its_zone() {
        assert_eq!(night("30 2 * * *", "Asia/Kolkata", "2027-06-01"), Vec::<String>::new());
        assert_eq!(night("30 6 * * *", "Asia/Kolkata", "2027-06-01"), ["01:00"]);
    }

    #[test]
    fn what_does_not_exist_when_clocks_go_forward_is_due_once_after_it() {
        assert_eq!(night("*/20 2 * * *", "Europe/Berlin", "2027-03-27"), ["01:00"]);
        assert_eq!(
            night("30 * * * *", "Europe/Berlin", "2027-03-27"),
            ["23:30", "00:30", "01:30", "02:30", "03:30", "04:30"]
        );
    }

    #[test]
    fn what_happens_twice_when_clocks_go_back_is_due_once_unless_it_is_an_interval() {
        assert_eq!(night("30 2 * * *", "Europe/Berlin", "2027-10-30"), ["00:30"]);
        assert_eq!(night("*/30 2 * * *", "Europe/Berlin", "2027-10-30"), ["00:00", "00:30", "01:00", "01:30"]);
    }

    #[test]
    fn what_it_cannot_read_is_an_error() {
        for schedule in
            ["", "every 5", "every 0s", "every s", "* * * *", "61 * * * *", "5-2 * * * *", "*/0 * * * *", "x * * * *"]
        {
            assert!(due(schedule, "UTC", 0, SECOND).is_err(), "{schedule}");
        }
        assert!(due("* * * * *", "Europe/Atlantis", 0, SECOND).is_err());
    }
}
