//! YAML text into a tree whose nodes know their places. What the keys mean is [`super::check`]'s subject.
//!
//! The tree is read generically, not into one struct for each section, because serde stops at the first unknown key
//! or wrong type; a person who fixes a file wants all of them at once.

use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_path_to_error::Segment;
use serde_saphyr::options::{AliasLimits, DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Location, Options, Spanned};

use super::keys::shown;

/// Largest file, in bytes: 100,000 alerts fit.
pub(super) const MAX_FILE_BYTES: usize = 16 * 1024 * 1024;
/// Deepest nesting; the schema needs eight.
const MAX_DEPTH: usize = 32;
/// Most nodes in all files together, aliases counted where they are used.
pub(super) const MAX_NODES: usize = 4_000_000;
/// Most parser events that aliases may repeat: an alias bomb ends here,
const MAX_REPEATED_EVENTS: usize = 1_000_000;
/// or here, since a bomb's anchors hold aliases.
const MAX_ANCHORED_EVENTS: usize = 100_000;

/// A place in a file. Places are ordered as files are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Which of the files, in the order in which they are read.
    pub(super) file: usize,
    /// From 1; 0 for the file as a whole.
    pub(super) line: u64,
    /// From 1, in characters; 0 for the file as a whole.
    pub(super) column: u64,
}

impl From<Location> for Place {
    /// Which file it is, [`Node::move_to`] says.
    fn from(location: Location) -> Self {
        Self { file: 0, line: location.line(), column: location.column() }
    }
}

/// Why a text is not YAML that can be read.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) place: Place,
    pub(super) path: String,
    pub(super) message: String,
    pub(super) help: &'static str,
}

/// A value and where it is written; for an alias, where its anchor is.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// As Rust writes it.
    Number(String),
    Text(String),
    List(Vec<Node>),
    /// In the file's order; a key may be there twice.
    Map(Vec<Entry>),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

impl Node {
    /// Makes all places ones of the file with the number `file`, and counts the nodes.
    fn move_to(&mut self, file: usize) -> usize {
        self.place.file = file;
        match &mut self.value {
            Value::List(nodes) => 1 + nodes.iter_mut().map(|node| node.move_to(file)).sum::<usize>(),
            Value::Map(entries) => {
                let moved = entries.iter_mut().map(|entry| {
                    entry.place.file = file;
                    entry.node.move_to(file)
                });
                1 + moved.sum::<usize>()
            }
            _ => 1,
        }
    }
}

/// Reads `text`, which is the file with the number `file`, and counts the nodes. Only the first syntax error is found.
pub(super) fn parse(text: &str, file: usize) -> Result<(Node, usize), Flaw> {
    if text.len() > MAX_FILE_BYTES {
        let place = Place { file, ..Place::default() };
        return Err(Flaw { place, path: String::new(), message: too_large(), help: "" });
    }
    let read = serde_saphyr::from_str_with_options(text, options());
    let mut root: Node = read.map_err(|error| {
        let place = Place { file, ..error.location().map_or(Place::default(), Place::from) };
        if is_limit(&error) {
            let message = "the YAML is too deep, too large, or repeats itself too often by aliases".to_owned();
            return Flaw { place, path: String::new(), message, help: "" };
        }
        let line = text.lines().nth(usize::try_from(place.line).unwrap_or_default().saturating_sub(1));
        let (message, help) = in_words(&error, line.unwrap_or_default());
        Flaw { place, path: path_of_failure(text), message, help }
    })?;
    let nodes = root.move_to(file);
    Ok((root, nodes))
}

/// What is said of a file that is too large.
pub(super) fn too_large() -> String {
    format!("is larger than {} MiB", MAX_FILE_BYTES >> 20)
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_reader_input_bytes: Some(MAX_FILE_BYTES),
            max_depth: MAX_DEPTH,
            // One more than there may be, so that the error is about documents and not about a budget.
            max_documents: 2,
            max_events: 2 * MAX_NODES,
            max_nodes: MAX_NODES,
            max_total_scalar_bytes: 2 * MAX_FILE_BYTES,
            max_recorded_anchor_bytes: MAX_FILE_BYTES,
            max_recorded_anchor_events: MAX_ANCHORED_EVENTS,
            // One anchored list of channels that every alert refers to is ordinary; `alias_limits` stops bombs.
            max_aliases: MAX_REPEATED_EVENTS,
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: alias_limits(),
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        // A snippet would show the file's text, secrets included.
        with_snippet: false,
    }
}

fn alias_limits() -> AliasLimits {
    serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPEATED_EVENTS, max_replay_stack_depth: 16 }
}

/// Whether a limit ended the reading.
fn is_limit(error: &serde_saphyr::Error) -> bool {
    use serde_saphyr::Error as E;
    match error {
        E::AliasError { error, .. } | E::WithSnippet { error, .. } => is_limit(error),
        E::Budget { .. }
        | E::AliasReplayLimitExceeded { .. }
        | E::AliasExpansionLimitExceeded { .. }
        | E::AliasReplayStackDepthExceeded { .. }
        | E::AliasReplayCounterOverflow { .. } => true,
        _ => false,
    }
}

/// The parser's message without its place, and what to do where we know it.
fn in_words(error: &serde_saphyr::Error, line: &str) -> (String, &'static str) {
    use serde_saphyr::Error as E;
    match error.without_snippet() {
        E::MultipleDocuments { .. } => {
            return ("more than one YAML document".to_owned(), "remove the `---` and what follows it");
        }
        E::RecursiveReferencesRequireWeakTypes { .. } => return ("the alias refers to itself".to_owned(), ""),
        _ => {}
    }
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or_default().to_owned();
    let value = line.split_once(": ").map_or("", |(_, value)| value.trim_start());
    let help = match value.as_bytes().first() {
        Some(b'*') => "a value that begins with `*`, such as a schedule, must be in quotes",
        Some(b'@' | b'`' | b'%') => "a value that begins with this character must be in quotes",
        _ => "",
    };
    (message, help)
}

/// The path at which reading `text` fails. The tree doesn't know paths while it is being built, so a second reading,
/// into a value that is thrown away, finds out.
fn path_of_failure(text: &str) -> String {
    let mut track = serde_path_to_error::Track::new();
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |deserializer| {
        serde_json::Value::deserialize(serde_path_to_error::Deserializer::new(deserializer, &mut track))
    });
    let mut path = String::new();
    if read.is_err() {
        for segment in track.path().iter() {
            match segment {
                Segment::Seq { index } => path += &format!("[{index}]"),
                Segment::Map { key } if path.is_empty() => path = shown(key),
                Segment::Map { key } => path += &format!(".{}", shown(key)),
                Segment::Enum { .. } | Segment::Unknown => {}
            }
        }
    }
    path
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(|spanned| Self { place: spanned.defined.into(), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = items.next_element()? {
            list.push(node);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some((key, node)) = entries.next_entry::<Spanned<String>, Node>()? {
            map.push(Entry { key: key.value, place: key.defined.into(), node });
        }
        Ok(Value::Map(map))
    }
}
