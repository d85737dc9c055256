//! The worker: pulls jobs, runs their queries without touching anything, and publishes what came of them.
//!
//! One job's way: [`consume`] ⇒ [`execute`] → [`run`] → [`query_text`] → [`guard`] → [`source`] → [`answer`] → [`verdict`] ⇒ the bus.
//! [`app`] wires it, [`lanes`] follows the configuration, [`metrics`], [`reach`] and [`role`] say how it is doing. It keeps no state: killing every worker loses nothing.
//!
//! `ctl run` needs no cluster: it opens a [`source::Source`] and calls [`run::run_once`].

pub mod answer;
pub mod app;
pub mod consume;
pub mod execute;
pub mod guard;
pub mod lanes;
pub mod metrics;
pub mod query_text;
pub mod reach;
pub mod role;
pub mod run;
pub mod source;
pub mod verdict;

pub use app::{Settings, start};
