//! The program `sqlsentinel-ctl`, as its users run it.

mod backup;
mod commands;
mod daemon;
mod support;
