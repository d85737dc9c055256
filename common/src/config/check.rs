//! The tree into the domain: what must be there, what refers to what, and what a value may be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;

use super::channel::Channel;
use super::channel_entry::Channels;
use super::channels;
use super::database_url::{DatabaseKind, normalise_database_url};
use super::error::{ConfigErrors, ConfigProblem};
use super::interpolate::{Environment, braced_variables};
use super::judging::Judging;
use super::keys::{self, shown, suggestion};
use super::notify::{self, Routes};
use super::raw::{Node, Place, Value};
use super::section::{Item, Reader, Section};
use super::sources::{self, Sources, read_timeout};
use super::whole::Whole;
use super::{AlertConfig, Config, QueryCheck, about, instance_key, planning, query_env, scalar};
use crate::alert::{About, AlertDefinition, ChannelName, MAX_ALERT_NAME, PlanningRules, QueryOptions, SourceName};
use crate::schedule::Schedule;

/// From so many problems on, no further alert is looked at: nobody reads them, and a hostile file has millions.
const MOST_PROBLEMS: usize = 1_000;

/// Makes `roots`, the tops of the files, into one configuration, or says everything that is wrong with it.
pub(super) fn check(
    mut reader: Reader<'_>,
    roots: &[Node],
    query_check: &QueryCheck<'_>,
) -> Result<Config, ConfigErrors> {
    let config = read_files(&mut reader, roots, query_check);
    let Reader { problems, warnings, .. } = reader;
    let in_order = |mut found: Vec<(Place, ConfigProblem)>| {
        found.sort_by_key(|(place, _)| *place);
        found.into_iter().map(|(_, problem)| problem).collect::<Vec<_>>()
    };
    match config {
        Some(read) if problems.is_empty() => Ok(Config {
            sources: read.sources,
            channels: read.channels,
            alerts: read.alerts,
            warnings: in_order(warnings),
        }),
        _ => Err(ConfigErrors(in_order(problems))),
    }
}

/// What the files say.
struct Read {
    sources: Sources,
    channels: BTreeMap<ChannelName, Arc<Channel>>,
    alerts: Vec<AlertConfig>,
}

fn read_files(reader: &mut Reader<'_>, roots: &[Node], query_check: &QueryCheck<'_>) -> Option<Read> {
    let is_empty = |root: &&Node| matches!(root.value, Value::Null);
    let (empty, full): (Vec<_>, Vec<_>) = roots.iter().partition(is_empty);
    for root in &empty {
        if full.is_empty() {
            reader.problem(root.place, "", "the file is empty", "it needs `database:` and `alerts:`");
        } else {
            reader.warning(root.place, "", "the file is empty", "");
        }
    }
    let tops = full.into_iter().filter_map(|node| reader.section(&Item { node, path: String::new() }, keys::TOP));
    let whole = Whole::new(tops.collect())?;
    let sources = sources::read(reader, &whole);
    let channels = channels::read(reader, &whole.all("channels"));
    let defaults = read_defaults(reader, &whole, &channels);
    let lists = whole.all("alerts");
    if lists.is_empty() {
        reader.missing(whole.place_of("alerts"), "alerts", "`alerts` is missing", "list at least one alert");
    }
    let items: Vec<_> = lists.iter().flat_map(|list| reader.list(list)).collect();
    if let Some(list) = lists.first().filter(|list| items.is_empty() && matches!(list.node.value, Value::List(_))) {
        reader.missing(list.node.place, &list.path, "there is no alert", "list at least one alert");
    }
    let mut names: BTreeMap<String, Place> = BTreeMap::new();
    let mut read = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        if reader.problems.len() >= MOST_PROBLEMS {
            let message = format!("{} more alerts were not looked at, so much is wrong already", items.len() - index);
            reader.problem(item.node.place, &item.path, message, "mend what is listed, and look again");
            break;
        }
        let Some(section) = reader.section(item, keys::ALERT) else { continue };
        let alert =
            Alert { section: &section, sources: &sources, channels: &channels, defaults: &defaults, query_check };
        let name = alert.read_name(reader, &mut names);
        read.extend(alert.read(reader, name));
    }
    let channels = channels.into_iter().filter_map(|(name, channel)| Some((name, channel?))).collect();
    Some(Read { sources, channels, alerts: read })
}

/// What holds for an alert that says nothing else.
struct Defaults {
    timezone: Tz,
    timeout: Duration,
    judging: Judging,
    about: About,
    planning: PlanningRules,
    notify: Routes,
}

