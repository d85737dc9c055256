//! The worker as a process of its own.

use std::process::ExitCode;

use sqlsentinel_common::process::{Program, service_main};

fn main() -> ExitCode {
    let program = Program { name: "sqlsentinel-worker", about: "Runs the queries of SQL Sentinel's alerts, read-only" };
    service_main(program, sqlsentinel_worker::start)
}
