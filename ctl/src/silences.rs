//! `silences`: which alerts are silenced, by whom, until when, and why.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use sqlsentinel_common::process::Output;
use sqlsentinel_common::settings::{ConfigSettings, StateSettings};
use sqlsentinel_common::store::silences::{Past, Silence};

use crate::output::{moment, print, print_json, table};
use crate::state;

/// What to list.
#[derive(Debug, Args)]
pub struct SilencesArgs {
    #[command(flatten)]
    config: Option<ConfigSettings>,
    /// Only those of this alert
    #[arg(long, value_name = "NAME")]
    alert: Option<String>,
    /// Also those that are over
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    state: StateSettings,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Prints the silences.
pub async fn run(args: SilencesArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.as_ref().map(|settings| settings.load()).transpose()?;
    let configured = config.map(|config| state::chosen_alerts(&config, args.alert.as_deref())).transpose()?;
    let store = state::open_existing(&args.state)?;
    let past = if args.all { Past::Included } else { Past::LeftOut };
    let silences = store.silences(args.alert.as_deref(), past).await;
    let mut silences = silences.context("cannot read the silences (is the schema up to date? See `init`)")?;
    silences.retain(|silence| configured.as_ref().is_none_or(|names| names.contains(&silence.alert_name)));
    match args.output {
        Output::Json => print_json(&silences)?,
        Output::Text => {
            let rows: Vec<_> = silences.iter().map(row).collect();
            print(&table(["Alert Name", "From", "Until", "By", "Reason", "Ended"], &rows))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(silence: &Silence) -> [String; 6] {
    let ended = match (&silence.ended_at, &silence.ended_by) {
        (Some(at), by) => format!("{} by {}", moment(*at), by.as_deref().unwrap_or("unknown")),
        (None, _) if silence.in_force => "-".to_owned(),
        (None, _) => "in time".to_owned(),
    };
    [
        silence.alert_name.clone(),
        moment(silence.begins_at),
        moment(silence.ends_at),
        silence.created_by.clone(),
        silence.reason.clone().unwrap_or_else(|| "-".to_owned()),
        ended,
    ]
}
