//! What a log line may have in its context: what the programs write, and nothing else, is described.

use std::collections::BTreeSet;

use anyhow::Result;
use sqlsentinel_tests::programs::root;

use crate::markdown::{codes, files, read, section};

#[test]
fn every_field_that_is_logged_is_described_and_no_other() -> Result<()> {
    let mut logged = BTreeSet::new();
    for program in ["common", "coordinator", "worker", "notifier", "ctl"] {
        for file in files(&root().join(program).join("src"), "rs")? {
            logged.extend(fields(&std::fs::read_to_string(file)?));
        }
    }
    // It makes the line `CRITICAL`, and is not in it.
    assert!(logged.remove("critical"));
    let rows = section(&read("docs/reference/logging.md")?, "Context")?.rows;
    let described: BTreeSet<String> = rows.iter().flat_map(|row| codes(&row[0])).collect();
    assert_eq!(logged, described, "what is logged, and what is described");
    Ok(())
}

/// The names of the fields in the events of a source text.
fn fields(source: &str) -> Vec<String> {
    let events = source.split("tracing::").skip(1).filter_map(|rest| rest.split_once("!("));
    let events = events.filter(|(level, _)| ["debug", "info", "warn", "error"].contains(level));
    events.flat_map(|(_, rest)| arguments(rest)).filter_map(|argument| name(&argument)).collect()
}

/// What stands between the commas of a call whose arguments `rest` begins with, without the texts in it.
fn arguments(rest: &str) -> Vec<String> {
    let (mut arguments, mut argument, mut depth, mut characters) = (Vec::new(), String::new(), 0_u32, rest.chars());
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                while let Some(inside) = characters.next()
                    && inside != '"'
                {
                    if inside == '\\' {
                        characters.next();
                    }
                }
                continue;
            }
            ')' if depth == 0 => break,
            ',' if depth == 0 => {
                arguments.push(std::mem::take(&mut argument));
                continue;
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        argument.push(character);
    }
    arguments.push(argument);
    arguments
}

/// `name = value`, `%name` or `name`; a value of the message has no name.
fn name(argument: &str) -> Option<String> {
    let name = argument.split_once('=').map_or(argument, |(name, _)| name).trim().trim_start_matches(['%', '?']);
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    is_name.then(|| name.to_owned())
}

#[test]
fn the_fields_of_an_event_are_found_however_it_is_written() {
    let source = r#"
        tracing::warn!(%error, source = %of(a, "b, c"), rows, "no \"{}\" in `{d}`, trying again", e.f());
        tracing::info!(
            alert_name = (x != y).then_some(z),
            "done"
        );
        tracing::Level::INFO; println!(no);
    "#;
    assert_eq!(fields(source), ["error", "source", "rows", "alert_name"]);
}