fn read_defaults(reader: &mut Reader<'_>, whole: &Whole<'_>, channels: &Channels) -> Defaults {
    let item = whole.single(reader, "defaults");
    let section = item.and_then(|item| reader.section(&item, keys::DEFAULTS));
    let timeout = section.as_ref().and_then(|section| section.get("timeout"));
    let judging = Judging::default();
    Defaults {
        timezone: read_default_timezone(reader, whole, section.as_ref()),
        timeout: timeout.and_then(|item| read_timeout(reader, &item)).unwrap_or(scalar::DEFAULT_TIMEOUT),
        judging: section.as_ref().map_or(judging.clone(), |section| judging.overridden_by(reader, section)),
        about: section.as_ref().map(|section| about::read(reader, section, &About::default())).unwrap_or_default(),
        planning: section
            .as_ref()
            .map(|section| planning::read(reader, section, &PlanningRules::default()))
            .unwrap_or_default(),
        notify: section
            .as_ref()
            .and_then(|section| section.get("notify"))
            .map(|item| notify::read(reader, &item, channels))
            .unwrap_or_default(),
    }
}

/// `defaults.timezone` or `timezone`, which are the same, or else the variable `TIMEZONE`, or else UTC.
fn read_default_timezone(reader: &mut Reader<'_>, whole: &Whole<'_>, defaults: Option<&Section<'_>>) -> Tz {
    let (in_defaults, at_top) =
        (defaults.and_then(|section| section.get("timezone")), whole.single(reader, "timezone"));
    if let (Some(item), Some(_)) = (&in_defaults, &at_top) {
        let message = "`timezone` and `defaults.timezone` are both there";
        reader.problem(item.node.place, &item.path, message, "remove one of them: they are the same");
    }
    if let Some(item) = at_top.or(in_defaults) {
        return read_timezone(reader, &item).unwrap_or(Tz::UTC);
    }
    let Some(name) = (reader.environment)("TIMEZONE").filter(|name| !name.is_empty()) else { return Tz::UTC };
    scalar::timezone(&name).unwrap_or_else(|(message, help)| {
        reader.problem(whole.place(), "timezone", format!("environment variable TIMEZONE: {message}"), help);
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
    channels: &'a Channels,
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
            let message =
                format!("an alert of the name `{name}` is already there in {}", reader.seen_from(place, *first));
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
        let options = self.read_options(reader);
        let query = self.read_query(reader, source.as_ref(), &options);
        let schedule = self.read_schedule(reader);
        let timeout = self.read_timeout(reader, source.as_ref());
        let enabled = self.section.get("enabled").and_then(|item| reader.boolean(&item)).unwrap_or(true);
        let judging = self.defaults.judging.overridden_by(reader, self.section);
        let about = about::read(reader, self.section, &self.defaults.about);
        let planning = planning::read(reader, self.section, &self.defaults.planning);
        let channels = match self.section.get("notify") {
            Some(item) => notify::read(reader, &item, self.channels),
            None => self.defaults.notify.clone(),
        };
        let definition = AlertDefinition {
            name: name?,
            description,
            query: query?,
            source: source?,
            schedule: schedule?,
            timeout_ms: u64::try_from(timeout.as_millis()).ok()?,
            enabled,
            notify: channels.iter().map(|(route, _)| route.clone()).collect(),
            error_after: judging.error_after,
            rules: judging.rules,
            options,
            planning,
            about,
        };
        Some(AlertConfig { definition, channels })
    }

    fn read_options(&self, reader: &mut Reader<'_>) -> QueryOptions {
        let allow_unparsed = self.section.get("allow_unparsed").and_then(|item| reader.boolean(&item));
        QueryOptions {
            instance_key: instance_key::read(reader, self.section),
            query_env: query_env::read(reader, self.section),
            allow_unparsed: allow_unparsed.unwrap_or_default(),
        }
    }

    fn read_query(
        &self,
        reader: &mut Reader<'_>,
        source: Option<&SourceName>,
        options: &QueryOptions,
    ) -> Option<String> {
        let item = reader.required(self.section, "query", "a query returns a row with a column `status`")?;
        let query = reader.verbatim(&item)?;
        if query.trim().is_empty() {
            reader.problem(item.node.place, &item.path, "the query is empty", "");
            return None;
        }
        let variables: Vec<_> = braced_variables(query)
            .into_iter()
            .filter(|name| !options.query_env.iter().any(|known| known == name))
            .collect();
        query_env::warn_of_unused(reader, self.section, query);
        if !variables.is_empty() {
            let names = variables.iter().map(|name| format!("`${{{name}}}`")).collect::<Vec<_>>().join(", ");
            let message = format!("the query's text gets no environment: {names} is sent to the database as written");
            let help =
                format!("write `query_env: [{}]` if the workers' environment is to be put there", variables.join(", "));
            reader.warning(item.node.place, &item.path, message, help);
        }
        if let Some(kind) = source.and_then(|name| self.kind_of(name, reader.environment))
            && let Err(refusal) = (self.query_check)(query, kind, options)
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

    /// The alert's own, or else its source's, or else that of `defaults`.
    fn read_timeout(&self, reader: &mut Reader<'_>, source: Option<&SourceName>) -> Duration {
        let own = self.section.get("timeout").and_then(|item| read_timeout(reader, &item));
        let of_source = || self.sources.get(source?)?.timeout;
        own.or_else(of_source).unwrap_or(self.defaults.timeout)
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
            reader.missing(item.node.place, &item.path, message, suggestion(&text, &names()));
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
