//! The command line: which commands there are, and what becomes of their ends.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use sqlsentinel_common::process::{self, VERSION};
use sqlsentinel_common::settings::{self, LogFormat, LogLevel, LogSettings};
use tokio::runtime::Runtime;

use crate::{
    audit, backup, completions, daemon, healthcheck, history, init, leader, metrics, notifications, replay, run,
    schedule, schema, silence, silences, status, unsilence, validate,
};

/// Runs SQL alerts, looks at them and at the cluster that runs them
#[derive(Debug, Parser)]
#[command(name = "sqlsentinel-ctl", version = VERSION)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a configuration file
    Validate(validate::ValidateArgs),
    /// Run alerts once, here and now, without a cluster
    Run(run::RunArgs),
    /// Run everything in one process, on this machine
    Daemon(Box<daemon::DaemonArgs>),
    /// Show the state of every alert
    Status(status::StatusArgs),
    /// Keep an alert from being told for a while
    Silence(silence::SilenceArgs),
    /// End the silence of an alert
    Unsilence(unsilence::UnsilenceArgs),
    /// Show which alerts are silenced
    Silences(silences::SilencesArgs),
    /// Show past runs
    History(history::HistoryArgs),
    /// Show what has become of notifications
    Notifications(notifications::NotificationsArgs),
    /// Send notifications after all that were given up
    Replay(replay::ReplayArgs),
    /// Check that the ledger accounts for every fire that was due
    Audit(audit::AuditArgs),
    /// Show when a schedule is due
    Schedule(schedule::ScheduleArgs),
    /// Check databases and channels from here, or the health of a cluster
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Show who leads the cluster, or ask the leader to hand over
    Leader(leader::LeaderArgs),
    /// Show the figures of the process that runs on this machine
    Metrics(metrics::MetricsArgs),
    /// Create or migrate the state database (never required)
    Init(init::InitArgs),
    /// Copy a state database on SQLite while everything runs
    Backup(backup::BackupArgs),
    /// Print the JSON Schema of configuration files, by which editors complete and explain keys
    Schema,
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

/// The whole command line. What a NATS is for differs between commands.
pub fn command() -> clap::Command {
    let nats_url = |help: &'static str| move |command: clap::Command| command.mut_arg("nats_url", |arg| arg.help(help));
    Cli::command()
        .mut_subcommand("daemon", nats_url("NATS servers, comma-separated, to use instead of a nats-server of its own"))
        .mut_subcommand("status", nats_url("NATS servers, comma-separated, to ask instead of the state database"))
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    match settings::parse::<Cli>(command(), std::env::args_os()) {
        Err(error) => process::usage(&error),
        Ok(Cli { command: Command::Daemon(args) }) => daemon::run(*args),
        Ok(Cli { command }) => one_shot(command).unwrap_or_else(|error| {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }),
    }
}

fn one_shot(command: Command) -> anyhow::Result<ExitCode> {
    // Somebody is watching: lines for people, and only what the command itself does not say.
    process::prepare(&LogSettings { level: LogLevel::Error, format: LogFormat::Text, file: None })?;
    let runtime = Runtime::new()?;
    runtime.block_on(async {
        match command {
            Command::Validate(args) => validate::run(&args),
            Command::Run(args) => run::run(args).await,
            // Runs in a process of its own kind, see `main`.
            Command::Daemon(args) => Ok(daemon::run(*args)),
            Command::Status(args) => status::run(args).await,
            Command::Silence(args) => silence::run(args).await,
            Command::Unsilence(args) => unsilence::run(args).await,
            Command::Silences(args) => silences::run(args).await,
            Command::History(args) => history::run(args).await,
            Command::Notifications(args) => notifications::run(args).await,
            Command::Replay(args) => replay::run(args).await,
            Command::Audit(args) => audit::run(args).await,
            Command::Schedule(args) => schedule::run(&args),
            Command::Healthcheck(args) => healthcheck::run(args).await,
            Command::Leader(args) => leader::run(args).await,
            Command::Metrics(args) => metrics::run(args).await,
            Command::Init(args) => init::run(&args).await,
            Command::Backup(args) => backup::run(args).await,
            Command::Schema => schema::run(),
            Command::Completions(args) => completions::run(&args),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_flag_is_spelled_with_dashes() {
        for command in command().get_subcommands() {
            for flag in command.get_arguments().filter_map(|argument| argument.get_long()) {
                assert!(!flag.contains('_'), "{} --{flag}", command.get_name());
            }
        }
    }
}
