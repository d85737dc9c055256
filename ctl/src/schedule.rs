//! `schedule "<cron>"`: when a schedule is due, by the very code that the coordinator plans with.

use std::process::ExitCode;

use anyhow::anyhow;
use chrono_tz::Tz;
use clap::Args;
use sqlsentinel_common::clock;
use sqlsentinel_common::process::Output;
use sqlsentinel_common::schedule::Schedule;
use sqlsentinel_common::timestamp::Timestamp;

use crate::output::{print, print_json};

/// Which times to show.
#[derive(Debug, Args)]
pub struct ScheduleArgs {
    /// Five or six cron fields, `@daily` and its kin, or `every 30s`
    schedule: String,
    /// The zone that its times are in
    #[arg(long, env = "TIMEZONE", default_value_t = Tz::UTC, value_parser = zone, value_name = "ZONE")]
    timezone: Tz,
    /// Show what is due after this moment (RFC 3339) [default: now]
    #[arg(long, value_name = "TIME")]
    after: Option<Timestamp>,
    /// How many times to show
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

fn zone(name: &str) -> Result<Tz, String> {
    name.parse().map_err(|_| format!("`{name}` is not a time zone: write for example UTC or Europe/Berlin"))
}

/// Prints the times.
pub fn run(args: &ScheduleArgs) -> anyhow::Result<ExitCode> {
    let schedule = Schedule::parse(&args.schedule, args.timezone)?;
    let after = args.after.unwrap_or_else(clock::wall_now);
    let times = next_times(&schedule, after, args.count);
    match args.output {
        Output::Json => print_json(&times)?,
        Output::Text if times.is_empty() => return Err(anyhow!("nothing is due after {after}")),
        Output::Text => {
            let line = |time: &Timestamp| {
                let local = time.to_datetime().with_timezone(&args.timezone);
                format!("{}  ({})\n", local.format("%a %Y-%m-%d %H:%M:%S %Z"), time.to_datetime().format("%FT%TZ"))
            };
            print(&times.iter().map(line).collect::<String>())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn next_times(schedule: &Schedule, after: Timestamp, count: u32) -> Vec<Timestamp> {
    let first = schedule.next_after(after);
    std::iter::successors(first, |time| schedule.next_after(*time)).take(count as usize).collect()
}
