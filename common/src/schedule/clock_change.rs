//! What happens to local times where a zone's clocks go forward or back: found by asking the zone, since chrono-tz does
//! not list its transitions.

use chrono::{DateTime, Days, MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// The local time at `moment`; none at the very ends of the calendar.
pub(super) fn local(moment: DateTime<Utc>, zone: Tz) -> Option<NaiveDateTime> {
    moment.naive_utc().checked_add_offset(zone.offset_from_utc_datetime(&moment.naive_utc()).fix())
}

/// If `moment` is in the first pass of an overlap: when the second pass begins.
pub(super) fn second_pass(moment: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
    let MappedLocalTime::Ambiguous(one, other) = zone.from_local_datetime(&local(moment, zone)?) else { return None };
    let (first, second) = (one.min(other).to_utc(), one.max(other).to_utc());
    let offset = |at: DateTime<Utc>| zone.offset_from_utc_datetime(&at.naive_utc()).fix();
    (moment == first).then(|| first_where(first, second, |at| offset(at) != offset(first)))
}

/// When the gap ends that swallows the local time `missing`.
pub(super) fn end_of_gap(missing: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    // No zone is more than 16 hours from UTC, so two days either side hold the gap, even one of a whole day.
    let middle = missing.and_utc();
    let low = middle.checked_sub_days(Days::new(2))?;
    let high = middle.checked_add_days(Days::new(2))?;
    Some(first_where(low, high, |at| local(at, zone).is_some_and(|wall| wall > missing)))
}

/// The first whole second after `low` and up to `high` where `holds`, given that it holds from some second on.
fn first_where(low: DateTime<Utc>, high: DateTime<Utc>, holds: impl Fn(DateTime<Utc>) -> bool) -> DateTime<Utc> {
    let (mut low, mut high) = (low, high);
    while (high - low).num_seconds() > 1 {
        let middle = low + TimeDelta::seconds((high - low).num_seconds() / 2);
        if holds(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}
