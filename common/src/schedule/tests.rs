use std::collections::BTreeSet;
use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;

use super::*;

fn zone(name: &str) -> Tz {
    Tz::from_str(name).unwrap()
}

/// Fires of `text` strictly after `after`, as RFC 3339 to the second.
fn fires(text: &str, zone_name: &str, after: &str, count: usize) -> Vec<String> {
    let schedule = Schedule::parse(text, zone(zone_name)).unwrap();
    let mut at: Timestamp = after.parse().unwrap();
    let mut found = Vec::new();
    for _ in 0..count {
        at = schedule.next_after(at).unwrap();
        found.push(at.to_datetime().format("%Y-%m-%dT%H:%M:%SZ").to_string());
    }
    found
}

#[track_caller]
fn assert_fires(text: &str, zone: &str, after: &str, expected: &[&str]) {
    assert_eq!(fires(text, zone, after, expected.len()), expected, "{text} in {zone} after {after}");
}

#[test]
fn fixed_times_in_a_gap_fire_once_at_the_first_moment_after_it() {
    // London: 2027-03-28 01:00 GMT becomes 02:00 BST.
    let london = "Europe/London";
    assert_fires("30 1 * * *", london, "2027-03-27T12:00:00Z", &["2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"]);
    assert_fires("0 1 * * *", london, "2027-03-27T12:00:00Z", &["2027-03-28T01:00:00Z", "2027-03-29T00:00:00Z"]);
    assert_fires("0 2 * * *", london, "2027-03-27T12:00:00Z", &["2027-03-28T01:00:00Z", "2027-03-29T01:00:00Z"]);
    // Several that are missing, or one that is missing and one that is due then anyway, are still one fire.
    assert_fires("0,30 1 * * *", london, "2027-03-27T12:00:00Z", &["2027-03-28T01:00:00Z", "2027-03-29T00:00:00Z"]);
    assert_fires("0 1,2 * * *", london, "2027-03-27T12:00:00Z", &["2027-03-28T01:00:00Z", "2027-03-29T00:00:00Z"]);
    assert_fires("0 30 1 * * *", london, "2027-03-27T12:00:00Z", &["2027-03-28T01:00:00Z"]);
    // New York: 2027-03-14 02:00 EST becomes 03:00 EDT.
    assert_fires(
        "30 2 * * *",
        "America/New_York",
        "2027-03-13T12:00:00Z",
        &["2027-03-14T07:00:00Z", "2027-03-15T06:30:00Z"],
    );
    // Lord Howe: 2027-10-03 02:00 becomes 02:30.
    assert_fires(
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2027-10-02T00:00:00Z",
        &["2027-10-02T15:30:00Z", "2027-10-03T15:15:00Z"],
    );
    assert_fires("30 2 * * *", "Australia/Lord_Howe", "2027-10-02T00:00:00Z", &["2027-10-02T15:30:00Z"]);
    // Cairo's gap begins at midnight, and is in the same day: 2027-04-30 00:00 becomes 01:00.
    assert_fires(
        "0 0 * * *",
        "Africa/Cairo",
        "2027-04-29T12:00:00Z",
        &["2027-04-29T22:00:00Z", "2027-04-30T21:00:00Z"],
    );
    // Samoa skipped the whole of 2011-12-30.
    assert_fires("0 12 30 12 *", "Pacific/Apia", "2011-12-29T12:00:00Z", &["2011-12-30T10:00:00Z"]);
}

#[test]
fn a_gap_fires_only_on_a_day_that_matches() {
    // 2027-03-28 is a Sunday.
    assert_fires("30 1 * * 1", "Europe/London", "2027-03-27T12:00:00Z", &["2027-03-29T00:30:00Z"]);
    assert_fires("30 1 28 3 *", "Europe/London", "2027-03-01T00:00:00Z", &["2027-03-28T01:00:00Z"]);
}

