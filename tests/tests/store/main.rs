//! The state database: what is written, kept, taken over and read again, on SQLite and PostgreSQL.

mod audit;
mod fires;
mod golden;
mod hostile;
mod instances;
mod judging_migration;
mod leadership;
mod migrate;
mod outbox;
mod outcomes;
mod released;
mod retention;
mod rollback;
mod silences;
mod takeover;
