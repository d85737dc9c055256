//! The one representation of time that crosses a boundary: microseconds since the Unix epoch, UTC.
//!
//! In SQL it is a `BIGINT`, in JSON an RFC 3339 text with microseconds and `Z`. Where "now" comes from is
//! [`crate::clock`]'s subject, not this file's.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment in UTC, in microseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// A moment from microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch: what SQL stores.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Seconds since the Unix epoch, for metrics.
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// This moment moved forward, saturating at the end of time.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This moment moved back, saturating at the beginning of time.
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The next moment there is: a microsecond later.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// How long after `earlier` this moment is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The same moment as chrono's type; the Unix epoch where chrono cannot represent it.
    pub fn to_datetime(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or_default()
    }

    /// `YYYY-MM-DD HH:MM:SS.ffffff` in UTC: the text that the Python system's `TIMESTAMP` columns hold.
    pub fn to_sql_text(self) -> String {
        self.to_datetime().format("%Y-%m-%d %H:%M:%S%.6f").to_string()
    }
}

/// A duration in milliseconds, to the microsecond: what logs, messages and tables say. More digits would be noise.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(value: DateTime<Utc>) -> Self {
        Self(value.timestamp_micros())
    }
}

/// RFC 3339 with microseconds and `Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_datetime().to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Timestamp {
    type Err = chrono::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        DateTime::parse_from_rfc3339(text).map(|moment| moment.with_timezone(&Utc).into())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_told_to_the_microsecond_and_no_further() {
        for (nanos, text) in
            [(3_359_831, "3.359"), (3_359_000, "3.359"), (0, "0"), (999, "0"), (30_000_000_000, "30000")]
        {
            assert_eq!(milliseconds(Duration::from_nanos(nanos)).to_string(), text);
        }
        let clean = |micros| {
            milliseconds(Duration::from_micros(micros)).to_string().split('.').nth(1).unwrap_or_default().len() <= 3
        };
        assert!((0..100_000).all(clean));
    }

    #[test]
    fn json_keeps_every_microsecond() -> Result<(), serde_json::Error> {
        let moment = Timestamp::from_micros(1_762_571_186_510_640);
        let json = serde_json::to_string(&moment)?;
        assert_eq!(json, "\"2025-11-08T03:06:26.510640Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&json)?, moment);
        Ok(())
    }

    #[test]
    fn zone_offsets_are_read_as_the_moment_they_name() {
        assert_eq!(
            "2025-11-08T04:06:26+01:00".parse::<Timestamp>().map(Timestamp::as_micros),
            Ok(1_762_571_186_000_000)
        );
    }

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        let end = Timestamp::from_micros(i64::MAX);
        assert_eq!(end.plus(Duration::MAX), end);
        assert_eq!(Timestamp::from_micros(5).since(Timestamp::from_micros(9)), Duration::ZERO);
    }
}
