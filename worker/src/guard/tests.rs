//! One row for each thing that is refused, and for plausible queries that must not be.

use proptest::prelude::*;

use super::*;

const BOTH: [DatabaseKind; 2] = [DatabaseKind::Postgres, DatabaseKind::Sqlite];

#[test]
fn every_refused_statement_is_refused_by_name_on_both_dialects() {
    for (query, said) in [
        ("", "empty"),
        (" -- nothing\n/* here */ ;", "empty"),
        ("INSERT INTO t VALUES (1)", "`INSERT`"),
        ("UPDATE t SET a = 1", "`UPDATE`"),
        ("DELETE FROM t", "`DELETE`"),
        ("DROP TABLE t", "`DROP`"),
        ("CREATE TABLE t (a int)", "`CREATE`"),
        ("SELECT 1; SELECT 2", "several: the rest begins with `SELECT`"),
        ("COMMIT; CREATE TABLE t (a int)", "several"),
        ("SELECT 1; DROP TABLE t", "several: the rest begins with `DROP`"),
        ("WITH gone AS (DELETE FROM t RETURNING *) SELECT count(*) FROM gone", "`DELETE` inside a query"),
        ("WITH x AS (UPDATE t SET a = 1 RETURNING a) SELECT * FROM x", "`UPDATE` inside a query"),
        ("WITH x AS (INSERT INTO t VALUES (1) RETURNING a) SELECT * FROM x", "`INSERT` inside a query"),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", "`INSERT` inside a query"),
        ("SELECT * INTO copy FROM t", "SELECT … INTO"),
        ("SELECT a FROM t INTO OUTFILE '/tmp/x'", "SELECT … INTO"),
        ("SELECT a INTO DUMPFILE '/tmp/x' FROM t", "SELECT … INTO"),
        ("SELECT * FROM t FOR UPDATE", "`FOR UPDATE`"),
        ("SELECT 1 /*! INTO OUTFILE 'x' */", "`/*!`"),
        ("SELECT 1 /*M! , 2 */", "`/*M!`"),
        ("SELECT set_config('transaction_read_only', 'off', true)", "`set_config`"),
        ("SELECT pg_catalog.SET_CONFIG ('a', 'b', false)", "`set_config`"),
        ("SELECT \"set_config\"('a', 'b', false)", "`set_config`"),
        ("SELECT set_config /* hidden */ ('a', 'b', false)", "`set_config`"),
        ("SELECT 'OK' AS status WHERE EXISTS (SELECT lo_import('/etc/passwd'))", "`lo_import`"),
        ("SELECT lo_unlink(1)", "`lo_unlink`"),
        ("SELECT * FROM dblink('host=x', 'DELETE FROM t') AS t(a int)", "`dblink`"),
        ("SELECT dblink_exec('x', 'y')", "`dblink_exec`"),
        ("SELECT pg_advisory_lock(1)", "`pg_advisory_lock`"),
        ("SELECT pg_try_advisory_lock(1)", "`pg_try_advisory_lock`"),
        ("SELECT pg_terminate_backend(1)", "`pg_terminate_backend`"),
        ("SELECT pg_cancel_backend(1)", "`pg_cancel_backend`"),
        ("SELECT pg_read_file('/etc/passwd')", "`pg_read_file`"),
        ("SELECT pg_read_binary_file('/etc/passwd')", "`pg_read_binary_file`"),
        ("SELECT pg_notify('a', 'b')", "`pg_notify`"),
        ("SELECT GET_LOCK('a', 10)", "`get_lock`"),
        ("SELECT LOAD_FILE('/etc/passwd')", "`load_file`"),
        ("SELECT load_extension('x')", "`load_extension`"),
        ("SELECT query_to_xml('SELECT pg_notify(1,2)', true, true, '')", "`query_to_xml`"),
        ("SELECT $1", "placeholder `$1`"),
        ("SELECT 1 \0", "NUL"),
        ("SELEKT 1", "can be checked"),
        ("SELECT 1 FROM", "can be checked"),
        ("SELECT (1", "can be checked"),
        ("EXPLAIN ANALYZE SELECT 1", "`EXPLAIN`"),
    ] {
        for kind in BOTH {
            let refusal = check(query, kind).map(|_| ()).expect_err(query).to_string();
            assert!(refusal.contains(said), "{kind:?} {query}: {refusal}");
        }
    }
}

