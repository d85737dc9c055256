//! The chaos run: faults of every kind while alerts fire, and the checker that judges what came of them.
//!
//! [`run`] is one run. [`installation`] is what it breaks, [`schedule`] draws from a seed what happens to it, and
//! [`faults`] makes that happen. [`alerts`] and [`files`] are its configuration, [`traffic`] is what the target says
//! meanwhile, [`watch`] sees who leads, and [`collect`] reads what came of it.
//!
//! [`history`] is what happened, as plain data. [`checker`] judges it, without a line of the product's code: its own
//! [`scheduler`](checker::scheduler) says what was due, and what the harness set at the target says what had to be told.
//! [`report`] is its verdict.

pub mod alerts;
pub mod checker;
pub mod collect;
pub mod faults;
pub mod files;
pub mod history;
pub mod installation;
pub mod report;
pub mod run;
pub mod schedule;
pub mod traffic;
pub mod watch;
