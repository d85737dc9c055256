//! `sqlsentinel-ctl`, the operator's tool.

use std::process::ExitCode;

fn main() -> ExitCode {
    sqlsentinel_ctl::cli::main()
}
