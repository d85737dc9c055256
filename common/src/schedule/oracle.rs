//! The arithmetic against an independent library, the `cron` crate, which shares no code with croner: planning and the
//! audit compute by the same arithmetic, so neither can see a fault in it.
//!
//! What the two define differently is translated, or asked in a way in which it does not matter:
//!
//! | | here | `cron` |
//! |---|---|---|
//! | fields | five, or six with seconds first | six, or seven with a year |
//! | weekdays as numbers | POSIX: 0 or 7 is Sunday | Quartz: 1 is Sunday. Names are given to it instead |
//! | both day fields restricted | either matches | both match: it is asked twice, once by each |
//! | both, and one begins with `*` | both match | the same |
//! | clock changes | see [`super`] | missing times are left out, repeated ones fire twice |
//!
//! For the last of these the library is asked about UTC, whose times are then read as local times: it says which match, and
//! the test says at which moments those happen. Where the clocks do not change, and for intervals through the whole day, it
//! is asked about the zone itself too.

use std::collections::BTreeSet;
use std::str::FromStr;

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;

use super::*;

/// How long one comparison is.
const SPAN: TimeDelta = TimeDelta::days(40);
/// The most fires that are compared.
const FIRES: usize = 400;

/// Zones of every hemisphere, with and without changes: by an hour, by half an hour, at midnight, during Ramadan.
const ZONES: [&str; 9] = [
    "UTC",
    "Europe/London",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Africa/Casablanca",
    "Asia/Kolkata",
    "Pacific/Auckland",
    "America/Havana",
];

/// Moments from which the clocks change within two days: forward and back, in the zone of the same row.
const NIGHTS: [(&str, &str); 10] = [
    ("Europe/London", "2027-03-27T00:00:00Z"),
    ("Europe/London", "2027-10-30T00:00:00Z"),
    ("America/New_York", "2027-03-13T06:00:00Z"),
    ("America/New_York", "2027-11-06T06:00:00Z"),
    ("Australia/Lord_Howe", "2027-10-01T14:00:00Z"),
    ("Australia/Lord_Howe", "2027-04-02T14:00:00Z"),
    ("America/Sao_Paulo", "2018-11-03T03:00:00Z"),
    ("America/Sao_Paulo", "2018-02-17T03:00:00Z"),
    ("Africa/Casablanca", "2027-02-06T00:00:00Z"),
    ("Africa/Casablanca", "2027-03-13T00:00:00Z"),
];

const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// A field as both write it.
#[derive(Clone, Debug)]
struct Field {
    text: String,
    values: BTreeSet<u32>,
}

impl Field {
    fn begins_with_star(&self) -> bool {
        self.text.starts_with('*')
    }
}

/// A pattern: second, minute, hour, day, month, weekday (0 is Sunday).
#[derive(Clone, Debug)]
struct Pattern([Field; 6]);

impl Pattern {
    fn ours(&self) -> String {
        self.0.each_ref().map(|field| field.text.as_str()).join(" ")
    }

    /// What the library is asked: all of these together.
    fn theirs(&self) -> Vec<::cron::Schedule> {
        let [second, minute, hour, day, month, weekday] = &self.0;
        let named: Vec<&str> = weekday.values.iter().map(|day| WEEKDAYS[*day as usize]).collect();
        let named = if weekday.text == "*" { "*".to_owned() } else { named.join(",") };
        let ask = |day: &str, weekday: &str| {
            let text = [&second.text, &minute.text, &hour.text, day, &month.text, weekday].join(" ");
            ::cron::Schedule::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
        };
        if day.begins_with_star() || weekday.begins_with_star() {
            vec![ask(&day.text, &named)]
        } else {
            vec![ask(&day.text, "*"), ask("*", &named)]
        }
    }

    fn is_interval(&self) -> bool {
        self.0[..3].iter().any(Field::begins_with_star)
    }

    fn has_all_hours(&self) -> bool {
        self.0[2].values.len() == 24
    }
}

