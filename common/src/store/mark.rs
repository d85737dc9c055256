//! Places in the ledger's history.

/// A place in the ledger's history: rows are stamped with it, later transactions have greater ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mark {
    /// The leader's epoch.
    pub epoch: i64,
    /// The transaction's number within the epoch.
    pub seq: i64,
}
