//! Reading one section of the tree: finding its keys, refusing the ones it cannot have, and reading single values.
//! Every problem is noted with its place and path, and reading goes on.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::access::{Access, in_folders};
use super::error::ConfigProblem;
use super::interpolate::{Environment, Setting};
use super::keys::{shown, suggestion};
use super::raw::{Entry, Node, Place, Value};
use super::scalar;
use super::secret_file::SecretFile;

/// What to do about `url:https://…`, which YAML reads as a key without a value.
const SPACE: &str = "write a space after the colon";

/// A file, as errors call it, and where it lies.
#[derive(Clone, Debug)]
pub(super) struct SourceFile {
    pub(super) name: String,
    /// What paths in it are relative to.
    pub(super) folder: PathBuf,
}

/// What all files are read with, and what was found so far.
pub(super) struct Reader<'a> {
    /// The files that a [`Place`] counts.
    pub(super) files: Vec<SourceFile>,
    pub(super) environment: &'a Environment<'a>,
    pub(super) access: &'a Access,
    /// The folders that secrets may be read from, absolute.
    pub(super) folders: Arc<[PathBuf]>,
    pub(super) problems: Vec<(Place, ConfigProblem)>,
    pub(super) warnings: Vec<(Place, ConfigProblem)>,
    /// Whether a file could not be read at all: what is missed may be in it.
    pub(super) incomplete: bool,
    /// Whether the warning about numeric weekdays has been given: once is enough.
    pub(super) told_about_weekdays: bool,
}

/// A node together with its path.
#[derive(Clone)]
pub(super) struct Item<'a> {
    pub(super) node: &'a Node,
    pub(super) path: String,
}

/// A map whose keys have been checked.
pub(super) struct Section<'a> {
    entries: &'a [Entry],
    pub(super) place: Place,
    pub(super) path: String,
}

impl<'a> Item<'a> {
    /// The value of `key`, if this is a map that has it; nothing is checked.
    pub(super) fn peek(&self, key: &str) -> Option<Item<'a>> {
        let Value::Map(entries) = &self.node.value else { return None };
        let entry = entries.iter().find(|entry| entry.key == key)?;
        Some(Item { node: &entry.node, path: join(&self.path, key) })
    }

    /// The texts of the list that this is, with their places and paths; nothing is checked.
    pub(super) fn texts(&self) -> Vec<(Place, String, &'a str)> {
        let Value::List(nodes) = &self.node.value else { return Vec::new() };
        let text = |(index, node): (usize, &'a Node)| match &node.value {
            Value::Text(text) => Some((node.place, format!("{}[{index}]", self.path), text.as_str())),
            _ => None,
        };
        nodes.iter().enumerate().filter_map(text).collect()
    }
}

impl<'a> Section<'a> {
    /// The value of `key`, unless it is missing or empty.
    pub(super) fn get(&self, key: &str) -> Option<Item<'a>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        let item = Item { node: &entry.node, path: join(&self.path, key) };
        (!matches!(entry.node.value, Value::Null)).then_some(item)
    }

    /// Where to point when `key` is missing: at the key, if it is there without a value.
    pub(super) fn place_of(&self, key: &str) -> Place {
        self.entries.iter().find(|entry| entry.key == key).map_or(self.place, |entry| entry.place)
    }
}

