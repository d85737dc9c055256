//! The coordinator as a process of its own.

use std::process::ExitCode;

use sqlsentinel_common::process::{Program, service_main};
use sqlsentinel_coordinator::app;

fn main() -> ExitCode {
    let program = Program {
        name: "sqlsentinel-coordinator",
        about: "Loads alert definitions, elects a leader among its replicas, plans fires and publishes them as jobs",
    };
    service_main(program, app::start)
}
