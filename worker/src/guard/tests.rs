//! One row for each thing that is refused, and for plausible queries that must not be.

use proptest::prelude::*;

use super::*;

const BOTH: [DatabaseKind; 2] = [DatabaseKind::Postgres, DatabaseKind::Sqlite];
const ALL: [DatabaseKind; 3] = [DatabaseKind::Postgres, DatabaseKind::Mysql, DatabaseKind::Sqlite];

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
        ("SELECT * FROM ts_stat('SELECT pg_notify(1,2)')", "`ts_stat`"),
        ("SELECT * FROM crosstab('SELECT pg_notify(1,2)') AS c(a text, b text)", "`crosstab`"),
        ("SELECT pg_backup_start('x')", "`pg_backup_start`"),
        ("SELECT pg_copy_logical_replication_slot('a', 'b')", "`pg_copy_logical_replication_slot`"),
        ("SELECT brin_summarize_new_values('i')", "`brin_summarize_new_values`"),
        ("SELECT pg_stat_statements_reset()", "`pg_stat_statements_reset`"),
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
        // MySQL reads some of them differently (`"a"` is a text there), and refuses them all the same; `$1` is a name.
        assert!(check(query, DatabaseKind::Mysql).is_err() || query == "SELECT $1", "{query}");
    }
}

