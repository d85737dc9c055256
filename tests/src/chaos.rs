//! The chaos run: faults of every kind while alerts fire, and the checker that judges what came of them.
//!
//! [`history`] is what happened, as plain data.

pub mod history;
