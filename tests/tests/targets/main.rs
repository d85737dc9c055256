//! Target databases: what queries return from each, what is refused, and what a run may cost.

mod ask;
mod instances;
mod mysql;
mod postgres;
mod refused;
mod sqlite;
mod types_postgres;