#[test]
fn an_interval_through_the_whole_day_runs_evenly_through_a_gap() {
    assert_fires(
        "*/15 * * * *",
        "Europe/London",
        "2027-03-28T00:40:00Z",
        &["2027-03-28T00:45:00Z", "2027-03-28T01:00:00Z", "2027-03-28T01:15:00Z"],
    );
    assert_fires(
        "30 * * * *",
        "Europe/London",
        "2027-03-28T00:00:00Z",
        &["2027-03-28T00:30:00Z", "2027-03-28T01:30:00Z"],
    );
}

#[test]
fn an_interval_whose_hours_are_all_in_the_gap_is_not_lost() {
    assert_fires(
        "*/15 1 * * *",
        "Europe/London",
        "2027-03-27T12:00:00Z",
        &["2027-03-28T01:00:00Z", "2027-03-29T00:00:00Z"],
    );
}

#[test]
fn fixed_times_in_an_overlap_fire_on_the_first_pass_only() {
    // London: 2027-10-31 02:00 BST becomes 01:00 GMT.
    let london = "Europe/London";
    assert_fires("30 1 * * *", london, "2027-10-30T12:00:00Z", &["2027-10-31T00:30:00Z", "2027-11-01T01:30:00Z"]);
    assert_fires(
        "0 1,2 * * *",
        london,
        "2027-10-30T12:00:00Z",
        &["2027-10-31T00:00:00Z", "2027-10-31T02:00:00Z", "2027-11-01T01:00:00Z"],
    );
    // Asked in the middle of the second pass, when the first pass is over.
    assert_fires("30 1 * * *", london, "2027-10-31T01:10:00Z", &["2027-11-01T01:30:00Z"]);
    // New York: 2027-11-07 02:00 EDT becomes 01:00 EST.
    assert_fires(
        "30 1 * * *",
        "America/New_York",
        "2027-11-06T12:00:00Z",
        &["2027-11-07T05:30:00Z", "2027-11-08T06:30:00Z"],
    );
    // Lord Howe: 2027-04-04 02:00 becomes 01:30.
    assert_fires(
        "45 1 * * *",
        "Australia/Lord_Howe",
        "2027-04-03T00:00:00Z",
        &["2027-04-03T14:45:00Z", "2027-04-04T15:15:00Z"],
    );
}

#[test]
fn an_interval_in_an_overlap_fires_on_both_passes() {
    assert_fires(
        "*/30 * * * *",
        "Europe/London",
        "2027-10-30T23:45:00Z",
        &[
            "2027-10-31T00:00:00Z",
            "2027-10-31T00:30:00Z",
            "2027-10-31T01:00:00Z",
            "2027-10-31T01:30:00Z",
            "2027-10-31T02:00:00Z",
        ],
    );
    assert_fires(
        "*/30 1 * * *",
        "America/New_York",
        "2027-11-06T12:00:00Z",
        &[
            "2027-11-07T05:00:00Z",
            "2027-11-07T05:30:00Z",
            "2027-11-07T06:00:00Z",
            "2027-11-07T06:30:00Z",
            "2027-11-08T06:00:00Z",
        ],
    );
    assert_fires(
        "*/15 * * * *",
        "Australia/Lord_Howe",
        "2027-04-03T14:40:00Z",
        &["2027-04-03T14:45:00Z", "2027-04-03T15:00:00Z", "2027-04-03T15:15:00Z", "2027-04-03T15:30:00Z"],
    );
    // Nothing is left of the first pass: the next fire is on the second.
    assert_fires(
        "*/40 1 * * *",
        "Europe/London",
        "2027-10-31T00:50:00Z",
        &["2027-10-31T01:00:00Z", "2027-10-31T01:40:00Z"],
    );
    assert_fires(
        "@hourly",
        "Europe/London",
        "2027-10-30T23:30:00Z",
        &["2027-10-31T00:00:00Z", "2027-10-31T01:00:00Z", "2027-10-31T02:00:00Z"],
    );
}

#[test]
fn a_zone_without_summer_time_keeps_its_offset() {
    assert_fires(
        "0 9 * * *",
        "Asia/Kolkata",
        "2027-03-28T00:00:00Z",
        &["2027-03-28T03:30:00Z", "2027-03-29T03:30:00Z"],
    );
    assert_fires("0 9 * * *", "UTC", "2027-03-28T00:00:00Z", &["2027-03-28T09:00:00Z"]);
}

