//! Files that were made to break the reader: it reads them or says what is wrong and where, soon, and shows no secret.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

/// Far more than any of these texts needs, on any machine.
const SOON: Duration = Duration::from_secs(5);

const SEEDS: [&str; 4] = [
    include_str!("../../../examples/alerts.yaml"),
    include_str!("../../../examples/quickstart.yaml"),
    include_str!("../../../examples/templates.yaml"),
    "timezone: Europe/London\ndatabases: {w: {url: 'postgresql://u:p@h/d', pool_size: 3}}\nchannels:\n  ops: &ops {type: webhook, url: https://h.example/x, rate: 30/m}\nalerts:\n- &a\n  name: a\n  query: SELECT 1\n  schedule: every 30s\n  database: w\n  for: 5m\n  repeat_interval: 1h\n  jitter: 10s\n  overlap: skip\n  notify: [ops]\n- <<: *a\n  name: b\n",
];

/// What has a meaning in YAML, in this schema, or in what it holds.
const TOKENS: [&str; 64] = [
    "\n",
    "\n- ",
    "\n  ",
    "\n    ",
    ": ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    ", ",
    "&a ",
    "*a",
    "<<: *a",
    "!!int ",
    "!x ",
    "| ",
    "> ",
    "'",
    "\"",
    "\\",
    "#",
    "---\n",
    "...\n",
    "? ",
    "%YAML 1.1\n",
    "\t",
    "\u{feff}",
    "\u{0}",
    "\u{85}",
    "é",
    "~",
    "null",
    "true",
    "-1",
    "1e999",
    ".nan",
    "0x7fffffffffffffff",
    "99999999999999999999",
    "${",
    "${A}",
    "${A:-",
    "}",
    "$$",
    "alerts:",
    "name:",
    "query:",
    "schedule:",
    "'*/5 * * * *'",
    "every 0s",
    "notify:",
    "channel:",
    "channels:",
    "type:",
    "database:",
    "databases:",
    "url:",
    "include:",
    "timeout:",
    "{{ x",
    "{% for",
    "timezone:",
    "labels:",
    "a",
];

