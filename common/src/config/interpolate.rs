//! `${VAR}`, `${VAR:-default}` and `$VAR` in the configuration's texts.
//!
//! [`Setting`] is a text in a secret position: it is kept as it was written, and resolved by the process that uses
//! it. Every other text is expanded once, at load. What a variable holds is never expanded again.

use std::fmt;
use std::path::PathBuf;

use super::secret_file::{SecretFile, SecretFileError};
use crate::secret::Secret;

/// Looks a variable up. Processes use [`from_environment`]; tests bring their own.
pub type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// The database of the variables that 0.1.x knew. Its value may be in a file, like that of every other secret there.
const DATABASE_URL: &str = "DATABASE_URL";
const DATABASE_URL_FILE: &str = "DATABASE_URL_FILE";

/// The process's environment. A variable that is not Unicode counts as unset. Where `DATABASE_URL` is unset or empty, it
/// is what the file holds that `DATABASE_URL_FILE` names.
pub fn from_environment(name: &str) -> Option<String> {
    let value = std::env::var(name).ok();
    if name == DATABASE_URL && value.as_ref().is_none_or(String::is_empty) {
        return in_named_file(DATABASE_URL_FILE).or(value);
    }
    value
}

/// The text of the file that a variable names, without the line's end.
fn in_named_file(variable: &str) -> Option<String> {
    let path = std::env::var_os(variable).filter(|path| !path.is_empty())?;
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// What else there is to say of a variable that has no value.
fn its_file(name: &str) -> &'static str {
    let is_named = |variable| std::env::var_os(variable).is_some_and(|path| !path.is_empty());
    if name == DATABASE_URL && is_named(DATABASE_URL_FILE) {
        "; the file that `DATABASE_URL_FILE` names cannot be read, or is empty"
    } else {
        ""
    }
}

/// A text in a secret position, unresolved: one whose variables are, or the path of a file that holds it.
///
/// Its `Debug` names variables and path, and shows nothing of the literal parts.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting(Origin);

#[derive(Clone, PartialEq, Eq)]
enum Origin {
    Text(Vec<Part>),
    File(SecretFile),
}

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Variable { name: String, default: Option<String> },
}

/// A setting that has no value where it is needed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnresolvedSetting {
    /// A variable has none.
    #[error("environment variable `{0}` is not set, or is empty{file}", file = its_file(.0))]
    Variable(String),
    /// A file gives none.
    #[error("the file {} {reason}", path.display())]
    File {
        /// Its path, absolute.
        path: PathBuf,
        /// Why it gives none.
        reason: SecretFileError,
    },
}

/// A `${…}` that cannot be read. What is in it is not shown: it may be part of a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// No `}`.
    #[error("`${{` without `}}`")]
    Unclosed,
    /// `${VAR-default}`, `${VAR:?text}` and other relatives of `${VAR:-default}`.
    #[error("`${{{0}…}}` can only be `${{{0}}}` or `${{{0}:-default}}`")]
    Operator(String),
    /// A variable in a default.
    #[error("the default in `${{{0}:-…}}` is a text as it is: it cannot hold a variable")]
    NestedDefault(String),
    /// Something else between the braces.
    #[error("`${{…}}` without a variable's name between the braces")]
    NotAName,
}

impl Setting {
    /// A text without variables.
    pub fn literal(text: impl Into<String>) -> Self {
        Self(Origin::Text(vec![Part::Literal(text.into())]))
    }

    /// What a file holds.
    pub(super) fn file(file: SecretFile) -> Self {
        Self(Origin::File(file))
    }

