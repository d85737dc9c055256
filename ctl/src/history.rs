//! `history`: what became of past fires, newest first, read from the state database: runs, and fires that never ran.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::Value;
use sqlsentinel_common::process::Output;
use sqlsentinel_common::settings::{ConfigSettings, StateSettings};
use sqlsentinel_common::store::history::HistoryEntry;

use crate::output::{print, print_json, table};
use crate::state;

/// Which lines of it.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    #[command(flatten)]
    config: Option<ConfigSettings>,
    /// Only this alert's
    #[arg(long, value_name = "NAME")]
    alert: Option<String>,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    #[command(flatten)]
    state: StateSettings,
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Prints it. A configuration serves to recognise a mistyped alert; one that it has no more may have a history.
pub async fn run(args: HistoryArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.as_ref().map(|settings| settings.load()).transpose()?;
    let store = state::open_existing(&args.state)?;
    let lines = store.history(args.alert.as_deref(), args.limit).await.context("cannot read the history")?;
    if let Some(config) = config.filter(|_| lines.is_empty()) {
        state::chosen_alerts(&config, args.alert.as_deref())?;
    }
    match args.output {
        Output::Json => print_json(&lines)?,
        Output::Text if lines.is_empty() => print("No history yet.\n")?,
        Output::Text => {
            let headings = ["Due", "Alert Name", "Status", "Actual", "Threshold", "Duration", "By", "Remarks"];
            print(&table(headings, &lines.iter().map(row).collect::<Vec<_>>()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(line: &HistoryEntry) -> [String; 8] {
    let shown = |value: &Option<Value>| match value {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "-".to_owned(),
    };
    let fires = (line.fires > 1).then(|| format!("{} fires", line.fires));
    let remarks = [&fires, &line.reason, &line.error_message];
    [
        line.scheduled_for.to_datetime().format("%F %T UTC").to_string(),
        line.alert_name.clone(),
        line.status.clone(),
        shown(&line.actual_value),
        shown(&line.threshold),
        line.duration_ms.map_or_else(|| "-".to_owned(), |duration_ms| format!("{duration_ms:.1} ms")),
        line.triggered_by.clone().unwrap_or_else(|| "-".to_owned()),
        remarks.into_iter().flatten().cloned().collect::<Vec<_>>().join(", "),
    ]
}
