//! The sections `database` and `databases`: the data sources by name.
//!
//! Input: the sections of all files. Output: [`Sources`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::database_url::normalise_database_url;
use super::interpolate::Setting;
use super::section::{Item, Reader};
use super::whole::Whole;
use super::{SourceConfig, keys, scalar};
use crate::alert::SourceName;

/// The most that `max_concurrency` and `pool_size` may name.
const MOST_AT_ONCE: u16 = 10_000;

/// The sources by name.
pub(super) type Sources = BTreeMap<SourceName, SourceConfig>;

/// `database:` is the source `default`; `databases:` names its own. A source that has something wrong with it is kept
/// by name, so that the alerts that use it are not reproached with it too.
pub(super) fn read(reader: &mut Reader<'_>, whole: &Whole<'_>) -> Sources {
    let mut sources = Sources::new();
    let (single, named) = (whole.single(reader, "database"), whole.all("databases"));
    if single.is_none() && named.is_empty() {
        if (reader.environment)("DATABASE_URL").is_some_and(|url| !url.is_empty()) {
            // As 0.1.x did. The URL is resolved when it is used, like that of a file that says so.
            let url = Setting::parse("${DATABASE_URL}").unwrap_or_else(|_| Setting::literal(""));
            return Sources::from([(SourceName::default_source(), SourceConfig::at(url))]);
        }
        let help = "write `database:` and below it `  url: ${DATABASE_URL}`, or set DATABASE_URL for every process";
        reader.missing(whole.place(), "database", "no database is configured", help);
    }
    for (entry, item) in reader.named_items_of(&named) {
        let source = read_source(reader, &item).unwrap_or_else(broken_source);
        match SourceName::try_from(entry.key.clone()) {
            Ok(name) => drop(sources.insert(name, source)),
            Err(_) => {
                let help = "use 1 to 64 letters, digits, `_` or `-`";
                reader.problem(entry.place, &item.path, "not a database name", help);
            }
        }
    }
    if let Some(item) = single {
        let source = read_source(reader, &item).unwrap_or_else(broken_source);
        if sources.insert(SourceName::default_source(), source).is_some() {
            let message = "`database` and `databases.default` are both there";
            reader.problem(item.node.place, &item.path, message, "remove one of them: both are the source `default`");
        }
    }
    sources
}

/// Stands for a source whose problems have been noted; with problems there is no configuration that it could be in.
fn broken_source() -> SourceConfig {
    SourceConfig::at(Setting::literal(""))
}

fn read_source(reader: &mut Reader<'_>, item: &Item<'_>) -> Option<SourceConfig> {
    let section = reader.section(item, keys::DATABASE)?;
    let url = reader.setting_or_file(&section, "url", |reader, item| {
        let url = reader.setting(item)?;
        if let Some(literal) = url.as_literal() {
            reader.accept(item, normalise_database_url(literal), "")?;
        }
        Some(url)
    });
    if url.is_none() {
        reader.required(&section, "url", "write for example `url: ${DATABASE_URL}`");
    }
    let max_concurrency = section.get("max_concurrency").and_then(|item| read_count(reader, &item));
    let pool_size = section.get("pool_size").and_then(|item| read_count(reader, &item));
    let timeout = section.get("timeout").and_then(|item| read_timeout(reader, &item));
    Some(SourceConfig { url: url??, max_concurrency, pool_size, timeout })
}

fn read_count(reader: &mut Reader<'_>, item: &Item<'_>) -> Option<u16> {
    let text = reader.scalar(item, "a whole number")?;
    let count = text.trim().parse().ok().filter(|count| (1..=MOST_AT_ONCE).contains(count));
    if count.is_none() {
        reader.problem(item.node.place, &item.path, format!("not a whole number from 1 to {MOST_AT_ONCE}"), "");
    }
    count
}

/// A time-out, of a source, an alert or `defaults`.
pub(super) fn read_timeout(reader: &mut Reader<'_>, item: &Item<'_>) -> Option<Duration> {
    let text = reader.scalar(item, "a time-out such as `30s`")?;
    scalar::timeout(&text).map_err(|message| reader.problem(item.node.place, &item.path, message, "")).ok()
}

#[cfg(test)]
mod tests {
    use super::super::{Config, ConfigProblem, load_str};
    use super::*;

    fn load(keys: &str, alert: &str) -> Result<Config, Vec<ConfigProblem>> {
        let text = format!(
            "databases: {{a: {{url: 'sqlite:///a.db', {keys}}}}}\ndefaults: {{timeout: 7s}}\nalerts:\n- {{name: a, query: q, schedule: '@daily'{alert}}}\n"
        );
        load_str(&text, "alerts.yaml", &|_| None).map_err(|errors| errors.0)
    }

    #[test]
    fn a_source_says_how_much_of_it_at_once_and_for_how_long() {
        let config = load("max_concurrency: 4, pool_size: '2', timeout: 2m", "").unwrap();
        let source = config.sources.values().next().unwrap();
        assert_eq!((source.max_concurrency, source.pool_size), (Some(4), Some(2)));
        assert_eq!(source.timeout, Some(Duration::from_secs(120)));
    }

    #[test]
    fn a_time_out_is_the_alerts_own_or_else_its_sources_or_else_that_of_defaults() {
        let timeout = |keys: &str, alert: &str| load(keys, alert).unwrap().alerts[0].definition.timeout().as_secs();
        assert_eq!(timeout("timeout: 2m", ", timeout: 3s"), 3);
        assert_eq!(timeout("timeout: 2m", ""), 120);
        assert_eq!(timeout("pool_size: 1", ""), 7);
    }

    #[test]
    fn every_mistake_has_its_place() {
        for (keys, path, said) in [
            ("max_concurrency: 0", "max_concurrency", "from 1 to 10000"),
            ("pool_size: many", "pool_size", "from 1 to 10000"),
            ("timeout: 2h", "timeout", "at most one hour"),
            ("pool_sice: 2", "pool_sice", "did you mean `pool_size`?"),
        ] {
            let problems = load(keys, "").expect_err(keys);
            let path = format!("databases.a.{path}");
            assert!(problems.iter().any(|p| p.path == path && p.to_string().contains(said)), "{keys}\n{problems:?}");
        }
    }
}