    /// Reads `text`; `$$` is a dollar sign, and so is a `$` that no name follows.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            literal.push_str(&rest[..dollar]);
            let after = &rest[dollar + 1..];
            let (name, default, remainder) = if let Some(remainder) = after.strip_prefix('$') {
                ("", None, remainder)
            } else if let Some(braced) = after.strip_prefix('{') {
                let (inside, remainder) = braced.split_once('}').ok_or(SyntaxError::Unclosed)?;
                let (name, default) = in_braces(inside)?;
                (name, default, remainder)
            } else {
                let (name, remainder) = after.split_at(name_length(after));
                (name, None, remainder)
            };
            if name.is_empty() {
                literal.push('$');
            } else {
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(Part::Variable { name: name.to_owned(), default });
            }
            rest = remainder;
        }
        literal.push_str(rest);
        if !literal.is_empty() || parts.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self(Origin::Text(parts)))
    }

    /// The secret, from the process's environment.
    pub fn resolve(&self) -> Result<Secret, UnresolvedSetting> {
        self.resolve_with(&from_environment)
    }

    /// The secret, from `environment` or its file. A variable that is set to nothing counts as unset.
    pub fn resolve_with(&self, environment: &Environment<'_>) -> Result<Secret, UnresolvedSetting> {
        let lookup = |name: &str| environment(name).filter(|value| !value.is_empty());
        self.expand(&lookup).map(Secret::new)
    }

    /// The text with its variables replaced; a variable that has no default may be set to nothing.
    pub(super) fn expand(&self, environment: &Environment<'_>) -> Result<String, UnresolvedSetting> {
        let parts = match &self.0 {
            Origin::Text(parts) => parts,
            Origin::File(file) => {
                let error = |reason| UnresolvedSetting::File { path: file.path.clone(), reason };
                return file.read().map_err(error);
            }
        };
        let mut text = String::new();
        for part in parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Variable { name, default } => match (environment(name), default) {
                    (Some(value), None) => text.push_str(&value),
                    (Some(value), Some(_)) if !value.is_empty() => text.push_str(&value),
                    (_, Some(default)) => text.push_str(default),
                    (None, None) => return Err(UnresolvedSetting::Variable(name.clone())),
                },
            }
        }
        Ok(text)
    }

    fn parts(&self) -> &[Part] {
        match &self.0 {
            Origin::Text(parts) => parts,
            Origin::File(_) => &[],
        }
    }

    /// The variables that it names, in the text's order.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.parts().iter().filter_map(|part| match part {
            Part::Variable { name, .. } => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// The whole text, if no variable is in it. It may be a secret.
    pub(super) fn as_literal(&self) -> Option<&str> {
        match self.parts() {
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The literal parts and the defaults. They may be secrets.
    pub(super) fn literals(&self) -> impl Iterator<Item = &str> {
        self.parts().iter().filter_map(|part| match part {
            Part::Literal(text) | Part::Variable { default: Some(text), .. } => Some(text.as_str()),
            Part::Variable { default: None, .. } => None,
        })
    }

    /// `${NAME}` without its default, or the path of the file as written, if that is all there is: the forms that are
    /// certain to hold no secret, and are the same in every process.
    pub(super) fn public_form(&self) -> Option<String> {
        match &self.0 {
            Origin::File(file) => Some(format!("file:{}", file.written)),
            Origin::Text(parts) => match parts.as_slice() {
                [Part::Variable { name, .. }] => Some(format!("${{{name}}}")),
                _ => None,
            },
        }
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Setting(")?;
        if let Origin::File(file) = &self.0 {
            write!(f, "file {}", file.path.display())?;
        }
        for part in self.parts() {
            match part {
                Part::Literal(_) => f.write_str("***")?,
                Part::Variable { name, default: None } => write!(f, "${{{name}}}")?,
                Part::Variable { name, default: Some(_) } => write!(f, "${{{name}:-***}}")?,
            }
        }
        f.write_str(")")
    }
}

/// How many bytes of `text`, from its start, are a variable's name.
fn name_length(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())
    } else {
        0
    }
}

/// Whether all of `text` is a variable's name.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && name_length(text) == text.len()
}

/// The name and the default of what stands between braces.
fn in_braces(inside: &str) -> Result<(&str, Option<String>), SyntaxError> {
    let (name, rest) = inside.split_at(name_length(inside));
    if name.is_empty() {
        Err(SyntaxError::NotAName)
    } else if rest.is_empty() {
        Ok((name, None))
    } else if let Some(default) = rest.strip_prefix(":-") {
        let default = plain(default).ok_or_else(|| SyntaxError::NestedDefault(name.to_owned()))?;
        Ok((name, Some(default)))
    } else if rest.starts_with([':', '-', '=', '?', '+']) {
        Err(SyntaxError::Operator(name.to_owned()))
    } else {
        Err(SyntaxError::NotAName)
    }
}

/// `text` with `$$` as a dollar sign, unless there is a variable in it.
fn plain(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        plain.push_str(&rest[..=dollar]);
        let after = &rest[dollar + 1..];
        if after.starts_with('{') || name_length(after) > 0 {
            return None;
        }
        rest = after.strip_prefix('$').unwrap_or(after);
    }
    plain.push_str(rest);
    Some(plain)
}

