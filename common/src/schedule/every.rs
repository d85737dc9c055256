//! `every 30s`: a fixed interval, counted from the Unix epoch, so that every process agrees on its moments without
//! knowing when the alert was created. Time zones do not touch it.

use super::ScheduleError;
use crate::timestamp::Timestamp;

const MAX_SECONDS: u64 = 366 * 86_400;

/// An interval in whole seconds.
#[derive(Clone, Copy)]
pub(super) struct Every {
    seconds: i64,
}

/// The interval of `every <interval>` or `@every <interval>`.
pub(super) fn interval_text(text: &str) -> Option<&str> {
    let text = text.strip_prefix('@').unwrap_or(text);
    let rest = text.get(..5).filter(|word| word.eq_ignore_ascii_case("every")).and(text.get(5..))?;
    (rest.is_empty() || rest.starts_with(char::is_whitespace)).then(|| rest.trim())
}

impl Every {
    /// Reads `30s`, `5m`, `2h`, `1d`, and sums of them such as `1h30m`.
    pub(super) fn parse(text: &str) -> Result<Self, ScheduleError> {
        let unreadable = || ScheduleError::Interval(text.to_owned());
        let mut total: u64 = 0;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(unreadable)?;
            let number: u64 = rest[..digits].parse().map_err(|_| unreadable())?;
            let after = &rest[digits..];
            let unit = match after.as_bytes().first() {
                Some(b's') => 1,
                Some(b'm') => 60,
                Some(b'h') => 3_600,
                Some(b'd') => 86_400,
                _ => return Err(unreadable()),
            };
            total = number.checked_mul(unit).and_then(|seconds| total.checked_add(seconds)).ok_or_else(unreadable)?;
            rest = after[1..].trim_start();
        }
        if text.is_empty() {
            return Err(unreadable());
        }
        match i64::try_from(total) {
            Ok(seconds) if (1..=MAX_SECONDS).contains(&total) => Ok(Self { seconds }),
            _ => Err(ScheduleError::IntervalRange),
        }
    }

    /// The first multiple of the interval after `after`.
    pub(super) fn next_after(self, after: Timestamp) -> Option<Timestamp> {
        let micros = self.seconds.checked_mul(1_000_000)?;
        let passed = after.as_micros().div_euclid(micros);
        passed.checked_add(1)?.checked_mul(micros).map(Timestamp::from_micros)
    }

    /// How many multiples there are from `first` on and before `end`, in seconds since the Unix epoch.
    pub(super) fn count(self, first: i64, end: i64) -> i64 {
        let before = |end: i64| end.saturating_sub(1).div_euclid(self.seconds);
        (before(end) - before(first)).max(0)
    }
}
