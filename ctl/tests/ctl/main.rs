//! The program `sqlsentinel-ctl`, as its users run it.

mod commands;
mod daemon;
mod support;
