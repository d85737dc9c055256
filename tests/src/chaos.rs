//! The chaos run: faults of every kind while alerts fire, and the checker that judges what came of them.
//!
//! [`history`] is what happened, as plain data. [`checker`] judges it, without a line of the product's code: its own
//! [`scheduler`](checker::scheduler) says what was due, and what the harness set at the target says what had to be told.
//! [`report`] is its verdict.

pub mod checker;
pub mod history;
pub mod report;
