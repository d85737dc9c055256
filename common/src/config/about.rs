//! `labels`, `severity` and `runbook`, of an alert and of `defaults`.

use url::Url;

use super::keys::{shown, suggestion};
use super::section::{Item, Reader, Section};
use crate::alert::{About, Severity};

/// Longest name of a label, in characters.
const MAX_LABEL: usize = 64;

/// What `section` says; where it says nothing, or something wrong, `defaults`. Labels are joined, the rest is replaced.
pub(super) fn read(reader: &mut Reader<'_>, section: &Section<'_>, defaults: &About) -> About {
    let mut about = defaults.clone();
    for (entry, item) in section.get("labels").map(|item| reader.named_items(&item)).unwrap_or_default() {
        if !is_label(&entry.key) {
            let help = format!("use letters, digits and `_`, not beginning with a digit, at most {MAX_LABEL} of them");
            reader.problem(entry.place, &item.path, "not a label's name", help);
        }
        if let Some(value) = reader.scalar(&item, "a text") {
            about.labels.insert(entry.key.clone(), value);
        }
    }
    if let Some(severity) = section.get("severity").and_then(|item| read_severity(reader, &item)) {
        about.severity = Some(severity);
    }
    if let Some(runbook) = section.get("runbook").and_then(|item| read_runbook(reader, &item)) {
        about.runbook = Some(runbook);
    }
    about
}

/// As Prometheus has it, since that is where labels go on to.
fn is_label(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.len() <= MAX_LABEL
        && name.chars().all(plain)
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
}

fn read_severity(reader: &mut Reader<'_>, item: &Item<'_>) -> Option<Severity> {
    let text = reader.text(item)?;
    let severity = Severity::ALL.into_iter().find(|severity| severity.as_str().eq_ignore_ascii_case(text.trim()));
    if severity.is_none() {
        let help = suggestion(&text, &Severity::ALL.map(Severity::as_str));
        reader.problem(item.node.place, &item.path, format!("unknown severity `{}`", shown(&text)), help);
    }
    severity
}

fn read_runbook(reader: &mut Reader<'_>, item: &Item<'_>) -> Option<String> {
    let text = reader.text(item)?;
    let usable = Url::parse(text.trim()).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if !usable {
        let help = "write `https://host/path`: it is sent along as a link";
        reader.problem(item.node.place, &item.path, "not an http or https URL", help);
        return None;
    }
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::{Config, ConfigProblem, load_str};
    use super::*;

    fn load(keys: &str) -> Result<Config, Vec<ConfigProblem>> {
        let text = format!(
            "database: {{url: 'sqlite:///t.db'}}\ndefaults: {{labels: {{team: data, tier: 1}}, severity: info}}\nalerts:\n- {{name: a, query: q, schedule: '@daily', {keys}}}\n"
        );
        load_str(&text, "alerts.yaml", &|_| None).map_err(|errors| errors.0)
    }

    #[test]
    fn labels_join_those_of_defaults_and_the_rest_takes_their_place() {
        let about = |keys: &str| load(keys).unwrap().alerts[0].definition.about.clone();
        let labels = |about: &About| about.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ");
        let told = about("labels: {team: billing, on: true}, severity: Critical, runbook: 'https://wiki/a'");
        assert_eq!(labels(&told), "on=true team=billing tier=1");
        assert_eq!((told.severity, told.runbook.as_deref()), (Some(Severity::Critical), Some("https://wiki/a")));
        let told = about("enabled: true");
        assert_eq!(
            (labels(&told).as_str(), told.severity, told.runbook),
            ("team=data tier=1", Some(Severity::Info), None)
        );
    }

    #[test]
    fn every_mistake_has_its_place() {
        for (keys, path, said) in [
            ("labels: {a-b: x}", "labels.a-b", "not a label's name"),
            ("labels: {1a: x}", "labels.1a", "not a label's name"),
            ("labels: {a: [x]}", "labels.a", "found a list"),
            ("labels: [a]", "labels", "expected a mapping"),
            ("severity: critcal", "severity", "did you mean `critical`?"),
            ("runbook: wiki/a", "runbook", "not an http or https URL"),
        ] {
            let problems = load(keys).expect_err(keys);
            let path = format!("alerts[0].{path}");
            assert!(problems.iter().any(|p| p.path == path && p.to_string().contains(said)), "{keys}\n{problems:?}");
        }
    }
}