#[test]
fn what_only_one_database_has_is_refused_there() {
    use DatabaseKind::{Postgres, Sqlite};
    for (kind, query, said) in [
        (Postgres, "SELECT U&\"set\\005fconfig\"('a', 'b', false)", "U&"),
        (Postgres, "COPY t TO PROGRAM 'sh'", "`COPY`"),
        (Postgres, "DO $$ BEGIN END $$", ""),
        (Postgres, "SET transaction_read_only = off", "`SET`"),
        (Postgres, "TRUNCATE t", "`TRUNCATE`"),
        (Postgres, "SELECT * FROM t FOR SHARE", "`FOR SHARE`"),
        (Sqlite, "PRAGMA query_only = 0", "`PRAGMA`"),
        (Sqlite, "ATTACH DATABASE '/tmp/x' AS x", "`ATTACH`"),
        (Sqlite, "VACUUM INTO '/tmp/x'", ""),
        (Sqlite, "SELECT 1 /* /* */; VACUUM INTO 'x' /* */", "`VACUUM`"),
        (Sqlite, "REPLACE INTO t VALUES (1)", "`REPLACE`"),
    ] {
        let refusal = check(query, kind).map(|_| ()).expect_err(query).to_string();
        assert!(refusal.contains(said), "{kind:?} {query}: {refusal}");
    }
}

#[test]
fn what_alerts_plausibly_contain_is_allowed() {
    let on_both = [
        "SELECT 'ALERT' AS status, 8500.0 AS actual_value",
        "SELECT CASE WHEN COUNT(*) > 10 THEN 'ALERT' ELSE 'OK' END AS status, COUNT(*) AS actual_value, 10 AS threshold FROM orders",
        "WITH t AS (SELECT sum(amount) AS s FROM orders) SELECT CASE WHEN s < 10 THEN 'ALERT' ELSE 'OK' END AS status FROM t",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT 'OK' AS status FROM n LIMIT 1",
        "SELECT 'OK' AS status UNION ALL SELECT 'OK' EXCEPT SELECT 'x' ORDER BY 1 LIMIT 1",
        "SELECT 'OK' AS status WHERE 3 > (SELECT count(*) FROM (SELECT a FROM t) AS s)",
        "SELECT status, rank() OVER (PARTITION BY region ORDER BY amount DESC) AS r FROM orders",
        "SELECT CAST(sum(a) AS numeric) AS actual_value, 'OK' AS status FROM t GROUP BY b HAVING sum(a) > 1",
        "VALUES ('OK', 1)",
        "SELECT 'do not DELETE; or lo_import(1)' AS note, 'OK' AS status -- DROP TABLE t",
        "SELECT \"update\", deleted FROM t",
        "SELECT lo_price, dblinks FROM t",
        "SELECT 'OK' AS status FROM t LEFT JOIN u ON t.id = u.id AND u.name LIKE 'a%' WHERE t.x IS NOT NULL",
        "/* team: revenue */ SELECT 'OK' AS status;",
        "SELECT coalesce(max(a), 0) AS actual_value, 'OK' AS status FROM t WHERE b BETWEEN 1 AND 2 AND c IN (1, 2)",
    ];
    let on_postgres = [
        "SELECT sum(a)::numeric(10, 2) AS actual_value, now() - interval '1 day' AS since, 'OK' AS status FROM t",
        "SELECT 'OK' AS status, date_trunc('day', now()) AT TIME ZONE 'Europe/London' AS d",
        "SELECT payload->>'a' AS a, payload @> '{\"b\": 1}'::jsonb AS b, 'OK' AS status FROM t WHERE payload ? 'a'",
        "SELECT DISTINCT ON (a) a, 'OK' AS status FROM t ORDER BY a, b DESC NULLS LAST",
        "SELECT count(*) FILTER (WHERE a > 1) AS actual_value, 'OK' AS status FROM t",
        "SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY ms) AS actual_value, 'OK' AS status FROM t",
        "SELECT 'OK' AS status FROM t CROSS JOIN LATERAL (SELECT 1 AS x WHERE t.a = 1) s",
        "SELECT array_agg(a ORDER BY a) AS l, 'OK' AS status FROM generate_series(1, 3) AS g(a)",
        "SELECT $tag$ a; b $tag$ AS note, E'it\\'s; fine' AS e, 'OK' AS status",
        "SELECT 'OK' AS status, pg_sleep(0)",
        "SELECT a = ANY(ARRAY[1, 2]) AS hit, (ARRAY[1, 2])[1] AS f, 'OK' AS status FROM t",
    ];
    let on_sqlite = [
        "SELECT date('now', '-1 day') AS since, strftime('%s', 'now') AS t, 'OK' AS status",
        "SELECT json_extract(payload, '$.a') AS a, iif(a > 1, 'ALERT', 'OK') AS status FROM t",
        "SELECT [odd name], `other`, 'OK' AS status FROM t WHERE a GLOB 'x*'",
        "SELECT total(a) AS actual_value, 'OK' AS status FROM t WHERE julianday(b) > 1",
    ];
    let rows = on_both.iter().flat_map(|query| BOTH.map(|kind| (kind, *query)));
    let rows = rows.chain(on_postgres.map(|query| (DatabaseKind::Postgres, query)));
    for (kind, query) in rows.chain(on_sqlite.map(|query| (DatabaseKind::Sqlite, query))) {
        if let Err(refusal) = check(query, kind) {
            panic!("{kind:?} {query}: {refusal}");
        }
    }
}

