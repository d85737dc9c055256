//! The text of a configuration file, for tests that care about a few of its keys only.

use std::fmt::Write;

/// A configuration being written.
#[derive(Clone, Debug)]
pub struct Configuration {
    text: String,
    webhook: String,
}

impl Configuration {
    /// One database, and alerts that notify one webhook.
    pub fn new(database_url: &str, webhook: &str) -> Self {
        let text = format!("database:\n  url: {}\nalerts:\n", quoted(database_url));
        Self { text, webhook: webhook.to_owned() }
    }

    /// Adds an alert.
    pub fn alert(self, name: &str, schedule: &str, query: &str) -> Self {
        self.alert_with(name, schedule, query, &[])
    }

    /// Adds an alert with further keys, whose values are YAML.
    pub fn alert_with(mut self, name: &str, schedule: &str, query: &str, keys: &[(&str, &str)]) -> Self {
        let mut entry = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            entry,
            "  - name: {}\n    schedule: {}\n    query: {}",
            quoted(name),
            quoted(schedule),
            quoted(query)
        );
        for (key, value) in keys {
            let _ = writeln!(entry, "    {key}: {value}");
        }
        let _ = writeln!(entry, "    notify:\n      - channel: webhook\n        url: {}", quoted(&self.webhook));
        self.text.push_str(&entry);
        self
    }

    /// The file's text.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A YAML scalar: JSON's strings are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_the_file_one_would_write() {
        let text = Configuration::new("sqlite:///x.db", "http://h/").alert_with(
            "a",
            "every 1s",
            "SELECT 1",
            &[("timeout", "5s")],
        );
        let expected = r#"database:
  url: "sqlite:///x.db"
alerts:
  - name: "a"
    schedule: "every 1s"
    query: "SELECT 1"
    timeout: 5s
    notify:
      - channel: webhook
        url: "http://h/"
"#;
        assert_eq!(text.text(), expected);
    }
}
