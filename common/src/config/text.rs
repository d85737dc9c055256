//! The keys `subject` and `body`: what a message says, where its author does not want the standard text.
//!
//! Input: one entry's section. Output: a [`Template`] that gives a text for every kind of news, or problems.

use super::section::{Item, Reader, Section};
use super::template::{Escape, Template, TemplateError};

/// What `subject` says; none in it if it is missing, none if something is wrong with it.
pub(super) fn subject(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Option<Template>> {
    let Some(item) = section.get("subject") else { return Some(None) };
    let text = not_empty(reader, &item, "subject")?;
    if text.chars().any(char::is_control) {
        let message = "a subject cannot hold line breaks or other control characters";
        reader.problem(item.node.place, &item.path, message, "");
        return None;
    }
    tried(reader, &item, Template::subject(&text), Escape::Nothing).map(|(template, _)| Some(template))
}

/// What `body` says, likewise.
pub(super) fn body(reader: &mut Reader<'_>, section: &Section<'_>, escape: Escape) -> Option<Option<Template>> {
    let Some(item) = section.get("body") else { return Some(None) };
    let text = not_empty(reader, &item, "body")?;
    tried(reader, &item, Template::body(&text), escape).map(|(template, _)| Some(template))
}

/// The `body` of an HTTP request. One that looks like JSON should be JSON, whatever stands in its values.
pub(super) fn json_body(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Option<Template>> {
    let Some(item) = section.get("body") else { return Some(None) };
    let text = not_empty(reader, &item, "body")?;
    let (template, samples) = tried(reader, &item, Template::body(&text), Escape::Nothing)?;
    let like_json = |text: &&String| ["{", "[{"].iter().any(|begin| text.trim_start().starts_with(begin));
    let flaw = |text: &String| serde_json::from_str::<serde::de::IgnoredAny>(text).err();
    if let Some(error) = samples.iter().filter(like_json).find_map(flaw) {
        let message = format!("begins like JSON, and is none with a description of several lines and quotes: {error}");
        let help = "write texts as `{{ description|tojson }}`, without quotes around them";
        reader.warning(item.node.place, &item.path, message, help);
    }
    Some(Some(template))
}

fn not_empty(reader: &mut Reader<'_>, item: &Item<'_>, what: &str) -> Option<String> {
    let text = reader.text(item)?;
    if text.trim().is_empty() {
        reader.problem(
            item.node.place,
            &item.path,
            format!("the {what} is empty"),
            "leave it out for the standard one",
        );
        return None;
    }
    Some(text)
}

/// The template and what it gives for samples.
fn tried(
    reader: &mut Reader<'_>,
    item: &Item<'_>,
    template: Result<Template, TemplateError>,
    escape: Escape,
) -> Option<(Template, Vec<String>)> {
    let tried = template.and_then(|template| template.try_out(escape).map(|samples| (template, samples)));
    let help = match &tried {
        Err(TemplateError::Unusable { kind: "error" | "no_data", .. }) => {
            "no row was returned then, and columns are missing: write `{{ context.name|default('') }}`, or ask \
             `{% if actual_value is not none %}`"
        }
        Err(TemplateError::Unusable { .. }) => "what is not there is none: ask `{% if error %}` before `error.message`",
        _ => "",
    };
    reader.accept(item, tried, help)
}

#[cfg(test)]
mod tests {
    use super::super::{Config, ConfigProblem, load_str};

    fn load(entry: &str) -> Result<Config, Vec<ConfigProblem>> {
        let text = format!(
            "database: {{url: 'sqlite:///t.db'}}\nalerts:\n- name: a\n  query: q\n  schedule: '@daily'\n  notify:\n  - {entry}\n"
        );
        load_str(&text, "alerts.yaml", &|_| None).map_err(|errors| errors.0)
    }

    const EMAIL: &str = "{channel: email, recipients: [a@b], ";

    #[test]
    fn every_mistake_in_a_template_has_its_place() {
        for (entry, key, said) in [
            (EMAIL, "subject: ' '", "is empty"),
            (EMAIL, "subject: \"a\\nb\"", "line breaks"),
            (EMAIL, "subject: '{value}'", "nothing that can be filled in"),
            (EMAIL, "subject: '{{ status }} of {alert_name}'", "write `{{ alert_name }}`"),
            (EMAIL, "subject: '{{ statsu }}'", "unknown variable `statsu`: did you mean `status`?"),
            (EMAIL, "subject: '{{{status}}}'", "not a template"),
            (EMAIL, "body: '{{ status|uper }}'", "filter uper is unknown"),
            (EMAIL, "body: '{% if status %}'", "unexpected end of input"),
            (EMAIL, "body: \"a\\n{{ status is blub }}\"", "test blub is unknown (line 2)"),
            (EMAIL, "body: '{% include \"/etc/passwd\" %}'", "unknown statement include"),
            (EMAIL, "body: '{{ error.message }}'", "news of the kind `alert`: `error.message` is undefined"),
            (EMAIL, "body: '{{ context.region }}'", "write `{{ context.name|default('') }}`"),
            (EMAIL, "body: '{{ actual_value - threshold }}'", "news of the kind `error`: tried to use - operator"),
            (EMAIL, "body: '{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}'", "too long"),
            (EMAIL, "body: ''", "is empty"),
            ("{channel: slack, ", "body: '{status}'", "write `{{ status }}`"),
            ("{channel: webhook, url: 'https://h', ", "body: '{{ nothing }}'", "unknown variable `nothing`"),
            ("{channel: webhook, url: 'https://h', method: GET, ", "body: x", "has no body"),
        ] {
            let problems = load(&format!("{entry}{key}}}")).expect_err(key);
            let path = format!("alerts[0].notify[0].{}", key.split(':').next().unwrap_or_default());
            let fits =
                |p: &ConfigProblem| p.path == path && p.line == 7 && p.column > 20 && p.to_string().contains(said);
            assert!(problems.len() == 1 && problems.iter().all(fits), "{key}: {problems:?}");
        }
    }

    #[test]
    fn what_only_a_row_can_tell_is_left_to_it() {
        for body in [
            "{% if context %}{{ context.region|upper }} {{ context.orders / 2 }} {{ context.a.b.c }}{% endif %}",
            "{% if kind == 'alert' %}{{ context.orders + 1 }}{{ context.region + 'x' }}{% endif %}",
            "{% for name, value in context|items %}{{ name }}={{ value }};{% endfor %}",
            "{{ labels.team }}{{ labels['tier'] }}{{ context.x|default('-') }}",
            "{{ (actual_value or 0)|round(1) }}{% if error %}{{ error.kind }}{% endif %}{{ runbook }}{{ instance }}",
        ] {
            let config = load(&format!("{EMAIL}body: \"{body}\"}}"));
            assert!(config.is_ok(), "{body}: {config:?}");
        }
    }

    #[test]
    fn a_request_that_should_be_json_and_is_none_is_worth_a_warning() {
        let warnings = |body: &str| {
            let entry = format!("{{channel: webhook, url: 'https://h', body: '{body}'}}");
            load(&entry).unwrap().warnings.iter().map(ToString::to_string).collect::<String>()
        };
        assert!(warnings("{\"text\": \"{{ description }}\"}").contains("|tojson"));
        for good in ["{\"text\": {{ description|tojson }}}", "[{{ status }}] {{ description }}"] {
            assert_eq!(warnings(good), "", "{good}");
        }
    }
}
