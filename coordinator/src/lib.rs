//! The coordinator: one of several leads, and the leader plans fires into the ledger and publishes them as jobs.
//!
//! In the order of the road: [`definitions`] (the file and what is in force) → [`agenda`] (pure: what is due) →
//! [`leader`] (one term: plan, commit, publish) → [`dispatch`] (ledger rows to jobs). Beside it: [`election`] over the
//! [`lease`], [`office`] (what leading takes), [`rescuer`] and expiry, the [`auditor`] of every coordinator, [`retention`] of
//! history, [`upkeep`] of bus and clock, [`api`] (what operators ask), [`metrics`]. [`app`] wires them.

pub mod agenda;
pub mod api;
pub mod app;
pub mod auditor;
pub mod definitions;
pub mod dispatch;
pub mod election;
pub mod leader;
pub mod lease;
pub mod metrics;
pub mod office;
pub mod rescuer;
pub mod retention;
pub mod upkeep;
