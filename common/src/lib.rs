//! What every process of SQL Sentinel shares.
//!
//! Contracts: [`timestamp`], [`ids`], [`schedule`], [`alert`], [`audit`], [`outcome`], [`messages`], [`api`], [`subjects`].
//! Adapters: [`bus`] and [`delivery`] (NATS), [`store`] (all SQL of the state schema).
//! A process: [`config`], [`reload`], [`secret`], [`settings`], [`clock`], [`lifecycle`], [`telemetry`], [`health`],
//! [`metrics`], [`admin`], and [`process`], which puts them together.

pub mod admin;
pub mod alert;
pub mod api;
pub mod audit;
pub mod bus;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod health;
pub mod ids;
pub mod lifecycle;
pub mod messages;
pub mod metrics;
pub mod outcome;
pub mod process;
pub mod reload;
pub mod schedule;
pub mod secret;
pub mod settings;
pub mod store;
pub mod subjects;
pub mod telemetry;
pub mod timestamp;
