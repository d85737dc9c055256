//! Templates that were made to break the engine: whatever a text is, it is read or refused, and what it gives is bounded.

use proptest::prelude::*;

use super::engine::LONGEST_TEXT;
use super::*;

/// Pieces of templates, so that more than a few texts get as far as being rendered.
const PIECES: [&str; 44] = [
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    " for x in range(99999) ",
    " for x in context ",
    " endfor ",
    " if ",
    " else ",
    " endif ",
    " set x = ",
    " macro m(a) ",
    " endmacro ",
    " alert_name ",
    " status ",
    " actual_value ",
    " context ",
    " x ",
    " m(x) ",
    " loop(x) ",
    "|upper",
    "|e",
    "|tojson",
    "|join(x)",
    "|replace('a', 'aaaaaaaa')",
    "|list",
    "|length",
    " ~ ",
    " * ",
    " ** ",
    " % ",
    "'a'",
    "9999999999",
    "-1",
    "[",
    "]",
    "(",
    ")",
    ".x",
    ", ",
    "<!channel>",
    "\n",
];

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![9 => prop::sample::select(&PIECES[..]).prop_map(str::to_owned), 1 => ".{0,4}"];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// Whether the engine gave an answer of its own: a panic of it is caught, and told as this.
fn answered(error: &TemplateError) -> bool {
    *error != TemplateError::broken()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_template_is_it_gives_a_bounded_text_or_a_reason(text in text()) {
        for template in [Template::subject(&text), Template::body(&text)] {
            for escape in [Escape::Nothing, Escape::Slack] {
                match template.clone().and_then(|template| template.try_out(escape)) {
                    Ok(texts) => prop_assert!(texts.iter().all(|text| text.len() <= LONGEST_TEXT)),
                    Err(error) => prop_assert!(answered(&error) && !error.to_string().is_empty(), "{text:?}: {error}"),
                }
            }
        }
    }
}

#[test]
fn what_would_work_for_long_or_grow_without_end_is_ended() {
    for endless in [
        "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}",
        "{% set x = 'aaaaaaaaaaaaaaaa' %}{{ x|replace('a', x)|replace('a', x)|replace('a', x)|replace('a', x)|replace('a', x) }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    ] {
        let tried = Template::body(endless).and_then(|template| template.try_out(Escape::Nothing));
        assert!(tried.as_ref().is_err_and(answered), "{endless}: {tried:?}");
    }
    let long = "{".repeat(LONGEST_TEMPLATE + 1);
    assert_eq!(Template::body(&long), Err(TemplateError::TooLong));
}
