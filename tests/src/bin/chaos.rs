//! `chaos`: a whole installation under faults that a seed draws, and a verdict. `./scripts/chaos` builds and runs it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the report goes to stdout, progress to stderr")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use rand::Rng;
use sqlsentinel_tests::chaos::checker::check;
use sqlsentinel_tests::chaos::history::History;
use sqlsentinel_tests::chaos::run::{DEFAULT_ALERTS, Options, run};

/// Breaks a whole installation again and again while alerts fire, and judges what came of it.
#[derive(Debug, Parser)]
#[command(name = "chaos")]
struct Arguments {
    /// Which faults there are [default: drawn, and shown]
    #[arg(long)]
    seed: Option<u64>,
    /// For how many seconds there are faults
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(20..=7_200))]
    seconds: u64,
    /// How many alerts fire
    #[arg(long, default_value_t = DEFAULT_ALERTS, value_parser = alerts)]
    alerts: usize,
    /// How the report is written
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Keep configurations, logs and the history of the run
    #[arg(long)]
    keep: bool,
    /// Run nothing, and judge the history of a run that was kept
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "seconds", "alerts", "keep"])]
    judge: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

fn alerts(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 10..=1_000) => Ok(count),
        _ => Err("a number from 10 to 1000".to_owned()),
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let history = match &arguments.judge {
        Some(file) => {
            let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            serde_json::from_slice(&text).with_context(|| format!("{} is no history", file.display()))?
        }
        None => history_of(&arguments).await?,
    };
    let report = check(&history)?;
    match arguments.output {
        Output::Text => println!("{report}"),
        Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    Ok(ExitCode::from(report.exit_code()))
}

async fn history_of(arguments: &Arguments) -> Result<History> {
    let options = Options {
        seed: arguments.seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000)),
        length: Duration::from_secs(arguments.seconds),
        alerts: arguments.alerts,
        keep: arguments.keep,
    };
    let ran = run(&options, &|line| eprintln!("chaos: {line}")).await?;
    if let Some(folder) = ran.kept {
        eprintln!("chaos: logs and history.json are in {}", folder.display());
    }
    eprintln!("chaos: the same faults again: --seed {} --seconds {}", options.seed, arguments.seconds);
    Ok(ran.history)
}
