//! Queries that were made to break the guard: it answers, on a small stack and soon, and what it lets through reads.

use std::thread;

use proptest::prelude::*;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{AssertSqlSafe, Executor, Row, SqlitePool};

use super::*;

const ALL: [DatabaseKind; 3] = [DatabaseKind::Postgres, DatabaseKind::Mysql, DatabaseKind::Sqlite];

/// `begin` so many times, `1`, and as often `end`.
fn nested(begin: &str, end: &str, depth: usize) -> String {
    format!("SELECT {}1{} AS x", begin.repeat(depth), end.repeat(depth))
}

/// `SELECT a`, and so many times `link`.
fn chained(link: &str, length: usize) -> String {
    format!("SELECT a{}", link.repeat(length))
}

/// What nests with each repetition, and how many keywords and operators it has.
const LINKS: [(&str, usize); 8] = [
    (" + 1", 1),
    (" AND a = 1", 2),
    (" UNION ALL SELECT 1", 3),
    ("::int", 2),
    ("[1]", 2),
    (" IS NULL", 2),
    (" LIKE '1'", 1),
    (" NOT BETWEEN 1 AND 1", 3),
];

#[test]
fn however_deep_a_query_is_nested_it_is_refused_and_the_process_lives() {
    for (begin, end) in [("(", ")"), ("abs(", ")"), ("(SELECT ", ")"), ("- ", ""), ("NOT ", ""), ("ARRAY[", "]")] {
        let refusal = check(&nested(begin, end, 100_000), DatabaseKind::Postgres).expect_err(begin);
        assert!(matches!(refusal, Refusal::Unparsed(_) | Refusal::TooLong), "{begin}: {refusal}");
    }
}

#[test]
fn however_long_a_chain_is_it_is_refused_and_the_process_lives() {
    for (link, _) in LINKS {
        assert_eq!(check(&chained(link, 50_000), DatabaseKind::Postgres), Err(Refusal::TooLong), "{link}");
    }
    for kind in ALL {
        assert_eq!(check(&chained(" + 1", 100_000), kind), Err(Refusal::TooLong), "{kind:?}");
    }
    let options = QueryOptions { allow_unparsed: true, ..QueryOptions::default() };
    let query = chained(" + 1", 100_000);
    assert_eq!(check_with(&query, DatabaseKind::Postgres, &options), Err(Refusal::TooLong));
}

#[test]
fn the_longest_chains_that_pass_need_half_of_the_stack_that_a_runtime_gives() {
    let longest = || {
        for (link, each) in LINKS {
            // `SELECT` is one.
            let query = chained(link, (MAX_LINKS - 1) / each);
            assert!(check(&query, DatabaseKind::Postgres).is_ok(), "{link}");
        }
    };
    thread::Builder::new().stack_size(1 << 20).spawn(longest).unwrap().join().unwrap();
}

#[test]
fn a_long_list_of_values_is_no_chain() {
    let list = format!("SELECT 'OK' AS status FROM t WHERE id IN (1{})", ", 'x'".repeat(50_000));
    for kind in ALL {
        assert!(check(&list, kind).is_ok(), "{kind:?}");
    }
}

const SEEDS: [&str; 6] = [
    "SELECT CASE WHEN COUNT(*) > 10 THEN 'ALERT' ELSE 'OK' END AS status, COUNT(*) AS actual_value FROM t",
    "WITH x AS (SELECT sum(a) AS s FROM t) SELECT CASE WHEN s < 10 THEN 'ALERT' ELSE 'OK' END AS status FROM x",
    "SELECT 'OK' AS status WHERE 3 > (SELECT count(*) FROM (SELECT a FROM t) AS s) -- done",
    "/* team: é */ SELECT \"a\", 'it''s; fine' AS note FROM t LEFT JOIN u ON t.a = u.a ORDER BY 1 LIMIT 2;",
    "SELECT 'OK' AS status UNION ALL SELECT 'OK' EXCEPT SELECT 'x'",
    "VALUES ('OK', 1)",
];

