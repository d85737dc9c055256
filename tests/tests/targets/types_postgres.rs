//! Every type that PostgreSQL has, at its extremes, as a column, in an array and as NULL: each arrives as faithful JSON,
//! or the run says why not, whatever the database's own settings for printing are.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;
use sqlsentinel_common::alert::QueryOptions;
use sqlsentinel_common::outcome::{RunStatus, Verdict};
use sqlsentinel_tests::postgres::Postgres;
use sqlsentinel_worker::source::Source;
use sqlx::{Executor, PgPool};

use crate::ask::{run_with, source};

struct Scene {
    source: Source,
    pool: PgPool,
    _server: Postgres,
}

impl Scene {
    async fn set() -> Result<Self> {
        let server = Postgres::start().await?;
        let url = server.create_database("target").await?;
        let pool = server.pool("target").await?;
        Ok(Self { source: source(&url, 1)?, pool, _server: server })
    }

    async fn run(&self, query: &str) -> Result<Verdict> {
        run_with(&self.source, query, &QueryOptions::default()).await
    }

    /// The columns of the one row of `query`, as JSON texts.
    async fn columns<const N: usize>(&self, query: &str, names: [&str; N]) -> Result<[String; N]> {
        let verdict = self.run(query).await?;
        anyhow::ensure!((verdict.status, verdict.truncated) == (RunStatus::Ok, false), "{query}: {verdict:?}");
        Ok(names.map(|name| verdict.context.get(name).map_or("absent".to_owned(), Value::to_string)))
    }
}

/// Types of the server's own insides, of which no column can be made, or none with a value.
const INSIDES: &[&str] = &[
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
    "pg_dependencies",
    "pg_mcv_list",
    "pg_ndistinct",
    "pg_node_tree",
    "gtsvector",
];

