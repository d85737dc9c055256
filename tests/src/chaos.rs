//! The chaos run: faults of every kind while alerts fire, and the checker that judges what came of them.
//!
//! [`history`] is what happened, as plain data.

pub mod alerts;
pub mod collect;
pub mod faults;
pub mod files;
pub mod history;
pub mod installation;
pub mod run;
pub mod schedule;
pub mod traffic;
pub mod watch;