/// The `${NAME}`s in a text that is not expanded, for a warning.
pub(super) fn braced_variables(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for piece in text.split("${").skip(1) {
        if let Some((inside, _)) = piece.split_once('}')
            && !inside.is_empty()
            && name_length(inside) == inside.len()
            && !names.contains(&inside)
        {
            names.push(inside);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "USER" => Some("app".to_owned()),
            "TRICKY" => Some("$USER ${USER} $$".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced_once() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("${USER}", "app"),
            ("$USER", "app"),
            ("$USER-x", "app-x"),
            ("a${USER}b$USER", "aappbapp"),
            ("$$", "$"),
            ("$$USER", "$USER"),
            ("$${USER}", "${USER}"),
            ("$$$USER", "$app"),
            ("costs $5, or 5$", "costs $5, or 5$"),
            ("$é", "$é"),
            ("${TRICKY}", "$USER ${USER} $$"),
            ("<${EMPTY}>", "<>"),
            ("${USER:-x}", "app"),
            ("${GONE:-x}", "x"),
            ("<${EMPTY:-x}>", "<x>"),
            ("<${GONE:-}>", "<>"),
            ("${GONE:-https://h:1/p?a=b}/c", "https://h:1/p?a=b/c"),
            ("${GONE:-$$USER costs $5}", "$USER costs $5"),
            ("${GONE:-{a}}", "{a}"),
            ("${GONE:-:-x}", ":-x"),
        ] {
            let expanded = Setting::parse(text).unwrap().expand(&environment);
            assert_eq!(expanded.as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn an_unset_variable_is_named() {
        for text in ["${GONE}", "$GONE", "x${USER}y$GONE-z"] {
            let error = Setting::parse(text).unwrap().expand(&environment).unwrap_err();
            assert_eq!(error, UnresolvedSetting::Variable("GONE".to_owned()), "{text}");
        }
    }

    #[test]
    fn a_secret_that_is_set_to_nothing_counts_as_unset() {
        let setting = Setting::parse("${EMPTY}").unwrap();
        assert_eq!(setting.resolve_with(&environment), Err(UnresolvedSetting::Variable("EMPTY".to_owned())));
        let setting = Setting::parse("${EMPTY:-app}").unwrap();
        assert_eq!(setting.resolve_with(&environment).unwrap().expose(), "app");
        let setting = Setting::parse("user=${USER}").unwrap();
        assert_eq!(setting.resolve_with(&environment).unwrap().expose(), "user=app");
        assert_eq!(setting.variables().collect::<Vec<_>>(), ["USER"]);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for (text, error) in [
            ("${USER", SyntaxError::Unclosed),
            ("${USER:-x", SyntaxError::Unclosed),
            ("${USER-x}", SyntaxError::Operator("USER".to_owned())),
            ("${USER:?x}", SyntaxError::Operator("USER".to_owned())),
            ("${USER:x}", SyntaxError::Operator("USER".to_owned())),
            ("${USER:-${X}}", SyntaxError::NestedDefault("USER".to_owned())),
            ("${USER:-a$X}", SyntaxError::NestedDefault("USER".to_owned())),
            ("${:-x}", SyntaxError::NotAName),
            ("${}", SyntaxError::NotAName),
            ("${1X}", SyntaxError::NotAName),
            ("${A B}", SyntaxError::NotAName),
        ] {
            assert_eq!(Setting::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn debug_names_variables_and_hides_literals() {
        assert_eq!(format!("{:?}", Setting::parse("https://canary/${TOKEN}").unwrap()), "Setting(***${TOKEN})");
        assert_eq!(format!("{:?}", Setting::literal("canary")), "Setting(***)");
        assert_eq!(format!("{:?}", Setting::parse("${TOKEN:-canary}").unwrap()), "Setting(${TOKEN:-***})");
    }

    #[test]
    fn only_a_lone_variable_is_certain_to_hold_no_secret() {
        for (text, public) in
            [("${A}", Some("${A}")), ("${A:-x}", Some("${A}")), ("x${A}", None), ("${A}${B}", None), ("x", None)]
        {
            assert_eq!(Setting::parse(text).unwrap().public_form().as_deref(), public, "{text}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_text_can_be_written_and_comes_back(text in ".*") {
            let written = text.replace('$', "$$");
            let read = Setting::parse(&written).unwrap().expand(&|_| None);
            proptest::prop_assert_eq!(read, Ok(text));
        }

        #[test]
        fn a_default_holds_exactly_where_there_is_no_value(
            before in "[^$]*", default in "[^$}]*", after in "[^$]*", value in proptest::option::of(".*"),
        ) {
            let setting = Setting::parse(&format!("{before}${{NAME:-{default}}}{after}")).unwrap();
            let read = setting.expand(&|name| if name == "NAME" { value.clone() } else { None });
            let held = value.filter(|value| !value.is_empty()).unwrap_or(default);
            proptest::prop_assert_eq!(read, Ok(format!("{before}{held}{after}")));
        }

        #[test]
        fn no_text_makes_the_reader_panic_or_look_at_the_environment_for_what_is_no_name(text in ".*[$][{]?.*") {
            if let Ok(setting) = Setting::parse(&text) {
                for name in setting.variables() {
                    proptest::prop_assert_eq!(name_length(name), name.len());
                }
            }
        }
    }
}
