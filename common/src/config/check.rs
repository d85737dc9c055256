//! The tree into the domain: what must be there, what refers to what, and what a value may be.

use std::collections::BTreeMap;

use chrono_tz::Tz;

use super::database_url::{DatabaseKind, normalise_database_url};
use super::error::ConfigErrors;
use super::interpolate::{Environment, Setting, braced_variables};
use super::judging::Judging;
use super::keys::{self, shown, suggestion};
use super::raw::{Node, Place, Value};
use super::section::{Item, Reader, Section};
use super::{AlertConfig, Config, QueryCheck, SourceConfig, notify, scalar};
use crate::alert::{AlertDefinition, MAX_ALERT_NAME, SourceName};
use crate::schedule::Schedule;

type Sources = BTreeMap<SourceName, SourceConfig>;

/// Makes `root` into a configuration, or says everything that is wrong with it.
pub(super) fn check(
    root: &Node,
    file: &str,
    environment: &Environment<'_>,
    query_check: &QueryCheck<'_>,
) -> Result<Config, ConfigErrors> {
    let mut reader =
        Reader { file, environment, problems: Vec::new(), warnings: Vec::new(), told_about_weekdays: false };
    let config = read_file(&mut reader, root, query_check);
    let Reader { mut problems, mut warnings, .. } = reader;
    warnings.sort_by_key(|warning| (warning.line, warning.column));
    problems.sort_by_key(|problem| (problem.line, problem.column));
    match config {
        Some((sources, alerts)) if problems.is_empty() => Ok(Config { sources, alerts, warnings }),
        _ => Err(ConfigErrors(problems)),
    }
}

fn read_file(
    reader: &mut Reader<'_>,
    root: &Node,
    query_check: &QueryCheck<'_>,
) -> Option<(Sources, Vec<AlertConfig>)> {
    if matches!(root.value, Value::Null) {
        reader.problem(root.place, "", "the file is empty", "it needs `database:` and `alerts:`");
        return None;
    }
    let top = reader.section(&Item { node: root, path: String::new() }, &keys::TOP)?;
    let sources = read_sources(reader, &top);
    let defaults = read_defaults(reader, &top);
    let alerts = reader.required(&top, "alerts", "list at least one alert")?;
    let items = reader.list(&alerts);
    if items.is_empty() && matches!(alerts.node.value, Value::List(_)) {
        reader.problem(alerts.node.place, &alerts.path, "there is no alert", "list at least one alert");
    }
    let mut names: BTreeMap<String, Place> = BTreeMap::new();
    let mut read = Vec::with_capacity(items.len());
    for item in &items {
        let Some(section) = reader.section(item, &keys::ALERT) else { continue };
        let alert = Alert { section: &section, sources: &sources, defaults: &defaults, query_check };
        let name = alert.read_name(reader, &mut names);
        read.extend(alert.read(reader, name));
    }
    Some((sources, read))
}

