//! `healthcheck`: what can be seen from here (databases, channels), or with `--cluster` what all processes say.
//!
//! Exit code 1 only if something is unhealthy: what is degraded or not configured is for people to look at.

mod cluster;
mod local;

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use sqlsentinel_common::health::Status;
use sqlsentinel_common::process::{self, Output};
use sqlsentinel_common::settings::{self, ConfigSettings, NatsSettings, StateSettings};

use crate::database::{self, DatabaseArgs};
use crate::output::{print, print_json};

/// What to check.
#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    #[command(flatten)]
    config: Option<ConfigSettings>,
    /// Ask every process of the cluster instead
    #[arg(long)]
    cluster: bool,
    #[command(flatten)]
    state: Option<StateSettings>,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    nats: Option<NatsSettings>,
    /// How to print the report
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Prints the report; 1 if it is unhealthy.
pub async fn run(args: HealthcheckArgs) -> anyhow::Result<ExitCode> {
    if args.cluster {
        let nats = args.nats.map_or_else(settings::of_environment, Ok)?;
        let (report, text) = cluster::report(&nats, args.state.as_ref()).await?;
        return finish(&report, report.status, args.output, &text);
    }
    let database_url = match args.database.url() {
        Ok(url) => url,
        Err(error) => return Ok(process::usage(&error)),
    };
    let variables = |name: &str| database::variable(name, database_url.as_ref());
    let config = args.config.map(|settings| settings.load_with(&variables)).transpose()?;
    let state = args.state.map_or_else(settings::of_environment, Ok)?;
    let report = local::report(config.as_ref(), &state, database_url.as_ref()).await;
    finish(&report, report.status, args.output, &report.to_string())
}

fn finish<T: Serialize>(report: &T, status: Status, output: Output, text: &str) -> anyhow::Result<ExitCode> {
    match output {
        Output::Json => print_json(report)?,
        Output::Text => print(text)?,
    }
    Ok(if status == Status::Unhealthy { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