#[test]
fn what_only_one_database_has_is_refused_there() {
    use DatabaseKind::{Mysql, Postgres, Sqlite};
    for (kind, query, said) in [
        (Postgres, "SELECT U&\"set\\005fconfig\"('a', 'b', false)", "U&"),
        (Postgres, "COPY t TO PROGRAM 'sh'", "`COPY`"),
        (Postgres, "DO $$ BEGIN END $$", ""),
        (Postgres, "SET transaction_read_only = off", "`SET`"),
        (Postgres, "TRUNCATE t", "`TRUNCATE`"),
        (Postgres, "SELECT * FROM t FOR SHARE", "`FOR SHARE`"),
        (Mysql, "INSERT INTO t VALUES (1)", "`INSERT`"),
        (Mysql, "UPDATE t SET a = 1", "`UPDATE`"),
        (Mysql, "DELETE FROM t", "`DELETE`"),
        (Mysql, "REPLACE INTO t VALUES (1)", "`REPLACE`"),
        (Mysql, "TRUNCATE t", "`TRUNCATE`"),
        (Mysql, "DROP TABLE t", "`DROP`"),
        (Mysql, "ALTER TABLE t ADD a INT", "`ALTER`"),
        (Mysql, "RENAME TABLE t TO u", "`RENAME`"),
        (Mysql, "CREATE TABLE t (a INT)", "`CREATE`"),
        (Mysql, "CREATE TABLE t AS SELECT 1", "`CREATE`"),
        (Mysql, "SET GLOBAL max_connections = 1", "`SET`"),
        (Mysql, "SET STATEMENT max_statement_time = 0 FOR SELECT 1", "can be checked"),
        (Mysql, "CALL p()", "`CALL`"),
        (Mysql, "DO SLEEP(1)", "can be checked"),
        (Mysql, "HANDLER t OPEN", "can be checked"),
        (Mysql, "LOCK TABLES t WRITE", "`LOCK`"),
        (Mysql, "LOAD DATA INFILE '/tmp/x' INTO TABLE t", ""),
        (Mysql, "KILL 1", "`KILL`"),
        (Mysql, "FLUSH TABLES", "`FLUSH`"),
        (Mysql, "GRANT SELECT ON t TO u", "`GRANT`"),
        (Mysql, "PREPARE s FROM 'DELETE FROM t'", ""),
        (Mysql, "EXECUTE IMMEDIATE 'DELETE FROM t'", "`EXECUTE`"),
        (Mysql, "SELECT 1; DELETE FROM t", "several: the rest begins with `DELETE`"),
        (Mysql, "SELECT 1 /*!50101 ; DELETE FROM t */", "`/*!`"),
        (Mysql, "SELECT 1 /*!999999 FOR UPDATE */", "`/*!`"),
        (Mysql, "SELECT 1 /*M!100101 INTO @a */", "`/*M!`"),
        (Mysql, "SELECT ?", "placeholder `?`"),
        (Mysql, "SELECT 1 INTO @a", "SELECT … INTO"),
        (Mysql, "SELECT a FROM t ORDER BY a INTO @a", "SELECT … INTO"),
        (Mysql, "SELECT 1 INTO OUTFILE '/tmp/x'", "SELECT … INTO"),
        (Mysql, "SELECT 1 FROM t LIMIT 1 INTO DUMPFILE '/tmp/x'", "SELECT … INTO"),
        (Mysql, "SELECT 1 UNION SELECT 2 INTO OUTFILE '/tmp/x'", "SELECT … INTO"),
        (Mysql, "SELECT @a := 1", "`:=`"),
        (Mysql, "SELECT * FROM t FOR UPDATE", "`FOR UPDATE`"),
        (Mysql, "SELECT * FROM t FOR SHARE", "`FOR SHARE`"),
        (Mysql, "SELECT * FROM t LOCK IN SHARE MODE", "`LOCK IN SHARE MODE`"),
        (Mysql, "SELECT * FROM (SELECT * FROM t FOR UPDATE) AS u", "`FOR UPDATE`"),
        (Mysql, "SELECT * FROM t PROCEDURE ANALYSE()", "`analyse`"),
        (Mysql, "SELECT GET_LOCK('a', 1)", "`get_lock`"),
        (Mysql, "SELECT `get_lock` /* hidden */ ('a', 1)", "`get_lock`"),
        (Mysql, "SELECT get_lock -- hidden\n('a', 1)", "`get_lock`"),
        (Mysql, "SELECT RELEASE_ALL_LOCKS()", "`release_all_locks`"),
        (Mysql, "SELECT LOAD_FILE('/etc/passwd')", "`load_file`"),
        (Mysql, "SELECT BENCHMARK(1000000000, MD5('a'))", "`benchmark`"),
        (Mysql, "SELECT SETVAL(s, 1)", "`setval`"),
        (Mysql, "SELECT sys_exec('id')", "`sys_exec`"),
        (Mysql, "SELECT spider_direct_sql('DELETE FROM t', '', '')", "`spider_direct_sql`"),
        (Mysql, "SELECT group_replication_set_as_primary('x')", "`group_replication_set_as_primary`"),
        // What the parser would take for texts or comments, and the server for SQL; and the other way round.
        (Mysql, "SELECT $$ , load_file('x') , $$", ""),
        (Mysql, "SELECT $a$ , load_file('x') , $a$", ""),
        (Mysql, "SELECT 1 -- \n, load_file('x')", "`load_file`"),
        (Mysql, "SELECT 1 --load_file('x')", "`load_file`"),
        (Mysql, "SELECT 1 /* /* */, load_file('x') /* */", "`load_file`"),
        (Mysql, "SELECT '\\'', load_file('x'), '", "can be checked"),
        (Mysql, "SELECT '\\\\', load_file('x')", "`load_file`"),
        (Mysql, "SELECT \"\\\" , \", load_file('x')", "`load_file`"),
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
    let on_mysql = [
        "SELECT IF(COUNT(*) > 10, 'ALERT', 'OK') AS status, COUNT(*) AS actual_value FROM `orders` WHERE `created at` > NOW() - INTERVAL 1 DAY",
        "SELECT 'OK' AS status, DATE_SUB(CURDATE(), INTERVAL 2 HOUR) AS since, TIMESTAMPDIFF(MINUTE, MAX(a), NOW()) AS age FROM t",
        "SELECT 'OK' AS status, GROUP_CONCAT(DISTINCT name ORDER BY name SEPARATOR ', ') AS names FROM t",
        "SELECT status, a DIV 2 AS half, a % 2, a XOR b, a <=> b, NOT a, a && b, a || b FROM t LIMIT 2, 1",
        "SELECT payload->'$.a' AS a, payload->>'$.b' AS b, JSON_EXTRACT(payload, '$.c') AS c, 'OK' AS status FROM t",
        "SELECT CAST(a AS UNSIGNED), CAST(b AS DECIMAL(10, 2)), CONVERT(c USING utf8mb4), BINARY d, e COLLATE utf8mb4_bin FROM t",
        "SELECT /*+ MAX_EXECUTION_TIME(100) NO_ICP(t) */ 'OK' AS status # the end\n FROM t",
        "SELECT 'it\\'s; fine' AS a, \"say \\\"hi\\\"\" AS b, 'it''s' AS c, 'OK' AS status",
        "SELECT 5--1 AS six, 'OK' AS status",
        "SELECT 'OK' AS status FROM t FORCE INDEX (i) STRAIGHT_JOIN u ON t.id = u.id WHERE MATCH (t.a) AGAINST ('x' IN BOOLEAN MODE)",
        "SELECT region, SUM(amount) AS actual_value, 'OK' AS status FROM t GROUP BY region WITH ROLLUP",
        "SELECT 'OK' AS status WHERE name REGEXP '^a' OR name RLIKE 'b' OR name NOT LIKE 'c%'",
        "SELECT @@global.read_only AS ro, @@version, 'OK' AS status, SLEEP(0) AS s",
        "SELECT 'ALERT' AS status, X'00ff' AS x, b'101' AS b, 0xff AS h, _utf8mb4'a' AS u, N'n' AS n",
        "SELECT 'OK' AS status, EXTRACT(HOUR FROM NOW()) AS h, DATE '2026-01-01' AS d, NULL AS n FROM DUAL",
        "SELECT TABLE_NAME, DATA_LENGTH, 'OK' AS status FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()",
        "SELECT rank() OVER w AS r, 'OK' AS status FROM t WINDOW w AS (ORDER BY a) LIMIT 1",
        "SELECT 'do not /*! run */ or lock in share mode; @a := 1 INTO @b' AS note, 'OK' AS status",
    ];
    let rows = on_both.iter().flat_map(|query| ALL.map(|kind| (kind, *query)));
    let rows = rows.chain(on_mysql.map(|query| (DatabaseKind::Mysql, query)));
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
    for (query, body) in [
        ("/* team */ SELECT 'ü;' -- end\n ; # more", "SELECT 'ü;'"),
        ("# über\n;; SELECT /*+ NO_ICP(t) */ 1 /* end */ -- x\n, 2 ;", "SELECT /*+ NO_ICP(t) */ 1 /* end */ -- x\n, 2"),
    ] {
        assert_eq!(check(query, DatabaseKind::Mysql)?, GuardedQuery { leading: "", body }, "{query}");
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
    fn no_text_makes_the_guard_panic(text in "\\PC*", kind in prop::sample::select(ALL.to_vec())) {
        if let Ok(guarded) = check(&text, kind) {
            prop_assert!(text.contains(guarded.body));
        }
    }

    /// The same for texts that are nearly SQL.
    #[test]
    fn no_sql_like_text_makes_the_guard_panic(
        words in prop::collection::vec(prop::sample::select(vec![
            "SELECT", "1", "'a'", "'", "\"", "$$", "/*", "*/", "--", "\n", ";", "(", ")", ",", "FROM", "t", "U&", "é", "[", "`", "E'", "WITH", "#", "\\",
        ]), 0..20),
        kind in prop::sample::select(ALL.to_vec()),
    ) {
        let text = words.join(" ");
        if let Ok(guarded) = check(&text, kind) {
            prop_assert!(text.contains(guarded.body));
        }
    }
}
