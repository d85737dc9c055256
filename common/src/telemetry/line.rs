//! One log line: its parts, and how they are written as JSON and as text. Pure.

use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;
use tracing::Level;

use super::fields::Fields;
use crate::timestamp::Timestamp;

/// The parts of a line, in the order of the schema.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    pub(super) timestamp: Timestamp,
    pub(super) level: &'static str,
    pub(super) logger: String,
    pub(super) message: &'a str,
    pub(super) context: &'a Fields,
}

impl Line<'_> {
    /// One JSON object and a line end.
    pub(super) fn to_json(&self) -> String {
        // Only a map with keys that are not text could fail to be JSON, and there is none here.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// `[time] [LEVEL] [logger] message key=value` and a line end; no other control character is in it.
    pub(super) fn to_text(&self) -> String {
        let mut text = format!("[{}] [{}] [{}] ", self.timestamp, self.level, self.logger);
        push_escaped(&mut text, self.message);
        for (name, value) in self.context.iter() {
            // Writing to a String cannot fail.
            let _ = match value {
                Value::String(value) if needs_quotes(value) => write!(text, " {name}={value:?}"),
                Value::String(value) => write!(text, " {name}={value}"),
                value => write!(text, " {name}={value}"),
            };
        }
        text + "\n"
    }
}

fn needs_quotes(value: &str) -> bool {
    value.is_empty() || value.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '='))
}

fn push_escaped(text: &mut String, message: &str) {
    for c in message.chars() {
        if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
    }
}

/// A level by the name that existing pipelines filter by.
pub(super) fn level(level: &Level, critical: bool) -> &'static str {
    match *level {
        Level::ERROR if critical => "CRITICAL",
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        _ => "DEBUG",
    }
}

/// `sqlsentinel_worker::execute` as `sqlsentinel.worker.execute`.
pub(super) fn logger(target: &str) -> String {
    target.replacen("sqlsentinel_", "sqlsentinel.", 1).replace("::", ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logger_is_a_path_with_dots_whoever_logs() {
        assert_eq!(logger("sqlsentinel_worker::source::postgres"), "sqlsentinel.worker.source.postgres");
        assert_eq!(logger("sqlsentinel_ctl"), "sqlsentinel.ctl");
        assert_eq!(logger("async_nats::connector"), "async_nats.connector");
    }
}
