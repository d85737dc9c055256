//! A report as text for people, in the layout that the Python system printed.

use std::fmt::{self, Display, Formatter};

use super::{Check, HealthReport, Status};

const RULE: &str = "============================================================";

impl Display for HealthReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{RULE}\nSQL Sentinel Health Check\n{RULE}\n")?;
        for (name, check) in &self.checks {
            write_check(f, name, check)?;
        }
        writeln!(f, "{RULE}\nOverall Status: {}\n{RULE}", self.status.as_str().to_uppercase())
    }
}

fn write_check(f: &mut Formatter<'_>, name: &str, check: &Check) -> fmt::Result {
    writeln!(f, "{} {}\n  Status: {}", symbol(check.status), title(name), check.status.as_str())?;
    if let Some(latency_ms) = check.latency_ms {
        writeln!(f, "  Latency: {latency_ms:.2}ms")?;
    }
    if let Some(message) = &check.message {
        writeln!(f, "  Message: {message}")?;
    }
    if !check.channels.is_empty() {
        writeln!(f, "  Channels:")?;
    }
    for (channel, check) in &check.channels {
        write!(f, "    {} {channel}: {}", symbol(check.status), check.status.as_str())?;
        writeln!(f, "{}", check.message.as_ref().map(|message| format!(" ({message})")).unwrap_or_default())?;
    }
    writeln!(f)
}

fn symbol(status: Status) -> char {
    match status {
        Status::Healthy => '✓',
        Status::Degraded => '!',
        Status::Unhealthy => '✗',
        Status::NotConfigured => '⊘',
    }
}

/// `state_database` as `State Database`.
fn title(name: &str) -> String {
    let words = name.split('_').map(|word| {
        let mut letters = word.chars();
        letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect::<String>()
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::timestamp::Timestamp;

    #[test]
    fn the_text_is_laid_out_as_before() {
        let channels = [
            ("email", Check { message: None, ..Check::not_configured("") }),
            ("slack", Check::unhealthy("circuit open")),
        ];
        let checks = [
            ("state_database", Check::healthy("Database connection OK").with_latency(Duration::from_micros(5_090))),
            (
                "notifications",
                Check::of_channels(BTreeMap::from(channels.map(|(name, check)| (name.to_owned(), check)))),
            ),
        ];
        let checks = checks.map(|(name, check)| (name.to_owned(), check));
        let report = HealthReport::new(Timestamp::default(), BTreeMap::from(checks));
        let expected = "\
============================================================
SQL Sentinel Health Check
============================================================

✗ Notifications
  Status: unhealthy
  Channels:
    ⊘ email: not_configured
    ✗ slack: unhealthy (circuit open)

✓ State Database
  Status: healthy
  Latency: 5.09ms
  Message: Database connection OK

============================================================
Overall Status: UNHEALTHY
============================================================
";
        assert_eq!(report.to_string(), expected);
    }
}
