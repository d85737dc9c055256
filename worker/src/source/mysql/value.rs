//! MySQL's values as JSON, from the binary protocol. Pure.
//!
//! Numbers keep their digits; dates and times are texts, in ISO 8601 where they are moments; bytes are `\x`
//! hexadecimal, as PostgreSQL writes them.

use serde_json::{Number, Value};
use sqlsentinel_common::alert::hex;

/// What the bytes of a value mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Little-endian, of any width.
    Signed,
    /// Little-endian, of any width: YEAR too.
    Unsigned,
    /// BIT: big-endian, as the number that MySQL takes it for.
    Bits,
    /// FLOAT.
    Single,
    /// DOUBLE.
    Double,
    /// DECIMAL: digits as they are printed.
    Digits,
    /// DATE.
    Date,
    /// DATETIME, which has no zone.
    Moment,
    /// TIMESTAMP, which is in the session's zone: UTC.
    UtcMoment,
    /// TIME, up to 838 hours and below zero.
    Time,
    /// MySQL's JSON. MariaDB's is a text.
    Json,
    /// Whatever has characters.
    Text,
    /// Whatever has none.
    Bytes,
}

/// `bytes` as JSON, of which at most about `limit` are looked at; none if they are not what the protocol promises.
pub(super) fn json(meaning: Meaning, bytes: &[u8], limit: usize) -> Option<Value> {
    Some(match meaning {
        Meaning::Signed => Value::from(signed(bytes)?),
        Meaning::Unsigned => Value::from(unsigned(bytes.iter().rev())?),
        Meaning::Bits => Value::from(unsigned(bytes.iter())?),
        // Through its own shortest digits: as a double, 0.1 would be 0.10000000149011612.
        Meaning::Single => number(&format!("{:?}", f32::from_le_bytes(bytes.try_into().ok()?))),
        Meaning::Double => number(&format!("{:?}", f64::from_le_bytes(bytes.try_into().ok()?))),
        Meaning::Digits => number(&without_leading_zeros(std::str::from_utf8(bytes).ok()?)),
        Meaning::Date => Value::from(date(counted(bytes)?)?),
        Meaning::Moment => Value::from(moment(counted(bytes)?)?),
        Meaning::UtcMoment => Value::from(format!("{}+00:00", moment(counted(bytes)?)?)),
        Meaning::Time => Value::from(time(counted(bytes)?)?),
        Meaning::Json => serde_json::from_slice(bytes).unwrap_or_else(|_| text(bytes)),
        Meaning::Text => text(bytes),
        // One byte more than fits is enough to be seen as too long, at two digits a byte.
        Meaning::Bytes => Value::from(format!("\\x{}", hex(&bytes[..bytes.len().min(limit.saturating_add(1))]))),
    })
}

