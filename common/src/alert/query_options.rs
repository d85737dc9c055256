//! What a worker has to know of an alert's query beside its text.

use serde::{Deserialize, Serialize};

/// How a query is run and its answer read. Its default is one row, no environment, and nothing that cannot be parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueryOptions {
    /// The columns whose values tell the instances of the alert apart; if there are none, the answer is one row.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub instance_key: Vec<String>,
    /// The variables of the worker's environment that stand in the text as `${NAME}`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query_env: Vec<String>,
    /// Whether a statement that the parser does not know may be sent, where the database itself can refuse to write.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_unparsed: bool,
}

impl QueryOptions {
    /// Whether nothing was said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
