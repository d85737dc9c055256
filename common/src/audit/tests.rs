use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

/// A version that is due every ten seconds.
fn version(name: &str) -> Arc<Version> {
    let schedule = Schedule::parse("every 10s", chrono_tz::Tz::UTC).unwrap();
    Arc::new(Version { hash: ConfigHash::of(name), schedule, enabled: true })
}

fn in_force(alert: &str, version: &Arc<Version>, from: i64, until: Option<i64>) -> Interval {
    Interval {
        alert_name: alert.to_owned(),
        version: Arc::clone(version),
        valid_from: at(from),
        valid_until: until.map(at),
    }
}

/// The stretch of version `v` from 100 s to 160 s, in which six fires were due.
fn stretch() -> Stretch {
    Stretch { alert_name: "a".to_owned(), version: Some(version("v")), after: at(100), through: at(160) }
}

fn gap(first: i64, last: i64, fires: i64, rows_within: i64) -> Gap {
    let (alert_name, hash) = ("a".to_owned(), ConfigHash::of("v"));
    Gap { alert_name, first: at(first), last: at(last), fires, hash, rows_within }
}

fn rows(seconds: &[i64], version: &str) -> Vec<Row> {
    seconds.iter().map(|second| Row { scheduled_for: at(*second), hash: ConfigHash::of(version) }).collect()
}

/// What is found of `stretch` by counting, which must agree with what is found by looking: `kind fires first`.
fn found(stretch: &Stretch, rows: &[Row], gaps: &[Gap]) -> Vec<String> {
    let own = |row: &&Row| stretch.version.as_ref().is_some_and(|version| version.hash == row.hash);
    let tally = Tally { rows: rows.len() as i64, own: rows.iter().filter(own).count() as i64 };
    let differences = stretch.examine(rows, gaps);
    assert_eq!(stretch.agrees(stretch.due(), tally, gaps), differences.is_empty(), "{differences:?}");
    let second = |moment: &Timestamp| moment.as_micros() / 1_000_000;
    let line = |difference: &Difference| {
        let moments: Vec<String> = difference.moments.iter().map(|moment| second(moment).to_string()).collect();
        format!("{} {}: {}", difference.fires, difference.kind.as_str(), moments.join(" "))
    };
    differences.iter().map(line).collect()
}

const ALL: [i64; 6] = [110, 120, 130, 140, 150, 160];

#[test]
fn the_time_of_an_alert_is_cut_where_versions_begin_and_end() {
    let (one, two) = (version("one"), version("two"));
    let intervals = vec![
        in_force("b", &one, 50, None),
        in_force("a", &two, 130, Some(150)),
        in_force("a", &one, 110, Some(130)),
        in_force("gone", &one, 10, Some(20)),
        in_force("later", &one, 200, None),
    ];
    let shown = |stretch: &Stretch| {
        let version = stretch.version.as_ref().map_or("-", |version| if *version == one { "one" } else { "two" });
        let seconds = [stretch.after, stretch.through].map(|moment| moment.as_micros() / 1_000_000);
        format!("{} {version} {}-{}", stretch.alert_name, seconds[0], seconds[1])
    };
    let cut: Vec<String> = stretches(intervals, at(100), at(160)).iter().map(shown).collect();
    let expected = [
        "a - 100-110",
        "a one 110-130",
        "a two 130-150",
        "a - 150-160",
        "b one 100-160",
        "gone - 100-160",
        "later - 100-160",
    ];
    assert_eq!(cut, expected);
}

#[test]
fn rows_and_gaps_account_for_every_fire_once() {
    for (accounted, gaps) in [
        (ALL.to_vec(), vec![]),
        (vec![110, 160], vec![gap(120, 150, 4, 0)]),
        (vec![], vec![gap(110, 160, 6, 0)]),
        (vec![150], vec![gap(110, 110, 1, 0), gap(120, 140, 3, 0), gap(160, 160, 1, 0)]),
        // One that began before the window.
        (vec![130, 140, 150, 160], vec![gap(50, 120, 8, 0)]),
    ] {
        assert_eq!(found(&stretch(), &rows(&accounted, "v"), &gaps), [""; 0], "{accounted:?} {gaps:?}");
    }
}

