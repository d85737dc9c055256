//! What templates give, and that no template and no data harms who fills it in.

use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;
use crate::outcome::{ErrorKind, RunError};
use crate::timestamp::Timestamp;

/// A notice with these columns, of which `actual` is the value.
fn with<T>(actual: &str, context: serde_json::Value, use_it: impl FnOnce(&Notice<'_>) -> T) -> T {
    let actual: serde_json::Value = serde_json::from_str(actual).unwrap();
    let serde_json::Value::Object(context) = context else { panic!("{context}") };
    let labels = BTreeMap::from([("team".to_owned(), "billing".to_owned())]);
    use_it(&Notice {
        alert_name: "revenue",
        status: "ALERT",
        kind: "alert",
        actual_value: Some(&actual),
        threshold: None,
        description: "",
        context: &context,
        labels: &labels,
        severity: None,
        runbook: None,
        instance: None,
        source: "default",
        scheduled_for: Timestamp::from_micros(1_767_225_660_000_000),
        notification_id: "n".to_owned(),
        execution_id: "e".to_owned(),
        error: None,
        consecutive_errors: 0,
        attempt: 1,
        possible_duplicate: false,
        truncated: false,
        fallback_for: None,
    })
}

fn rendered(text: &str, escape: Escape, actual: &str, context: serde_json::Value) -> Result<String, String> {
    let template = Template::subject(text).map_err(|error| error.to_string())?;
    with(actual, context, |notice| template.render(notice, escape)).map_err(|error| error.to_string())
}

fn plain(text: &str, actual: &str) -> Result<String, String> {
    rendered(text, Escape::Nothing, actual, json!({"region": "eu", "rows": [1, {"a": null}], "ok": true}))
}

#[test]
fn double_braces_make_a_template_and_single_ones_stay_what_they_were() {
    for (text, expected) in [
        ("{alert_name}: {status} ({actual_value})", "revenue: ALERT (8500.10)"),
        ("100 % }} of {threshold}", "100 % } of "),
        ("{{ alert_name }}: {{status}} ({{ actual_value }})", "revenue: ALERT (8500.10)"),
        ("{{status}}", "ALERT"),
        ("{# no one sees this #}{{ '{status}' }} {{ '{{' }}", "{status} {{"),
        ("{% if threshold is none %}no{% endif %}{{ threshold }} threshold", "no threshold"),
        ("{{ labels.team }} {{ scheduled_for }}", "billing 2026-01-01T00:01:00.000000Z"),
        (
            "{{ context.rows }} {{ context.ok }} {{ context|tojson }}",
            "[1,{\"a\":null}] true {\"ok\":true,\"region\":\"eu\",\"rows\":[1,{\"a\":null}]}",
        ),
        ("a\n{% if true %}\nb\n{% endif %}\nc", "a\nb\nc"),
    ] {
        assert_eq!(plain(text, "8500.10").as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn digits_are_shown_as_the_database_gave_them_and_numbers_compare_as_numbers() {
    let long = "1234567890123456789012345678901234567890.1234567890";
    for (text, actual, expected) in [
        ("{{ actual_value }}", long, long),
        ("{{ [actual_value]|tojson }} {{ actual_value|string }}", long, &format!("[{long}] {long}")),
        (
            "{{ actual_value }}",
            "12345678901234567890123456789012345678901234567890",
            "12345678901234567890123456789012345678901234567890",
        ),
        ("{{ actual_value }}", "100.00", "100.00"),
        ("{{ actual_value }} {{ actual_value > 9 }} {{ actual_value == 10 }}", "10.0", "10.0 true true"),
        ("{{ actual_value + 0.25 }} {{ '%.1f'|format(actual_value) }}", "8500.10", "8500.35 8500.1"),
        ("{{ actual_value|round(1) }} {{ actual_value|int }}", "56.27", "56.3 56"),
        ("{{ actual_value }} {{ actual_value < 0 }}", "-0.000", "-0.000 false"),
        ("{{ actual_value }}", "1e400", "1e+400"),
    ] {
        assert_eq!(plain(text, actual).as_deref(), Ok(expected), "{text} {actual}");
    }
}

#[test]
fn data_is_no_markup_and_the_authors_text_is() {
    let evil = || json!({"evil": "<!channel> & <@U1>"});
    let escaped = "&lt;!channel&gt; &amp; &lt;@U1&gt;";
    for (text, expected) in [
        ("<!here> *{{ context.evil }}*", format!("<!here> *{escaped}*")),
        ("{% set x %}{{ context.evil }}{% endset %}{{ x }}", escaped.to_owned()),
        ("{{ context.evil|e }} {{ context.evil|e|upper|lower }}", format!("{escaped} {}", escaped.to_lowercase())),
        ("{% autoescape false %}{{ context.evil }}{% endautoescape %}", escaped.to_owned()),
        ("{{ 'x' ~ context.evil }}", format!("x{escaped}")),
        ("{{ [context.evil]|join('') }}{{ '%s'|format(context.evil) }}", format!("{escaped}{escaped}")),
    ] {
        assert_eq!(rendered(text, Escape::Slack, "1", evil()), Ok(expected), "{text}");
    }
    assert_eq!(rendered("{{ context.evil }}", Escape::Nothing, "1", evil()).as_deref(), Ok("<!channel> & <@U1>"));
    assert!(rendered("{{ context.evil|safe }}", Escape::Slack, "1", evil()).unwrap_err().contains("safe is unknown"));
}

#[test]
fn an_error_says_what_is_missing_and_shows_no_value() {
    assert_eq!(plain("x\n{{ context.regoin }}", "1").unwrap_err(), "`context.regoin` is undefined (line 2)");
    let canary = rendered("{{ context.a|int }}", Escape::Nothing, "1", json!({"a": "canary"})).unwrap_err();
    assert!(canary.contains("`int`") && !canary.contains("canary"), "{canary}");
}

#[test]
fn work_and_text_come_to_an_end() {
    let loops = "{% for a in range(9000) %}".repeat(4) + &"{% endfor %}".repeat(4);
    for text in [
        loops.as_str(),
        "{% for a in range(9000) %}{{ 'x' * 1000 }}{% endfor %}",
        "{{ 'x' * 100000000 }}",
        "{{ ([range(9000)] * 5000)|tojson }}",
        "{{ (['x' * 100000] * 10000)|tojson }}",
        "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{{ '%1000000000d'|format(1) }}",
        &"x".repeat(17_000),
        &format!("{{{{ 1 }}}}{}", "x".repeat(17_000)),
    ] {
        let text = format!("{{# #}}{text}");
        assert!(plain(&text, "1").is_err(), "{}", text.chars().take(60).collect::<String>());
    }
    let long = rendered("{{ context.a }}{{ context.a }}", Escape::Nothing, "1", json!({"a": "x".repeat(40_000)}));
    assert_eq!(long.unwrap_err(), "the text is longer than 64 KiB");
}

/// Found by trying: on an ordinary stack each of these ends the process.
#[test]
fn a_template_that_goes_as_deep_as_it_can_does_not_end_the_process() {
    let fill = |begin: &str, piece: &str, end: &str| {
        format!("{begin}{}{end}", piece.repeat((engine::LONGEST_TEMPLATE - begin.len() - end.len()) / piece.len()))
    };
    let deep = format!("{{%set x={}x{}%}}", "[".repeat(140), "]".repeat(140));
    for text in [
        fill("{{ 1", "|abs", "}}"),
        fill("{{ ", "-", "1 }}"),
        fill("{{ ", "not ", "1 }}"),
        fill("{{ a", ".a", "}}"),
        fill("{{ 1", "[1]", "}}"),
        fill("{{ 1", "()", "}}"),
        fill("{{ 1", " is odd", "}}"),
        fill("{{ 1", " if 1 else 1", "}}"),
        fill("{{ 1", "**1", "}}"),
        fill("{%if 0%}", "{%elif 0%}", "{%endif%}"),
        fill("{%set x=[1]%}", "{%set x=[x]%}", "{{ x ~ '' }}{{ x == [x] }}{{ x }}"),
        fill("{%set x=[1]%}", &deep, "{{ x ~ '' }}{{ [x, x]|unique|length }}{{ {x:1} }}"),
        fill("{%set x=[1]%}", &deep, ""),
        fill("{{ ", "(", ""),
        fill("", "{% if 1 %}", ""),
    ] {
        let template = Template::subject(&text).unwrap();
        let _ = template.try_out(Escape::Slack);
        let _ = with("1", json!({}), |notice| template.render(notice, Escape::Slack));
    }
}

#[test]
fn every_variable_is_one_of_the_notice() {
    with("1", json!({}), |notice| {
        let error = RunError { kind: ErrorKind::Timeout, message: "m".to_owned() };
        let notice = Notice { error: Some(&error), ..notice.clone() };
        let mut names: Vec<String> = variables(&notice, &mut Numbers::default()).into_keys().collect();
        let mut known = VARIABLES.map(str::to_owned).to_vec();
        names.sort();
        known.sort();
        assert_eq!(names, known);
        let text =
            Template::body("{{ error.kind }}: {{ error.message }}").and_then(|t| t.render(&notice, Escape::Slack));
        assert_eq!(text.as_deref(), Ok("timeout: m"));
    });
}

/// Pieces of templates, so that many of them are ones.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "{{ ",
        " }}",
        "{% ",
        " %}",
        "{#",
        "#}",
        "if ",
        "endif",
        "else",
        "for x in ",
        "endfor",
        "set x = ",
        "endset",
        "context",
        "context.a",
        "actual_value",
        "alert_name",
        "labels",
        "x",
        "loop.index",
        "range(5)",
        "range(9999)",
        "loop(x)",
        " recursive",
        "[x, x]",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ":",
        ",",
        "1",
        "-1",
        "0.5",
        "9e99",
        "'<!here'",
        "|e",
        "|tojson",
        "|upper",
        "|join",
        "|sort",
        "|list",
        "|items",
        "|first",
        "|round(3)",
        "|int",
        "|float",
        "|sum",
        "|groupby('a')",
        "|map('upper')",
        "|format(x)",
        "|replace('a', 'b')",
        "|indent(3)",
        "|batch(2)",
        "|dictsort",
        "|unique",
        "|reverse",
        "|min",
        "|default(1)",
        " + ",
        " * ",
        " - ",
        " ~ ",
        " // ",
        " % ",
        " ** ",
        " == ",
        " < ",
        " in ",
        " is ",
        "divisibleby(0)",
        "odd",
        "defined",
        "not ",
        "autoescape true",
        "autoescape false",
        "endautoescape",
        "raw",
        "endraw",
        "filter upper",
        "endfilter",
        "with y=1",
        "endwith",
        "dict(a=1)",
        "[::-1]",
        "[1:]",
        ".a",
        "é",
        "\n",
        "\\",
        "\"",
        "~",
        "{{ context.a }}",
        "{% if x %}",
        "{{ x }}",
        "{% endif %}",
        "{% for x in context %}",
        "{% endfor %}",
        "{% set x %}",
        "{% endset %}",
    ];
    prop_oneof![
        8 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned),
        1 => "[ -~]{0,6}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_template_panics_grows_or_lets_data_mention_anybody(
        pieces in proptest::collection::vec(piece(), 0..24),
        data in "[<>&!@a-z%{}|'\"\\\\\n]{0,12}",
        number in "-?[0-9]{1,45}(\\.[0-9]{1,20})?",
    ) {
        // What the author writes may mention somebody; here he does not.
        let text = pieces.concat().replace('<', " ");
        let actual = if number.trim_start_matches('-').starts_with('0') { "1".to_owned() } else { number };
        let mut context = Map::new();
        context.insert("a".to_owned(), format!("<!channel>{data}").into());
        context.insert("<!b>".to_owned(), json!([1, "<", null, {"a": 2.50}]));
        for escape in [Escape::Nothing, Escape::Slack] {
            for template in [Template::subject(&text), Template::body(&text)] {
                let Ok(template) = template else { continue };
                let _ = template.try_out(escape);
                let text = with(&actual, context.clone().into(), |notice| template.render(notice, escape));
                let Ok(text) = text else { continue };
                prop_assert!(text.len() <= 64 * 1024);
                let is_old = matches!(template.0, Form::Places(_));
                prop_assert!(escape == Escape::Nothing || is_old || !text.contains('<'), "{text}");
            }
        }
    }
}
