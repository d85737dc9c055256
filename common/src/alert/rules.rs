//! The part of a definition that says when somebody is told: what the transition table is judged by.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When somebody is told of an alert. Its default is the behaviour of an alert that says nothing about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JudgingRules {
    /// How long the query must have said `ALERT` before it is told, in milliseconds of nominal time.
    pub for_ms: u64,
    /// How many `ALERT` in a row there must be before it is told; 0 is 1.
    pub consecutive: u32,
    /// After how long an alert that goes on is told again, in milliseconds of nominal time; never if none.
    pub repeat_interval_ms: Option<u64>,
    /// Whether its end is told.
    pub send_resolved: bool,
    /// What errors in a row are.
    pub on_error: OnEvent,
    /// What an answer without a row is.
    pub on_no_data: OnEvent,
}

/// What an outcome that says nothing about the alert is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnEvent {
    /// The alert stays as it is, and nobody is told.
    Keep,
    /// It counts as `ALERT`.
    Alert,
    /// It counts as `OK`.
    Ok,
    /// The alert stays as it is, and the event itself is told.
    #[default]
    Notify,
}

impl OnEvent {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Keep, Self::Alert, Self::Ok, Self::Notify];

    /// The name in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Alert => "alert",
            Self::Ok => "ok",
            Self::Notify => "notify",
        }
    }
}

impl Default for JudgingRules {
    fn default() -> Self {
        Self {
            for_ms: 0,
            consecutive: 1,
            repeat_interval_ms: None,
            send_resolved: false,
            on_error: OnEvent::Notify,
            on_no_data: OnEvent::Notify,
        }
    }
}

impl JudgingRules {
    /// Whether nothing was said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// How long the query must have said `ALERT` before it is told.
    pub fn held_for(&self) -> Duration {
        Duration::from_millis(self.for_ms)
    }

    /// After how long an alert that goes on is told again.
    pub fn repeat_interval(&self) -> Option<Duration> {
        self.repeat_interval_ms.map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AlertDefinition, ConfigHash};
    use super::*;

    /// A version as the first ledgers hold it.
    const STORED: &str = r#"{"name":"revenue","description":"","query":"SELECT 1","source":"default","schedule":{"text":"@daily","timezone":"UTC"},"timeout_ms":30000,"enabled":true,"notify":[{"key":"webhook-1","channel":"webhook"}],"error_after":3}"#;
    const STORED_HASH: &str = "8b321f5de16e7915e0d476087c62241b48f2cd101db3097ebb34b4295d340b68";

    #[test]
    fn a_version_that_was_stored_before_there_were_rules_keeps_its_hash() -> Result<(), serde_json::Error> {
        let definition: AlertDefinition = serde_json::from_str(STORED)?;
        assert!(definition.rules.is_default());
        assert_eq!(definition.canonical_json()?, STORED);
        assert_eq!(ConfigHash::of(STORED).as_str(), STORED_HASH);
        Ok(())
    }

    #[test]
    fn rules_that_say_something_are_part_of_the_version_and_come_back() -> Result<(), serde_json::Error> {
        let plain: AlertDefinition = serde_json::from_str(STORED)?;
        for rules in [
            JudgingRules { for_ms: 1, ..JudgingRules::default() },
            JudgingRules { consecutive: 2, ..JudgingRules::default() },
            JudgingRules { repeat_interval_ms: Some(1), ..JudgingRules::default() },
            JudgingRules { send_resolved: true, ..JudgingRules::default() },
            JudgingRules { on_error: OnEvent::Keep, ..JudgingRules::default() },
            JudgingRules { on_no_data: OnEvent::Alert, ..JudgingRules::default() },
        ] {
            let definition = AlertDefinition { rules, ..plain.clone() };
            let json = definition.canonical_json()?;
            assert_ne!(json, STORED);
            assert_eq!(serde_json::from_str::<AlertDefinition>(&json)?, definition);
        }
        Ok(())
    }
}
