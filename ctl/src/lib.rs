//! The operator's tool. [`cli`] reads the command line; each command is a file.
//!
//! Without a cluster: [`validate`], [`run`], [`schedule`], [`init`], [`status`], [`history`], [`audit`],
//! [`healthcheck`].
//! [`backup`] copies a state database on SQLite.
//! [`silence`], [`unsilence`] and [`silences`] keep alerts from being told. On one machine: [`daemon`], which runs the three
//! services in one process, and [`metrics`]. Of a cluster: [`status`], [`healthcheck`] and [`leader`].
//! stdout is data ([`output`]), stderr is for what went wrong; exit codes are 0 (fine), 1 (not fine) and 2 (wrong usage).

pub mod audit;
pub mod backup;
pub mod cli;
pub mod cluster;
pub mod completions;
pub mod daemon;
pub mod database;
pub mod healthcheck;
pub mod history;
pub mod init;
pub mod leader;
pub mod metrics;
pub mod notifications;
pub mod output;
pub mod replay;
pub mod run;
pub mod schedule;
pub mod schema;
pub mod silence;
pub mod silences;
pub mod state;
pub mod status;
pub mod unsilence;
pub mod validate;
