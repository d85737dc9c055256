//! What one run of an alert's query produced. Made by the worker's verdict, carried by `RESULTS`, judged by the
//! notifier's transition table.

mod instance;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::instance::{InstanceVerdict, MAX_INSTANCES, instance_name};

/// The four ways a run can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RunStatus {
    /// The query said that all is well.
    Ok,
    /// The query said that something is wrong.
    Alert,
    /// The query could not be run, or its answer could not be judged.
    Error,
    /// The query returned no row.
    NoData,
}

impl RunStatus {
    /// The name in SQL, JSON and on the screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Alert => "ALERT",
            Self::Error => "ERROR",
            Self::NoData => "NO_DATA",
        }
    }

    /// The name in metric labels: lower case.
    pub fn as_label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Alert => "alert",
            Self::Error => "error",
            Self::NoData => "no_data",
        }
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the query's answer says, judged. Numbers keep their digits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// How the run ended.
    pub status: RunStatus,
    /// The `actual_value` column, as faithful JSON; none if absent or NULL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual_value: Option<Value>,
    /// The `threshold` column, as faithful JSON; none if absent or NULL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Value>,
    /// Every other column of the row, in the query's order of names sorted.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub context: Map<String, Value>,
    /// Where the alert has an instance key: what each row says, and the columns above are absent. `status` is `ALERT`
    /// if one of these is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<InstanceVerdict>,
    /// Whether something was cut to keep the outcome within its size.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// Why the status is `ERROR`; none otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RunError>,
}

impl Verdict {
    /// The verdict of a run that failed.
    pub fn error(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { error: Some(RunError { kind, message: message.into() }), ..Self::bare(RunStatus::Error) }
    }

    /// A verdict with a status and nothing else.
    pub fn bare(status: RunStatus) -> Self {
        Self {
            status,
            actual_value: None,
            threshold: None,
            context: Map::new(),
            instances: Vec::new(),
            truncated: false,
            error: None,
        }
    }
}

/// Why a run failed, for people and for counting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunError {
    /// The kind, a bounded set: safe as a metric label.
    pub kind: ErrorKind,
    /// What happened and what to do, without any secret; at most 2,000 characters.
    pub message: String,
}

/// The kinds of failure a run can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The data source could not be reached, or the connection broke.
    Connection,
    /// The time-out, or what was left to the deadline, ran out.
    Timeout,
    /// The statement was refused before it was sent, or the database refused to write.
    Refused,
    /// The database answered with an error.
    Query,
    /// The answer is not one row with a `status` of `ALERT` or `OK`, nor several with an instance each.
    Contract,
    /// The answer passed a limit of rows or bytes.
    Limit,
    /// The job was given to workers again and again, and none finished it.
    Abandoned,
}

impl ErrorKind {
    /// The name in SQL, JSON, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::Query => "query",
            Self::Contract => "contract",
            Self::Limit => "limit",
            Self::Abandoned => "abandoned",
        }
    }
}