#[test]
fn a_local_time_follows_its_zone_over_the_year() {
    assert_fires(
        "0 9 1 1,7 *",
        "Europe/London",
        "2026-12-01T00:00:00Z",
        &["2027-01-01T09:00:00Z", "2027-07-01T08:00:00Z", "2028-01-01T09:00:00Z"],
    );
}

#[test]
fn day_fields_combine_as_in_vixie_cron() {
    for (text, after, expected) in [
        // Both restricted: either matches. 2027-08-13 is a Friday, the Fridays around it are the 6th and the 20th.
        ("0 0 13 * 5", "2027-08-06T12:00:00Z", ["2027-08-13T00:00:00Z", "2027-08-20T00:00:00Z"]),
        ("0 0 15 * 5", "2027-08-13T12:00:00Z", ["2027-08-15T00:00:00Z", "2027-08-20T00:00:00Z"]),
        // A field that begins with `*` is no restriction, so the other one is not widened: odd days that are Mondays.
        ("0 0 */2 * 1", "2027-08-01T00:00:00Z", ["2027-08-09T00:00:00Z", "2027-08-23T00:00:00Z"]),
        // Weekdays 0, 2, 4 and 6, on the 1st: Sunday 2027-08-01, Monday and Wednesday are left out until 2028-01-01.
        ("0 0 1 * */2", "2027-07-15T00:00:00Z", ["2027-08-01T00:00:00Z", "2028-01-01T00:00:00Z"]),
        ("0 0 1 * *", "2027-08-01T00:00:00Z", ["2027-09-01T00:00:00Z", "2027-10-01T00:00:00Z"]),
        ("0 0 * * 1", "2027-08-01T00:00:00Z", ["2027-08-02T00:00:00Z", "2027-08-09T00:00:00Z"]),
        ("0 0 */2 * *", "2027-08-29T12:00:00Z", ["2027-08-31T00:00:00Z", "2027-09-01T00:00:00Z"]),
        ("0 0 ? * 1", "2027-08-01T00:00:00Z", ["2027-08-02T00:00:00Z", "2027-08-09T00:00:00Z"]),
    ] {
        assert_fires(text, "UTC", after, &expected);
    }
}

#[test]
fn weekdays_are_posix() {
    // 2027-08-01 is a Sunday.
    assert_fires("0 9 * * 1-5", "UTC", "2027-07-31T00:00:00Z", &["2027-08-02T09:00:00Z"]);
    assert_fires("0 9 * * 0", "UTC", "2027-07-31T00:00:00Z", &["2027-08-01T09:00:00Z"]);
    assert_fires("0 9 * * 7", "UTC", "2027-07-31T00:00:00Z", &["2027-08-01T09:00:00Z"]);
    assert_fires("0 9 * * mon-fri", "UTC", "2027-08-06T12:00:00Z", &["2027-08-09T09:00:00Z"]);
    assert_fires("0 9 * * sat-sun", "UTC", "2027-08-02T00:00:00Z", &["2027-08-07T09:00:00Z", "2027-08-08T09:00:00Z"]);
    for (text, numeric) in [
        ("0 9 * * 1-5", true),
        ("0 0 9 * * 1-5", true),
        ("0 9 * * 5#2", true),
        ("0 9 * * mon,3", true),
        ("0 9 * * MON-FRI", false),
        ("0 9 * * FRI#2", false),
        ("0 9 * * */2", false),
        ("0 9 1-5 * *", false),
        ("@weekly", false),
        ("every 5m", false),
    ] {
        assert_eq!(Schedule::parse(text, Tz::UTC).unwrap().uses_numeric_weekday(), numeric, "{text}");
    }
}

