//! `unsilence`: ends the silence of an alert. What it has kept back is told by a notifier, or by the next run.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use sqlsentinel_common::process::Output;
use sqlsentinel_common::settings::{ConfigSettings, StateSettings};

use crate::output::{print, print_json};
use crate::silence::UserArgs;
use crate::state;

/// What to tell again.
#[derive(Debug, Args)]
pub struct UnsilenceArgs {
    #[command(flatten)]
    config: ConfigSettings,
    /// Which alert
    #[arg(long, value_name = "NAME")]
    alert: String,
    #[command(flatten)]
    user: UserArgs,
    #[command(flatten)]
    state: StateSettings,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Ends the silence.
pub async fn run(args: UnsilenceArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    state::chosen_alerts(&config, Some(&args.alert))?;
    let store = state::open_existing(&args.state)?;
    let ended = store.unsilence(&args.alert, args.user.name()).await;
    let was_silenced = ended.context("cannot end the silence (is the schema up to date? See `init`)")?;
    tracing::info!(alert_name = args.alert, user = args.user.name(), was_silenced, "silence ended");
    match args.output {
        Output::Json => print_json(&json!({"alert_name": args.alert, "was_silenced": was_silenced}))?,
        Output::Text if was_silenced => print(&format!("Alert `{}` is not silenced any more.\n", args.alert))?,
        Output::Text => print(&format!("Alert `{}` was not silenced.\n", args.alert))?,
    }
    Ok(ExitCode::SUCCESS)
}
