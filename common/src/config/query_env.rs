//! `query_env`: the variables of the workers' environment that a query's text may hold.

use super::interpolate::is_name;
use super::keys::shown;
use super::section::{Reader, Section};

/// The names; those that something is wrong with are left out.
pub(super) fn read(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for item in section.get("query_env").map(|item| reader.list(&item)).unwrap_or_default() {
        let Some(name) = reader.verbatim(&item) else { continue };
        let place = item.node.place;
        if !is_name(name) {
            let help = "write the name alone, without `$`: letters, digits and `_`, not beginning with a digit";
            reader.problem(place, &item.path, format!("`{}` is not a variable's name", shown(name)), help);
        } else if names.iter().any(|known| known == name) {
            reader.problem(place, &item.path, format!("`{name}` is already there"), "remove one of them");
        } else if let Err(refusal) = reader.access.variable(name) {
            reader.problem(place, &item.path, refusal.to_string(), refusal.help());
        } else {
            names.push(name.to_owned());
        }
    }
    names
}

/// Says which of the names `query` does not hold: a typing error in either of them would go to the database as it is.
pub(super) fn warn_of_unused(reader: &mut Reader<'_>, section: &Section<'_>, query: &str) {
    let Some(item) = section.get("query_env") else { return };
    for (place, path, name) in item.texts() {
        // What is wrong with a name has been said.
        if is_name(name) && !is_used(query, name) {
            reader.warning(
                place,
                &path,
                format!("the query holds no `${{{name}}}`"),
                "remove it here, or use it there",
            );
        }
    }
}

/// Whether `query` holds `${name}` or `$name`.
fn is_used(query: &str, name: &str) -> bool {
    query.match_indices('$').any(|(at, _)| {
        let after = &query[at + 1..];
        match after.strip_prefix('{') {
            Some(inside) => inside.strip_prefix(name).is_some_and(|rest| rest.starts_with('}')),
            None => after
                .strip_prefix(name)
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$')),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Config, ConfigProblem, load_str};

    fn load(query_env: &str, query: &str) -> Result<Config, Vec<ConfigProblem>> {
        let text = format!(
            "database: {{url: 'sqlite:///t.db'}}\nalerts:\n- {{name: a, schedule: '@daily', query_env: {query_env}, query: '{query}'}}\n"
        );
        load_str(&text, "alerts.yaml", &|_| None).map_err(|errors| errors.0)
    }

    #[test]
    fn the_names_arrive_and_nothing_is_looked_up() {
        let config = load("[MIN, MAX_2]", "SELECT ${MIN}, $MAX_2").unwrap();
        assert_eq!(config.alerts[0].definition.options.query_env, ["MIN", "MAX_2"]);
        assert_eq!(config.alerts[0].definition.query, "SELECT ${MIN}, $MAX_2");
        assert_eq!(config.warnings, []);
    }

    #[test]
    fn every_mistake_has_its_place() {
        for (query_env, column, path, said) in [
            ("[$MIN]", 0, "[0]", "`…` is not a variable's name"),
            ("[MIN, 2X]", 5, "[1]", "`2X` is not a variable's name"),
            ("[MIN, MIN]", 5, "[1]", "`MIN` is already there"),
            ("[NATS_PASSWORD]", 0, "[0]", "belongs to SQL Sentinel's own services"),
            ("[AWS_SECRET_ACCESS_KEY]", 0, "[0]", "may not read the variable"),
            ("[7]", 0, "[0]", "put it in quotes"),
            ("MIN", -1, "", "expected a list"),
        ] {
            let problems = load(query_env, "SELECT ${MIN}").expect_err(query_env);
            let place = (3, u64::try_from(45 + column).unwrap(), format!("alerts[0].query_env{path}"));
            let found: Vec<_> = problems.iter().map(|p| (p.line, p.column, p.path.clone())).collect();
            assert_eq!(found, [place], "{query_env}");
            assert!(problems[0].to_string().contains(said), "{}", problems[0]);
        }
    }

    #[test]
    fn a_name_that_the_query_does_not_hold_is_worth_a_warning() {
        for (query, warned) in [
            ("SELECT ${MIN}", false),
            ("SELECT $MIN, 1", false),
            ("SELECT ${MINI}", true),
            ("SELECT $MINI", true),
            ("SELECT $MIN$ text $MIN$", true),
            ("SELECT MIN", true),
        ] {
            let warnings = load("[MIN]", query).unwrap().warnings;
            let said = warnings.iter().any(|warning| {
                warning.path == "alerts[0].query_env[0]" && warning.message == "the query holds no `${MIN}`"
            });
            assert_eq!(said, warned, "{query}: {warnings:?}");
        }
    }
}
