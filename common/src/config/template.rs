//! Texts with places for what a notification is about.
//!
//! Input: the configuration's text. Output: a [`Template`], which notifiers fill in. A subject has one of two forms:
//! one that has `{{`, `{%` or `{#` is a template of minijinja, every other one has the places of the Python system
//! (`{alert_name}`). All other texts are templates of minijinja.

mod check;
mod engine;
#[cfg(test)]
mod hostile;
mod notice;
mod places;
mod values;

use std::collections::BTreeMap;

use minijinja::value::Value;

pub use self::engine::Escape;
use self::engine::{Engine, Failure, LONGEST_TEMPLATE, on_deep_stack};
pub use self::notice::{Notice, VARIABLES};
pub use self::places::PlacesError;
use self::places::{Field, Places};
use self::values::Numbers;

/// How much of one value a place in single braces shows, in characters.
const LONGEST_IN_PLACE: usize = 200;

/// A text with places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Form);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// `{alert_name}`.
    Places(Places),
    /// `{{ alert_name }}`.
    Engine(String),
}

/// A template that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Single braces that cannot be read.
    #[error(transparent)]
    Places(#[from] PlacesError),
    /// Single braces in a text whose places have double ones.
    #[error("`{{{0}}}` is not filled in here, where places have two braces: write `{{{{ {0} }}}}`")]
    Mixed(&'static str),
    /// It is too long.
    #[error("a template has at most {} KiB", LONGEST_TEMPLATE >> 10)]
    TooLong,
    /// It is no template.
    #[error("not a template: {0}")]
    Unreadable(String),
    /// A name that nothing has; with something to say of it.
    #[error("unknown variable `{0}`: {1}")]
    UnknownVariable(String, String),
    /// It gives no text for some news.
    #[error("the template cannot be used for news of the kind `{kind}`: {reason}")]
    Unusable {
        /// The kind of news.
        kind: &'static str,
        /// Why not.
        reason: String,
    },
    /// It gives no text for the notification at hand.
    #[error("{0}")]
    Failed(String),
}

impl Template {
    /// Reads a subject, of either form.
    pub fn subject(text: &str) -> Result<Self, TemplateError> {
        if ["{{", "{%", "{#"].iter().any(|begin| text.contains(begin)) {
            return Self::body(text);
        }
        Ok(Self(Form::Places(Places::parse(text)?)))
    }

    /// Reads a text whose places have double braces.
    pub fn body(text: &str) -> Result<Self, TemplateError> {
        if text.len() > LONGEST_TEMPLATE {
            return Err(TemplateError::TooLong);
        }
        match single_place(text) {
            Some(name) => Err(TemplateError::Mixed(name)),
            None => Ok(Self(Form::Engine(text.to_owned()))),
        }
    }

    /// What it gives for samples of every kind of news, or why it gives nothing for one.
    pub fn try_out(&self, escape: Escape) -> Result<Vec<String>, TemplateError> {
        match &self.0 {
            Form::Places(_) => Ok(Vec::new()),
            Form::Engine(source) => {
                on_deep_stack(|| check::try_out(source, escape)).unwrap_or_else(|| Err(TemplateError::broken()))
            }
        }
    }

    /// The text for `notice`. An error shows no value of it.
    pub fn render(&self, notice: &Notice<'_>, escape: Escape) -> Result<String, TemplateError> {
        let source = match &self.0 {
            Form::Places(places) => return Ok(places.fill(|field| in_place(field, notice))),
            Form::Engine(source) => source,
        };
        let render = || -> Result<String, Failure> {
            let mut numbers = Numbers::default();
            let values = Value::from_pairs(variables(notice, &mut numbers));
            Engine::new(escape, numbers).read(source)?.render(values)
        };
        let rendered = on_deep_stack(render).ok_or_else(TemplateError::broken)?;
        rendered.map_err(|failure| TemplateError::Failed(failure.in_public()))
    }
}

impl TemplateError {
    /// The engine has a bug, or this process no room for a thread.
    fn broken() -> Self {
        Self::Failed("the template could not be rendered".to_owned())
    }
}

fn variables(notice: &Notice<'_>, numbers: &mut Numbers) -> BTreeMap<String, Value> {
    // A notice is texts, numbers and JSON: writing it as JSON cannot fail, and what were missing would be undefined.
    let Ok(serde_json::Value::Object(values)) = serde_json::to_value(notice) else { return BTreeMap::new() };
    values.iter().map(|(name, json)| (name.clone(), numbers.value(json))).collect()
}

fn in_place(field: Field, notice: &Notice<'_>) -> String {
    let of_row = |column: Option<&serde_json::Value>| match column {
        None => String::new(),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let text = match field {
        Field::AlertName => notice.alert_name.to_owned(),
        Field::Status => notice.status.to_owned(),
        Field::ActualValue => of_row(notice.actual_value),
        Field::Threshold => of_row(notice.threshold),
    };
    one_line(&text, LONGEST_IN_PLACE)
}

/// `text` without line breaks and other control characters, at most `longest` characters of it.
pub fn one_line(text: &str, longest: usize) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line: String = plain.take(longest).collect();
    if text.chars().nth(longest).is_some() {
        line.push('…');
    }
    line
}

/// The first of the old form's places in what is not between double braces.
fn single_place(text: &str) -> Option<&'static str> {
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        let after = &rest[at + 1..];
        let end = match after.as_bytes().first() {
            Some(b'{') => Some("}}"),
            Some(b'%') => Some("%}"),
            Some(b'#') => Some("#}"),
            _ => None,
        };
        if let Some(end) = end {
            let at = after.find(end)?;
            rest = &after[at + end.len()..];
            continue;
        }
        let name = after.split_once('}').map(|(name, _)| name.trim());
        if let Some(field) = Field::ALL.into_iter().find(|field| Some(field.as_str()) == name) {
            return Some(field.as_str());
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests;
