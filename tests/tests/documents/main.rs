//! What documents and examples say has to be true: samples are read by the product's own code, tables of names are
//! compared with the names that the product has, in both directions, SQL is run, and links lead somewhere.

mod backup_restore;
mod chart;
mod cli;
mod configuration;
mod links;
mod logging;
mod markdown;
mod metrics;
mod mysql_role;
mod roles;
mod samples;
mod schema;
mod state_database;
mod templates;
