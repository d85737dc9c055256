//! `metrics`: the figures of the process that runs on this machine, asked of its listener.

mod exposition;

use std::process::ExitCode;

use clap::Args;
use sqlsentinel_common::health;
use sqlsentinel_common::process::{self, Output};
use sqlsentinel_common::settings::ListenSettings;

use crate::output::{print, print_json};

/// Which process.
#[derive(Debug, Args)]
pub struct MetricsArgs {
    #[command(flatten)]
    listen: ListenSettings,
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Prints them as the process says them, or taken apart.
pub async fn run(args: MetricsArgs) -> anyhow::Result<ExitCode> {
    let address = match args.listen.local_address() {
        Ok(address) => address,
        Err(error) => return Ok(process::usage(&clap::Error::from(error))),
    };
    let text = health::fetch_metrics(&address).await?;
    match args.output {
        Output::Text => print(&text)?,
        Output::Json => print_json(&exposition::families(&text)?)?,
    }
    Ok(ExitCode::SUCCESS)
}
