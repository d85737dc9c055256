//! The part of a definition that says which of its fires run, and when: what the coordinator plans by.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Which fires of an alert run. Its default is the behaviour of an alert that says nothing about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanningRules {
    /// What becomes of fires that nobody planned when they were due.
    pub misfire: Misfire,
    /// How old a missed fire may be to run, in milliseconds; the coordinator's own limit if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catchup_window_ms: Option<u64>,
    /// What becomes of a fire that is due while an earlier one is open.
    pub overlap: Overlap,
    /// Over how much time fires are spread, in milliseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub jitter_ms: u64,
}

/// What becomes of fires that nobody planned when they were due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misfire {
    /// The newest runs, for all of them.
    #[default]
    Once,
    /// Each runs.
    All,
    /// None runs, but for one that is late by no more than a fail-over takes.
    Skip,
}

/// What becomes of a fire that is due while an earlier one of its alert is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It is skipped.
    #[default]
    Skip,
    /// One waits for the open one; any more are skipped.
    QueueOne,
    /// It runs beside it.
    Allow,
}

impl Misfire {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Once, Self::All, Self::Skip];

    /// The name in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::All => "all",
            Self::Skip => "skip",
        }
    }
}

impl Overlap {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Skip, Self::QueueOne, Self::Allow];

    /// The name in configuration and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::QueueOne => "queue_one",
            Self::Allow => "allow",
        }
    }
}

impl PlanningRules {
    /// Whether nothing was said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// How old a missed fire may be to run.
    pub fn catchup_window(&self) -> Option<Duration> {
        self.catchup_window_ms.map(Duration::from_millis)
    }

    /// How long after its nominal time each fire of the alert `name` runs: always the same, and spread over the jitter
    /// from alert to alert.
    pub fn delay(&self, name: &str) -> Duration {
        if self.jitter_ms == 0 {
            return Duration::ZERO;
        }
        let digest = Sha256::digest(name.as_bytes());
        let place = digest.iter().take(8).fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
        Duration::from_millis(place % self.jitter_ms)
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_of_one_schedule_are_spread_over_their_jitter_and_keep_their_places() {
        let rules = PlanningRules { jitter_ms: 300_000, ..PlanningRules::default() };
        let delays: Vec<_> = (0..1_000).map(|n| rules.delay(&format!("alert-{n}")).as_secs()).collect();
        assert!(delays.iter().all(|delay| *delay < 300));
        for minute in 0..5 {
            let there = delays.iter().filter(|delay| **delay / 60 == minute).count();
            assert!((150..250).contains(&there), "{there} of 1000 in minute {minute}");
        }
        assert_eq!(rules.delay("alert-7"), rules.delay("alert-7"));
        assert_eq!(PlanningRules::default().delay("alert-7"), Duration::ZERO);
    }

    #[test]
    fn what_is_stored_comes_back() -> Result<(), serde_json::Error> {
        for rules in [
            PlanningRules::default(),
            PlanningRules { misfire: Misfire::All, overlap: Overlap::QueueOne, ..PlanningRules::default() },
            PlanningRules { catchup_window_ms: Some(1), jitter_ms: 2, ..PlanningRules::default() },
        ] {
            assert_eq!(serde_json::from_str::<PlanningRules>(&serde_json::to_string(&rules)?)?, rules);
        }
        Ok(())
    }
}
