//! Templates with places in double braces, as minijinja reads them, within limits.
//!
//! Input: a template's text, a notification's values. Output: the text, or why there is none. A template cannot read
//! files or other templates, call itself, or work for long: its fuel and its output end.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior};

use super::values::Numbers;

/// Longest template, in bytes. What it nests is at most as deep, and has to fit on [`STACK`].
pub(super) const LONGEST_TEMPLATE: usize = 16 * 1024;
/// Longest text that comes of one, in bytes.
pub(super) const LONGEST_TEXT: usize = 64 * 1024;
/// About as many steps, and 64 times as many bytes of values: some milliseconds.
const FUEL: u64 = 50_000;
/// The stack that a template is read and rendered on, in bytes: the engine goes as deep as `1|abs|abs|…` is long, which
/// is deeper than the stacks of a process's other threads. It takes memory only as far as it is used.
const STACK: usize = 64 * 1024 * 1024;
/// How deep loops may call themselves.
const DEEPEST_LOOP: usize = 50;
/// What a template is called in its own errors, and nowhere else.
const NAME: &str = "template";

/// What is done to values so that the channel takes them as data. The template's own text stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// Nothing: the channel has no markup, or the template says `|e` or `|tojson` itself.
    Nothing,
    /// Slack's three control characters become entities, so that nobody is mentioned.
    Slack,
}

/// Why a template gives no text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    /// What of the template is meant, with the line if it has several.
    pub(super) at: String,
    /// What is wrong. It may hold a value of the notification.
    pub(super) detail: String,
}

impl Failure {
    fn new(error: &Error, source: &str) -> Self {
        let detail = error.detail().unwrap_or_default().to_owned();
        let mut at = match error.range().and_then(|range| source.get(range)).map(str::trim) {
            Some(part) if !part.is_empty() && !detail.contains(part) => format!("`{part}`"),
            _ => String::new(),
        };
        if let Some(line) = error.line().filter(|_| source.trim_end().contains('\n')) {
            at += &format!("{}line {line}", if at.is_empty() { "" } else { " in " });
        }
        Self { kind: error.kind(), at, detail }
    }

    /// In words that show no value of the notification.
    pub(super) fn in_public(&self) -> String {
        match self.kind {
            ErrorKind::OutOfFuel => "it works for too long".to_owned(),
            ErrorKind::WriteFailure => format!("the text is longer than {} KiB", LONGEST_TEXT >> 10),
            ErrorKind::SyntaxError
            | ErrorKind::UndefinedError
            | ErrorKind::UnknownFilter
            | ErrorKind::UnknownFunction
            | ErrorKind::UnknownTest
            | ErrorKind::UnknownMethod => format!("{}{}", self.detail, self.place()),
            kind => format!("{kind}{}", self.place()),
        }
    }

    /// In words that may show some.
    pub(super) fn in_full(&self) -> String {
        match self.kind {
            ErrorKind::InvalidOperation => format!("{}{}", self.detail, self.place()),
            _ => self.in_public(),
        }
    }

    fn place(&self) -> String {
        if self.at.is_empty() { String::new() } else { format!(" ({})", self.at) }
    }
}

/// Does `work`, which uses the engine, on a stack that is deep enough for every template; none if it panics there, or if
/// there is no thread for it.
pub(super) fn on_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    // Fuel ends it within milliseconds, so whoever waits may be a task.
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("template".to_owned()).stack_size(STACK);
        builder.spawn_scoped(scope, work).ok()?.join().ok()
    })
}

/// The engine, for the values of one notification or of samples.
pub(super) struct Engine<'a>(Environment<'a>);

impl<'a> Engine<'a> {
    /// For values whose numbers are written like `numbers`.
    pub(super) fn new(escape: Escape, numbers: Numbers) -> Self {
        Self(environment(escape, Arc::new(numbers)))
    }

    /// Reads `source`.
    pub(super) fn read(&self, source: &'a str) -> Result<Compiled<'_, 'a>, Failure> {
        let template = self.0.template_from_named_str(NAME, source).map_err(|error| Failure::new(&error, source))?;
        Ok(Compiled { environment: &self.0, template, source })
    }
}

/// A template that the engine has read.
pub(super) struct Compiled<'e, 'a> {
    environment: &'e Environment<'a>,
    template: minijinja::Template<'e, 'a>,
    source: &'a str,
}

impl Compiled<'_, '_> {
    /// The names that it uses and does not set itself, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.template.undeclared_variables(false).into_iter().collect();
        names.retain(|name| self.environment.globals().all(|(global, _)| global != name));
        names.sort_unstable();
        names
    }

    /// The text that it gives with `values`.
    pub(super) fn render(&self, values: Value) -> Result<String, Failure> {
        let mut text = Limited(Vec::new());
        self.template.render_captured_to(values, &mut text).map_err(|error| Failure::new(&error, self.source))?;
        // Templates and values are UTF-8, and so is what comes of them.
        Ok(String::from_utf8_lossy(&text.0).into_owned())
    }
}

fn environment<'a>(escape: Escape, numbers: Arc<Numbers>) -> Environment<'a> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEEPEST_LOOP);
    // For the places of errors.
    environment.set_debug(true);
    // A line with nothing but a block leaves no line behind. Without delimiters of its own, the syntax is always valid.
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    // These would make data markup, show Rust's or Python's form of a value, or nest values without end.
    environment.remove_filter("safe");
    environment.remove_filter("pprint");
    environment.remove_global("debug");
    environment.remove_global("namespace");
    let known = numbers.clone();
    environment.add_filter("string", move |state: &State<'_, '_>, value: Value| known.text(state, &value));
    let known = numbers.clone();
    environment.add_filter("tojson", move |state: &State<'_, '_>, value: Value| {
        Ok::<_, Error>(known.to_json(state, &value)?.to_string())
    });
    let known = numbers.clone();
    if escape == Escape::Slack {
        environment.set_auto_escape_callback(|_| AutoEscape::Custom("slack".into()));
        for name in ["e", "escape"] {
            let known = known.clone();
            environment.add_filter(name, move |state: &State<'_, '_>, value: Value| {
                if value.is_safe() {
                    return Ok(value);
                }
                Ok::<_, Error>(Value::from_safe_string(entities(&known.text(state, &value)?)))
            });
        }
    } else {
        environment.set_auto_escape_callback(|_| AutoEscape::None);
    }
    environment.set_formatter(move |output, state, value| write(output, state, value, &numbers, escape));
    environment
}

fn write(
    output: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
    numbers: &Numbers,
    escape: Escape,
) -> Result<(), Error> {
    if value.is_safe() {
        return Ok(output.write_str(value.as_str().unwrap_or_default())?);
    }
    let text = numbers.text(state, value)?;
    match (escape, state.auto_escape()) {
        // Whatever the template says: who may be mentioned is not the data's affair.
        (Escape::Slack, _) => Ok(output.write_str(&entities(&text))?),
        (Escape::Nothing, AutoEscape::None) => Ok(output.write_str(&text)?),
        (Escape::Nothing, _) => minijinja::escape_formatter(output, state, &Value::from(text)),
    }
}

/// `text` with the characters that Slack takes for markup as entities.
fn entities(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A text that does not become longer than [`LONGEST_TEXT`].
struct Limited(Vec<u8>);

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST_TEXT {
            return Err(io::Error::other("the text is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
