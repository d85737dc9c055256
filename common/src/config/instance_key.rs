//! `instance_key`: the columns that tell the rows of an answer apart.

use super::keys::shown;
use super::raw::Value;
use super::section::{Item, Reader, Section};

/// More would be no name that people can read.
const MAX_COLUMNS: usize = 8;
/// Longest name of a column, in characters.
const MAX_NAME: usize = 64;
/// Columns of the query contract say what an instance is in, not which one it is.
const JUDGED: [&str; 3] = ["status", "actual_value", "threshold"];

/// Reads the key of the alert at `section`: a list of names, or one name. Empty if there is none.
pub(super) fn read(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<String> {
    let Some(item) = section.get("instance_key") else { return Vec::new() };
    let items = match &item.node.value {
        Value::Text(_) => vec![Item { node: item.node, path: item.path.clone() }],
        _ => reader.list(&item),
    };
    let (place, path) = (item.node.place, item.path.as_str());
    if items.is_empty() && matches!(item.node.value, Value::List(_)) {
        reader.problem(place, path, "no column is named", "name those that tell the rows apart, or remove the key");
    }
    if items.len() > MAX_COLUMNS {
        reader.problem(place, path, format!("more than {MAX_COLUMNS} columns"), "name one that has them together");
    }
    let mut names: Vec<String> = Vec::new();
    for item in items {
        let Some(name) = reader.verbatim(&item) else { continue };
        let is = |other: &str| other.eq_ignore_ascii_case(name);
        let (message, help) = if name.trim().is_empty() {
            ("is empty".to_owned(), "write a column's name")
        } else if name.chars().count() > MAX_NAME {
            (format!("is longer than {MAX_NAME} characters"), "give the column a shorter name: `... AS name`")
        } else if JUDGED.into_iter().any(is) {
            (format!("`{}` says what a row is in, not which one it is", shown(name)), "name another column")
        } else if names.iter().any(|known| is(known)) {
            (format!("`{}` is there twice", shown(name)), "remove one of them")
        } else {
            names.push(name.to_owned());
            continue;
        };
        reader.problem(item.node.place, &item.path, message, help);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::super::load_str;

    fn load(key: &str) -> Result<Vec<String>, Vec<String>> {
        let text = format!(
            "database: {{url: 'sqlite:///t.db'}}\nalerts:\n- name: a\n  query: q\n  schedule: '@daily'\n  instance_key: {key}\n"
        );
        let config = load_str(&text, "alerts.yaml", &|_: &str| None);
        let mut config = config.map_err(|errors| errors.0.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        Ok(config.alerts.remove(0).definition.options.instance_key)
    }

    #[test]
    fn the_columns_of_a_key_are_a_list_or_one_name() {
        for (key, columns) in [
            ("[shop, product]", vec!["shop", "product"]),
            ("shop", vec!["shop"]),
            ("['the shop', état]", vec!["the shop", "état"]),
            ("[a, b, c, d, e, f, g, h]", vec!["a", "b", "c", "d", "e", "f", "g", "h"]),
        ] {
            assert_eq!(load(key).unwrap(), columns, "{key}");
        }
    }

    #[test]
    fn a_key_that_tells_nothing_apart_is_refused_where_it_stands() {
        let long = format!("[{}]", "x".repeat(65));
        for (key, said) in [
            ("[]", "no column is named"),
            ("[a, b, c, d, e, f, g, h, i]", "more than 8 columns"),
            ("[shop, '']", "is empty"),
            ("[status]", "`status` says what a row is in"),
            ("Actual_Value", "`Actual_Value` says what a row is in"),
            ("[threshold]", "`threshold` says what a row is in"),
            ("[shop, SHOP]", "`SHOP` is there twice"),
            ("{shop: 1}", "found a mapping"),
            ("[[shop]]", "found a list, expected a text"),
            (&long, "longer than 64 characters"),
        ] {
            let problems = load(key).unwrap_err();
            let place = "alerts.yaml:6:";
            assert!(problems.len() == 1 && problems[0].contains(said), "{key}: {problems:?}");
            assert!(problems[0].contains(place) && problems[0].contains("alerts[0].instance_key"), "{problems:?}");
        }
    }
}
