//! A validated alert definition: what the ledger stores, what a job is made from, what a transition is judged by.
//!
//! It is made by [`crate::config`] from YAML and holds no secret: a route names its channel by a key, and the
//! process that sends looks the key up in its own configuration. Its canonical JSON is what `config_hash` hashes.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

mod about;
mod planning;
mod query_options;
mod rules;

pub use self::about::{About, Severity};
pub use self::planning::{Misfire, Overlap, PlanningRules};
pub use self::query_options::QueryOptions;
pub use self::rules::{JudgingRules, OnEvent};
use crate::schedule::Schedule;

/// Longest alert name, in characters.
pub const MAX_ALERT_NAME: usize = 200;

/// One alert as it is in force: immutable, named by the [`ConfigHash`] of its canonical JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertDefinition {
    /// Unique within the configuration.
    pub name: String,
    /// Free text, shown in notifications; empty if none was given.
    pub description: String,
    /// The SQL text, as written.
    pub query: String,
    /// The data source that `query` runs on.
    pub source: SourceName,
    /// When it is due, zone included.
    pub schedule: Schedule,
    /// How long one run may take, in milliseconds.
    pub timeout_ms: u64,
    /// A disabled alert has no due fires.
    pub enabled: bool,
    /// Where notifications go, in the file's order.
    pub notify: Vec<Route>,
    /// After how many errors in a row they count as what `rules.on_error` says; by default, are told.
    pub error_after: u32,
    /// When somebody is told. Absent from the JSON where nothing was said, so that such a version keeps its hash.
    #[serde(default, skip_serializing_if = "JudgingRules::is_default")]
    pub rules: JudgingRules,
    /// How the query is run and its answer read. Absent from the JSON where nothing was said, as the next one is.
    #[serde(default, skip_serializing_if = "QueryOptions::is_default")]
    pub options: QueryOptions,
    /// Which of its fires run, and when.
    #[serde(default, skip_serializing_if = "PlanningRules::is_default")]
    pub planning: PlanningRules,
    /// What people are told beside the description.
    #[serde(default, skip_serializing_if = "About::is_empty")]
    pub about: About,
}

/// One entry of `notify`, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    /// Stable name of the route within its alert: the channel's name, or a hash of the entry without its secrets.
    pub key: String,
    /// What kind of channel it is.
    pub channel: ChannelKind,
}

/// The kinds of channel that are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelKind {
    /// A mail.
    Email,
    /// A message to Slack.
    Slack,
    /// An HTTP request with a JSON body.
    Webhook,
}

impl ChannelKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Email, Self::Slack, Self::Webhook];

    /// The name in configuration, SQL, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Slack => "slack",
            Self::Webhook => "webhook",
        }
    }
}

impl fmt::Display for ChannelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AlertDefinition {
    /// How long one run may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// The canonical JSON that is stored and hashed: keys in declaration order, no secret in it.
    pub fn canonical_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

/// SHA-256 of a definition's canonical JSON, in hexadecimal: the name of one version of one alert.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConfigHash(String);

impl ConfigHash {
    /// The hash of `canonical_json`.
    pub fn of(canonical_json: &str) -> Self {
        Self(hex(&Sha256::digest(canonical_json.as_bytes())))
    }

    /// A hash read back from the ledger.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConfigHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Lower-case hexadecimal digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Text types whose values are names of the alphabet `[A-Za-z0-9_-]{1,64}`.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $invalid:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        /// A text that is no such name.
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        #[error("`{0}` is not a {what} name: use 1 to 64 letters, digits, `_` or `-`", what = $what)]
        pub struct $invalid(String);

        impl TryFrom<String> for $name {
            type Error = $invalid;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                if (1..=64).contains(&text.len()) && text.chars().all(allowed) {
                    Ok(Self(text))
                } else {
                    Err($invalid(text))
                }
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A data source's name: a NATS subject token and part of a durable consumer's name.
    SourceName, InvalidSourceName, "database"
}

name! {
    /// A channel's name: the key of the routes that lead to it.
    ChannelName, InvalidChannelName, "channel"
}

impl SourceName {
    /// The name of the source that `database:` configures.
    pub fn default_source() -> Self {
        Self("default".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_name_is_always_one_subject_token() {
        for good in ["default", "a", "eu-1_x", &"x".repeat(64)] {
            assert!(SourceName::try_from(good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["", "a.b", "a b", "*", ">", "é", &"x".repeat(65)] {
            assert!(SourceName::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