#[test]
fn rare_dates_are_found_however_far_away() {
    assert_fires("0 0 29 2 *", "UTC", "2027-01-01T00:00:00Z", &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]);
    assert_fires("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", &["2104-02-29T00:00:00Z"]);
    // A Monday that is 29 February: every 28 years, or 40 over a century without a leap day.
    assert_fires("0 0 29 2 */1", "UTC", "2027-01-01T00:00:00Z", &["2028-02-29T00:00:00Z"]);
    assert_fires("0 0 29 2 +1", "UTC", "2080-01-01T00:00:00Z", &["2112-02-29T00:00:00Z"]);
    assert_fires("0 0 31 * *", "UTC", "2027-03-31T12:00:00Z", &["2027-05-31T00:00:00Z"]);
    assert_fires("0 0 L * *", "UTC", "2028-02-01T00:00:00Z", &["2028-02-29T00:00:00Z"]);
}

#[test]
fn seconds_and_nicknames_are_read() {
    assert_fires(
        "*/20 * * * * *",
        "UTC",
        "2027-01-01T00:00:59.999999Z",
        &["2027-01-01T00:01:00Z", "2027-01-01T00:01:20Z", "2027-01-01T00:01:40Z", "2027-01-01T00:02:00Z"],
    );
    for (text, first) in [
        ("@yearly", "2028-01-01T00:00:00Z"),
        ("@annually", "2028-01-01T00:00:00Z"),
        ("@monthly", "2027-06-01T00:00:00Z"),
        ("@weekly", "2027-05-09T00:00:00Z"),
        ("@daily", "2027-05-06T00:00:00Z"),
        ("@midnight", "2027-05-06T00:00:00Z"),
        ("@Hourly", "2027-05-05T13:00:00Z"),
    ] {
        assert_fires(text, "UTC", "2027-05-05T12:00:00Z", &[first]);
    }
}

#[test]
fn a_fire_is_strictly_after_the_moment_asked_for() {
    assert_fires("0 12 * * *", "UTC", "2027-05-05T11:59:59.999999Z", &["2027-05-05T12:00:00Z"]);
    assert_fires("0 12 * * *", "UTC", "2027-05-05T12:00:00Z", &["2027-05-06T12:00:00Z"]);
    assert_fires("0 12 * * *", "UTC", "2027-05-05T12:00:00.000001Z", &["2027-05-06T12:00:00Z"]);
    assert_fires("every 1h", "UTC", "2027-05-05T12:00:00Z", &["2027-05-05T13:00:00Z"]);
    assert_fires("every 1h", "UTC", "2027-05-05T11:59:59.999999Z", &["2027-05-05T12:00:00Z"]);
}

#[test]
fn every_is_counted_from_the_epoch_in_any_zone() {
    for zone in ["UTC", "Europe/London", "Australia/Lord_Howe"] {
        // Through London's overlap and its gap: nothing happens to an interval.
        assert_fires("every 90m", zone, "2027-10-31T00:00:00Z", &["2027-10-31T01:30:00Z", "2027-10-31T03:00:00Z"]);
        assert_fires("@every 30s", zone, "2027-03-28T00:59:31Z", &["2027-03-28T01:00:00Z", "2027-03-28T01:00:30Z"]);
        assert_fires("Every 1d", zone, "2027-03-28T00:00:00Z", &["2027-03-29T00:00:00Z"]);
        assert_fires("every 1h30m", zone, "1970-01-01T00:00:00Z", &["1970-01-01T01:30:00Z"]);
        assert_fires("every 7s", zone, "1969-12-31T23:59:50Z", &["1969-12-31T23:59:53Z", "1970-01-01T00:00:00Z"]);
    }
}

