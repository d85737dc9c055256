//! The text of a query with the variables that its `query_env` lists. Pure.
//!
//! Input: the text as written, the names, an environment. Output: the text that is sent, and what must not be shown of
//! it: a value may be a secret, and databases quote queries in their errors. Every other `$` is the database's own.

use std::borrow::Cow;

use sqlsentinel_common::config::Environment;

/// A value that is shorter than this is no secret, and would be found in every word.
const SHORTEST_SECRET: usize = 4;

/// A query as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryText<'q> {
    /// The text.
    pub text: Cow<'q, str>,
    /// The variables in it, with their values.
    values: Vec<(&'q str, String)>,
}

/// A variable without a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`query_env` lists `{0}`, which is not set in the environment of the process that runs the query")]
pub struct Unset(String);

impl<'q> QueryText<'q> {
    /// `query` with `${NAME}` and `$NAME` replaced for each of `names` that stands in it. What a variable holds is not
    /// looked through again.
    pub fn expand(query: &'q str, names: &'q [String], environment: &Environment<'_>) -> Result<Self, Unset> {
        let mut values: Vec<(&'q str, String)> = Vec::new();
        let mut text = String::new();
        let mut rest = query;
        while let Some(dollar) = if names.is_empty() { None } else { rest.find('$') } {
            let (before, from) = rest.split_at(dollar);
            text.push_str(before);
            let Some((name, length)) = names.iter().find_map(|name| Some((name, reference(from, name)?))) else {
                text.push('$');
                rest = &from[1..];
                continue;
            };
            if !values.iter().any(|(known, _)| known == name) {
                values.push((name, environment(name).ok_or_else(|| Unset(name.clone()))?));
            }
            let value = values.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
            text.push_str(value.unwrap_or_default());
            rest = &from[length..];
        }
        if values.is_empty() {
            return Ok(Self { text: Cow::Borrowed(query), values });
        }
        text.push_str(rest);
        // The longest first: a value that holds another one hides it too.
        values.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        Ok(Self { text: Cow::Owned(text), values })
    }

    /// `message` with the names in the place of the values.
    pub fn without_values(&self, message: &str) -> String {
        let mut message = message.to_owned();
        for (name, value) in self.values.iter().filter(|(_, value)| value.len() >= SHORTEST_SECRET) {
            message = message.replace(value.as_str(), &format!("${{{name}}}"));
        }
        message
    }
}

/// How many bytes of `text`, which begins with a dollar sign, are a reference to `name`; none if they are not one.
fn reference(text: &str, name: &str) -> Option<usize> {
    let after = text.strip_prefix('$')?;
    if let Some(inside) = after.strip_prefix('{') {
        return inside.strip_prefix(name)?.starts_with('}').then_some(name.len() + 3);
    }
    let end = after.strip_prefix(name)?.chars().next();
    // `$NAME$` begins a text of PostgreSQL's.
    let goes_on = end.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$');
    (!goes_on).then_some(name.len() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "FLOOR" => Some("8500".to_owned()),
            "REGION" => Some("eu ${FLOOR}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn expanded(query: &str) -> String {
        let names = ["FLOOR", "REGION", "EMPTY"].map(str::to_owned);
        QueryText::expand(query, &names, &environment).map(|text| text.text.into_owned()).unwrap_or_default()
    }

    #[test]
    fn only_what_is_listed_is_replaced_once_and_every_other_dollar_stays() {
        for (query, expected) in [
            ("SELECT ${FLOOR}, '$REGION'", "SELECT 8500, 'eu ${FLOOR}'"),
            ("x<${EMPTY}>", "x<>"),
            ("$1 ${HOME} $HOME $$a$$ $", "$1 ${HOME} $HOME $$a$$ $"),
            ("$FLOORS ${FLOOR", "$FLOORS ${FLOOR"),
            ("$FLOOR$text$FLOOR$", "$FLOOR$text$FLOOR$"),
            ("é$FLOOR.", "é8500."),
        ] {
            assert_eq!(expanded(query), expected, "{query}");
        }
    }

    #[test]
    fn a_query_without_a_list_is_sent_as_it_is() {
        let text = QueryText::expand("SELECT ${FLOOR}", &[], &environment);
        assert_eq!(text.map(|text| text.text), Ok(Cow::Borrowed("SELECT ${FLOOR}")));
    }

    #[test]
    fn a_listed_variable_that_is_used_must_be_set() {
        let names = ["GONE".to_owned()];
        assert_eq!(QueryText::expand("SELECT ${GONE}", &names, &environment), Err(Unset("GONE".to_owned())));
        assert!(QueryText::expand("SELECT 1", &names, &environment).is_ok());
    }

    #[test]
    fn what_is_shown_has_names_in_the_place_of_values() -> Result<(), Unset> {
        let names = ["REGION", "FLOOR", "EMPTY"].map(str::to_owned);
        let text = QueryText::expand("$REGION $FLOOR $EMPTY", &names, &environment)?;
        assert_eq!(text.without_values("near \"eu ${FLOOR}\": 8500"), "near \"${REGION}\": ${FLOOR}");
        Ok(())
    }
}