const FRAGMENTS: [&str; 40] = [
    ";",
    "; DELETE FROM t",
    "DELETE FROM t",
    "INSERT INTO t VALUES (9)",
    "UPDATE t SET a = 1",
    "DROP TABLE t",
    "CREATE TABLE x AS ",
    "REPLACE INTO t VALUES (1)",
    "ATTACH ':memory:' AS y",
    "PRAGMA user_version = 7",
    "EXPLAIN ",
    "WITH x AS (",
    "WITH ",
    " RETURNING a",
    " INTO y",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "VACUUM",
    "REINDEX",
    "ANALYZE",
    "load_extension('x')",
    "/*!",
    "/*",
    "*/",
    "--",
    "#",
    "\n",
    "'",
    "\"",
    "`",
    "[",
    "]",
    "(",
    ")",
    "$$",
    "\\",
    "é",
    "\u{feff}",
    "SELECT ",
];

#[derive(Clone, Debug)]
enum Change {
    Insert(&'static str),
    Cut(usize),
    Repeat(usize),
    Replace(char),
}

fn change() -> impl Strategy<Value = (prop::sample::Index, Change)> {
    let change = prop_oneof![
        4 => prop::sample::select(FRAGMENTS.to_vec()).prop_map(Change::Insert),
        2 => (1..20_usize).prop_map(Change::Cut),
        1 => (1..20_usize).prop_map(Change::Repeat),
        1 => any::<char>().prop_map(Change::Replace),
    ];
    (any::<prop::sample::Index>(), change)
}

fn changed(seed: &str, changes: &[(prop::sample::Index, Change)]) -> String {
    let mut text: Vec<char> = seed.chars().collect();
    for (place, change) in changes {
        let at = place.index(text.len() + 1);
        let end = |length: usize| text.len().min(at + length);
        match change {
            Change::Insert(fragment) => drop(text.splice(at..at, fragment.chars())),
            Change::Cut(length) => drop(text.drain(at..end(*length))),
            Change::Repeat(length) => {
                let part = text[at..end(*length)].to_vec();
                text.splice(at..at, part);
            }
            Change::Replace(character) => drop(text.splice(at..end(1), [*character])),
        }
    }
    text.into_iter().collect()
}

async fn database() -> sqlx::Result<SqlitePool> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    for statement in ["CREATE TABLE t (a)", "CREATE TABLE u (a)", "INSERT INTO t VALUES (1), (2)"] {
        pool.execute(statement).await?;
    }
    Ok(pool)
}

/// What any statement that does something changes.
async fn traces(pool: &SqlitePool) -> sqlx::Result<Vec<i64>> {
    let mut traces = Vec::new();
    for question in [
        "SELECT total_changes()",
        "SELECT count(*) FROM sqlite_master",
        "SELECT count(*) FROM t",
        "SELECT count(*) FROM pragma_database_list",
        "PRAGMA user_version",
        "PRAGMA schema_version",
    ] {
        traces.push(pool.fetch_one(question).await?.try_get(0)?);
    }
    Ok(traces)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_changed_query_makes_the_guard_panic(
        seed in prop::sample::select(SEEDS.to_vec()), changes in prop::collection::vec(change(), 1..6),
        kind in prop::sample::select(ALL.to_vec()), allow_unparsed in any::<bool>(),
    ) {
        let query = changed(seed, &changes);
        let options = QueryOptions { allow_unparsed, ..QueryOptions::default() };
        if let Ok(guarded) = check_with(&query, kind, &options) {
            prop_assert!(query.contains(guarded.body) && query.contains(guarded.leading));
            prop_assert!(check_with(guarded.body, kind, &options).is_ok(), "what is sent would be refused: {}", guarded.body);
        }
    }
}

#[test]
fn what_passes_for_sqlite_changes_nothing_there() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pool = runtime.block_on(database())?;
    let before = runtime.block_on(traces(&pool))?;
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 4_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let queries = (prop::sample::select(SEEDS.to_vec()), prop::collection::vec(change(), 1..4));
    let ran = std::cell::Cell::new(0);
    runner.run(&queries, |(seed, changes)| {
        let query = changed(seed, &changes);
        if let Ok(guarded) = check(&query, DatabaseKind::Sqlite) {
            let sent = AssertSqlSafe(format!("{}{}", guarded.leading, guarded.body));
            // SQLite refuses some of it; the others say what they say.
            let answered = runtime.block_on(pool.fetch_all(sent)).is_ok();
            ran.set(ran.get() + u32::from(answered));
            let after = runtime.block_on(traces(&pool));
            prop_assert!(after.as_ref().is_ok_and(|after| *after == before), "{}: {:?}", query, after);
        }
        Ok(())
    })?;
    assert!(ran.get() > 100, "only {} of them ran", ran.get());
    Ok(())
}