/// Type, value, and the JSON that arrives.
const VALUES: &[(&str, &str, &str)] = &[
    ("bool", "true", "true"),
    ("bool", "false", "false"),
    ("int2", "-32768", "-32768"),
    ("int4", "-2147483648", "-2147483648"),
    ("int8", "9223372036854775807", "9223372036854775807"),
    ("int8", "-9223372036854775808", "-9223372036854775808"),
    ("float4", "0.1", "0.1"),
    ("float4", "3.4028235e38", "3.4028235e+38"),
    ("float4", "NaN", "\"NaN\""),
    ("float4", "-Infinity", "\"-Infinity\""),
    ("float8", "1.7976931348623157e308", "1.7976931348623157e+308"),
    ("float8", "5e-324", "5e-324"),
    ("float8", "-0", "-0"),
    ("float8", "NaN", "\"NaN\""),
    ("float8", "Infinity", "\"Infinity\""),
    ("numeric", "1234567890123456789012345678901234567890", "1234567890123456789012345678901234567890"),
    ("numeric", "-0.1234567890123456789012345678901234567890", "-0.1234567890123456789012345678901234567890"),
    ("numeric(10,4)", "1.5", "1.5000"),
    ("numeric", "NaN", "\"NaN\""),
    ("numeric", "-Infinity", "\"-Infinity\""),
    ("money", "-12.50", "\"-$12.50\""),
    ("text", "é'\"\\\u{1}\u{7f}\u{1f600}", "\"é'\\\"\\\\\\u0001\u{7f}\u{1f600}\""),
    ("text", "", "\"\""),
    ("varchar(3)", "abc", "\"abc\""),
    ("bpchar(4)", "ab", "\"ab  \""),
    ("\"char\"", "x", "\"x\""),
    ("name", "who", "\"who\""),
    ("bytea", "\\x00ff5c", "\"\\\\x00ff5c\""),
    ("bytea", "", "\"\\\\x\""),
    ("date", "5874897-12-31", "\"5874897-12-31\""),
    ("date", "4713-01-01 BC", "\"4713-01-01 BC\""),
    ("date", "-infinity", "\"-infinity\""),
    ("time", "24:00:00", "\"24:00:00\""),
    ("time(3)", "23:59:59.9996", "\"24:00:00\""),
    ("timetz", "23:59:59.999999-15:59", "\"23:59:59.999999-15:59\""),
    ("timestamp", "294276-12-31 23:59:59.999999", "\"294276-12-31T23:59:59.999999\""),
    ("timestamp", "4713-01-01 00:00:00 BC", "\"4713-01-01T00:00:00 BC\""),
    ("timestamp", "infinity", "\"infinity\""),
    ("timestamptz", "2026-03-29 01:30:00.000001+14", "\"2026-03-28T11:30:00.000001+00:00\""),
    ("timestamptz", "0044-03-15 12:00:00+00 BC", "\"0044-03-15T12:00:00+00:00 BC\""),
    ("timestamptz", "-infinity", "\"-infinity\""),
    ("interval", "178000000 years", "\"178000000 years\""),
    ("interval", "-1 year 2 months -3 days 04:05:06.789", "\"-10 mons -3 days +04:05:06.789\""),
    ("interval", "0", "\"00:00:00\""),
    (
        "json",
        "{\"b\": 12345678901234567890123456789012345678.10, \"a\": [null, {}]}",
        "{\"a\":[null,{}],\"b\":12345678901234567890123456789012345678.10}",
    ),
    ("json", "\"a\\u0000b\"", "\"a\\\\u0000b\""),
    ("json", "null", "null"),
    ("json", "1E+2", "1e+2"),
    (
        "jsonb",
        "12345678901234567890123456789012345678901234567890.10",
        "12345678901234567890123456789012345678901234567890.10",
    ),
    ("jsonb", "[1e30, false]", "[1000000000000000000000000000000,false]"),
    ("jsonpath", "$.a[*]", "\"$.\\\"a\\\"[*]\""),
    ("uuid", "FFFFFFFF-ffff-ffff-ffff-ffffffffffff", "\"ffffffff-ffff-ffff-ffff-ffffffffffff\""),
    ("inet", "10.0.0.1/8", "\"10.0.0.1/8\""),
    ("inet", "::ffff:1.2.3.4", "\"::ffff:1.2.3.4\""),
    ("cidr", "2001:db8::/32", "\"2001:db8::/32\""),
    ("macaddr", "08:00:2b:01:02:03", "\"08:00:2b:01:02:03\""),
    ("macaddr8", "08:00:2b:01:02:03:04:05", "\"08:00:2b:01:02:03:04:05\""),
    ("bit(5)", "10101", "\"10101\""),
    ("varbit", "", "\"\""),
    ("tsvector", "'a':1A 'b':2", "\"'a':1A 'b':2\""),
    ("tsquery", "a & !b", "\"'a' & !'b'\""),
    ("xml", "<a b=\"1\">é</a>", "\"<a b=\\\"1\\\">é</a>\""),
    ("point", "(1.5,-2)", "\"(1.5,-2)\""),
    ("line", "{1,2,3}", "\"{1,2,3}\""),
    ("lseg", "[(0,0),(1,1)]", "\"[(0,0),(1,1)]\""),
    ("box", "(1,1),(0,0)", "\"(1,1),(0,0)\""),
    ("path", "((0,0),(1,1))", "\"((0,0),(1,1))\""),
    ("polygon", "((0,0),(1,1),(1,0))", "\"((0,0),(1,1),(1,0))\""),
    ("circle", "<(0,0),1.5>", "\"<(0,0),1.5>\""),
    ("int4range", "[1,5]", "\"[1,6)\""),
    ("int4range", "empty", "\"empty\""),
    ("int8range", "(,9223372036854775807)", "\"(,9223372036854775807)\""),
    ("numrange", "[1.10,)", "\"[1.10,)\""),
    ("daterange", "[2026-01-01,infinity)", "\"[2026-01-01,infinity)\""),
    ("tsrange", "[2026-01-01 00:00,)", "\"[\\\"2026-01-01 00:00:00\\\",)\""),
    ("tstzrange", "[2026-01-01 00:00+02,)", "\"[\\\"2025-12-31 22:00:00+00\\\",)\""),
    ("int4multirange", "{[1,2),[5,9)}", "\"{[1,2),[5,9)}\""),
    ("int8multirange", "{}", "\"{}\""),
    ("nummultirange", "{[1.5,2)}", "\"{[1.5,2)}\""),
    ("datemultirange", "{[2026-01-01,2026-01-02)}", "\"{[2026-01-01,2026-01-02)}\""),
    ("tsmultirange", "{}", "\"{}\""),
    ("tstzmultirange", "{}", "\"{}\""),
    ("oid", "4294967295", "\"4294967295\""),
    ("xid", "4294967295", "\"4294967295\""),
    ("xid8", "18446744073709551615", "\"18446744073709551615\""),
    ("cid", "7", "\"7\""),
    ("tid", "(0,1)", "\"(0,1)\""),
    ("oidvector", "1 2", "[\"1\",\"2\"]"),
    ("int2vector", "1 2", "[1,2]"),
    ("regclass", "pg_class", "\"pg_class\""),
    ("regcollation", "\"C\"", "\"\\\"C\\\"\""),
    ("regconfig", "simple", "\"simple\""),
    ("regdictionary", "simple", "\"simple\""),
    ("regnamespace", "pg_catalog", "\"pg_catalog\""),
    ("regoper", "||/", "\"||/\""),
    ("regoperator", "+(integer,integer)", "\"+(integer,integer)\""),
    ("regproc", "pg_sleep", "\"pg_sleep\""),
    ("regprocedure", "pg_sleep(float8)", "\"pg_sleep(double precision)\""),
    ("regrole", "postgres", "\"postgres\""),
    ("regtype", "int4", "\"integer\""),
    ("pg_lsn", "16/B374D848", "\"16/B374D848\""),
    ("pg_snapshot", "10:20:10,14", "\"10:20:10,14\""),
    ("txid_snapshot", "10:20:10,14", "\"10:20:10,14\""),
    ("aclitem", "postgres=r/postgres", "\"postgres=r/postgres\""),
    ("refcursor", "c", "\"c\""),
    // Of the database's own making.
    ("mood", "very glad", "\"very glad\""),
    ("percent", "12.50", "12.50"),
    ("pair", "(1,\"x,y\")", "{\"a\":1,\"b\":\"x,y\"}"),
    ("pair", "(,)", "{\"a\":null,\"b\":null}"),
    ("pairs", "{\"(1,x)\",NULL}", "[{\"a\":1,\"b\":\"x\"},null]"),
    ("span", "[1.5,2.5]", "\"[1.5,2.5]\""),
];

