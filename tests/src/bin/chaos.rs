//! `chaos`: a whole installation under faults that a seed draws, and a verdict. `./scripts/chaos` builds and runs it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the report goes to stdout, progress to stderr")]

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use rand::Rng;
use sqlsentinel_tests::chaos::checker::check;
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
    let options = Options {
        seed: arguments.seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000)),
        length: Duration::from_secs(arguments.seconds),
        alerts: arguments.alerts,
        keep: arguments.keep,
    };
    let ran = run(&options, &|line| eprintln!("chaos: {line}")).await?;
    let report = check(&ran.history)?;
    match arguments.output {
        Output::Text => println!("{report}"),
        Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    if let Some(folder) = ran.kept {
        eprintln!("chaos: logs and history.json are in {}", folder.display());
    }
    eprintln!("chaos: repeat these faults with --seed {} --seconds {}", options.seed, arguments.seconds);
    Ok(ExitCode::from(report.exit_code()))
}
