//! `validate CONFIG`: what is wrong with a file, and what it will do if nothing is.
//!
//! The file is read by the code that the services read it with, and queries pass the guard that workers send them
//! through, so what is valid here runs there.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use sqlsentinel_common::alert::{QueryOptions, SourceName};
use sqlsentinel_common::clock;
use sqlsentinel_common::config::{
    self, AlertConfig, Config, ConfigErrors, ConfigProblem, SourceConfig, SourceUrlError,
};
use sqlsentinel_common::process::Output;
use sqlsentinel_common::settings::{self, ConfigSettings};
use sqlsentinel_common::timestamp::Timestamp;
use sqlsentinel_notifier::channel::left_to_the_environment;
use sqlsentinel_worker::guard;
use sqlsentinel_worker::query_text::QueryText;

use crate::output::{print, print_json, table};

/// Which file.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    #[command(flatten)]
    config: ConfigSettings,
    /// How to print the findings
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Prints the findings; 1 if something is wrong.
pub fn run(args: &ValidateArgs) -> anyhow::Result<ExitCode> {
    let file = args.config.path.display().to_string();
    let no_worker_sends = |query: &str, kind, options: &QueryOptions| {
        // What only workers have in their environment, they alone can check.
        let Ok(text) = QueryText::expand(query, &options.query_env, &config::from_environment) else { return Ok(()) };
        let refusal = guard::check_with(&text.text, kind, options).err();
        refusal.map_or(Ok(()), |refusal| Err(text.without_values(&refusal.to_string())))
    };
    let mut checked = args.config.load_checking(&config::from_environment, &no_worker_sends);
    if let Ok(config) = &checked {
        let unusable = unusable_databases(config, &file);
        if !unusable.is_empty() {
            checked = Err(ConfigErrors(unusable));
        }
    }
    if let Ok(config) = &mut checked {
        let left = left_to_the_environment(config, &settings::of_environment()?);
        config.warnings.extend(left.into_iter().map(|missing| needed_by_notifiers(&file, missing)));
    }
    match (&checked, args.output) {
        (Ok(config), Output::Json) => print_json(&valid_json(config, &file, clock::wall_now()))?,
        (Ok(config), Output::Text) => print(&valid_text(config, &file, clock::wall_now()))?,
        (Err(errors), Output::Json) => print_json(&json!({"valid": false, "file": file, "errors": errors}))?,
        (Err(errors), Output::Text) => print(&format!("{errors}\n{}\n", summary(errors.0.len(), "error")))?,
    }
    Ok(if checked.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Databases whose URL is known here, by a variable or a file, and names nothing that workers could open.
fn unusable_databases(config: &Config, file: &str) -> Vec<ConfigProblem> {
    let of_source = |(name, source): (&SourceName, &SourceConfig)| match source.resolve() {
        // What only workers have in their environment, they alone can check.
        Ok(_) | Err(SourceUrlError::Unresolved(_)) => None,
        Err(SourceUrlError::Url(error)) => Some(problem(file, format!("database `{name}`: {error}"))),
    };
    config.sources.iter().filter_map(of_source).collect()
}

/// This process need not be one that sends, so it is no error.
fn needed_by_notifiers(file: &str, missing: &str) -> ConfigProblem {
    problem(file, format!("{missing}: notifiers need it"))
}

/// Something about the whole.
fn problem(file: &str, message: String) -> ConfigProblem {
    let (path, help) = (String::new(), String::new());
    ConfigProblem { file: file.to_owned(), line: 0, column: 0, path, message, help }
}

fn next_due(alert: &AlertConfig, now: Timestamp) -> Option<Timestamp> {
    alert.definition.enabled.then(|| alert.definition.schedule.next_after(now)).flatten()
}

fn valid_json(config: &Config, file: &str, now: Timestamp) -> Value {
    let alert = |alert: &AlertConfig| {
        let definition = &alert.definition;
        json!({
            "name": definition.name,
            "enabled": definition.enabled,
            "source": definition.source,
            "schedule": definition.schedule.text(),
            "timezone": definition.schedule.timezone().name(),
            "timeout_ms": definition.timeout_ms,
            "notify": definition.notify.iter().map(|route| route.channel.as_str()).collect::<Vec<_>>(),
            "next_due": next_due(alert, now),
        })
    };
    json!({
        "valid": true,
        "file": file,
        "sources": config.sources.keys().collect::<Vec<_>>(),
        "alerts": config.alerts.iter().map(alert).collect::<Vec<_>>(),
        "warnings": config.warnings,
    })
}

fn valid_text(config: &Config, file: &str, now: Timestamp) -> String {
    let row = |alert: &AlertConfig| {
        let definition = &alert.definition;
        let next = next_due(alert, now).map(|time| time.to_datetime().format("%FT%TZ").to_string());
        [
            definition.name.clone(),
            definition.source.to_string(),
            format!("{} ({})", definition.schedule.text(), definition.schedule.timezone().name()),
            next.unwrap_or_else(|| if definition.enabled { "never" } else { "disabled" }.to_owned()),
            definition.notify.iter().map(|route| route.channel.as_str()).collect::<Vec<_>>().join(", "),
        ]
    };
    let warnings: String = config.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    let rows: Vec<_> = config.alerts.iter().map(row).collect();
    let alerts = table(["Alert Name", "Database", "Schedule", "Next Due", "Notify"], &rows);
    format!("{warnings}{alerts}\n{file} is valid: {}\n", summary(config.alerts.len(), "alert"))
}

fn summary(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