#[test]
fn a_schedule_that_would_never_fire_or_cannot_be_read_is_refused_in_words() {
    for (text, said) in [
        ("0 0 30 2 *", "`0 0 30 2 *` never fires"),
        ("0 0 31 4,6,9,11 *", "never fires"),
        ("0 0 30 2 */1", "never fires"),
        ("0 , * * *", "never fires"),
        ("", "is empty"),
        ("  ", "is empty"),
        ("* * * *", "this has 4"),
        ("0 0 0 1 1 * 2027", "this has 7"),
        ("hourly", "this has 1"),
        ("60 * * * *", "not a cron schedule"),
        ("* * * * 8", "not a cron schedule"),
        ("*/0 * * * *", "not a cron schedule"),
        ("0/5 * * * *", "not a cron schedule"),
        ("a b c d e", "not a cron schedule"),
        ("@reboot", "`@reboot` is not known"),
        ("every", "`` is not an interval"),
        ("every 5", "`5` is not an interval"),
        ("every 5 minutes", "`5 minutes` is not an interval"),
        ("every -5m", "`-5m` is not an interval"),
        ("every 99999999999999999999d", "is not an interval"),
        ("every 0s", "at least one second"),
        ("every 400d", "at most 366 days"),
        (&"*".repeat(257), "longer than 256"),
    ] {
        let message = Schedule::parse(text, Tz::UTC).expect_err(text).to_string();
        assert!(message.contains(said), "{text}: {message}");
    }
}

