//! `completions <shell>`: a completion script.

use std::process::ExitCode;

use clap::Args;
use clap_complete::{Shell, generate};

use crate::cli;
use crate::output::print;

/// What is to be completed where.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub fn run(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    generate(args.shell, &mut cli::command(), "sqlsentinel-ctl", &mut script);
    // clap_complete 4.6 takes the hyphen in our name for the border of a subcommand in some places of its bash script,
    // and not in others; with one spelling, they find each other.
    print(&String::from_utf8(script)?.replace("sqlsentinel__subcmd__ctl", "sqlsentinel__ctl"))?;
    Ok(ExitCode::SUCCESS)
}
