//! `sizing`: what an installation needs of the machine under a load. `./scripts/sizing` builds and runs it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the report goes to stdout, progress to stderr")]

use std::time::Duration;

use anyhow::Result;
use clap::{Parser, ValueEnum, value_parser};
use sqlsentinel_tests::sizing::{Options, run};

/// Runs alerts on a whole installation, and measures what each process needs.
#[derive(Debug, Parser)]
#[command(name = "sizing")]
struct Arguments {
    /// How many alerts there are
    #[arg(long, default_value_t = 1_000, value_parser = value_parser!(u32).range(1..=100_000))]
    alerts: u32,
    /// How many seconds lie between two fires of each
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..=3_600))]
    every: u32,
    /// For how many seconds it is measured
    #[arg(long, default_value_t = 60, value_parser = value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// How the report is written
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let Arguments { alerts, every, seconds, output } = Arguments::parse();
    let options = Options { alerts, every, length: Duration::from_secs(seconds.into()) };
    let report = run(&options, &|line| eprintln!("sizing: {line}")).await?;
    match output {
        Output::Text => print!("{report}"),
        Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    Ok(())
}