#[test]
fn the_json_form_is_stable_because_it_is_hashed() {
    let schedule = Schedule::parse(" 0 9 * * 1-5 ", zone("Europe/London")).unwrap();
    let json = serde_json::to_string(&schedule).unwrap();
    assert_eq!(json, r#"{"text":"0 9 * * 1-5","timezone":"Europe/London"}"#);
    assert_eq!(serde_json::from_str::<Schedule>(&json).unwrap(), schedule);
    assert_ne!(Schedule::parse("0 9 * * 1-5", Tz::UTC).unwrap(), schedule);
    assert_ne!(Schedule::parse("0 8 * * 1-5", zone("Europe/London")).unwrap(), schedule);
    for bad in
        [r#"{"text":"x","timezone":"UTC"}"#, r#"{"text":"@daily","timezone":"Mars/Base"}"#, r#"{"text":"@daily"}"#]
    {
        assert!(serde_json::from_str::<Schedule>(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_ends_of_time_are_no_fire_instead_of_a_panic() {
    for text in ["* * * * *", "0 0 29 2 *", "every 1d", "*/7 1 * * *"] {
        for zone_name in ["UTC", "Europe/London", "Pacific/Apia"] {
            let schedule = Schedule::parse(text, zone(zone_name)).unwrap();
            for after in [i64::MAX, i64::MAX - 1, DateTime::<Utc>::MAX_UTC.timestamp_micros() - 1] {
                assert_eq!(
                    schedule.next_after(Timestamp::from_micros(after)).filter(|at| at.as_micros() <= after),
                    None
                );
            }
            for after in [i64::MIN, DateTime::<Utc>::MIN_UTC.timestamp_micros() + 1] {
                let next = schedule.next_after(Timestamp::from_micros(after));
                assert!(next.is_none_or(|at| at.as_micros() > after), "{text} in {zone_name} after {after}");
            }
        }
    }
}

/// Zones whose clocks jump in every way there is, each with a moment near a jump.
const JUMPS: [(&str, &str); 9] = [
    ("Europe/London", "2027-03-27T12:00:00Z"),
    ("Europe/London", "2027-10-30T12:00:00Z"),
    ("America/New_York", "2027-03-13T18:00:00Z"),
    ("America/New_York", "2027-11-06T18:00:00Z"),
    ("Australia/Lord_Howe", "2027-10-02T03:00:00Z"),
    ("Australia/Lord_Howe", "2027-04-03T03:00:00Z"),
    ("Africa/Cairo", "2027-04-29T10:00:00Z"),
    ("Asia/Kolkata", "2027-03-28T00:00:00Z"),
    ("Pacific/Apia", "2011-12-29T12:00:00Z"),
];

/// The definition of a fire, moment by moment, without any search: what `CronRule` must agree with.
fn due_by_definition(
    zone: Tz,
    from: DateTime<Utc>,
    matches: &dyn Fn(NaiveDateTime) -> bool,
    interval: bool,
    all_hours: bool,
) -> BTreeSet<i64> {
    let wall = |at: DateTime<Utc>| at.with_timezone(&zone).naive_local();
    let mut due = BTreeSet::new();
    let mut latest = wall(from - TimeDelta::minutes(1));
    for minute in 0..48 * 60 {
        let at = from + TimeDelta::minutes(minute);
        let now = wall(at);
        let repeated = now <= latest;
        if matches(now) && (!repeated || interval) {
            due.insert(at.timestamp());
        }
        let mut missing = latest + TimeDelta::minutes(1);
        while missing < now {
            if matches(missing) && !all_hours {
                due.insert(at.timestamp());
            }
            missing += TimeDelta::minutes(1);
        }
        latest = latest.max(now);
    }
    due
}

/// A cron field and what it stands for.
fn field(max: u32) -> impl Strategy<Value = (String, Vec<u32>)> {
    prop_oneof![
        Just(("*".to_owned(), (0..=max).collect())),
        (2..=max).prop_map(move |step| (format!("*/{step}"), (0..=max).step_by(step as usize).collect())),
        prop::collection::btree_set(0..=max, 1..4).prop_map(|set| {
            let text = set.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            (text, set.into_iter().collect())
        }),
        (0..=3u32, 0..=3u32).prop_map(|(low, more)| (format!("{low}-{}", low + more), (low..=low + more).collect())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_search_finds_what_the_definition_says((name, from) in prop::sample::select(&JUMPS[..]), minute in field(59), hour in field(23)) {
        let (zone, from) = (zone(name), from.parse::<DateTime<Utc>>().unwrap());
        let schedule = Schedule::parse(&format!("{} {} * * *", minute.0, hour.0), zone).unwrap();
        let interval = minute.0.starts_with('*') || hour.0.starts_with('*');
        let matches = |wall: NaiveDateTime| minute.1.contains(&wall.minute()) && hour.1.contains(&wall.hour());
        let expected = due_by_definition(zone, from, &matches, interval, hour.1.len() == 24);
        let end = from + TimeDelta::hours(48);
        let mut found = BTreeSet::new();
        let mut at = Timestamp::from(from - TimeDelta::microseconds(1));
        while let Some(next) = schedule.next_after(at).filter(|next| *next < end.into()) {
            prop_assert!(next > at);
            found.insert(next.as_micros() / 1_000_000);
            at = next;
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn asking_from_any_moment_gives_the_same_fires((name, from) in prop::sample::select(&JUMPS[..]), minute in field(59), hour in field(23), offset in 0..172_800_000_000_i64) {
        let schedule = Schedule::parse(&format!("{} {} * * *", minute.0, hour.0), zone(name)).unwrap();
        let asked = Timestamp::from_micros(from.parse::<Timestamp>().unwrap().as_micros() + offset);
        let mut walked = Timestamp::from_micros(from.parse::<Timestamp>().unwrap().as_micros() - 1);
        while walked <= asked {
            walked = schedule.next_after(walked).unwrap();
        }
        prop_assert_eq!(schedule.next_after(asked), Some(walked));
    }

    #[test]
    fn no_text_makes_it_panic_or_stand_still(text in "\\PC{0,40}", start in any::<i64>()) {
        strictly_increasing(&text, Timestamp::from_micros(start))?;
    }

    #[test]
    fn no_text_like_a_schedule_makes_it_panic_or_stand_still(
        text in "(@|every |\\+)?([0-9*/,LW#?A-Z-]{1,4} ){3,6}[0-9*/,L#?a-z-]{1,4}",
        start in any::<i64>(),
    ) {
        strictly_increasing(&text, Timestamp::from_micros(start))?;
        strictly_increasing(&text, Timestamp::from_micros(start % 4_000_000_000_000_000))?;
    }
}

fn strictly_increasing(text: &str, start: Timestamp) -> Result<(), TestCaseError> {
    for name in ["UTC", "Europe/London", "Australia/Lord_Howe"] {
        if let Ok(schedule) = Schedule::parse(text, zone(name)) {
            let mut at = start;
            for _ in 0..20 {
                let Some(next) = schedule.next_after(at) else { break };
                prop_assert!(next > at, "{} after {}", text, at);
                at = next;
            }
        }
    }
    Ok(())
}