fn signed(bytes: &[u8]) -> Option<i64> {
    Some(match *bytes {
        [a] => i64::from(i8::from_le_bytes([a])),
        [a, b] => i64::from(i16::from_le_bytes([a, b])),
        [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
        _ => i64::from_le_bytes(bytes.try_into().ok()?),
    })
}

/// Of the most significant byte first.
fn unsigned<'b>(bytes: impl ExactSizeIterator<Item = &'b u8>) -> Option<u64> {
    (bytes.len() <= 8).then(|| bytes.fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

/// Digits as a number; what JSON does not take for one as a text.
fn number(digits: &str) -> Value {
    digits.parse::<Number>().map_or_else(|_| Value::from(digits), Value::Number)
}

/// A DECIMAL with ZEROFILL begins with zeros, and a JSON number must not.
fn without_leading_zeros(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let trimmed = digits.trim_start_matches('0');
    let zero = if trimmed.starts_with(|c: char| c.is_ascii_digit()) { "" } else { "0" };
    format!("{sign}{zero}{trimmed}")
}

/// What follows the byte that says how much follows.
fn counted(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first()?;
    (rest.len() == usize::from(*length)).then_some(rest)
}

/// Zero dates, whole or in part, are values of their own: `0000-00-00`, `2026-00-00`.
fn date(bytes: &[u8]) -> Option<String> {
    let (year, month, day) = match *bytes {
        [] => (0, 0, 0),
        [low, high, month, day, ..] => (u16::from_le_bytes([low, high]), month, day),
        _ => return None,
    };
    Some(format!("{year:04}-{month:02}-{day:02}"))
}

fn moment(bytes: &[u8]) -> Option<String> {
    Some(format!("{}T{}", date(bytes)?, clock(0, bytes.get(4..).unwrap_or_default())?))
}

fn time(bytes: &[u8]) -> Option<String> {
    match *bytes {
        [] => clock(0, &[]),
        [negative, a, b, c, d, ref rest @ ..] => {
            let hours = u64::from(u32::from_le_bytes([a, b, c, d])) * 24;
            Some(format!("{}{}", if negative == 0 { "" } else { "-" }, clock(hours, rest)?))
        }
        _ => None,
    }
}

/// Hour, minute, second and microseconds, as far as they were sent: what is zero at the end was not.
fn clock(hours_before: u64, bytes: &[u8]) -> Option<String> {
    let (hour, minute, second, fraction) = match *bytes {
        [] => (0, 0, 0, 0),
        [hour, minute, second] => (hour, minute, second, 0),
        [hour, minute, second, a, b, c, d] => (hour, minute, second, u32::from_le_bytes([a, b, c, d])),
        _ => return None,
    };
    let hour = hours_before + u64::from(hour);
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:06}") };
    Some(format!("{hour:02}:{minute:02}:{second:02}{}", fraction.trim_end_matches('0')))
}

fn text(bytes: &[u8]) -> Value {
    Value::from(String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::Meaning::*;
    use super::*;

    #[test]
    fn every_meaning_has_its_json_at_its_extremes() {
        for (meaning, bytes, expected) in [
            (Signed, &[0x80][..], "-128"),
            (Signed, &[0xff, 0x7f], "32767"),
            (Signed, &[0, 0, 0, 0x80], "-2147483648"),
            (Signed, &[0, 0, 0, 0, 0, 0, 0, 0x80], "-9223372036854775808"),
            (Unsigned, &[0xff], "255"),
            (Unsigned, &[0xff; 8], "18446744073709551615"),
            (Unsigned, &[0xea, 0x07], "2026"),
            (Bits, &[0x01, 0x02], "258"),
            (Bits, &[0xff; 8], "18446744073709551615"),
            (Single, &0.1_f32.to_le_bytes(), "0.1"),
            (Single, &16_777_217_f32.to_le_bytes(), "16777216.0"),
            (Double, &0.1_f64.to_le_bytes(), "0.1"),
            (Double, &f64::MAX.to_le_bytes(), "1.7976931348623157e+308"),
            (Double, &f64::INFINITY.to_le_bytes(), "\"inf\""),
            (Digits, b"8500.10", "8500.10"),
            (Digits, b"-0.00", "-0.00"),
            (Digits, b"00012.50", "12.50"),
            (Digits, b"000.50", "0.50"),
            (Digits, b"0000", "0"),
            (Date, &[4, 0xea, 0x07, 3, 29], "\"2026-03-29\""),
            (Date, &[0], "\"0000-00-00\""),
            (Date, &[4, 0xea, 0x07, 0, 0], "\"2026-00-00\""),
            (Moment, &[0], "\"0000-00-00T00:00:00\""),
            (Moment, &[4, 0xea, 0x07, 3, 29], "\"2026-03-29T00:00:00\""),
            (Moment, &[7, 0xea, 0x07, 3, 29, 1, 30, 0], "\"2026-03-29T01:30:00\""),
            (Moment, &[11, 0xea, 0x07, 3, 29, 1, 30, 0, 0x20, 0xa1, 7, 0], "\"2026-03-29T01:30:00.5\""),
            (UtcMoment, &[11, 0xea, 0x07, 3, 29, 1, 30, 0, 1, 0, 0, 0], "\"2026-03-29T01:30:00.000001+00:00\""),
            (Time, &[0], "\"00:00:00\""),
            (Time, &[8, 1, 34, 0, 0, 0, 22, 59, 59], "\"-838:59:59\""),
            (Time, &[12, 0, 0, 0, 0, 0, 23, 59, 59, 0x3f, 0x42, 0x0f, 0], "\"23:59:59.999999\""),
            (Json, b"{\"b\": 1.10, \"a\": [null]}", "{\"a\":[null],\"b\":1.10}"),
            (Json, b"{\"b\": 1", "\"{\\\"b\\\": 1\""),
            (Text, "é".as_bytes(), "\"é\""),
            (Text, &[b'a', 0xff], "\"a\u{fffd}\""),
            (Bytes, &[0, 0xff], "\"\\\\x00ff\""),
        ] {
            let value = json(meaning, bytes, 100).map(|value| value.to_string());
            assert_eq!(value.as_deref(), Some(expected), "{meaning:?} {bytes:?}");
        }
    }

    #[test]
    fn bytes_that_the_protocol_does_not_promise_are_no_value() {
        for (meaning, bytes) in [
            (Signed, &[0, 0, 0][..]),
            (Bits, &[0; 9]),
            (Single, &[0]),
            (Date, &[]),
            (Date, &[2, 0, 0]),
            (Moment, &[5, 0, 0, 0, 0, 0]),
            (Time, &[1, 0]),
        ] {
            assert_eq!(json(meaning, bytes, 100), None, "{meaning:?} {bytes:?}");
        }
    }

    #[test]
    fn only_as_many_bytes_are_spelled_out_as_may_be_kept() {
        let value = json(Bytes, &[7; 1_000], 3);
        assert_eq!(value, Some(Value::from("\\x07070707")));
    }
}
