//! Single values of an alert: time-out, zone, truth.

use std::time::Duration;

use chrono_tz::{TZ_VARIANTS, Tz};

use super::keys::{nearest, shown};

/// How long a run may take if nothing is said.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a run may be allowed to take.
const MAX_TIMEOUT: Duration = Duration::from_secs(3_600);

/// `30s`, `5m`, `1m 30s`, or seconds.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let unreadable = || "not a time-out: write `30s`, `5m`, or a number of seconds".to_owned();
    let duration = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_| unreadable())?,
        Err(_) => humantime::parse_duration(text).map_err(|_| unreadable())?,
    };
    if duration < Duration::from_millis(1) || duration > MAX_TIMEOUT {
        return Err("a time-out is at least one millisecond and at most one hour".to_owned());
    }
    Ok(duration)
}

/// A name of the IANA time zone database; the error's second part is help.
pub(super) fn timezone(name: &str) -> Result<Tz, (String, String)> {
    let name = name.trim();
    name.parse::<Tz>().map_err(|_| {
        let help = match nearest(name, TZ_VARIANTS.iter().map(|zone| zone.name())) {
            Some(zone) => format!("did you mean `{zone}`?"),
            None => "use an IANA name such as `Europe/London` or `UTC`".to_owned(),
        };
        (format!("unknown time zone `{}`", shown(name)), help)
    })
}

/// True and false, in the spellings that YAML 1.1 has for them.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_seconds_or_has_units() {
        for (text, millis) in [
            ("30", 30_000),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1m 30s", 90_000),
            ("0.5", 500),
            ("1h", 3_600_000),
            (" 250ms ", 250),
        ] {
            assert_eq!(timeout(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "0", "0s", "-5", "61m", "3601", "soon", "30 x", "inf", "NaN", "1e300", "99999999999999999999y"]
        {
            assert!(timeout(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_unknown_zone_names_its_neighbour() {
        assert_eq!(timezone("Europe/London"), Ok(Tz::Europe__London));
        for (text, help) in [("europe/london", "`Europe/London`"), ("Europe/Lodnon", "`Europe/London`"), ("", "IANA")] {
            let (message, found) = timezone(text).expect_err(text);
            assert!(message.contains("unknown time zone") && found.contains(help), "{text}: {found}");
        }
    }
}
