//! The keys of the configuration: those that are described work, all that work are described, and those that are said
//! to be refused are refused by name.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use sqlsentinel_common::config::{ConfigProblem, load_str};

use crate::markdown::{codes, read, section};

/// The section that describes a mapping's keys, and what a file looks like to which a line with `@` is added there.
const PLACES: [(&str, &str, &str); 7] = [
    (
        "The file",
        "the file",
        "@\ndatabase: {url: 'sqlite:///t.db'}\nalerts: [{name: a, query: q, schedule: '@daily'}]\n",
    ),
    ("A database", "a database", "databases:\n  x:\n    url: 'sqlite:///t.db'\n    @\nalerts: []\n"),
    (
        "defaults",
        "defaults",
        "database: {url: 'sqlite:///t.db'}\ndefaults:\n  @\nalerts: [{name: a, query: q, schedule: '@daily'}]\n",
    ),
    ("An alert", "an alert", "database: {url: 'sqlite:///t.db'}\nalerts:\n  - @\n    x: 1\n"),
    (
        "channel: email",
        "channel: email",
        "database: {url: 'sqlite:///t.db'}\nalerts:\n  - notify:\n      - channel: email\n        @\n",
    ),
    (
        "channel: slack",
        "channel: slack",
        "database: {url: 'sqlite:///t.db'}\nalerts:\n  - notify:\n      - channel: slack\n        @\n",
    ),
    (
        "channel: webhook",
        "channel: webhook",
        "database: {url: 'sqlite:///t.db'}\nalerts:\n  - notify:\n      - channel: webhook\n        @\n",
    ),
];
/// No known key is near to it, so the error lists them all.
const NONSENSE: &str = "qqqqqqqq";

fn problems(file: &str, line: &str) -> Vec<ConfigProblem> {
    load_str(&file.replacen('@', line, 1), "test.yaml", &|_| None).err().map(|errors| errors.0).unwrap_or_default()
}

fn described(document: &str, title: &str) -> Result<BTreeSet<String>> {
    let rows = section(document, title)?.rows;
    // Other tables of a section begin with something else than one key: a URL, for example.
    let keys = rows.iter().filter(|row| row.len() == 4).flat_map(|row| codes(&row[0]));
    Ok(keys.collect())
}

#[test]
fn the_keys_that_are_described_are_those_that_work() -> Result<()> {
    let document = read("docs/reference/config.md")?;
    for (title, _, file) in PLACES {
        assert_eq!(described(&document, title)?, known(file).context(title)?, "{title}");
    }
    Ok(())
}

/// The keys that may stand at the `@` of `file`.
fn known(file: &str) -> Option<BTreeSet<String>> {
    let problems = problems(file, &format!("{NONSENSE}: 1"));
    let problem = problems.into_iter().find(|problem| problem.message.contains(NONSENSE))?;
    Some(codes(&problem.help).into_iter().collect())
}

#[test]
fn a_named_channel_has_the_keys_of_an_entry_and_its_limits() -> Result<()> {
    let limits = described(&read("docs/reference/config.md")?, "channels")?;
    assert!(!limits.is_empty());
    for (title, _, entry) in PLACES.into_iter().filter(|(title, ..)| title.starts_with("channel:")) {
        let named = format!("channels:\n  x:\n    {title}\n    @\nalerts: []\n");
        let of_entry = known(entry).context(title)?;
        assert_eq!(known(&named).context(title)?, of_entry.union(&limits).cloned().collect(), "{title}");
    }
    Ok(())
}

#[test]
fn every_error_that_is_described_is_what_is_said() -> Result<()> {
    let rows = section(&read("docs/reference/config.md")?, "Errors")?.rows;
    assert!(rows.len() > 20, "{rows:?}");
    for row in rows {
        let (_, _, file) = PLACES.into_iter().find(|(_, place, _)| *place == row[0]).context(row[0].clone())?;
        let line = codes(&row[1]).pop().context("no line")?;
        let problems = problems(file, &line);
        assert!(problems.iter().any(|problem| problem.message == row[2]), "{line}: {}: {problems:#?}", row[2]);
    }
    Ok(())
}
