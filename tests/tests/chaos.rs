//! A whole installation under faults of every kind, judged by a checker that shares no code with it.
//!
//! The faults are the same each time, though not their interleaving, so that a failure is news of the code and not of the
//! draw; `SEED=<number>` draws others. `./scripts/chaos` does the same with a seed of its own each time.

#![expect(clippy::print_stdout, reason = "the runner shows what was measured if the test has failed")]

use std::time::Duration;

use anyhow::{Result, ensure};
use sqlsentinel_tests::chaos::checker::check;
use sqlsentinel_tests::chaos::report::Report;
use sqlsentinel_tests::chaos::run::{DEFAULT_ALERTS, Options, run};

async fn chaos(seconds: u64, seed: u64) -> Result<Report> {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(seed);
    println!("SEED={seed}");
    let options = Options { seed, length: Duration::from_secs(seconds), alerts: DEFAULT_ALERTS, keep: false };
    let ran = run(&options, &|line| println!("{line}")).await?;
    let report = check(&ran.history)?;
    println!("{report}");
    ensure!(report.exit_code() == 0, "the run was not good, with seed {seed}");
    Ok(report)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_missed_doubled_or_lost_in_half_a_minute_of_faults() -> Result<()> {
    let report = chaos(30, 20).await?;
    assert!(report.faults.values().sum::<u64>() >= 12, "{:?}", report.faults);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes three minutes: ./scripts/test --all"]
async fn nothing_is_missed_doubled_or_lost_in_two_minutes_with_faults_of_every_kind() -> Result<()> {
    let report = chaos(120, 31).await?;
    assert!(report.faults.values().sum::<u64>() >= 40, "{:?}", report.faults);
    assert!(report.faults.len() == 16 && report.faults.values().all(|times| *times >= 2), "{:?}", report.faults);
    Ok(())
}
