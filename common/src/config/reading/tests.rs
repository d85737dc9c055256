use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use proptest::prelude::{Just, ProptestConfig, Strategy};
use tempfile::TempDir;

use super::super::{ConfigProblem, any_query, from_environment};
use super::*;

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, files);
    folder
}

fn write(folder: &TempDir, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn reading(path: &Path) -> Reading {
    read(path, &Access::default(), &from_environment)
}

fn load(path: &Path) -> Result<Config, Vec<ConfigProblem>> {
    reading(path).check(&from_environment, &any_query).map_err(|errors| errors.0)
}

/// The names of the alerts, in their order.
fn names(path: &Path) -> Vec<String> {
    let config = load(path).unwrap_or_else(|problems| panic!("{problems:#?}"));
    config.alerts.into_iter().map(|alert| alert.definition.name).collect()
}

/// `file:line: path: message` of each problem, the file as it is called in the folder.
fn problems(folder: &TempDir, at: &str) -> Vec<String> {
    let prefix = format!("{}/", folder.path().display());
    let shown = |problem: ConfigProblem| {
        let text = format!("{}:{}: {}: {}", problem.file, problem.line, problem.path, problem.message);
        text.replace(&prefix, "")
    };
    load(&folder.path().join(at)).expect_err(at).into_iter().map(shown).collect()
}

const DATABASE: &str = "database: {url: 'sqlite:///t.db'}\n";

fn alert(name: &str) -> String {
    format!("alerts:\n- {{name: {name}, query: q, schedule: '@daily'}}\n")
}

#[test]
fn a_folder_is_one_configuration_of_its_yaml_files_in_the_order_of_their_names() {
    let folder = folder(&[
        ("b.yaml", &alert("two")),
        ("a.yml", &format!("{DATABASE}{}", alert("one"))),
        ("c.yaml", &alert("three")),
        (".hidden.yaml", "?? canary"),
        ("README.md", "?? canary"),
        ("c.yaml~", "?? canary"),
        ("deeper/d.yaml", "?? canary"),
    ]);
    assert_eq!(names(folder.path()), ["one", "two", "three"]);
}

/// As Kubernetes mounts a `ConfigMap`.
#[test]
fn links_into_a_hidden_folder_are_read_once_and_their_swap_is_a_change() {
    let folder = folder(&[
        ("..1/a.yaml", &format!("{DATABASE}{}", alert("old"))),
        ("..2/a.yaml", &format!("{DATABASE}{}", alert("new"))),
    ]);
    symlink("..1", folder.path().join("..data")).unwrap();
    symlink("..data/a.yaml", folder.path().join("a.yaml")).unwrap();
    assert_eq!(names(folder.path()), ["old"]);
    let watched = reading(folder.path()).watched().clone();
    assert!(!watched.has_changed());
    symlink("..2", folder.path().join("..data_tmp")).unwrap();
    fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
    assert!(watched.has_changed());
    assert_eq!(names(folder.path()), ["new"]);
}

#[test]
fn a_file_comes_before_what_it_includes_and_that_comes_in_the_order_of_its_list() {
    let folder = folder(&[
        ("alerts.yaml", &format!("include: [z.yaml, 'teams/*.yaml', one-folder]\n{DATABASE}{}", alert("top"))),
        ("z.yaml", &format!("include: [x.yaml]\n{}", alert("z"))),
        ("x.yaml", &alert("x")),
        ("teams/b.yaml", &alert("team-b")),
        ("teams/a.yaml", &alert("team-a")),
        ("teams/.c.yaml", "?? canary"),
        ("teams/deeper/d.yaml", "?? canary"),
        ("one-folder/2.yml", &alert("folder-2")),
        ("one-folder/1.yaml", &alert("folder-1")),
    ]);
    let expected = ["top", "z", "x", "team-a", "team-b", "folder-1", "folder-2"];
    assert_eq!(names(&folder.path().join("alerts.yaml")), expected);
}

#[test]
fn circles_and_files_that_are_named_twice_are_read_once() {
    let folder = folder(&[
        ("a.yaml", &format!("include: [b.yaml, ./b.yaml, '*.yaml', link.yaml]\n{DATABASE}{}", alert("a"))),
        ("b.yaml", &format!("include: [a.yaml, b.yaml]\n{}", alert("b"))),
    ]);
    symlink("b.yaml", folder.path().join("link.yaml")).unwrap();
    assert_eq!(names(&folder.path().join("a.yaml")), ["a", "b"]);
    assert_eq!(names(folder.path()), ["a", "b"]);
}

#[test]
fn a_pattern_that_fits_no_file_is_worth_a_warning_and_a_path_that_leads_nowhere_is_an_error() {
    let folder = folder(&[("a.yaml", &format!("include: ['teams/*.yaml']\n{DATABASE}{}", alert("a")))]);
    let path = folder.path().join("a.yaml");
    let warnings = load(&path).unwrap().warnings;
    let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert_eq!(
        (warning.line, warning.path.as_str(), warning.message.as_str()),
        (1, "include[0]", "the pattern fits no file")
    );
    let watched = reading(&path).watched().clone();
    write(&folder, &[("teams/new.yaml", &alert("new"))]);
    assert!(watched.has_changed());

    write(&folder, &[("a.yaml", &format!("include: [teams/other.yaml]\n{DATABASE}{}", alert("a")))]);
    assert_eq!(problems(&folder, "a.yaml"), ["a.yaml:1: include[0]: there is no such file"]);
    let watched = reading(&path).watched().clone();
    assert!(!watched.has_changed());
    write(&folder, &[("teams/other.yaml", &alert("new"))]);
    assert!(watched.has_changed());
    assert_eq!(names(&path), ["a", "new"]);
}

#[test]
fn what_is_there_twice_names_both_places() {
    let folder = folder(&[
        (
            "a.yaml",
            "timezone: UTC\ndefaults: {timeout: 5}\ndatabase: {url: 'sqlite:///t.db'}\ndatabases:\n  eu: {url: 'sqlite:///t.db'}\nchannels:\n  ops: {channel: slack}\nalerts:\n- {name: x, query: q, schedule: '@daily'}\n",
        ),
        (
            "b.yaml",
            "alerts:\n- {name: x, query: q, schedule: '@daily'}\nchannels:\n  ops: {channel: slack}\ndatabases:\n  eu: {url: 'sqlite:///t.db'}\ndatabase: {url: 'sqlite:///t.db'}\ndefaults: {timeout: 6}\ntimezone: UTC\n",
        ),
    ]);
    let at = |place: &str| format!("is already there in {}/a.yaml:{place}", folder.path().display());
    let found: Vec<_> = load(folder.path()).unwrap_err().into_iter().map(|p| (p.line, p.path, p.message)).collect();
    let expected = [
        (2, "alerts[0].name", format!("an alert of the name `x` {}", at("9"))),
        (4, "channels.ops", format!("`ops` {}", at("7"))),
        (6, "databases.eu", format!("`eu` {}", at("5"))),
        (7, "database", format!("`database` {}", at("3"))),
        (8, "defaults", format!("`defaults` {}", at("2"))),
        (9, "timezone", format!("`timezone` {}", at("1"))),
    ];
    assert_eq!(found, expected.map(|(line, path, message)| (line, path.to_owned(), message)));
}

#[test]
fn every_problem_says_which_file_it_is_in_and_all_are_told_at_once() {
    let folder = folder(&[
        ("a.yaml", &format!("{DATABASE}alerts:\n- {{name: a, query: q, schedule: never, notify: [opps]}}\n")),
        ("b.yaml", "channels: {ops: {channel: slak}}\n"),
        ("c.yaml", "alerts:\n- {nme: c, query: q, schedule: '@daily', database: eu}\n"),
    ]);
    let found = problems(&folder, "");
    let expected = [
        "a.yaml:3: alerts[0].schedule: ",
        "a.yaml:3: alerts[0].notify[0]: there is no channel `opps`",
        "b.yaml:1: channels.ops.channel: unknown channel `slak`",
        "c.yaml:2: alerts[0].name: `name` is missing",
        "c.yaml:2: alerts[0].nme: unknown key",
        "c.yaml:2: alerts[0].database: there is no database `eu`",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
}

/// What one file lacks may be in the other one: that is not reproached.
#[test]
fn a_file_that_cannot_be_read_does_not_hide_what_is_wrong_in_others_nor_add_to_it() {
    let folder = folder(&[
        (
            "a.yaml",
            "alerts:\n- {name: a, query: q, schedule: never, database: eu, notify: [ops, {channel: slack, fallback: ops}]}\n",
        ),
        ("b.yaml", "databases: {eu: {url: 'sqlite:///t.db'}}\nchannels: {ops: {channel: slack}\n"),
        ("c.yaml", "\u{0}"),
    ]);
    fs::write(folder.path().join("d.yaml"), b"x: \xff").unwrap();
    symlink("nowhere", folder.path().join("e.yaml")).unwrap();
    let found = problems(&folder, "");
    let places: Vec<_> = found.iter().map(|problem| problem.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["a.yaml:2", "b.yaml:2", "c.yaml:1", "d.yaml:0", "e.yaml:0"], "{found:#?}");
    assert!(found[0].contains("alerts[0].schedule"), "{found:?}");
    assert!(found[3].contains("is not UTF-8") && found[4].contains("cannot be read"), "{found:?}");
}

#[test]
fn an_empty_file_is_worth_a_warning_beside_others_and_nothing_but_empty_ones_are_an_error() {
    let folder = folder(&[("a.yaml", &format!("{DATABASE}{}", alert("a"))), ("b.yaml", "# later\n")]);
    let warnings = load(folder.path()).unwrap().warnings;
    assert_eq!(warnings.iter().map(|w| w.message.as_str()).collect::<Vec<_>>(), ["the file is empty"]);
    write(&folder, &[("a.yaml", "")]);
    assert_eq!(problems(&folder, ""), ["a.yaml:1: : the file is empty", "b.yaml:2: : the file is empty"]);
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    fs::remove_file(folder.path().join("b.yaml")).unwrap();
    assert!(problems(&folder, "")[0].contains("there is no `.yaml` or `.yml` file in"));
}

#[test]
fn an_included_pipe_or_folder_without_files_is_refused_and_not_waited_for() {
    let folder = folder(&[("a.yaml", "include: [/dev/zero, empty]\n")]);
    fs::create_dir(folder.path().join("empty")).unwrap();
    let found = problems(&folder, "a.yaml");
    assert_eq!(found[0], "a.yaml:1: include[0]: is not a file");
    assert!(found[1].starts_with("a.yaml:1: include[1]: there is no `.yaml` or `.yml` file in"), "{found:?}");
}

#[test]
fn too_many_files_and_too_much_yaml_in_all_are_refused() {
    let many = folder(&[("a.yaml", DATABASE)]);
    for number in 0..MAX_FILES {
        fs::write(many.path().join(format!("b{number}.yaml")), "").unwrap();
    }
    let found = problems(&many, "");
    assert!(found.iter().any(|problem| problem.contains("more than 1000 files")), "{found:?}");

    let large = folder(&[]);
    let comment = "#".repeat(raw::MAX_FILE_BYTES);
    for number in 0..5 {
        fs::write(large.path().join(format!("{number}.yaml")), &comment).unwrap();
    }
    let found = problems(&large, "");
    assert!(found.iter().any(|problem| problem.contains("larger than 64 MiB")), "{found:?}");
}

#[test]
fn a_change_is_seen_whatever_was_done_to_the_files_and_nothing_else_is_one() {
    let new = || {
        folder(&[
            ("a.yaml", &format!("include: [more/*.yaml]\n{DATABASE}{}", alert("a"))),
            ("more/b.yaml", &alert("b")),
            ("unrelated.txt", "x"),
        ])
    };
    type Edit<'a> = (&'a str, &'a dyn Fn(&Path), bool);
    let edits: [Edit<'_>; 8] = [
        ("nothing", &|_| (), false),
        ("another file", &|at| fs::write(at.join("unrelated.txt"), "y").unwrap(), false),
        ("the same again", &|at| fs::write(at.join("more/b.yaml"), alert("b")).unwrap(), false),
        ("as many bytes", &|at| fs::write(at.join("more/b.yaml"), alert("c")).unwrap(), true),
        ("removed", &|at| fs::remove_file(at.join("more/b.yaml")).unwrap(), true),
        ("added", &|at| fs::write(at.join("more/c.yaml"), "").unwrap(), true),
        (
            "replaced",
            &|at| {
                fs::write(at.join("new"), alert("c")).unwrap();
                fs::rename(at.join("new"), at.join("more/b.yaml")).unwrap();
            },
            true,
        ),
        ("all gone", &|at| fs::remove_file(at.join("a.yaml")).unwrap(), true),
    ];
    for (what, edit, changes) in edits {
        for path in ["a.yaml", ""] {
            let folder = new();
            let watched = reading(&folder.path().join(path)).watched().clone();
            edit(folder.path());
            assert_eq!(watched.has_changed(), changes, "{what}: {path}");
        }
    }
}

#[test]
fn the_paths_to_watch_are_the_files_and_the_folders_of_lists() {
    let folder = folder(&[("a.yaml", "include: ['teams/*/x*.yaml']\n"), ("teams/one/x.yaml", "")]);
    let at = |name: &str| folder.path().join(name);
    let paths = reading(&at("a.yaml")).watched().paths();
    assert_eq!(paths, [at("teams"), at("a.yaml"), at("teams/one/x.yaml")]);
    assert_eq!(reading(folder.path()).watched().paths()[0], folder.path());
}

#[test]
fn secrets_in_files_are_found_from_the_file_that_names_them() {
    let folder = folder(&[
        ("a.yaml", &format!("include: [teams/b.yaml]\ndatabase: {{url_file: keys/db}}\n{}", alert("a"))),
        ("keys/db", "sqlite:////var/t.db\n"),
        ("teams/b.yaml", "databases: {b: {url_file: db}}\n"),
        ("teams/db", "sqlite:////var/b.db\n"),
    ]);
    let config = load(&folder.path().join("a.yaml")).unwrap();
    let urls: BTreeMap<_, _> =
        config.sources.iter().map(|(name, source)| (name.as_str(), source.resolve().unwrap())).collect();
    assert_eq!(urls["default"].url.expose(), "sqlite:///var/t.db");
    assert_eq!(urls["b"].url.expose(), "sqlite:///var/b.db");
    assert!(!format!("{config:?}").contains("sqlite:"), "{config:?}");
}

/// Hosts keep their configuration in different places, and have to agree on the names of routes.
#[test]
fn a_routes_key_follows_the_path_of_a_secret_as_it_is_written_and_not_where_that_is() {
    let keys = |secret: &str| {
        let text = format!(
            "{DATABASE}alerts:\n- {{name: a, query: q, schedule: '@daily', notify: [{{channel: webhook, {secret}}}]}}\n"
        );
        let folder = folder(&[("a.yaml", &text)]);
        load(folder.path()).unwrap().alerts[0].definition.notify.clone()
    };
    assert_eq!(keys("url_file: keys/hook"), keys("url_file: keys/hook"));
    let different =
        ["url_file: keys/hook", "url_file: keys/other", "url: 'https://h'", "headers: {A: {file: keys/hook}}"];
    for (index, one) in different.iter().enumerate() {
        for other in &different[index + 1..] {
            assert_ne!(keys(one), keys(other), "{one} {other}");
        }
    }
}

/// Definitions, sources and channels of a configuration; the order of alerts is the only thing that files decide.
fn content(path: &Path) -> (String, Vec<String>) {
    let mut config = load(path).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let order = config.alerts.iter().map(|alert| alert.definition.name.clone()).collect();
    config.alerts.sort_by(|one, other| one.definition.name.cmp(&other.definition.name));
    (format!("{:?} {:?} {:?}", config.sources, config.channels, config.alerts), order)
}

const PIECES: [&str; 7] = [
    "database: {url: 'sqlite:///t.db'}\n",
    "databases: {eu: {url: 'sqlite:///e.db'}}\nalerts:\n- {name: a, query: q, schedule: '@daily', database: eu}\n",
    "databases: {us: {url: 'sqlite:///u.db'}}\n",
    "channels: {ops: {channel: slack, fallback: boss}}\n",
    "channels: {boss: {channel: email, recipients: [b@x]}}\nalerts:\n- {name: b, query: q, schedule: '@daily', notify: [boss, ops]}\n",
    "defaults: {timeout: 7, notify: [ops]}\n",
    "timezone: Europe/Berlin\nalerts:\n- {name: c, query: q, schedule: '0 9 * * *', database: us}\n",
];

proptest::proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_but_the_order_of_alerts_follows_from_the_order_of_files(
        order in Just((0..PIECES.len()).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let (sorted, shuffled) = (folder(&[]), folder(&[]));
        for (position, &piece) in order.iter().enumerate() {
            fs::write(sorted.path().join(format!("{piece}.yaml")), PIECES[piece]).unwrap();
            fs::write(shuffled.path().join(format!("{position}.yaml")), PIECES[piece]).unwrap();
        }
        let included: Vec<_> = order.iter().map(|piece| format!("{piece}.yaml")).collect();
        fs::write(sorted.path().join("all"), format!("include: [{}]\n", included.join(", "))).unwrap();
        let (expected, _) = content(sorted.path());
        let (found, alerts) = content(shuffled.path());
        proptest::prop_assert_eq!(&found, &expected);
        let of_piece = BTreeMap::from([(1, "a"), (4, "b"), (6, "c")]);
        proptest::prop_assert_eq!(&alerts, &order.iter().filter_map(|piece| of_piece.get(piece)).copied().collect::<Vec<_>>());
        proptest::prop_assert_eq!(content(&sorted.path().join("all")), (found, alerts));
    }
}
