//! `sqlsentinel-notifier`: judges outcomes and sends notifications.

use std::process::ExitCode;

use sqlsentinel_common::process::{Program, service_main};
use sqlsentinel_notifier::app;

fn main() -> ExitCode {
    let program = Program {
        name: "sqlsentinel-notifier",
        about: "Judges what queries have found, and sends the notifications that follow",
    };
    service_main(program, app::start)
}