fn field(low: u32, high: u32) -> impl Strategy<Value = Field> {
    let of = |text: String, values: BTreeSet<u32>| Field { text, values };
    prop_oneof![
        Just(of("*".to_owned(), (low..=high).collect())),
        (2..=high / 2).prop_map(move |step| of(format!("*/{step}"), (low..=high).step_by(step as usize).collect())),
        (low..=high, 0..=high).prop_map(move |(first, more)| {
            let last = (first + more).min(high);
            of(format!("{first}-{last}"), (first..=last).collect())
        }),
        prop::collection::btree_set(low..=high, 1..4)
            .prop_map(move |values| { of(values.iter().map(u32::to_string).collect::<Vec<_>>().join(","), values) }),
    ]
}

/// A pattern with few seconds, so that a span holds more than a few minutes; every month has the 28th.
fn pattern() -> impl Strategy<Value = Pattern> {
    let second = prop_oneof![
        3 => Just(Field { text: "0".to_owned(), values: [0].into() }),
        1 => prop::collection::btree_set(0..=59u32, 1..3).prop_map(|values| Field {
            text: values.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
            values,
        }),
    ];
    let any = || Just(Field { text: "*".to_owned(), values: BTreeSet::new() });
    let day = prop_oneof![2 => any(), 1 => field(1, 28)];
    let month = prop_oneof![3 => any(), 1 => field(1, 12)];
    let weekday = prop_oneof![2 => any(), 1 => field(0, 6)];
    (second, field(0, 59), field(0, 23), day, month, weekday)
        .prop_map(|(second, minute, hour, day, month, weekday)| Pattern([second, minute, hour, day, month, weekday]))
}

/// The moments after `after` and up to `through` at which `pattern` is due: local times by the library, moments by the rules.
fn due(pattern: &Pattern, zone: Tz, after: DateTime<Utc>, through: DateTime<Utc>) -> BTreeSet<Timestamp> {
    let wall = |moment: DateTime<Utc>| moment.with_timezone(&zone).naive_local().and_utc();
    // A gap moves a fire, and an overlap repeats one: by no more than an hour here.
    let (from, until) = (wall(after) - TimeDelta::hours(3), wall(through) + TimeDelta::hours(3));
    let mut due = BTreeSet::new();
    for asked in pattern.theirs() {
        for time in asked.after(&from).take_while(|time| *time <= until) {
            due.extend(moments(time.naive_utc(), zone, pattern.is_interval(), pattern.has_all_hours()));
        }
    }
    due.into_iter().filter(|moment| after < *moment && *moment <= through).map(Timestamp::from).collect()
}

/// When a local time that matches is due.
fn moments(time: NaiveDateTime, zone: Tz, interval: bool, all_hours: bool) -> Vec<DateTime<Utc>> {
    match zone.from_local_datetime(&time) {
        MappedLocalTime::Single(moment) => vec![moment.to_utc()],
        MappedLocalTime::Ambiguous(one, other) if interval => vec![one.to_utc(), other.to_utc()],
        MappedLocalTime::Ambiguous(one, other) => vec![one.to_utc().min(other.to_utc())],
        MappedLocalTime::None if all_hours => vec![],
        MappedLocalTime::None => {
            // Clocks change at full minutes: the first one that exists.
            let minute =
                NaiveDateTime::new(time.date(), time.time()) - TimeDelta::seconds(time.and_utc().timestamp() % 60);
            let exists =
                (1..=180).find_map(|more| zone.from_local_datetime(&(minute + TimeDelta::minutes(more))).earliest());
            exists.map(|moment| moment.to_utc()).into_iter().collect()
        }
    }
}

/// Our fires after `after` and up to `through`.
fn found(schedule: &Schedule, after: Timestamp, through: Timestamp) -> BTreeSet<Timestamp> {
    let fires = std::iter::successors(schedule.next_after(after), |fire| schedule.next_after(*fire));
    fires.take_while(|fire| *fire <= through).collect()
}

