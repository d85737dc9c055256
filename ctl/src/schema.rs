//! `schema`: the JSON Schema of a configuration file, for editors.

use std::process::ExitCode;

use sqlsentinel_common::config;

use crate::output::print_json;

/// Prints the schema.
pub fn run() -> anyhow::Result<ExitCode> {
    print_json(&config::schema())?;
    Ok(ExitCode::SUCCESS)
}