/// `database:` is the source `default`; `databases:` names its own. A source that has something wrong with it is kept
/// by name, so that the alerts that use it are not reproached with it too.
fn read_sources(reader: &mut Reader<'_>, top: &Section<'_>) -> Sources {
    let mut sources = Sources::new();
    let (single, named) = (top.get("database"), top.get("databases"));
    if single.is_none() && named.is_none() {
        let help = "write `database:` and below it `  url: ${DATABASE_URL}`";
        reader.problem(top.place, "database", "no database is configured", help);
    }
    for (entry, item) in named.map(|item| reader.named_items(&item)).unwrap_or_default() {
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
    SourceConfig { url: Setting::literal("") }
}

fn read_source(reader: &mut Reader<'_>, item: &Item<'_>) -> Option<SourceConfig> {
    let section = reader.section(item, &keys::DATABASE)?;
    let item = reader.required(&section, "url", "write for example `url: ${DATABASE_URL}`")?;
    let url = reader.setting(&item)?;
    if let Some(literal) = url.as_literal() {
        reader.accept(&item, normalise_database_url(literal), "")?;
    }
    Some(SourceConfig { url })
}

/// What holds for an alert that says nothing else.
struct Defaults {
    timezone: Tz,
    timeout: std::time::Duration,
    judging: Judging,
}

fn read_defaults(reader: &mut Reader<'_>, top: &Section<'_>) -> Defaults {
    let item = top.get("defaults");
    let section = item.and_then(|item| reader.section(&item, &keys::DEFAULTS));
    let timeout = section.as_ref().and_then(|section| section.get("timeout"));
    let judging = Judging::default();
    Defaults {
        timezone: read_default_timezone(reader, top, section.as_ref()),
        timeout: timeout.and_then(|item| read_timeout(reader, &item)).unwrap_or(scalar::DEFAULT_TIMEOUT),
        judging: section.as_ref().map_or(judging.clone(), |section| judging.overridden_by(reader, section)),
    }
}

/// `defaults.timezone` or `timezone`, which are the same, or else the variable `TIMEZONE`, or else UTC.
fn read_default_timezone(reader: &mut Reader<'_>, top: &Section<'_>, defaults: Option<&Section<'_>>) -> Tz {
    let (in_defaults, at_top) = (defaults.and_then(|section| section.get("timezone")), top.get("timezone"));
    if let (Some(item), Some(_)) = (&in_defaults, &at_top) {
        let message = "`timezone` and `defaults.timezone` are both there";
        reader.problem(item.node.place, &item.path, message, "remove one of them: they are the same");
    }
    if let Some(item) = at_top.or(in_defaults) {
        return read_timezone(reader, &item).unwrap_or(Tz::UTC);
    }
    let Some(name) = (reader.environment)("TIMEZONE").filter(|name| !name.is_empty()) else { return Tz::UTC };
    scalar::timezone(&name).unwrap_or_else(|(message, help)| {
        reader.problem(top.place, "timezone", format!("environment variable TIMEZONE: {message}"), help);
        Tz::UTC
    })
}

fn read_timezone(reader: &mut Reader<'_>, item: &Item<'_>) -> Option<Tz> {
    let name = reader.text(item)?;
    let zone = scalar::timezone(&name);
    zone.map_err(|(message, help)| reader.problem(item.node.place, &item.path, message, help)).ok()
}

/// One alert and what it is read with.
struct Alert<'a, 'n> {
    section: &'a Section<'n>,
    sources: &'a Sources,
    defaults: &'a Defaults,
    query_check: &'a QueryCheck<'a>,
}

impl Alert<'_, '_> {
    fn read_name(&self, reader: &mut Reader<'_>, taken: &mut BTreeMap<String, Place>) -> Option<String> {
        let item = reader.required(self.section, "name", "give the alert a name of its own")?;
        let name = reader.text(&item)?;
        let place = item.node.place;
        if name.trim().is_empty() {
            reader.problem(place, &item.path, "the name is empty", "");
        } else if name.chars().count() > MAX_ALERT_NAME {
            reader.problem(place, &item.path, format!("the name is longer than {MAX_ALERT_NAME} characters"), "");
        } else if name.chars().any(char::is_control) {
            reader.problem(place, &item.path, "the name holds a control character, such as a line break", "");
        } else if let Some(first) = taken.get(&name) {
            let message = format!("an alert of the name `{name}` is already there in line {}", first.line);
            reader.problem(place, &item.path, message, "names must be unique");
        } else {
            taken.insert(name.clone(), place);
            return Some(name);
        }
        None
    }

    /// Reads everything before anything is given up, so that everything that is wrong is found. An alert with a
    /// problem may come out of this with a default in its place; a file with a problem comes to nothing.
    fn read(&self, reader: &mut Reader<'_>, name: Option<String>) -> Option<AlertConfig> {
        let description = self.section.get("description").and_then(|item| reader.text(&item)).unwrap_or_default();
        let source = self.read_source_name(reader);
        let query = self.read_query(reader, source.as_ref());
        let schedule = self.read_schedule(reader);
        let timeout = self.section.get("timeout").and_then(|item| read_timeout(reader, &item));
        let enabled = self.section.get("enabled").and_then(|item| reader.boolean(&item)).unwrap_or(true);
        let judging = self.defaults.judging.overridden_by(reader, self.section);
        let channels = notify::read(reader, self.section);
        let definition = AlertDefinition {
            name: name?,
            description,
            query: query?,
            source: source?,
            schedule: schedule?,
            timeout_ms: u64::try_from(timeout.unwrap_or(self.defaults.timeout).as_millis()).ok()?,
            enabled,
            notify: channels.iter().map(|(route, _)| route.clone()).collect(),
            error_after: judging.error_after,
            rules: judging.rules,
        };
        Some(AlertConfig { definition, channels })
    }

    fn read_query(&self, reader: &mut Reader<'_>, source: Option<&SourceName>) -> Option<String> {
        let item = reader.required(self.section, "query", "a query returns a row with a column `status`")?;
        let query = reader.verbatim(&item)?;
        if query.trim().is_empty() {
            reader.problem(item.node.place, &item.path, "the query is empty", "");
            return None;
        }
        let variables = braced_variables(query);
        if !variables.is_empty() {
            let names = variables.iter().map(|name| format!("`${{{name}}}`")).collect::<Vec<_>>().join(", ");
            let message = format!("the query's text gets no environment: {names} is sent to the database as written");
            let help = "write the value into the query (`query_env`, which lists the variables, is not supported yet)";
            reader.warning(item.node.place, &item.path, message, help);
        }
        if let Some(kind) = source.and_then(|name| self.kind_of(name, reader.environment))
            && let Err(refusal) = (self.query_check)(query, kind)
        {
            reader.problem(item.node.place, &item.path, refusal, "");
        }
        Some(query.to_owned())
    }

    /// The kind of a source, if this process can know it: its URL may be in variables that only workers have.
    fn kind_of(&self, source: &SourceName, environment: &Environment<'_>) -> Option<DatabaseKind> {
        let url = self.sources.get(source)?.url.resolve_with(environment).ok()?;
        Some(normalise_database_url(url.expose()).ok()?.kind)
    }

    /// `database:`, or else `default`, or else the only one there is.
    fn read_source_name(&self, reader: &mut Reader<'_>) -> Option<SourceName> {
        let names = || self.sources.keys().map(SourceName::as_str).collect::<Vec<_>>();
        let Some(item) = self.section.get("database") else {
            let default = SourceName::default_source();
            if self.sources.contains_key(&default) {
                return Some(default);
            }
            if self.sources.len() > 1 {
                let help = format!("write `database:` with one of {}", keys::list(&names()));
                let path = format!("{}.database", self.section.path);
                reader.problem(self.section.place, &path, "which database? There are several", help);
                return None;
            }
            // That there is none at all has been said at the top of the file.
            return self.sources.keys().next().cloned();
        };
        let text = reader.text(&item)?;
        let found = SourceName::try_from(text.clone()).ok().filter(|name| self.sources.contains_key(name));
        if found.is_none() && !self.sources.is_empty() {
            let message = format!("there is no database `{}`", shown(&text));
            reader.problem(item.node.place, &item.path, message, suggestion(&text, &names()));
        }
        found
    }

    fn read_schedule(&self, reader: &mut Reader<'_>) -> Option<Schedule> {
        let zone = match self.section.get("timezone") {
            Some(item) => read_timezone(reader, &item),
            None => Some(self.defaults.timezone),
        };
        let help = "write for example `schedule: \"*/5 * * * *\"` or `schedule: every 30s`";
        let item = reader.required(self.section, "schedule", help)?;
        let text = reader.text(&item)?;
        // Without a zone the text can be checked all the same.
        let schedule = reader.accept(&item, Schedule::parse(&text, zone.unwrap_or(Tz::UTC)), "")?;
        if schedule.uses_numeric_weekday() && !reader.told_about_weekdays {
            reader.told_about_weekdays = true;
            let message = "weekdays are POSIX: 1-5 is Monday to Friday, 0 and 7 are Sunday";
            let help = "Python's SQL Sentinel ran them a day later; names such as MON-FRI are never in doubt";
            reader.warning(item.node.place, &item.path, message, help);
        }
        zone.is_some().then_some(schedule)
    }
}

fn read_timeout(reader: &mut Reader<'_>, item: &Item<'_>) -> Option<std::time::Duration> {
    let text = reader.scalar(item, "a time-out such as `30s`")?;
    scalar::timeout(&text).map_err(|message| reader.problem(item.node.place, &item.path, message, "")).ok()
}