/// `path.key`.
fn join(path: &str, key: &str) -> String {
    let key = shown(key);
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

impl<'a> Reader<'a> {
    /// Reads with this, nothing yet.
    pub(super) fn new(environment: &'a Environment<'a>, access: &'a Access, folders: Arc<[PathBuf]>) -> Self {
        Self {
            files: Vec::new(),
            environment,
            access,
            folders,
            problems: Vec::new(),
            warnings: Vec::new(),
            incomplete: false,
            told_about_weekdays: false,
        }
    }

    /// Notes what is wrong.
    pub(super) fn problem(&mut self, place: Place, path: &str, message: impl Into<String>, help: impl Into<String>) {
        let problem = self.at(place, path, message.into(), help.into());
        self.problems.push((place, problem));
    }

    /// Notes that something is not there, unless it may be in a file that could not be read.
    pub(super) fn missing(&mut self, place: Place, path: &str, message: impl Into<String>, help: impl Into<String>) {
        if !self.incomplete {
            self.problem(place, path, message, help);
        }
    }

    /// Notes what is worth knowing.
    pub(super) fn warning(&mut self, place: Place, path: &str, message: impl Into<String>, help: impl Into<String>) {
        let warning = self.at(place, path, message.into(), help.into());
        self.warnings.push((place, warning));
    }

    /// Where `place` is, for somebody who looks at `from`: `line 3`, or `other.yaml:3`.
    pub(super) fn seen_from(&self, from: Place, place: Place) -> String {
        if place.file == from.file {
            format!("line {}", place.line)
        } else {
            format!("{}:{}", self.files.get(place.file).map_or("", |file| file.name.as_str()), place.line)
        }
    }

    fn at(&self, place: Place, path: &str, message: String, help: String) -> ConfigProblem {
        let file = self.files.get(place.file).map_or_else(String::new, |file| file.name.clone());
        ConfigProblem { file, line: place.line, column: place.column, path: path.to_owned(), message, help }
    }

    /// The map at `item`, whose keys are one of `keys`.
    pub(super) fn section<'n>(&mut self, item: &Item<'n>, keys: &[&str]) -> Option<Section<'n>> {
        self.section_with(item, keys, &[])
    }

    /// The map at `item`, whose keys are one of `keys` or `more`.
    pub(super) fn section_with<'n>(&mut self, item: &Item<'n>, keys: &[&str], more: &[&str]) -> Option<Section<'n>> {
        let entries = self.map(item)?;
        for entry in entries {
            let path = join(&item.path, &entry.key);
            let key = entry.key.as_str();
            if !keys.contains(&key) && !more.contains(&key) {
                let help = if key.contains(':') { SPACE.to_owned() } else { suggestion(key, &[keys, more].concat()) };
                self.problem(entry.place, &path, format!("unknown key `{}`", shown(key)), help);
            }
        }
        Some(Section { entries, place: item.node.place, path: item.path.clone() })
    }

    /// The entries of the map at `item`, no key of which is there twice.
    pub(super) fn map<'n>(&mut self, item: &Item<'n>) -> Option<&'n [Entry]> {
        let Value::Map(entries) = &item.node.value else {
            return self.wrong_type(item, "a mapping (`key: value` lines)");
        };
        let mut seen: HashMap<&str, Place> = HashMap::with_capacity(entries.len());
        for entry in entries {
            if let Some(first) = seen.insert(&entry.key, entry.place) {
                let message = format!("`{}` is already there in line {}", shown(&entry.key), first.line);
                // Files of the Python system name Slack's channel by the key that says which channel it is.
                let help = match entry.key.as_str() {
                    "channel" => "remove one of them; where a message to Slack goes is `slack_channel`",
                    _ => "remove one of them",
                };
                self.problem(entry.place, &join(&item.path, &entry.key), message, help);
            }
        }
        Some(entries)
    }

    /// The entries of the map at `item`, as items, keys included.
    pub(super) fn named_items<'n>(&mut self, item: &Item<'n>) -> Vec<(&'n Entry, Item<'n>)> {
        let entries = self.map(item).unwrap_or_default();
        let named = |entry: &'n Entry| (entry, Item { node: &entry.node, path: join(&item.path, &entry.key) });
        entries.iter().map(named).collect()
    }

    /// The entries of the maps at `items`, each of another file, no key of which is in two of them.
    pub(super) fn named_items_of<'n>(&mut self, items: &[Item<'n>]) -> Vec<(&'n Entry, Item<'n>)> {
        let mut all: Vec<(&'n Entry, Item<'n>)> = Vec::new();
        let mut seen: HashMap<&str, Place> = HashMap::new();
        for item in items {
            for (entry, item) in self.named_items(item) {
                let first = *seen.entry(&entry.key).or_insert(entry.place);
                if first.file != entry.place.file {
                    let place = self.seen_from(entry.place, first);
                    let message = format!("`{}` is already there in {place}", shown(&entry.key));
                    self.problem(entry.place, &item.path, message, "give one of them another name");
                }
                all.push((entry, item));
            }
        }
        all
    }

    /// The items of the list at `item`.
    pub(super) fn list<'n>(&mut self, item: &Item<'n>) -> Vec<Item<'n>> {
        let Value::List(nodes) = &item.node.value else {
            self.wrong_type::<()>(item, "a list (`- ` lines)");
            return Vec::new();
        };
        let numbered = |(index, node)| Item { node, path: format!("{}[{index}]", item.path) };
        nodes.iter().enumerate().map(numbered).collect()
    }

    /// The value of `key`; a problem if there is none.
    pub(super) fn required<'n>(&mut self, section: &Section<'n>, key: &str, help: &str) -> Option<Item<'n>> {
        let item = section.get(key);
        if item.is_none() {
            self.problem(section.place_of(key), &join(&section.path, key), format!("`{key}` is missing"), help);
        }
        item
    }

    /// A text exactly as it is written.
    pub(super) fn verbatim<'n>(&mut self, item: &Item<'n>) -> Option<&'n str> {
        match &item.node.value {
            Value::Text(text) => Some(text),
            Value::Bool(_) | Value::Number(_) => self.wrong_type(item, "a text: put it in quotes"),
            _ => self.wrong_type(item, "a text"),
        }
    }

    /// A text in a secret position, its variables unresolved.
    pub(super) fn setting(&mut self, item: &Item<'_>) -> Option<Setting> {
        let text = self.verbatim(item)?;
        let setting = self.accept(item, Setting::parse(text), "write `$$` for a dollar sign")?;
        self.allow(item, &setting)?;
        if text.trim().is_empty() {
            self.problem(item.node.place, &item.path, "is empty", "");
            return None;
        }
        Some(setting)
    }

    /// The secret position `key`, or `key_file` beside it, which names a file that holds it; `read` is for the former.
    /// None if neither is there, and none in it if something is wrong.
    pub(super) fn setting_or_file<'n>(
        &mut self,
        section: &Section<'n>,
        key: &str,
        read: impl FnOnce(&mut Self, &Item<'n>) -> Option<Setting>,
    ) -> Option<Option<Setting>> {
        let of_file = format!("{key}_file");
        match (section.get(key), section.get(&of_file)) {
            (None, None) => None,
            (Some(item), None) => Some(read(self, &item)),
            (None, Some(item)) => Some(self.secret_file(&item)),
            (Some(_), Some(item)) => {
                let message = format!("`{key}` and `{of_file}` are both there");
                self.problem(section.place_of(&of_file), &item.path, message, "remove one of them");
                Some(None)
            }
        }
    }

    /// The path of a file that holds a secret. Whether it is there, only the process knows that uses it.
    pub(super) fn secret_file(&mut self, item: &Item<'_>) -> Option<Setting> {
        let written = self.verbatim(item)?;
        let text = self.expanded(item, written)?;
        let text = text.trim();
        if text.is_empty() || text.contains("://") || text.chars().any(char::is_control) {
            let help = "the file holds the secret, and this names it, such as `/run/secrets/name`";
            self.problem(item.node.place, &item.path, "not a path", help);
            return None;
        }
        let folder = self.files.get(item.node.place.file).map(|file| file.folder.clone()).unwrap_or_default();
        let path = self.accept(item, std::path::absolute(folder.join(text)), "")?;
        if let Err(refusal) = in_folders(&path, &self.folders) {
            self.problem(item.node.place, &item.path, refusal.to_string(), refusal.help());
            return None;
        }
        let written = written.trim().to_owned();
        Some(Setting::file(SecretFile { written, path, folders: self.folders.clone() }))
    }

    /// Refuses variables that are not for configurations.
    fn allow(&mut self, item: &Item<'_>, setting: &Setting) -> Option<()> {
        let refusal = setting.variables().find_map(|name| self.access.variable(name).err());
        match refusal {
            Some(refusal) => {
                self.problem(item.node.place, &item.path, refusal.to_string(), refusal.help());
                None
            }
            None => Some(()),
        }
    }

    /// A text with its variables replaced by what the environment holds now.
    pub(super) fn text(&mut self, item: &Item<'_>) -> Option<String> {
        let text = self.verbatim(item)?;
        self.expanded(item, text)
    }

    /// A text, or a number or a boolean as a text, its variables replaced.
    pub(super) fn scalar(&mut self, item: &Item<'_>, expected: &str) -> Option<String> {
        match &item.node.value {
            Value::Text(text) => self.expanded(item, text),
            Value::Number(number) => Some(number.clone()),
            Value::Bool(value) => Some(value.to_string()),
            _ => self.wrong_type(item, expected),
        }
    }

    /// `30s`, `5m`, `1h 30m`, or seconds, within `range`, which `limits` says in words.
    pub(super) fn duration(
        &mut self,
        item: &Item<'_>,
        range: RangeInclusive<Duration>,
        limits: &str,
    ) -> Option<Duration> {
        let text = self.scalar(item, "a duration such as `5m`")?;
        let duration = match text.trim().parse::<f64>() {
            Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
            Err(_) => humantime::parse_duration(text.trim()).ok(),
        };
        if duration.is_none() {
            let help = "write `30s`, `5m`, `1h 30m`, or a number of seconds";
            self.problem(item.node.place, &item.path, "not a duration", help);
        } else if !duration.is_some_and(|duration| range.contains(&duration)) {
            self.problem(item.node.place, &item.path, format!("not {limits}"), "");
            return None;
        }
        duration
    }

    /// `true` or `false`, in one of its spellings.
    pub(super) fn boolean(&mut self, item: &Item<'_>) -> Option<bool> {
        let text = self.scalar(item, "`true` or `false`")?;
        let value = scalar::boolean(&text);
        if value.is_none() {
            self.problem(item.node.place, &item.path, "neither `true` nor `false`", "");
        }
        value
    }

    fn expanded(&mut self, item: &Item<'_>, text: &str) -> Option<String> {
        let help = "set the variable, or write `$$` for a dollar sign";
        let setting = self.accept(item, Setting::parse(text), help)?;
        self.allow(item, &setting)?;
        let expanded = setting.expand(self.environment);
        self.accept(item, expanded, help)
    }

    /// The value of `result`, or its error as a problem of `item`.
    pub(super) fn accept<T, E: std::error::Error>(
        &mut self,
        item: &Item<'_>,
        result: Result<T, E>,
        help: &str,
    ) -> Option<T> {
        result.map_err(|error| self.problem(item.node.place, &item.path, error.to_string(), help)).ok()
    }

    fn wrong_type<T>(&mut self, item: &Item<'_>, expected: &str) -> Option<T> {
        let found = match &item.node.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        };
        self.problem(item.node.place, &item.path, format!("found {found}, expected {expected}"), "");
        None
    }
}
