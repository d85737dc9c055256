//! `audit`: whether the ledger accounts for every fire that was due, computed here from the state database and the
//! definitions that were in force.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use sqlsentinel_common::audit::{Difference, Kind, Report, Tolerance};
use sqlsentinel_common::health::Check;
use sqlsentinel_common::process::Output;
use sqlsentinel_common::settings::StateSettings;
use sqlsentinel_common::store::audit::{Auditor, Look, MOST_HOURS};

use crate::output::{moment, print, print_json, table};
use crate::state;

/// How far back one looks who says nothing else.
const HOURS: u32 = 24;

/// What to audit.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// How many hours to look back from what was planned last
    #[arg(long, value_name = "HOURS", default_value_t = HOURS,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_HOURS)))]
    hours: u32,
    #[command(flatten)]
    state: StateSettings,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// A report for programs.
#[derive(Debug, Serialize)]
struct Shown {
    in_order: bool,
    /// None before the first leader.
    #[serde(flatten)]
    report: Option<Report>,
}

/// Prints what was found; 1 if a fire is missed, doubled, stray or miscounted, or something is overdue.
pub async fn run(args: AuditArgs) -> anyhow::Result<ExitCode> {
    let report = audit(&args.state, args.hours).await?;
    let in_order = report.as_ref().is_none_or(Report::is_in_order);
    match (args.output, &report) {
        (Output::Json, _) => print_json(&Shown { in_order, report })?,
        (Output::Text, None) => print("Nothing has been planned yet.\n")?,
        (Output::Text, Some(report)) => print(&text(report))?,
    }
    Ok(if in_order { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The same as a check.
pub async fn check(settings: &StateSettings) -> anyhow::Result<Check> {
    Ok(match audit(settings, HOURS).await? {
        Some(report) if report.is_in_order() => Check::healthy(report.to_string()),
        Some(report) => Check::unhealthy(report.to_string()),
        None => Check::healthy("nothing has been planned yet"),
    })
}

async fn audit(settings: &StateSettings, hours: u32) -> anyhow::Result<Option<Report>> {
    let store = state::open_existing(settings)?;
    let window = Duration::from_secs(u64::from(hours) * 60 * 60);
    let look = Look { window, after: None, tolerance: Tolerance::default() };
    Auditor::of(store).audit(look).await.context("cannot audit the ledger")
}

fn text(report: &Report) -> String {
    let mut rows =
        vec![["due".to_owned(), report.due.to_string()], ["accounted".to_owned(), report.accounted.to_string()]];
    rows.extend(report.totals.iter().map(|(kind, fires)| [kind.as_str().to_owned(), fires.to_string()]));
    rows.push(["unplanned".to_owned(), report.overdue.unplanned.to_string()]);
    rows.push(["overdue".to_owned(), report.overdue.open.to_string()]);
    let mut text =
        format!("From {} to {}:\n\n{}", moment(report.after), moment(report.through), table(["", "Fires"], &rows));
    if report.overdue.planning_behind_seconds > 0.0 {
        let seconds = report.overdue.planning_behind_seconds;
        text += &format!("\nNothing has been planned for {seconds:.0} s: does a coordinator lead?\n");
    }
    if !report.differences.is_empty() {
        let rows: Vec<_> = report.differences.iter().map(row).collect();
        text += &format!("\n{}", table(["Alert Name", "Difference", "Fires", "At"], &rows));
    }
    text
}

fn row(difference: &Difference) -> [String; 4] {
    let Difference { alert_name, kind, fires, moments } = difference;
    let moments: Vec<String> = moments.iter().map(|time| moment(*time)).collect();
    [alert_name.clone(), meaning(*kind).to_owned(), fires.to_string(), moments.join(", ")]
}

fn meaning(kind: Kind) -> &'static str {
    match kind {
        Kind::Missed => "missed: neither a fire nor in a gap",
        Kind::Doubled => "doubled: covered more than once",
        Kind::Stray => "stray: not due by the definition in force",
        Kind::Miscounted => "miscounted: a gap covers another number",
    }
}

#[cfg(test)]
mod tests {
    use sqlsentinel_common::audit::Overdue;
    use sqlsentinel_common::timestamp::Timestamp;

    use super::*;

    #[test]
    fn a_report_says_how_many_fires_differ_and_which() {
        let missed = Difference {
            alert_name: "orders".to_owned(),
            kind: Kind::Missed,
            fires: 2,
            moments: vec![Timestamp::default()],
        };
        let overdue = Overdue { planning_behind_seconds: 300.0, unplanned: 5, open: 0 };
        let report = Report::new(Timestamp::default(), Timestamp::from_micros(60_000_000), 6, vec![missed], overdue);
        let expected = "From 1970-01-01 00:00:00 UTC to 1970-01-01 00:01:00 UTC:\n\n\
                        \u{20}           Fires\ndue         6\naccounted   4\nmissed      2\ndoubled     0\nstray       0\n\
                        miscounted  0\nunplanned   5\noverdue     0\n\n\
                        Nothing has been planned for 300 s: does a coordinator lead?\n\n\
                        Alert Name  Difference                           Fires  At\n\
                        orders      missed: neither a fire nor in a gap  2      1970-01-01 00:00:00 UTC\n";
        assert_eq!(text(&report), expected);
    }
}