#[derive(Clone, Debug)]
enum Change {
    Insert(&'static str),
    Flip(u8),
    Cut(usize),
    DropLine,
    RepeatLine,
    Splice(&'static str, Index, usize),
}

fn change() -> impl Strategy<Value = (Index, Change)> {
    let change = prop_oneof![
        4 => select(TOKENS.to_vec()).prop_map(Change::Insert),
        2 => any::<u8>().prop_map(Change::Flip),
        1 => (1..60_usize).prop_map(Change::Cut),
        2 => Just(Change::DropLine),
        2 => Just(Change::RepeatLine),
        1 => (select(SEEDS.to_vec()), any::<Index>(), 1..200_usize)
            .prop_map(|(seed, from, length)| Change::Splice(seed, from, length)),
    ];
    (any::<Index>(), change)
}

fn changed(seed: &str, changes: &[(Index, Change)]) -> String {
    let mut bytes = seed.as_bytes().to_vec();
    for (place, change) in changes {
        let at = place.index(bytes.len() + 1);
        let begin = bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let end = bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length + 1);
        match change {
            Change::Insert(token) => drop(bytes.splice(at..at, token.bytes())),
            Change::Flip(mask) => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= mask),
            Change::Cut(length) => drop(bytes.drain(at..bytes.len().min(at + length))),
            Change::DropLine => drop(bytes.drain(begin..end)),
            Change::RepeatLine => {
                let line = bytes[begin..end].to_vec();
                bytes.splice(begin..begin, line);
            }
            Change::Splice(other, from, length) => {
                let part = other.as_bytes().iter().skip(from.index(other.len())).take(*length).copied();
                bytes.splice(at..at, part.collect::<Vec<_>>());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads `text`, makes sure that the answer is one, and returns what is wrong.
fn judge(text: &str) -> Result<Option<ConfigErrors>, TestCaseError> {
    let began = Instant::now();
    let read = load_str(text, "alerts.yaml", &|_| None);
    prop_assert!(began.elapsed() < SOON, "it took {:?}:\n{text}", began.elapsed());
    let lines = text.matches(['\n', '\r']).count() as u64 + 1;
    let problems = match &read {
        Ok(config) => &config.warnings,
        Err(errors) => &errors.0,
    };
    prop_assert!(read.is_ok() || !problems.is_empty(), "refused without a reason:\n{text}");
    for problem in problems {
        prop_assert!(!problem.message.is_empty() && !problem.file.is_empty(), "{problem:?} in\n{text}");
        let placed = (1..=lines).contains(&problem.line) && problem.column > 0;
        // A file as a whole has no line, and neither has one that an `include` has drawn in, as seen from here.
        let whole = problem.line == 0 && problem.column == 0;
        prop_assert!(placed || whole || problem.file != "alerts.yaml", "{problem:?} in\n{text}");
    }
    Ok(read.err())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_file_is_read_or_refused_with_a_place(
        seed in select(SEEDS.to_vec()), changes in prop::collection::vec(change(), 1..8),
    ) {
        judge(&changed(seed, &changes))?;
    }

    #[test]
    fn nearly_a_file_is_read_or_refused_with_a_place(tokens in prop::collection::vec(select(TOKENS.to_vec()), 0..60)) {
        judge(&tokens.concat())?;
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in ".*") {
        judge(&text)?;
    }

    #[test]
    fn no_value_of_any_key_makes_the_reader_panic_or_hang(
        key in select(vec![
            "schedule", "timezone", "timeout", "for", "consecutive", "repeat_interval", "jitter", "catchup_window", "misfire",
            "overlap", "severity", "runbook", "instance_key", "enabled", "database", "on_error", "labels", "query_env", "name",
        ]),
        text in prop_oneof![
            "[0-9a-z .*/:,#@${}-]{0,24}",
            "([0-9]{1,22}(\\.[0-9]{1,5})?(ns|us|ms|s|m|min|h|d|day|w|M|y| |e[0-9]{1,4})?){1,4}",
            "\\PC{0,40}",
        ],
    ) {
        let value = serde_json::Value::from(text).to_string();
        judge(&format!(
            "database: {{url: 'sqlite:///t.db'}}\nalerts:\n- name: a\n  query: SELECT 1\n  schedule: '@daily'\n  {key}: {value}\n"
        ))?;
    }

    #[test]
    fn no_rate_makes_the_reader_panic(text in "[0-9]{0,22} ?[/.e-]{0,2} ?[a-z0-9]{0,4}") {
        let value = serde_json::Value::from(text).to_string();
        judge(&format!("channels: {{c: {{type: webhook, url: 'https://h.example/', rate: {value}}}}}\nalerts: []\n"))?;
    }

    #[test]
    fn no_broken_file_shows_the_password_that_stands_in_it(changes in prop::collection::vec(change(), 1..4)) {
        // Changed is what stands around the secret, not the secret, and it stays the value of its key.
        let (before, after) = SEEDS[3].split_once("u:p@h/d'").unwrap();
        let before = before.split_once("databases").unwrap().0;
        let secret = "databases: {w: {url: 'postgresql://u:s3cr3t-canary@h/d'";
        let text = format!("{before}{secret}{}", changed(after, &changes));
        if let Some(errors) = judge(&text)? {
            prop_assert!(!format!("{errors} {errors:?}").contains("canary"), "{errors}\n{text}");
        }
    }

    #[test]
    fn no_url_is_shown_with_its_password(
        scheme in "(postgresql|postgres|mysql\\+pymysql|mariadb|oracle|ftp|sqlite|[a-z+]{0,6}|[ -~]{0,6})",
        separator in select(vec!["://", ":///", ":", "//", ":/", ""]),
        user in "[a-z%:@/?#\\[\\]]{0,6}", host in "[a-z0-9.:@/?#%\\[\\] -]{0,16}", tail in "(/[a-z]{0,4})?([?][a-z=&%]{0,12})?",
    ) {
        let text = format!("{scheme}{separator}{user}:s3cr3t-canary@{host}{tail}");
        let read = normalise_database_url(&text);
        prop_assert!(!format!("{read:?}").contains("canary"), "{read:?} of {text}");
        if let Err(error) = read {
            prop_assert!(!error.to_string().contains("canary"), "{error} of {text}");
        }
    }
}

/// A list of ten of the one before, ten times over.
fn bomb() -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    text + "alerts: *a9\n"
}

#[test]
fn bombs_end_soon_and_say_so() {
    let deep = |begin: &str, end: &str| format!("alerts: {}{}\n", begin.repeat(10_000), end.repeat(10_000));
    let indented: String = (0..2_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    let merged: String = (1..2_000).map(|n| format!("a{n}: &a{n} {{<<: *a{}, k{n}: 1}}\n", n - 1)).collect();
    let rows = [
        (bomb(), "aliases"),
        (deep("[", "]"), "recursion limit"),
        (deep("{a: ", "}"), "too deep"),
        (deep("- ", ""), ""),
        (indented, "too deep"),
        (format!("a0: &a0 {{k: 1}}\n{merged}"), "aliases"),
        ("&a [*a]\n".to_owned(), "itself"),
    ];
    for (text, said) in rows {
        let began = Instant::now();
        let errors = load_str(&text, "alerts.yaml", &|_| None).expect_err(&text[..text.len().min(40)]);
        assert!(errors.to_string().contains(said), "{}: {errors}", &text[..text.len().min(40)]);
        assert!(began.elapsed() < SOON * 2, "{:?} for {}", began.elapsed(), &text[..text.len().min(40)]);
    }
}
