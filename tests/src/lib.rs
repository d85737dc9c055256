//! The harness of the road tests: real servers and real processes, each owned by the test that started it.
//!
//! Servers: [`nats`], [`nats_cluster`], [`postgres`], [`mariadb`], [`sink`] (a receiver of webhooks), [`smtp`] (a mail server),
//! [`target`] (a database that alerts query), [`mod@prometheus`], with [`certificates`] of their own.
//! Processes: [`programs`] finds them, [`process`] starts and ends them, [`cluster`] runs a whole installation with a
//! [`configuration`]; [`scene`] is the whole of it.
//! Notifiers' parts without a cluster: [`mod@bench`], [`sending`].
//! Between them: [`proxy`], which cuts and slows connections.
//! All of it at once: [`chaos`], and the checker of what came of it; [`sizing`], and what it needs of the machine.
//! What earlier versions have left behind: [`released`].
//! Assertions: [`ledger`] reads the state database in plain SQL, [`stamps`] who wrote it in which order; [`eventually`]
//! polls with a deadline, [`wall_clock`] tells the time, [`usage`] what a process uses. [`ports`] are what servers
//! listen on. [`helm`] renders the chart.
//!
//! The tests themselves are in `tests/tests/`, one file a subject. `./scripts/test` builds the programs they run.

pub mod bench;
pub mod certificates;
pub mod chaos;
pub mod cluster;
pub mod configuration;
pub mod eventually;
pub mod helm;
pub mod ledger;
pub mod mariadb;
pub mod nats;
pub mod nats_cluster;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod programs;
pub mod prometheus;
pub mod proxy;
pub mod released;
pub mod scene;
pub mod sending;
pub mod sink;
pub mod sizing;
pub mod smtp;
pub mod stamps;
pub mod stores;
pub mod target;
pub mod usage;
pub mod wall_clock;