fn compare(pattern: &Pattern, zone: Tz, after: DateTime<Utc>, span: TimeDelta) -> Result<(), TestCaseError> {
    // A pattern that no date matches is refused, and the library would search for ever.
    let Ok(schedule) = Schedule::parse(&pattern.ours(), zone) else { return Err(TestCaseError::reject("never fires")) };
    let start = Timestamp::from(after);
    let through = {
        let limit = Timestamp::from(after + span);
        let fires = std::iter::successors(schedule.next_after(start), |fire| schedule.next_after(*fire));
        fires.take_while(|fire| *fire <= limit).nth(FIRES).unwrap_or(limit)
    };
    let expected = due(pattern, zone, after, through.to_datetime());
    prop_assert_eq!(&found(&schedule, start, through), &expected, "{} in {}", pattern.ours(), zone);
    prop_assert_eq!(schedule.count(start.next(), through), expected.len() as i64, "count of {}", pattern.ours());
    if let Some(last) = expected.last() {
        prop_assert_eq!(schedule.last_through(through), Some(*last), "last of {}", pattern.ours());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fires_counts_and_last_fires_are_those_of_an_independent_library(
        pattern in pattern(),
        zone in prop::sample::select(&ZONES[..]),
        // From 2016 to 2030.
        second in 1_451_606_400..1_893_456_000_i64,
    ) {
        compare(&pattern, zone.parse().unwrap(), DateTime::from_timestamp(second, 0).unwrap(), SPAN)?;
    }

    #[test]
    fn so_they_are_on_the_nights_when_clocks_change(
        pattern in pattern(),
        (zone, night) in prop::sample::select(&NIGHTS[..]),
        offset in 0..36 * 3_600_i64,
    ) {
        let night: DateTime<Utc> = night.parse().unwrap();
        compare(&pattern, zone.parse().unwrap(), night + TimeDelta::seconds(offset), TimeDelta::days(2))?;
    }

    /// Without the rules of this file in between: where the library means the same by a zone's times as we do.
    #[test]
    fn intervals_through_the_whole_day_are_the_librarys_own_in_every_zone(
        minute in field(0, 59),
        zone in prop::sample::select(&ZONES[..]),
        second in 1_451_606_400..1_893_456_000_i64,
    ) {
        let (zone, start) = (zone.parse::<Tz>().unwrap(), DateTime::from_timestamp(second, 0).unwrap());
        let ours = Schedule::parse(&format!("{} * * * *", minute.text), zone).unwrap();
        let fires = std::iter::successors(ours.next_after(start.into()), |fire| ours.next_after(*fire));
        let fires: Vec<Timestamp> = fires.take(FIRES).collect();
        // Around an overlap the library's order of repeated times depends on where it begins.
        prop_assume!(!goes_back(zone, start, fires[FIRES - 1].to_datetime()));
        let theirs = ::cron::Schedule::from_str(&format!("0 {} * * * *", minute.text)).unwrap();
        let theirs = theirs.after(&start.with_timezone(&zone)).map(|fire| fire.to_utc().into());
        prop_assert_eq!(fires, theirs.take(FIRES).collect::<Vec<Timestamp>>());
    }
}

/// Whether clocks go back between `start` and `end`, or have within two hours before.
fn goes_back(zone: Tz, start: DateTime<Utc>, end: DateTime<Utc>) -> bool {
    let hours = std::iter::successors(Some(start - TimeDelta::hours(2)), |at| Some(*at + TimeDelta::hours(1)));
    let offset = |at: DateTime<Utc>| zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc();
    let offsets: Vec<i32> = hours.take_while(|at| *at <= end + TimeDelta::hours(1)).map(offset).collect();
    !offsets.is_sorted()
}

/// Both nights in four zones, pinned: by an hour in the north and south, by half an hour, and at midnight.
#[test]
fn both_dst_nights_in_four_zones() {
    // Zone, pattern, from, and every fire within a day.
    let nights: [(&str, &str, &str, &[&str]); 16] = [
        // 2027-03-28 01:00 GMT becomes 02:00 BST; 2027-10-31 02:00 BST becomes 01:00 GMT.
        ("Europe/London", "30 1 * * *", "2027-03-27T12:00", &["2027-03-28T01:00"]),
        ("Europe/London", "*/30 1 * * *", "2027-03-27T12:00", &["2027-03-28T01:00"]),
        ("Europe/London", "30 1 * * *", "2027-10-30T12:00", &["2027-10-31T00:30"]),
        (
            "Europe/London",
            "*/30 1 * * *",
            "2027-10-30T12:00",
            &["2027-10-31T00:00", "2027-10-31T00:30", "2027-10-31T01:00", "2027-10-31T01:30"],
        ),
        // 2027-03-14 02:00 EST becomes 03:00 EDT; 2027-11-07 02:00 EDT becomes 01:00 EST.
        ("America/New_York", "15,45 2 * * *", "2027-03-13T12:00", &["2027-03-14T07:00"]),
        (
            "America/New_York",
            "0 */3 * * *",
            "2027-03-14T01:00",
            &[
                "2027-03-14T02:00",
                "2027-03-14T05:00",
                "2027-03-14T07:00",
                "2027-03-14T10:00",
                "2027-03-14T13:00",
                "2027-03-14T16:00",
                "2027-03-14T19:00",
                "2027-03-14T22:00",
                "2027-03-15T01:00",
            ],
        ),
        ("America/New_York", "15,45 1 * * *", "2027-11-06T12:00", &["2027-11-07T05:15", "2027-11-07T05:45"]),
        (
            "America/New_York",
            "*/45 1 * * *",
            "2027-11-06T12:00",
            &["2027-11-07T05:00", "2027-11-07T05:45", "2027-11-07T06:00", "2027-11-07T06:45"],
        ),
        // 2027-10-03 02:00 +10:30 becomes 02:30 +11:00; 2027-04-04 02:00 +11:00 becomes 01:30 +10:30.
        ("Australia/Lord_Howe", "15 2 * * *", "2027-10-02T02:00", &["2027-10-02T15:30"]),
        (
            "Australia/Lord_Howe",
            "*/10 2 * * *",
            "2027-10-02T02:00",
            &["2027-10-02T15:30", "2027-10-02T15:40", "2027-10-02T15:50"],
        ),
        ("Australia/Lord_Howe", "45 1 * * *", "2027-04-03T02:00", &["2027-04-03T14:45"]),
        (
            "Australia/Lord_Howe",
            "*/15 1 * * *",
            "2027-04-03T02:00",
            &[
                "2027-04-03T14:00",
                "2027-04-03T14:15",
                "2027-04-03T14:30",
                "2027-04-03T14:45",
                "2027-04-03T15:00",
                "2027-04-03T15:15",
            ],
        ),
        // 2018-11-04 00:00 -03:00 becomes 01:00 -02:00; 2018-02-18 00:00 -02:00 becomes 2018-02-17 23:00 -03:00.
        ("America/Sao_Paulo", "30 0 * * *", "2018-11-03T12:00", &["2018-11-04T03:00"]),
        ("America/Sao_Paulo", "*/20 0 * * *", "2018-11-03T12:00", &["2018-11-04T03:00"]),
        ("America/Sao_Paulo", "30 23 * * *", "2018-02-17T12:00", &["2018-02-18T01:30"]),
        (
            "America/Sao_Paulo",
            "*/30 23 * * *",
            "2018-02-17T12:00",
            &["2018-02-18T01:00", "2018-02-18T01:30", "2018-02-18T02:00", "2018-02-18T02:30"],
        ),
    ];
    let moment = |text: &str| format!("{text}:00Z").parse::<DateTime<Utc>>().unwrap();
    for (zone, text, from, expected) in nights {
        let schedule = Schedule::parse(text, zone.parse().unwrap()).unwrap();
        let (after, through) = (moment(from), moment(from) + TimeDelta::days(1));
        let expected: BTreeSet<Timestamp> = expected.iter().map(|text| moment(text).into()).collect();
        assert_eq!(found(&schedule, after.into(), through.into()), expected, "{text} in {zone} after {from}");
        let counted = schedule.count(Timestamp::from(after).next(), through.into());
        assert_eq!(counted, expected.len() as i64, "{text} in {zone} after {from}");
    }
}
