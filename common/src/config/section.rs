//! Reading one section of the tree: finding its keys, refusing the ones it cannot have, and reading single values.
//! Every problem is noted with its place and path, and reading goes on.

use std::collections::HashMap;

use super::error::ConfigProblem;
use super::interpolate::{Environment, Setting};
use super::keys::{Keys, shown, suggestion};
use super::raw::{Entry, Node, Place, Value};
use super::scalar;

/// What to do about `url:https://…`, which YAML reads as a key without a value.
const SPACE: &str = "write a space after the colon";

/// What the whole file is read with, and what was found so far.
pub(super) struct Reader<'a> {
    pub(super) file: &'a str,
    pub(super) environment: &'a Environment<'a>,
    pub(super) problems: Vec<ConfigProblem>,
    pub(super) warnings: Vec<ConfigProblem>,
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
}

impl<'a> Section<'a> {
    /// The value of `key`, unless it is missing or empty.
    pub(super) fn get(&self, key: &str) -> Option<Item<'a>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        let item = Item { node: &entry.node, path: join(&self.path, key) };
        (!matches!(entry.node.value, Value::Null)).then_some(item)
    }

    /// Where to point when `key` is missing: at the key, if it is there without a value.
    fn place_of(&self, key: &str) -> Place {
        self.entries.iter().find(|entry| entry.key == key).map_or(self.place, |entry| entry.place)
    }
}

/// `path.key`.
fn join(path: &str, key: &str) -> String {
    let key = shown(key);
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

impl Reader<'_> {
    /// Notes what is wrong.
    pub(super) fn problem(&mut self, place: Place, path: &str, message: impl Into<String>, help: impl Into<String>) {
        let problem = self.at(place, path, message.into(), help.into());
        self.problems.push(problem);
    }

    /// Notes what is worth knowing.
    pub(super) fn warning(&mut self, place: Place, path: &str, message: impl Into<String>, help: impl Into<String>) {
        let warning = self.at(place, path, message.into(), help.into());
        self.warnings.push(warning);
    }

    fn at(&self, place: Place, path: &str, message: String, help: String) -> ConfigProblem {
        let file = self.file.to_owned();
        ConfigProblem { file, line: place.line, column: place.column, path: path.to_owned(), message, help }
    }

    /// The map at `item`, whose keys are one of `keys`.
    pub(super) fn section<'n>(&mut self, item: &Item<'n>, keys: &Keys) -> Option<Section<'n>> {
        let entries = self.map(item)?;
        for entry in entries {
            let path = join(&item.path, &entry.key);
            let key = entry.key.as_str();
            if keys.later.contains(&key) {
                self.problem(entry.place, &path, format!("`{key}` is not supported yet"), "remove it for now");
            } else if !keys.known.contains(&key) {
                let help = if key.contains(':') { SPACE.to_owned() } else { suggestion(key, keys.known) };
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
        if text.trim().is_empty() {
            self.problem(item.node.place, &item.path, "is empty", "");
            return None;
        }
        Some(setting)
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
