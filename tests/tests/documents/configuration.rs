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

fn problems(file: &str, key: &str) -> Vec<ConfigProblem> {
    load_str(&file.replacen('@', &format!("{key}: 1"), 1), "test.yaml", &|_| None)
        .err()
        .map(|errors| errors.0)
        .unwrap_or_default()
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
        let problem = problems(file, NONSENSE).into_iter().find(|problem| problem.message.contains(NONSENSE));
        let known: BTreeSet<String> = codes(&problem.context(title)?.help).into_iter().collect();
        assert_eq!(described(&document, title)?, known, "{title}");
    }
    Ok(())
}

#[test]
fn the_keys_that_are_not_supported_yet_are_refused_by_name() -> Result<()> {
    let rows = section(&read("docs/reference/config.md")?, "Not supported yet")?.rows;
    assert_eq!(rows.len(), PLACES.len());
    for (_, place, file) in PLACES {
        let keys = rows.iter().find(|row| row[0] == place).map(|row| codes(&row[1])).context(place)?;
        for key in keys {
            let refusal = format!("`{key}` is not supported yet");
            let problems = problems(file, &key);
            assert!(problems.iter().any(|problem| problem.message == refusal), "{place}: {key}: {problems:?}");
        }
    }
    Ok(())
}