#[test]
fn what_stands_around_the_query_is_cut_off_and_a_hint_before_it_is_kept() -> Result<(), Refusal> {
    for (query, leading, body) in [
        ("SELECT 1", "", "SELECT 1"),
        ("SELECT 1 ;; -- end\n", "", "SELECT 1"),
        ("/*+ SeqScan(t) */ SELECT 'ü;' /* end */ ; /* more */", "/*+ SeqScan(t) */ ", "SELECT 'ü;'"),
        ("-- über\r\n\tSELECT\n  'é'\n;\n", "-- über\r\n\t", "SELECT\n  'é'"),
        ("SELECT $$ a; b\n$$ -- end", "", "SELECT $$ a; b\n$$"),
        ("SELECT E'a\\'b', 'it''s' , \"x\"\"y\" ;", "", "SELECT E'a\\'b', 'it''s' , \"x\"\"y\""),
        (";; SELECT 1", "", "SELECT 1"),
    ] {
        assert_eq!(check(query, DatabaseKind::Postgres)?, GuardedQuery { leading, body }, "{query}");
    }
    Ok(())
}

#[test]
fn depth_is_bounded_and_generated_sql_fits_in() {
    let nested = |depth: usize| format!("SELECT {}1{} AS x", "(".repeat(depth), ")".repeat(depth));
    assert!(check(&nested(40), DatabaseKind::Postgres).is_ok());
    assert!(matches!(check(&nested(10_000), DatabaseKind::Postgres), Err(Refusal::Unparsed(_))));
}

proptest! {
    /// Whatever is written, the guard answers, and what it lets through is a part of what was written.
    #[test]
    fn no_text_makes_the_guard_panic(text in "\\PC*", kind in prop::sample::select(BOTH.to_vec())) {
        if let Ok(guarded) = check(&text, kind) {
            prop_assert!(text.contains(guarded.body));
        }
    }

    /// The same for texts that are nearly SQL.
    #[test]
    fn no_sql_like_text_makes_the_guard_panic(
        words in prop::collection::vec(prop::sample::select(vec![
            "SELECT", "1", "'a'", "'", "\"", "$$", "/*", "*/", "--", "\n", ";", "(", ")", ",", "FROM", "t", "U&", "é", "[", "`", "E'", "WITH",
        ]), 0..20),
        kind in prop::sample::select(BOTH.to_vec()),
    ) {
        let text = words.join(" ");
        if let Ok(guarded) = check(&text, kind) {
            prop_assert!(text.contains(guarded.body));
        }
    }
}
