use std::time::Duration;

use super::*;
use crate::alert::ChannelKind;
use crate::settings::ConfigSettings;

fn environment(name: &str) -> Option<String> {
    match name {
        "REGION" => Some("eu".to_owned()),
        "EVERY_NIGHT" => Some("0 3 * * *".to_owned()),
        "TRICKY" => Some("$REGION ${REGION}".to_owned()),
        "SWITCH" => Some("off".to_owned()),
        "WEBHOOK_URL" => Some("https://hooks.example/env-canary".to_owned()),
        _ => None,
    }
}

fn load(text: &str) -> Config {
    load_str(text, "alerts.yaml", &environment).unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(text: &str) -> Vec<ConfigProblem> {
    load_str(text, "alerts.yaml", &environment).expect_err(text).0
}

/// A file with one alert, to which `lines` are added at the alert's indentation.
fn with_alert_lines(lines: &str) -> String {
    format!("database: {{url: 'sqlite:///t.db'}}\nalerts:\n- name: a\n  query: SELECT 1\n  schedule: '@daily'\n{lines}")
}

const FULL: &str = r#"
timezone: Europe/London
database:
  url: ${DATABASE_URL}
databases:
  warehouse:
    url: postgresql+psycopg2://app:literal-canary@db.example/shop
alerts:
  - name: revenue ${REGION}
    description: "Costs $$5 in ${REGION}: ${TRICKY}"
    query: |
      SELECT 'ALERT' AS status, '$REGION' AS actual_value
    schedule: "*/5 9-17 * * MON-FRI"
    timeout: 2m
    database: warehouse
    notify:
      - channel: webhook
        url: ${WEBHOOK_URL}
        method: put
        headers:
          Authorization: Bearer literal-canary
          X-Region: ${REGION}
      - channel: webhook
        url: https://hooks.example/literal-canary
  - name: backlog
    query: SELECT 'OK' AS status
    schedule: ${EVERY_NIGHT}
    timezone: America/New_York
    enabled: ${SWITCH}
    timeout: 7
"#;

#[test]
fn every_key_arrives_where_it_belongs() {
    let config = load(FULL);
    assert_eq!(config.sources.keys().map(SourceName::as_str).collect::<Vec<_>>(), ["default", "warehouse"]);
    assert_eq!(config.sources[&SourceName::default_source()].url, Setting::parse("${DATABASE_URL}").unwrap());
    assert_eq!(config.warnings, []);

    let [revenue, backlog] = config.alerts.as_slice() else { panic!("{:?}", config.alerts) };
    let definition = &revenue.definition;
    assert_eq!(definition.name, "revenue eu");
    assert_eq!(definition.description, "Costs $5 in eu: $REGION ${REGION}");
    assert_eq!(definition.query, "SELECT 'ALERT' AS status, '$REGION' AS actual_value\n");
    assert_eq!(definition.source.as_str(), "warehouse");
    assert_eq!(definition.schedule.text(), "*/5 9-17 * * MON-FRI");
    assert_eq!(definition.schedule.timezone().name(), "Europe/London");
    assert_eq!(definition.timeout(), Duration::from_secs(120));
    assert_eq!((definition.enabled, definition.error_after), (true, 3));
    assert_eq!(definition.notify, revenue.channels.iter().map(|(route, _)| route.clone()).collect::<Vec<_>>());

    let configs: Vec<_> = revenue.channels.iter().map(|(_, channel)| &channel.config).collect();
    let [ChannelConfig::Webhook(first), ChannelConfig::Webhook(second)] = configs.as_slice() else {
        panic!("{configs:?}")
    };
    assert_eq!(first.method, WebhookMethod::Put);
    let url = first.url.as_ref().unwrap().resolve_with(&environment).unwrap();
    assert_eq!(url.expose(), "https://hooks.example/env-canary");
    assert_eq!(first.headers["X-Region"], Setting::parse("${REGION}").unwrap());
    assert_eq!(first.headers["Authorization"].resolve_with(&|_| None).unwrap().expose(), "Bearer literal-canary");
    assert_eq!((second.method, second.headers.len()), (WebhookMethod::Post, 0));

    let definition = &backlog.definition;
    assert_eq!((definition.name.as_str(), definition.description.as_str()), ("backlog", ""));
    assert_eq!(definition.source, SourceName::default_source());
    assert_eq!(definition.schedule.text(), "0 3 * * *");
    assert_eq!(definition.schedule.timezone().name(), "America/New_York");
    assert_eq!((definition.enabled, definition.timeout()), (false, Duration::from_secs(7)));
    assert!(definition.notify.is_empty());
}

#[test]
fn no_secret_is_in_anything_that_is_stored_shown_or_sent() {
    let config = load(FULL);
    let mut shown = format!("{config:?} {:#?}", config.warnings);
    for alert in &config.alerts {
        shown += &alert.definition.canonical_json().unwrap();
    }
    assert!(!shown.contains("canary"), "{shown}");
}

#[test]
fn no_secret_is_in_any_error() {
    let broken = [
        // One file for each place where a secret may stand and something about it may be wrong.
        "database: {url: 'oracle://u:canary@h/d'}\nalerts: [{}]",
        "database: {url: 'postgresql://u:canary/x@h/d'}\nalerts: [{}]",
        "database: {url: 'sqlite://canary'}\nalerts: [{}]",
        "database: {url: 'x${canary x}'}\nalerts: [{}]",
        "database: {url: [canary]}\nalerts: [{}]",
        "database: {url: \"canary\nalerts: [{}]",
        "database: {url: canary: canary}",
        "database: canary\nalerts: canary",
        "canary",
        "- canary",
        "database: &a {url: canary}\nx: *b",
        "database: !canary {url: !!int canary}\n",
        "database: {url: !!binary canary}\n",
        "database: {url: !!float canary}\n",
        "database: {url: {canary: canary}}",
        "database: {url:postgresql://u:canary@h/d}",
        "databases: {eu:postgresql://u:canary@h/d}",
        "databases: {eu: {url: x}, 'a:canary': {url: x}, 'a:canary': [*b]}",
        "timezone: 'x canary'",
    ]
    .map(str::to_owned);
    let in_alert = [
        "  notify: [{channel: webhook, url: 'ftp://canary'}]",
        "  notify: [{channel: webhook, url: 'canary'}]",
        "  notify: [{channel: webhook, url: 'https:// canary'}]",
        "  notify: [{channel: webhook, url: 'https://h', headers: {A: \"canary\\r\\nX: y\"}}]",
        "  notify: [{channel: webhook, url: 'https://h', headers: {A: 'canary${'}}]",
        "  notify: [{channel: webhook, url: 'https://h', headers: [canary]}]",
        "  notify: [{channel: webhook, url: 'https://h', headers: {A:canary}}]",
        "  notify: [{channel: webhook, url: 'https://h', method: 'x:canary'}]",
        "  notify: [{channel: webhook, url:https://canary}]",
        "  notify: [{channel: 'https://canary'}]",
        "  database: postgresql://u:canary@h/d",
        "  notify: canary",
        "  notify: ['https://canary']",
    ]
    .map(with_alert_lines);
    for text in broken.iter().chain(&in_alert) {
        let problems = ConfigErrors(errors(text));
        let shown = format!("{problems} {problems:?} {}", serde_json::to_string(&problems).unwrap());
        let leaked = shown.lines().find(|line| line.contains("canary"));
        assert_eq!(leaked, None, "{text}");
    }
}

/// Every kind of error: the file, and the place, path and words of a problem that is found in it.
#[test]
fn every_error_says_where_what_and_what_to_do() {
    let long_name = format!("database: {{url: 'sqlite:///t.db'}}\nalerts:\n- name: {}\n", "x".repeat(201));
    let cases: Vec<(String, u64, u64, &str, &str)> = [
        // The file as a whole.
        ("", 1, 1, "", "the file is empty"),
        ("# nothing\n", 2, 1, "", "the file is empty"),
        ("- a\n", 1, 1, "", "found a list, expected a mapping"),
        ("a: 1\n---\nb: 1\n", 3, 1, "", "more than one YAML document"),
        ("database:\n\turl: x\n", 2, 2, "", "tabs disallowed"),
        ("alerts:\n- name: a\n  schedule: */5 * * * *\n", 3, 13, "alerts[0]", "must be in quotes"),
        ("alerts: \"x\n", 1, 9, "", "unclosed quote"),
        ("alerts: &a [*a]\n", 1, 13, "alerts", "refers to itself"),
        ("database: {url: 'sqlite:///t.db'}\n", 1, 1, "alerts", "`alerts` is missing"),
        ("database: {url: 'sqlite:///t.db'}\nalerts:\n", 2, 1, "alerts", "`alerts` is missing"),
        ("database: {url: 'sqlite:///t.db'}\nalerts: []\n", 2, 9, "alerts", "there is no alert"),
        ("database: {url: 'sqlite:///t.db'}\nalerts: 3\n", 2, 9, "alerts", "found a number, expected a list"),
        ("alerts:\n- {}\n", 1, 1, "database", "no database is configured"),
        ("databse: {}\n", 1, 1, "databse", "unknown key `databse`\n  help: did you mean `database`?"),
        (
            "zzz: {}\n",
            1,
            1,
            "zzz",
            "use one of `include`, `database`, `databases`, `channels`, `timezone`, `defaults`, `alerts`",
        ),
        ("channels: []\n", 1, 11, "channels", "found a list, expected a mapping"),
        ("include: a.yaml\n", 1, 10, "include", "found a text, expected a list"),
        ("include: ['']\n", 1, 11, "include[0]", "is empty"),
        ("include: [surely/not/there.yaml]\n", 1, 11, "include[0]", "there is no such file"),
        ("include: ['a[/b']\n", 1, 11, "include[0]", "not a pattern of files"),
        ("database: {url: a}\ndatabase: {url: b}\n", 2, 1, "database", "`database` is already there in line 1"),
        (
            "timezone: Europe/Lodnon\n",
            1,
            11,
            "timezone",
            "unknown time zone `Europe/Lodnon`\n  help: did you mean `Europe/London`?",
        ),
        // Databases.
        ("database:\n  url:\n", 2, 3, "database.url", "`url` is missing"),
        ("database:\n  uri: x\n", 2, 3, "database.uri", "did you mean `url`?"),
        ("database:\n  max_rows: 5\n", 2, 3, "database.max_rows", "unknown key `max_rows`"),
        ("database:\n  url: x\n  url_file: y\n", 3, 3, "database.url_file", "`url` and `url_file` are both there"),
        ("database:\n  url_file: ' '\n", 2, 13, "database.url_file", "not a path"),
        ("database:\n  url_file: /etc/passwd\n", 2, 13, "database.url_file", "alerts may not read `/etc/passwd`"),
        ("database:\n  url_file: /run/secrets/../x\n", 2, 13, "database.url_file", "a path may not hold `..`"),
        ("database:\n  url: ${STATE_DB_URL}\n", 2, 8, "database.url", "belongs to SQL Sentinel's own services"),
        ("database:\n  url: ''\n", 2, 8, "database.url", "is empty"),
        ("database:\n  url: 5\n", 2, 8, "database.url", "found a number, expected a text: put it in quotes"),
        ("database:\n  url: oracle://h/d\n", 2, 8, "database.url", "`oracle` databases are not supported yet"),
        ("database:\n  url: x${A\n", 2, 8, "database.url", "`${` without `}`"),
        ("database:\n  url: ${A:-${B}}\n", 2, 8, "database.url", "it cannot hold a variable"),
        ("database:\n  url: ${A-b}\n", 2, 8, "database.url", "can only be `${A}` or `${A:-default}`"),
        ("databases:\n  a.b: {url: 'sqlite:///t.db'}\n", 2, 3, "databases.a.b", "not a database name"),
        (
            "database: {url: 'sqlite:///a'}\ndatabases:\n  default: {url: 'sqlite:///a'}\n",
            1,
            11,
            "database",
            "both there",
        ),
        // Alerts.
        ("database: {url: 'sqlite:///t.db'}\nalerts:\n- query: x\n", 3, 3, "alerts[0].name", "`name` is missing"),
        ("database: {url: 'sqlite:///t.db'}\nalerts:\n- name: ' '\n", 3, 9, "alerts[0].name", "the name is empty"),
        (
            "database: {url: 'sqlite:///t.db'}\nalerts:\n- name: \"a\\nb\"\n",
            3,
            9,
            "alerts[0].name",
            "control character",
        ),
        ("database: {url: 'sqlite:///t.db'}\nalerts:\n- name: 1\n", 3, 9, "alerts[0].name", "put it in quotes"),
        (
            "database: {url: 'sqlite:///t.db'}\nalerts:\n- name: ${GONE}\n",
            3,
            9,
            "alerts[0].name",
            "variable `GONE` is not set",
        ),
        (&long_name, 3, 9, "alerts[0].name", "longer than 200 characters"),
    ]
    .map(|(text, line, column, path, said)| (text.to_owned(), line, column, path, said))
    .into_iter()
    .chain(
        [
            ("  shedule: x", 6, 3, "alerts[0].shedule", "unknown key `shedule`\n  help: did you mean `schedule`?"),
            ("  misfire: al", 6, 12, "alerts[0].misfire", "unknown policy `al`"),
            ("  for: soon", 6, 8, "alerts[0].for", "not a duration"),
            ("  query_env: [A B]", 6, 15, "alerts[0].query_env[0]", "`A…` is not a variable's name"),
            ("  description: ${NATS_PASSWORD}", 6, 16, "alerts[0].description", "alerts cannot read it"),
            ("  description: ${GONE:?x}", 6, 16, "alerts[0].description", "can only be `${GONE}` or"),
            ("  name: b", 6, 3, "alerts[0].name", "`name` is already there in line 3"),
            ("- name: a\n  query: x\n  schedule: '@daily'", 6, 9, "alerts[1].name", "already there in line 3"),
            ("- name: b\n  schedule: '@daily'", 6, 3, "alerts[1].query", "`query` is missing"),
            ("- name: b\n  schedule: '@daily'\n  query: ''", 8, 10, "alerts[1].query", "the query is empty"),
            ("- name: b\n  query: x", 6, 3, "alerts[1].schedule", "`schedule` is missing"),
            ("- name: b\n  query: x\n  schedule: hourly", 8, 13, "alerts[1].schedule", "has five fields"),
            ("- name: b\n  query: x\n  schedule: 0 0 30 2 *", 8, 13, "alerts[1].schedule", "never fires"),
            ("  timezone: Mars/Base", 6, 13, "alerts[0].timezone", "unknown time zone `Mars/Base`"),
            ("  timeout: 2h", 6, 12, "alerts[0].timeout", "at most one hour"),
            ("  timeout: soon", 6, 12, "alerts[0].timeout", "write `30s`"),
            ("  timeout: [1]", 6, 12, "alerts[0].timeout", "found a list"),
            ("  enabled: perhaps", 6, 12, "alerts[0].enabled", "neither `true` nor `false`"),
            (
                "  database: defualt",
                6,
                13,
                "alerts[0].database",
                "there is no database `defualt`\n  help: did you mean `default`?",
            ),
            ("  description: [a]", 6, 16, "alerts[0].description", "found a list, expected a text"),
            ("  description: $GONE", 6, 16, "alerts[0].description", "variable `GONE` is not set"),
            // Routes.
            ("  notify: webhook", 6, 11, "alerts[0].notify", "found a text, expected a list"),
            ("  notify:\n  - webhook", 7, 5, "alerts[0].notify[0]", "write `- channel: webhook`"),
            ("  notify:\n  - url: x", 7, 5, "alerts[0].notify[0].channel", "`channel` is missing"),
            (
                "  notify:\n  - channel: teams",
                7,
                14,
                "alerts[0].notify[0].channel",
                "the channel `teams` is not supported yet",
            ),
            ("  notify:\n  - channel: webhok", 7, 14, "alerts[0].notify[0].channel", "did you mean `webhook`?"),
            (
                "  notify:\n  - channel: webhook\n    url: ftp://h",
                8,
                10,
                "alerts[0].notify[0].url",
                "not an http or https URL",
            ),
            (
                "  notify:\n  - channel: webhook\n    url: https://h\n    methode: GET",
                9,
                5,
                "alerts[0].notify[0].methode",
                "did you mean `method`?",
            ),
            (
                "  notify:\n  - channel: webhook\n    secret: x\n    secret_file: /run/secrets/x",
                9,
                5,
                "alerts[0].notify[0].secret_file",
                "`secret` and `secret_file` are both there",
            ),
            (
                "  notify:\n  - channel: webhook\n    url: https://h\n    headers: {A: {path: x}}",
                9,
                19,
                "alerts[0].notify[0].headers.A.path",
                "unknown key `path`",
            ),
            (
                "  notify:\n  - channel: webhook\n    url: https://h\n    method: DELETE",
                9,
                13,
                "alerts[0].notify[0].method",
                "use one of `POST`, `GET`, `PUT`, `PATCH`",
            ),
            (
                "  notify:\n  - channel: webhook\n    url: https://h\n    headers: {'a b': x}",
                9,
                15,
                "alerts[0].notify[0].headers.a…",
                "not a valid header name",
            ),
            (
                "  notify:\n  - channel: webhook\n    url: https://h\n    headers: {A: x, a: y}",
                9,
                21,
                "alerts[0].notify[0].headers.a",
                "the same header",
            ),
            (
                "  notify:\n  - channel: webhook\n    url: https://h\n    headers: {A: \"x\\r\\ny\"}",
                9,
                18,
                "alerts[0].notify[0].headers.A",
                "line breaks",
            ),
            (
                "  notify:\n  - channel: webhook\n    url: https://h\n    headers: {A: 1}",
                9,
                18,
                "alerts[0].notify[0].headers.A",
                "put it in quotes",
            ),
        ]
        .map(|(lines, line, column, path, said)| (with_alert_lines(lines), line, column, path, said)),
    )
    .collect();
    let mut wrong = String::new();
    for (text, line, column, path, said) in cases {
        let place = format!("alerts.yaml:{line}:{column}: ");
        let problems = errors(&text);
        let fits = |problem: &ConfigProblem| {
            let shown = problem.to_string();
            problem.path == path && shown.starts_with(&place) && shown.contains(said)
        };
        if !problems.iter().any(fits) {
            wrong += &format!("{text}\nexpected {place}{path}: … {said}\n{}\n\n", ConfigErrors(problems));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn all_that_is_wrong_is_said_at_once_in_the_files_order() {
    let text = "
databse: {url: 'sqlite:///t.db'}
alerts:
- nme: a
  schedule: 0 0 30 2 *
  query: ''
  notify:
  - channel: webhook
    url: ftp://x
    headers: {'a b': 1}
- name: b
  query: SELECT 1
  schedule: '@daily'
  jiter: 5m
";
    let found: Vec<_> = errors(text).into_iter().map(|problem| (problem.line, problem.path)).collect();
    let expected = [
        (2, "databse"),
        (2, "database"),
        (4, "alerts[0].nme"),
        (4, "alerts[0].name"),
        (5, "alerts[0].schedule"),
        (6, "alerts[0].query"),
        (9, "alerts[0].notify[0].url"),
        (10, "alerts[0].notify[0].headers.a…"),
        (10, "alerts[0].notify[0].headers.a…"),
        (14, "alerts[1].jiter"),
    ];
    assert_eq!(found, expected.map(|(line, path)| (line, path.to_owned())));
}

#[test]
fn nothing_is_said_twice_about_a_broken_source() {
    let text = with_alert_lines("  database: default\n").replace("sqlite:///t.db", "oracle://h");
    let found = errors(&text);
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn the_only_source_is_meant_and_several_are_a_question() {
    let one = "databases: {eu: {url: 'sqlite:///t.db'}}\nalerts:\n- {name: a, query: x, schedule: '@daily'}\n";
    assert_eq!(load(one).alerts[0].definition.source.as_str(), "eu");
    let two = one.replace("{eu:", "{us: {url: 'sqlite:///u.db'}, eu:");
    let found = errors(&two);
    assert_eq!((found[0].line, found[0].path.as_str()), (3, "alerts[0].database"));
    assert!(found[0].help.contains("`eu`, `us`"), "{}", found[0]);
    let with_default = two.replace("{us:", "{default:");
    assert_eq!(load(&with_default).alerts[0].definition.source, SourceName::default_source());
}

#[test]
fn the_default_zone_is_the_files_then_the_environments_then_utc() {
    let text = with_alert_lines("");
    let zone = |text: &str, environment: &Environment<'_>| {
        load_str(text, "f", environment).map(|config| config.alerts[0].definition.schedule.timezone().name())
    };
    let tokyo = |name: &str| (name == "TIMEZONE").then(|| "Asia/Tokyo".to_owned());
    assert_eq!(zone(&text, &|_| None), Ok("UTC"));
    assert_eq!(zone(&text, &tokyo), Ok("Asia/Tokyo"));
    assert_eq!(zone(&format!("timezone: Asia/Kolkata\n{text}"), &tokyo), Ok("Asia/Kolkata"));
    let nowhere = |name: &str| (name == "TIMEZONE").then(|| "Mars".to_owned());
    let message = zone(&text, &nowhere).unwrap_err().to_string();
    assert!(message.contains("environment variable TIMEZONE: unknown time zone `Mars`"), "{message}");
}

#[test]
fn warnings_mention_variables_in_queries_and_numeric_weekdays_once() {
    let text = with_alert_lines(
        "- {name: b, query: 'SELECT ${THRESHOLD}, ${X}, ${X}', schedule: 0 9 * * 1-5}\n- {name: c, query: x, schedule: 0 9 * * 1}\n",
    );
    let warnings = load(&text).warnings;
    let shown: Vec<_> = warnings.iter().map(|w| (w.line, w.path.as_str())).collect();
    assert_eq!(shown, [(6, "alerts[1].query"), (6, "alerts[1].schedule")]);
    assert!(warnings[0].message.contains("`${THRESHOLD}`, `${X}` is sent"), "{}", warnings[0]);
    assert!(warnings[1].message.contains("1-5 is Monday to Friday"), "{}", warnings[1]);
}

fn route_keys(notify: &str) -> Vec<String> {
    let config = load(&with_alert_lines(&format!("  notify: {notify}\n")));
    config.alerts[0].channels.iter().map(|(route, _)| route.key.clone()).collect()
}

#[test]
fn a_routes_key_follows_its_public_part_and_nothing_secret() {
    let key = |notify: &str| route_keys(notify).remove(0);
    let base = key("[{channel: webhook, url: 'https://one'}]");
    // Written down because it names state in running installations: it must not change.
    assert_eq!(base, "webhook-4c9ff30afa50b401");
    assert_eq!(key("[{channel: webhook, url: 'https://two', method: POST, headers: {}}]"), base);
    assert_eq!(key("[{channel: webhook, url: 'https://h/${TOKEN}'}]"), base);
    let different = [
        "[{channel: webhook, url: '${WEBHOOK_URL}'}]",
        "[{channel: webhook, url: '${OTHER_URL}'}]",
        "[{channel: webhook, url: 'https://one', method: PUT}]",
        "[{channel: webhook, url: 'https://one', headers: {A: secret}}]",
        "[{channel: webhook, url: 'https://one', headers: {A: '${REGION}'}}]",
    ]
    .map(key);
    let distinct: std::collections::BTreeSet<_> = different.iter().chain([&base]).collect();
    assert_eq!(distinct.len(), 6);
    assert_eq!(key("[{channel: webhook, url: $WEBHOOK_URL}]"), different[0]);
}

#[test]
fn equal_routes_of_one_alert_are_numbered() {
    let keys = route_keys(
        "[{channel: webhook, url: 'https://1'}, {channel: webhook, url: 'https://2'}, {channel: webhook, url: 'https://3'}]",
    );
    assert_eq!(keys, [keys[0].clone(), format!("{}-2", keys[0]), format!("{}-3", keys[0])]);
}

#[test]
fn a_set_is_named_by_its_definitions_whatever_their_order() {
    let alerts = ["- {name: a, query: x, schedule: '@daily'}\n", "- {name: b, query: x, schedule: '@daily'}\n"];
    let hash = |order: [usize; 2], add: &str| {
        let text = format!("database: {{url: 'sqlite:///t.db'}}\nalerts:\n{}{}", alerts[order[0]], alerts[order[1]]);
        load(&text.replace("name: b,", &format!("name: b, {add}"))).set_hash().unwrap()
    };
    assert_eq!(hash([0, 1], ""), hash([1, 0], ""));
    assert_ne!(hash([0, 1], ""), hash([0, 1], "enabled: false,"));
}

#[test]
fn a_secret_that_changes_does_not_change_the_definition() {
    let definition = |url: &str| {
        let text = with_alert_lines(&format!("  notify: [{{channel: webhook, url: '{url}'}}]\n"));
        load(&text).alerts[0].definition.canonical_json().unwrap()
    };
    assert_eq!(definition("https://h/old"), definition("https://h/new"));
}

#[test]
fn anchors_merge_keys_and_yaml_1_1_booleans_work() {
    let text = "
database: {url: 'sqlite:///t.db'}
alerts:
- &base
  name: a
  query: SELECT 1
  schedule: '@daily'
  enabled: no
  notify: &ops
  - {channel: webhook, url: 'https://h'}
- <<: *base
  name: b
  enabled: yes
- {name: c, query: x, schedule: '@daily', notify: *ops}
";
    let config = load(text);
    let shown: Vec<_> = config
        .alerts
        .iter()
        .map(|alert| (alert.definition.name.as_str(), alert.definition.enabled, alert.channels.len()))
        .collect();
    assert_eq!(shown, [("a", false, 1), ("b", true, 1), ("c", true, 1)]);
}

#[test]
fn hundreds_of_alerts_may_share_one_anchor() {
    let mut text = with_alert_lines("  notify: &ops [{channel: webhook, url: 'https://h'}]\n");
    for number in 0..500 {
        text += &format!("- {{name: n{number}, query: x, schedule: '@daily', notify: *ops}}\n");
    }
    assert_eq!(load(&text).alerts.len(), 501);
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        text += &format!("a{level}: &a{level} [{below}]\n");
    }
    let found = errors(&text);
    assert!(found.len() == 1 && found[0].message.contains("repeats itself"), "{found:?}");
}

#[test]
fn deep_nesting_is_refused_before_it_costs_a_stack() {
    let flow = format!("alerts: {}", "[".repeat(100_000));
    let block: String = (0..2_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    for text in [flow, block, format!("alerts: {}{}", "{a: ".repeat(5_000), "}".repeat(5_000))] {
        assert_eq!(errors(&text).len(), 1);
    }
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let found = errors(&"#".repeat(raw::MAX_FILE_BYTES + 1));
    assert_eq!(found[0].to_string(), "alerts.yaml: is larger than 16 MiB");
}

#[test]
fn a_file_of_the_python_system_loads() {
    let text = r#"
# SQL Sentinel configuration
database:
  url: "${DATABASE_URL}"

alerts:
  - name: "Low_Daily_Revenue"
    description: "Alert when daily revenue falls below threshold"
    enabled: true
    query: |
      SELECT
        CASE WHEN SUM(revenue) < 10000 THEN 'ALERT' ELSE 'OK' END AS status,
        SUM(revenue) AS actual_value,
        10000 AS threshold
      FROM orders
      WHERE date = CURRENT_DATE - 1
    schedule: "0 9 * * *"
    notify:
      - channel: webhook
        url: "${WEBHOOK_URL}"
        headers:
          Content-Type: application/json
          Authorization: "Bearer ${WEBHOOK_TOKEN}"

  - name: High Error Rate
    query: "SELECT 'OK' as status"
    schedule: "*/15 * * * 1-5"
    enabled: false
"#;
    let config = load(text);
    assert_eq!(config.alerts.len(), 2);
    assert_eq!(config.alerts[0].definition.notify[0].channel, ChannelKind::Webhook);
    assert_eq!(config.warnings.len(), 1);
}

#[test]
fn a_windows_file_with_a_byte_order_mark_loads() {
    let text = with_alert_lines("").replace('\n', "\r\n");
    assert_eq!(load(&format!("\u{feff}{text}")).alerts.len(), 1);
}

#[test]
fn errors_are_a_json_list_of_places() {
    let json = serde_json::to_value(ConfigErrors(errors("databse: {}\n"))).unwrap();
    assert_eq!(
        json[0],
        serde_json::json!({"file": "alerts.yaml", "line": 1, "column": 1, "path": "databse",
            "message": "unknown key `databse`", "help": "did you mean `database`?"})
    );
}

#[test]
fn a_file_is_read_from_disk_and_its_name_is_in_the_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.yaml");
    let said = |path: &Path| ConfigSettings::from(path).load().unwrap_err().to_string();
    assert!(said(&path).starts_with(&format!("{}: cannot be read: ", path.display())), "{}", said(&path));
    std::fs::write(&path, b"a: 1\nb: \xff\n").unwrap();
    assert!(said(&path).ends_with("is not UTF-8 (line 2)"), "{}", said(&path));
    std::fs::write(&path, with_alert_lines("  jiter: 1\n")).unwrap();
    assert!(said(&path).starts_with(&format!("{}:6:3: alerts[0].jiter: ", path.display())), "{}", said(&path));
    std::fs::write(&path, with_alert_lines("")).unwrap();
    assert_eq!(ConfigSettings::from(path.as_path()).load().unwrap().alerts.len(), 1);
}

#[test]
fn a_source_resolves_to_a_url_or_says_why_not() {
    let source = SourceConfig::at(Setting::literal("sqlite:////var/t.db"));
    assert_eq!(source.resolve().unwrap().url.expose(), "sqlite:///var/t.db");
    let source = SourceConfig::at(Setting::parse("${SQLSENTINEL_SURELY_UNSET}").unwrap());
    assert!(source.resolve().unwrap_err().to_string().contains("`SQLSENTINEL_SURELY_UNSET` is not set"));
    let source = SourceConfig::at(Setting::literal("oracle://u:canary@h/d"));
    let message = source.resolve().unwrap_err().to_string();
    assert!(message.contains("not supported yet") && !message.contains("canary"), "{message}");
}

#[test]
fn of_a_file_full_of_problems_the_first_thousand_are_told_and_that_there_are_more() {
    let file = format!("database: {{url: sqlite:///a.db}}\nalerts: [{}]\n", "{}, ".repeat(100_000));
    let errors = load_str(&file, "alerts.yaml", &|_| None).expect_err("every alert lacks everything").0;
    assert!((1_000..1_010).contains(&errors.len()), "{}", errors.len());
    let last = errors.last().map(ToString::to_string).unwrap_or_default();
    assert!(last.contains("more alerts were not looked at"), "{last}");
}
