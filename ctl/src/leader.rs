//! `leader`: who leads the cluster, and, with `step-down`, a request that somebody else does.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use sqlsentinel_common::api::{LeaderReport, StepDownAnswer};
use sqlsentinel_common::process::Output;
use sqlsentinel_common::settings::NatsSettings;

use crate::cluster;
use crate::output::{moment, print, print_json, printable};
use crate::silence::UserArgs;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Action {
    /// Show who leads
    Show,
    /// Ask the leader to hand over to another coordinator
    StepDown,
}

/// What to ask, and whom.
#[derive(Debug, Args)]
pub struct LeaderArgs {
    /// Show who leads, or ask the leader to hand over
    #[arg(value_enum, value_name = "ACTION", default_value_t = Action::Show)]
    action: Action,
    /// Step down even if no other coordinator is ready to take over
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    user: UserArgs,
    #[command(flatten)]
    nats: NatsSettings,
    /// How to print the answer
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Prints the answer; 1 if nobody leads, or the leader has not stepped down.
pub async fn run(args: LeaderArgs) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::Show => {
            let report = cluster::leader(&args.nats).await?;
            match args.output {
                Output::Json => print_json(&report)?,
                Output::Text => print(&text(&report))?,
            }
            Ok(if report.lease.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Action::StepDown => {
            let answer = cluster::step_down(&args.nats, args.user.name(), args.force).await?;
            match args.output {
                Output::Json => print_json(&answer)?,
                Output::Text => print(&outcome(&answer))?,
            }
            Ok(if answer.stepped_down { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

fn text(report: &LeaderReport) -> String {
    let who = match &report.lease {
        Some(lease) if *lease == report.node => format!("{lease} leads"),
        Some(lease) => format!("{lease} holds the lease, and is about to lead after {}", report.node),
        None => format!("nobody holds the lease; {} led last", report.node),
    };
    printable(&format!(
        "{who}: epoch {}, since {}, {} transactions, planned through {}",
        report.epoch,
        moment(report.since),
        report.seq,
        moment(report.planned_through)
    )) + "\n"
}

fn outcome(answer: &StepDownAnswer) -> String {
    let reason = answer.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let line = match (&answer.leader, answer.stepped_down) {
        (_, false) => format!("{} still leads{reason}; --force makes it step down all the same", answer.former),
        (Some(leader), true) => format!("{} has stepped down, {leader} leads", answer.former),
        (None, true) => format!("{} has stepped down{reason}", answer.former),
    };
    printable(&line) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_says_who_leads_now_and_why_not_another() {
        let answer = |stepped_down, leader: Option<&str>, reason: Option<&str>| StepDownAnswer {
            former: "a".to_owned(),
            stepped_down,
            leader: leader.map(str::to_owned),
            reason: reason.map(str::to_owned),
        };
        assert_eq!(outcome(&answer(true, Some("b"), None)), "a has stepped down, b leads\n");
        assert_eq!(outcome(&answer(true, None, Some("nobody"))), "a has stepped down (nobody)\n");
        let refused = outcome(&answer(false, Some("a"), Some("alone")));
        assert_eq!(refused, "a still leads (alone); --force makes it step down all the same\n");
    }
}
