//! `${VAR}` and `$VAR` in the configuration's texts.
//!
//! [`Setting`] is a text in a secret position: it is kept as it was written, and resolved by the process that uses
//! it. Every other text is expanded once, at load. What a variable holds is never expanded again.

use std::fmt;

use crate::secret::Secret;

/// Looks a variable up. Processes use [`from_environment`]; tests bring their own.
pub type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// The process's environment. A variable that is not Unicode counts as unset.
pub fn from_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A text in a secret position, with its variables unresolved.
///
/// Its `Debug` names the variables and shows nothing of the literal parts.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting(Vec<Part>);

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Variable(String),
}

/// A variable without a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("environment variable `{variable}` is not set, or is empty")]
pub struct UnresolvedSetting {
    /// The variable's name.
    pub variable: String,
}

/// A `${…}` that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// No `}`.
    #[error("`${{` without `}}`")]
    Unclosed,
    /// `${VAR:-default}` and its relatives.
    #[error("`${{{0}…}}` with a default value is not supported yet")]
    DefaultValue(String),
    /// Something else between the braces. It is not shown: it may be part of a password.
    #[error("`${{…}}` without a variable's name between the braces")]
    NotAName,
}

impl Setting {
    /// A text without variables.
    pub fn literal(text: impl Into<String>) -> Self {
        Self(vec![Part::Literal(text.into())])
    }

    /// Reads `text`; `$$` is a dollar sign, and so is a `$` that no name follows.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            literal.push_str(&rest[..dollar]);
            let after = &rest[dollar + 1..];
            let (variable, remainder) = if let Some(remainder) = after.strip_prefix('$') {
                ("", remainder)
            } else if let Some(braced) = after.strip_prefix('{') {
                let (inside, remainder) = braced.split_once('}').ok_or(SyntaxError::Unclosed)?;
                (braced_name(inside)?, remainder)
            } else {
                after.split_at(name_length(after))
            };
            if variable.is_empty() {
                literal.push('$');
            } else {
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(Part::Variable(variable.to_owned()));
            }
            rest = remainder;
        }
        literal.push_str(rest);
        if !literal.is_empty() || parts.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self(parts))
    }

    /// The secret, from the process's environment.
    pub fn resolve(&self) -> Result<Secret, UnresolvedSetting> {
        self.resolve_with(&from_environment)
    }

    /// The secret, from `environment`. A variable that is set to nothing counts as unset.
    pub fn resolve_with(&self, environment: &Environment<'_>) -> Result<Secret, UnresolvedSetting> {
        let lookup = |name: &str| environment(name).filter(|value| !value.is_empty());
        self.expand(&lookup).map(Secret::new)
    }

    /// The text with its variables replaced; a variable may be set to nothing.
    pub(super) fn expand(&self, environment: &Environment<'_>) -> Result<String, UnresolvedSetting> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Variable(name) => match environment(name) {
                    Some(value) => text.push_str(&value),
                    None => return Err(UnresolvedSetting { variable: name.clone() }),
                },
            }
        }
        Ok(text)
    }

    /// The variables that it needs, in the text's order.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Variable(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// The whole text, if no variable is in it. It may be a secret.
    pub(super) fn as_literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The literal parts. They may be secrets.
    pub(super) fn literals(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Literal(text) => Some(text.as_str()),
            Part::Variable(_) => None,
        })
    }

    /// `${NAME}`, if that is all there is: the one form that is certain to hold no secret.
    pub(super) fn as_single_variable(&self) -> Option<String> {
        match self.0.as_slice() {
            [Part::Variable(name)] => Some(format!("${{{name}}}")),
            _ => None,
        }
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Setting(")?;
        for part in &self.0 {
            match part {
                Part::Literal(_) => f.write_str("***")?,
                Part::Variable(name) => write!(f, "${{{name}}}")?,
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

fn braced_name(inside: &str) -> Result<&str, SyntaxError> {
    let (name, rest) = inside.split_at(name_length(inside));
    if name.is_empty() {
        Err(SyntaxError::NotAName)
    } else if rest.is_empty() {
        Ok(name)
    } else if rest.starts_with([':', '-', '=', '?', '+']) {
        Err(SyntaxError::DefaultValue(name.to_owned()))
    } else {
        Err(SyntaxError::NotAName)
    }
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
        ] {
            let expanded = Setting::parse(text).unwrap().expand(&environment);
            assert_eq!(expanded.as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn an_unset_variable_is_named() {
        for text in ["${GONE}", "$GONE", "x${USER}y$GONE-z"] {
            let error = Setting::parse(text).unwrap().expand(&environment).unwrap_err();
            assert_eq!(error.variable, "GONE", "{text}");
        }
    }

    #[test]
    fn a_secret_that_is_set_to_nothing_counts_as_unset() {
        let setting = Setting::parse("${EMPTY}").unwrap();
        assert_eq!(setting.resolve_with(&environment).unwrap_err().variable, "EMPTY");
        let setting = Setting::parse("user=${USER}").unwrap();
        assert_eq!(setting.resolve_with(&environment).unwrap().expose(), "user=app");
        assert_eq!(setting.variables().collect::<Vec<_>>(), ["USER"]);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for (text, error) in [
            ("${USER", SyntaxError::Unclosed),
            ("${USER:-x}", SyntaxError::DefaultValue("USER".to_owned())),
            ("${USER-x}", SyntaxError::DefaultValue("USER".to_owned())),
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
    }

    #[test]
    fn only_a_lone_variable_is_certain_to_hold_no_secret() {
        for (text, public) in
            [("${A}", Some("${A}")), ("$A", Some("${A}")), ("x${A}", None), ("${A}${B}", None), ("x", None)]
        {
            assert_eq!(Setting::parse(text).unwrap().as_single_variable().as_deref(), public, "{text}");
        }
    }
}