#[test]
fn what_was_due_and_is_nowhere_is_missed() {
    assert_eq!(found(&stretch(), &rows(&[110, 130, 140, 150], "v"), &[]), ["2 missed: 120 160"]);
    assert_eq!(found(&stretch(), &[], &[gap(110, 150, 5, 0)]), ["1 missed: 160"]);
}

#[test]
fn what_is_covered_twice_is_doubled_also_where_the_counts_make_up_for_it() {
    assert_eq!(found(&stretch(), &rows(&ALL, "v"), &[gap(120, 130, 2, 2)]), ["2 doubled: 120 130"]);
    let overlapping = [gap(110, 140, 4, 0), gap(140, 160, 3, 0)];
    assert_eq!(found(&stretch(), &[], &overlapping), ["1 doubled: 140"]);
    // One of the rows is missing, and one is in a gap.
    let rows = rows(&[110, 120, 140, 150], "v");
    assert_eq!(found(&stretch(), &rows, &[gap(120, 130, 2, 1)]), ["1 missed: 160", "1 doubled: 120"]);
    let overlapping = [gap(110, 130, 3, 0), gap(130, 150, 3, 0)];
    assert_eq!(found(&stretch(), &[], &overlapping), ["1 missed: 160", "1 doubled: 130"]);
}

#[test]
fn what_another_version_planned_accounts_for_nothing() {
    let mut planned = rows(&ALL[..5], "v");
    planned.extend(rows(&[160], "old"));
    assert_eq!(found(&stretch(), &planned, &[]), ["1 missed: 160", "1 stray: 160"]);
    let gap = Gap { hash: ConfigHash::of("old"), ..gap(150, 160, 2, 0) };
    assert_eq!(found(&stretch(), &rows(&ALL[..4], "v"), &[gap]), ["2 missed: 150 160", "2 stray: 150"]);
}

#[test]
fn nothing_is_due_where_no_version_was_in_force_or_it_was_disabled() {
    let disabled = Arc::new(Version { enabled: false, ..(*version("v")).clone() });
    for version in [None, Some(disabled)] {
        let stretch = Stretch { version, ..stretch() };
        assert_eq!(stretch.due(), 0);
        assert_eq!(found(&stretch, &[], &[]), [""; 0]);
        assert_eq!(found(&stretch, &rows(&[120], "v"), &[gap(140, 150, 2, 0)]), ["3 stray: 120 140"]);
    }
}

#[test]
fn a_row_that_was_not_due_is_a_stray_and_a_gap_must_count_right() {
    let with_another: Vec<i64> = ALL.into_iter().chain([165 - 10]).collect();
    assert_eq!(found(&stretch(), &rows(&with_another, "v"), &[]), ["1 stray: 155"]);
    assert_eq!(found(&stretch(), &rows(&[110, 160], "v"), &[gap(120, 150, 3, 0)]), ["1 miscounted: 120"]);
    // Where the gap ends, it is told, and nowhere else.
    let earlier = Stretch { through: at(130), ..stretch() };
    assert_eq!(found(&earlier, &rows(&[110], "v"), &[gap(120, 150, 3, 0)]), [""; 0]);
}

#[test]
fn many_differences_are_counted_and_a_few_are_named() {
    let stretch = Stretch { through: at(1_100), ..stretch() };
    let differences = stretch.examine(&[], &[]);
    assert_eq!((differences[0].fires, differences[0].moments.len()), (100, MOMENTS));
    let estimated = stretch.estimate(100, Tally { rows: 7, own: 5 }, &[gap(110, 120, 2, 0)]);
    let counts: Vec<_> = estimated.iter().map(|difference| (difference.kind, difference.fires)).collect();
    assert_eq!(counts, [(Kind::Missed, 93), (Kind::Stray, 2)]);
    let doubled = stretch.estimate(100, Tally { rows: 100, own: 100 }, &[gap(110, 120, 2, 0)]);
    assert_eq!((doubled[0].kind, doubled[0].fires), (Kind::Doubled, 2));
}