const OWN_TYPES: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'very glad');
    CREATE DOMAIN percent AS NUMERIC(5, 2) CHECK (VALUE <= 100);
    CREATE TYPE pair AS (a INT, b TEXT);
    CREATE DOMAIN pairs AS pair[];
    CREATE TYPE span AS RANGE (subtype = float8);
";

#[tokio::test]
async fn every_type_arrives_as_faithful_json_alone_in_an_array_and_as_null() -> Result<()> {
    let scene = Scene::set().await?;
    scene.pool.execute(OWN_TYPES).await?;
    for (kind, value, expected) in VALUES {
        let literal = format!("'{}'::{kind}", value.replace('\'', "''"));
        let query = format!("SELECT 'OK' AS status, {literal} AS v, NULL::{kind} AS n");
        let [v, n] = scene.columns(&query, ["v", "n"]).await.with_context(|| literal.clone())?;
        assert_eq!((v.as_str(), n.as_str()), (*expected, "null"), "{literal}");
        // Vectors are arrays already, and an array of arrays is one array.
        if !expected.starts_with('[') || kind.starts_with("json") {
            let query =
                format!("SELECT 'OK' AS status, ARRAY[{literal}, NULL] AS a, ARRAY[[{literal}], [{literal}]] AS b");
            let [a, b] = scene.columns(&query, ["a", "b"]).await.with_context(|| literal.clone())?;
            assert_eq!(a, format!("[{expected},null]"), "{literal}");
            assert_eq!(b, format!("[[{expected}],[{expected}]]"), "{literal}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn no_type_of_the_server_is_left_out() -> Result<()> {
    let scene = Scene::set().await?;
    let sql = "SELECT typname FROM pg_type WHERE typtype IN ('b', 'r', 'm') AND typelem = 0 AND typnamespace = 'pg_catalog'::regnamespace";
    let known: Vec<String> = sqlx::query_scalar(sql).fetch_all(&scene.pool).await?;
    let base =
        |(kind, ..): &(&str, &str, &str)| kind.split('(').next().unwrap_or_default().trim_matches('"').to_owned();
    let tried: BTreeSet<String> = VALUES.iter().map(base).collect();
    let left_out: Vec<_> =
        known.iter().filter(|name| !tried.contains(*name) && !INSIDES.contains(&name.as_str())).collect();
    assert!(known.len() > 60, "{known:?}");
    assert_eq!(left_out, Vec::<&String>::new());
    Ok(())
}

#[tokio::test]
async fn tables_expressions_and_odd_names_arrive_like_columns() -> Result<()> {
    let scene = Scene::set().await?;
    scene.pool.execute("CREATE TABLE t (id INT, note TEXT); INSERT INTO t VALUES (1, 'x'), (2, NULL)").await?;
    for (sql, expected) in [
        ("(SELECT t FROM t WHERE id = 2)", "{\"id\":2,\"note\":null}"),
        ("(SELECT array_agg(t ORDER BY id) FROM t)", "[{\"id\":1,\"note\":\"x\"},{\"id\":2,\"note\":null}]"),
        ("ROW(1, ARRAY[ROW('x', NULL)])", "{\"f1\":1,\"f2\":[{\"f1\":\"x\",\"f2\":null}]}"),
        ("'[0:1]={7,8}'::int[]", "[7,8]"),
        ("'{{{1,2}},{{3,NULL}}}'::int[]", "[[[1,2]],[[3,null]]]"),
        ("pg_sleep(0)", "\"\""),
        ("'literal'", "\"literal\""),
        ("count(*)", "1"),
        ("1 / 3.0", "0.33333333333333333333"),
        ("now() - now()", "\"00:00:00\""),
        ("(SELECT sum(id) FROM t)", "3"),
        ("'{\"a\": 1, \"a\": 2}'::jsonb", "{\"a\":2}"),
    ] {
        let query = format!("SELECT 'OK' AS status, {sql} AS \"an \"\"odd\"\" näme\"");
        let [value] = scene.columns(&query, ["an \"odd\" näme"]).await?;
        assert_eq!(value, expected, "{sql}");
    }
    Ok(())
}

/// How a database prints is somebody's setting; what an alert says is not.
#[tokio::test]
async fn the_databases_own_settings_for_printing_change_no_value() -> Result<()> {
    let scene = Scene::set().await?;
    for setting in [
        "bytea_output = 'escape'",
        "IntervalStyle = 'iso_8601'",
        "DateStyle = 'SQL, DMY'",
        "extra_float_digits = -3",
        "TimeZone = 'Asia/Tokyo'",
    ] {
        scene.pool.execute(sqlx::AssertSqlSafe(format!("ALTER DATABASE target SET {setting}"))).await?;
    }
    let query = "SELECT 'OK' AS status, '\\x00ff'::bytea AS b, interval '1 month 1 day 00:00:01' AS i, \
                 '2026-03-29'::date AS d, ARRAY['2026-03-29'::date] AS l, 0.1::float8 + 0.2 AS f, \
                 '2026-03-29 00:00:00+00'::timestamptz AS t, tsrange('2026-03-29', NULL) AS r";
    let values = scene.columns(query, ["b", "i", "d", "l", "f", "t", "r"]).await?;
    assert_eq!(
        values,
        [
            "\"\\\\x00ff\"",
            "\"1 mon 1 day 00:00:01\"",
            "\"2026-03-29\"",
            "[\"2026-03-29\"]",
            "0.30000000000000004",
            "\"2026-03-29T00:00:00+00:00\"",
            "\"[\\\"2026-03-29 00:00:00\\\",)\"",
        ]
    );
    Ok(())
}

/// What PostgreSQL takes for JSON and JSON's readers do not is shown as its text, and the other columns as ever.
#[tokio::test]
async fn json_that_cannot_be_held_arrives_as_its_text() -> Result<()> {
    let scene = Scene::set().await?;
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    let query = format!(
        "SELECT 'OK' AS status, 7 AS n, '\"\\ud800\"'::json AS lone, '{{\"k\": \"\\udc00 x\"}}'::json AS nested, '{deep}'::jsonb AS deep"
    );
    let values = scene.columns(&query, ["n", "lone", "nested", "deep"]).await?;
    let text = |json: &str| Value::from(json).to_string();
    assert_eq!(values, ["7".to_owned(), text("\"\\ud800\""), text("{\"k\": \"\\udc00 x\"}"), text(&deep)]);
    Ok(())
}

/// The database takes a row with a long cell apart, and must not stumble over what else is in it.
#[tokio::test]
async fn odd_json_beside_a_cell_that_is_cut_is_what_it_is_without_one() -> Result<()> {
    let scene = Scene::set().await?;
    let odd = [
        ("\"a\\u0000b\"", "\"a\\\\u0000b\""),
        ("{\"k\\u0000\": \"v\\u0000\"}", "{\"k\\\\u0000\":\"v\\\\u0000\"}"),
        ("\"\\\\u0000 \\\\\\u0000\\u0000\"", "\"\\\\u0000 \\\\\\\\u0000\\\\u0000\""),
        ("\"\\ud83d\\ude00\"", "\"\u{1f600}\""),
        ("1e999", "1e+999"),
        ("[1.10, null]", "[1.10,null]"),
    ];
    for (json, expected) in odd {
        let query = format!("SELECT 'OK' AS status, '{json}'::json AS j, repeat('x', 70000) AS t");
        let verdict = scene.run(&query).await?;
        let shown = verdict.context.get("j").map(Value::to_string);
        assert_eq!((shown.as_deref(), verdict.truncated), (Some(expected), true), "{json}: {:?}", verdict.error);
    }
    Ok(())
}
