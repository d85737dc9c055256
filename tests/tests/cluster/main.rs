//! The whole cluster with real servers: the road of an alert, and what holds while parts of it fail.

mod audit;
mod backlog;
mod complaints;
mod concurrency;
mod fencing;
mod figures;
mod hand_over;
mod instances;
mod judging;
mod lanes;
mod leadership;
mod lease;
mod notifiers;
mod planning;
mod processes;
mod reach;
mod reload;
mod road;
mod road_mysql;
mod rollback;
mod rolling_restart;
mod secrets;
mod state_database;
mod streams;
mod worker_jobs;
mod workers;
