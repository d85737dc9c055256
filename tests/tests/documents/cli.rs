//! The command line: every option with its variable and its default, of every program and command, and no other.

use std::collections::BTreeSet;
use std::process::Command as Process;

use anyhow::{Context, Result, ensure};
use clap::{Arg, Args, Command};
use sqlsentinel_common::settings::ListenSettings;
use sqlsentinel_tests::programs::{self, SERVICES, options};

use crate::markdown::{Section, codes, read, sections, slug};

const DOCUMENT: &str = "docs/reference/cli.md";

/// Flags that stand for settings of 0.1.x, and are not shown in help.
const HIDDEN: [&str; 4] = ["--state-db-path", "--smtp-user", "--smtp-from", "--smtp-from-email"];

/// An option: how it is written, and its variable.
type Described = BTreeSet<(String, Option<String>)>;

/// How an option is written: `--flag VALUE`, `--flag`, or `VALUE`.
fn written(arg: &Arg) -> String {
    let value = arg.get_value_names().and_then(|names| names.first()).map(|name| name.as_str().to_owned());
    let value = value.filter(|_| arg.get_action().takes_values()).unwrap_or_default();
    match arg.get_long() {
        Some(flag) => format!("--{flag} {value}").trim().to_owned(),
        None => value,
    }
}

fn known(command: &Command) -> Described {
    let option = |arg: &Arg| (written(arg), arg.get_env().map(|variable| variable.to_string_lossy().into_owned()));
    command.get_arguments().map(option).collect()
}

/// The options of the section `title`, and of the groups that it says it has, with their whole rows.
fn rows<'d>(document: &'d [Section], title: &str) -> Result<Vec<&'d Vec<String>>> {
    let section = document.iter().find(|section| section.title == title);
    let section = section.with_context(|| format!("{DOCUMENT} has no section `{title}`"))?;
    let text = section.lines.join("\n");
    let groups = text.split("\nAlso: ").skip(1).filter_map(|rest| rest.split("\n\n").next());
    let groups = groups.flat_map(|groups| groups.split("](#").skip(1));
    let groups: BTreeSet<&str> = groups.filter_map(|rest| Some(rest.split_once(')')?.0)).collect();
    let in_groups = document.iter().filter(|section| groups.contains(slug(&section.title).as_str()));
    let rows = in_groups.chain([section]).flat_map(|section| &section.rows);
    // Tables of exit codes have other columns.
    Ok(rows.filter(|row| row.len() == 4 && row[0].starts_with('`')).collect())
}

fn described(document: &[Section], title: &str) -> Result<Described> {
    let option = |row: &&Vec<String>| Some((codes(&row[0]).pop()?, codes(&row[1]).pop()));
    rows(document, title)?.iter().map(|row| option(row).context("a row without an option")).collect()
}

#[test]
fn the_options_of_every_command_are_those_described() -> Result<()> {
    let document = sections(&read(DOCUMENT)?);
    for name in SERVICES {
        assert_eq!(described(&document, name)?, known(&options(name)), "{name}");
    }
    let mut probe = known(&ListenSettings::augment_args(Command::new("healthcheck")));
    probe.extend(["--probe PROBE", "--output OUTPUT"].map(|option| (option.to_owned(), None)));
    assert_eq!(described(&document, "healthcheck of a service")?, probe);

    let ctl = sqlsentinel_ctl::cli::command();
    for command in ctl.get_subcommands() {
        let title = format!("sqlsentinel-ctl {}", command.get_name());
        assert_eq!(described(&document, &title)?, known(command), "{title}");
    }
    let titles = document.iter().filter_map(|section| section.title.strip_prefix("sqlsentinel-ctl "));
    let commands: BTreeSet<&str> = ctl.get_subcommands().map(Command::get_name).collect();
    assert_eq!(titles.collect::<BTreeSet<_>>(), commands);
    Ok(())
}

#[test]
fn defaults_are_those_described() -> Result<()> {
    let document = sections(&read(DOCUMENT)?);
    let commands = SERVICES.map(|name| (name.to_owned(), options(name))).into_iter();
    let ctl = sqlsentinel_ctl::cli::command();
    let ctl = ctl.get_subcommands().map(|command| (format!("sqlsentinel-ctl {}", command.get_name()), command.clone()));
    for (title, command) in commands.chain(ctl) {
        let rows = rows(&document, &title)?;
        for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values()) {
            let Some(default) = arg.get_default_values().first() else { continue };
            let row = rows.iter().find(|row| codes(&row[0]).first() == Some(&written(arg)));
            let described = row.with_context(|| format!("{title}: {}", written(arg)))?[2].as_str();
            assert_eq!(described, format!("`{}`", default.to_string_lossy()), "{title}: {}", written(arg));
        }
    }
    Ok(())
}

/// The flags in a program's help, each at the beginning of a line. (`-h, --help` and `-V, --version` begin with their
/// short forms.)
fn flags_in_help(name: &str, arguments: &[&str]) -> Result<BTreeSet<String>> {
    let output = Process::new(programs::ours(name)?).args(arguments).arg("--help").output()?;
    ensure!(output.status.success(), "{name} --help failed");
    let help = String::from_utf8(output.stdout)?;
    let flags = help.lines().map(str::trim_start).filter(|line| line.starts_with("--"));
    Ok(flags.filter_map(|line| Some(line.split([' ', '[']).next()?.to_owned())).collect())
}

#[test]
fn the_services_own_help_has_the_flags_that_are_described() -> Result<()> {
    let document = sections(&read(DOCUMENT)?);
    let flags = |title: &str| -> Result<BTreeSet<String>> {
        let described = described(&document, title)?;
        let flags = described.iter().filter_map(|(option, _)| option.split(' ').next());
        Ok(flags.filter(|flag| flag.starts_with("--") && !HIDDEN.contains(flag)).map(str::to_owned).collect())
    };
    for name in SERVICES {
        assert_eq!(flags(name)?, flags_in_help(name, &[])?, "{name}");
        assert_eq!(flags("healthcheck of a service")?, flags_in_help(name, &["healthcheck"])?, "{name} healthcheck");
    }
    Ok(())
}
