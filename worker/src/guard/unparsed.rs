//! What may be sent although the parser does not know it, where the alert says `allow_unparsed: true`: a query by its
//! first word, one statement, in plain literals, without any word that could make it write.
//!
//! Input: the words of a statement that [`super::check_tokens`] has passed already, which refuses functions,
//! placeholders and executable comments by themselves. Output: a [`Refusal`], or nothing. It refuses more than it
//! need: whoever wrote the query can put a name in quotes.

use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::{Refusal, is_one_of};

/// How a query begins, beside a parenthesis.
const BEGINNINGS: &[&str] = &["SELECT", "WITH", "VALUES", "TABLE"];

/// Statements that could stand inside a query, or after its `WITH`.
const WRITES: &[&str] = &[
    "INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "TRUNCATE", "CREATE", "ALTER", "DROP", "GRANT", "REVOKE", "COPY",
    "CALL", "EXECUTE", "PREPARE",
];

/// Those of them that are functions too, which a parenthesis follows.
const FUNCTIONS: &[&str] = &["INSERT", "REPLACE", "TRUNCATE"];

/// What follows `FOR` where rows are locked.
const LOCKS: &[&str] = &["UPDATE", "SHARE", "NO", "KEY"];

/// Refuses what is no plain query.
pub(super) fn check(tokens: &[TokenWithSpan]) -> Result<(), Refusal> {
    let words: Vec<_> = tokens.iter().map(|token| &token.token).filter(|token| is_code(token)).collect();
    let words = trimmed(&words);
    match words.iter().find(|token| **token != &Token::LParen) {
        Some(Token::Word(first)) if first.quote_style.is_none() && is_one_of(&first.value, BEGINNINGS) => {}
        Some(other) => return Err(Refusal::NotAQuery(other.to_string().to_uppercase())),
        None => return Err(Refusal::Empty),
    }
    for (index, token) in words.iter().enumerate() {
        let next = words.get(index + 1).copied();
        match token {
            Token::SemiColon => return Err(Refusal::Several(next.map(Token::to_string).unwrap_or_default())),
            Token::UnicodeStringLiteral(_) => return Err(Refusal::NotPlain("U&'…'")),
            Token::DollarQuotedString(_) => return Err(Refusal::NotPlain("$…$")),
            Token::Word(word) if word.quote_style.is_none() => check_word(&word.value, next)?,
            _ => {}
        }
    }
    Ok(())
}

fn check_word(word: &str, next: Option<&Token>) -> Result<(), Refusal> {
    if is_one_of(word, &["FOR"])
        && let Some(Token::Word(lock)) = next
        && is_one_of(&lock.value, LOCKS)
    {
        return Err(Refusal::Locks(format!("FOR {}", lock.value.to_uppercase())));
    }
    if is_one_of(word, &["INTO"]) {
        return Err(Refusal::Into);
    }
    let is_call = next == Some(&Token::LParen) && is_one_of(word, FUNCTIONS);
    if is_one_of(word, WRITES) && !is_call {
        return Err(Refusal::Writes(word.to_uppercase()));
    }
    Ok(())
}

fn is_code(token: &Token) -> bool {
    !matches!(token, Token::Whitespace(_) | Token::EOF)
}

/// Without the semicolons around the statement.
fn trimmed<'t>(words: &'t [&'t Token]) -> &'t [&'t Token] {
    let is_part = |token: &&Token| **token != Token::SemiColon;
    let (Some(first), Some(last)) = (words.iter().position(is_part), words.iter().rposition(is_part)) else {
        return &[];
    };
    &words[first..=last]
}

#[cfg(test)]
mod tests {
    use sqlsentinel_common::alert::QueryOptions;
    use sqlsentinel_common::config::DatabaseKind::{self, Mysql, Postgres, Sqlite};

    use crate::guard::{GuardedQuery, Refusal, check, check_with};

    fn allowing(query: &str, kind: DatabaseKind) -> Result<GuardedQuery<'_>, Refusal> {
        check_with(query, kind, &QueryOptions { allow_unparsed: true, ..QueryOptions::default() })
    }

    /// Queries that these databases know and the parser does not; should it learn one, take another.
    const UNKNOWN: &[(DatabaseKind, &str)] = &[
        (Postgres, "SELECT 'OK' AS status FROM ROWS FROM (generate_series(1, 2), generate_series(1, 3)) AS t(a, b)"),
        (Postgres, "SELECT 'OK' AS status, '<a/>'::xml IS DOCUMENT AS d"),
        (Postgres, "SELECT sum(a) OVER (ORDER BY a ROWS UNBOUNDED PRECEDING EXCLUDE CURRENT ROW) FROM t"),
        (Mysql, "SELECT 'OK' AS status FROM t FOR SYSTEM_TIME AS OF TIMESTAMP '2026-01-01'"),
        (Mysql, "SELECT 'OK' AS status FROM t LIMIT 1 ROWS EXAMINED 1000"),
        (Mysql, "TABLE t"),
    ];

    #[test]
    fn what_the_parser_does_not_know_is_sent_only_where_the_alert_allows_it() {
        for (kind, query) in UNKNOWN {
            let refusal = check(query, *kind).map(drop).expect_err(query).to_string();
            assert!(refusal.ends_with("write `allow_unparsed: true`"), "{query}: {refusal}");
            for query in [(*query).to_owned(), format!(" {query} ; -- the end\n")] {
                let body = query.trim().trim_end_matches(" ; -- the end");
                assert_eq!(
                    allowing(&query, *kind),
                    Ok(GuardedQuery { leading: allowing_leading(&query, *kind), body })
                );
            }
        }
    }

    /// PostgreSQL's planner reads hints before the query.
    fn allowing_leading(query: &str, kind: DatabaseKind) -> &str {
        if kind == Postgres { &query[..query.len() - query.trim_start().len()] } else { "" }
    }

    #[test]
    fn words_that_look_like_others_are_let_through() {
        for (kind, query) in [
            (
                Postgres,
                "SELECT '<a/>'::xml IS DOCUMENT AS d, replace('a', 'b', 'c'), \"update\", updated, 'INTO; DELETE'",
            ),
            (Mysql, "SELECT INSERT('a', 1, 1, 'b'), REPLACE('a', 'b', 'c'), TRUNCATE(1.5, 0) SOUNDS LIKE 'b'"),
            (Mysql, "SELECT 'a' SOUNDS LIKE 'b', `delete`, 'it\\'s; fine' /* DELETE; */"),
            (Postgres, "(SELECT '<a/>'::xml IS DOCUMENT)"),
        ] {
            assert!(check(query, kind).is_err(), "the parser knows {query}");
            assert_eq!(allowing(query, kind).map(drop), Ok(()), "{query}");
        }
    }

    #[test]
    fn what_acts_is_refused_though_the_rest_cannot_be_parsed() {
        for (kind, query, said) in [
            (Postgres, "SELECT '<a/>'::xml IS DOCUMENT; DELETE FROM t", "several"),
            (Postgres, "SELECT '<a/>'::xml IS DOCUMENT;; SELECT 1", "several"),
            (Postgres, "WITH x AS (DELETE FROM t RETURNING *) SELECT '<a/>'::xml IS DOCUMENT FROM x", "`DELETE`"),
            (Postgres, "WITH x AS (insert into t values (1) returning a) SELECT '<a/>'::xml IS DOCUMENT", "`INSERT`"),
            (Postgres, "SELECT '<a/>'::xml IS DOCUMENT INTO copy", "SELECT … INTO"),
            (Postgres, "SELECT '<a/>'::xml IS DOCUMENT FROM t FOR UPDATE", "`FOR UPDATE`"),
            (Postgres, "SELECT '<a/>'::xml IS DOCUMENT FROM t FOR NO KEY UPDATE", "`FOR NO`"),
            (Postgres, "SELECT '<a/>'::xml IS DOCUMENT FROM t FOR SHARE", "`FOR SHARE`"),
            (Postgres, "SELECT '<a/>'::xml IS DOCUMENT, set_config('a', 'b', false)", "`set_config`"),
            (Postgres, "SELECT '<a/>'::xml IS DOCUMENT, \"dblink_exec\" ('a', 'b')", "`dblink_exec`"),
            (Postgres, "SELECT '<a/>'::xml IS DOCUMENT /*! , 1 */", "`/*!`"),
            (Postgres, "SELECT '<a/>'::xml IS DOCUMENT, $1", "placeholder"),
            (Postgres, "SELECT '<a/>'::xml IS DOCUMENT, U&'\\0041'", "U&'…'"),
            (Postgres, "SELECT '<a/>'::xml IS DOCUMENT, $a$ b $a$", "$…$"),
            (Postgres, "SELECT '<a/>'::xml IS DOCUMENT, 'open", "can be checked"),
            (Postgres, "REINDEX TABLE t CONCURRENTLY", "`REINDEX`"),
            (Postgres, "DO 'BEGIN END'", "`DO`"),
            (Postgres, "\"SELECT\" 1 IS DOCUMENT", "only a query"),
            (Postgres, "()", "only a query"),
            (Mysql, "SET STATEMENT max_statement_time = 0 FOR SELECT 1", "`SET`"),
            (Mysql, "DO SLEEP(1)", "`DO`"),
            (Mysql, "HANDLER t OPEN", "`HANDLER`"),
            (Mysql, "SELECT 'a' SOUNDS LIKE 'b' INTO OUTFILE '/tmp/x'", "SELECT … INTO"),
            (Mysql, "SELECT 'a' SOUNDS LIKE 'b' FROM t FOR UPDATE", "`FOR UPDATE`"),
            (Mysql, "SELECT 'a' SOUNDS LIKE 'b' FROM t LOCK IN SHARE MODE", "`LOCK IN SHARE MODE`"),
            (Mysql, "SELECT 'a' SOUNDS LIKE 'b', @a := 1", "`:=`"),
            (Mysql, "SELECT 'a' SOUNDS LIKE 'b', GET_LOCK('a', 1)", "`get_lock`"),
            (Mysql, "SELECT 'a' SOUNDS LIKE 'b' /*M! , 1 */", "`/*M!`"),
            (Mysql, "WITH x AS (SELECT 'a' SOUNDS LIKE 'b') DELETE FROM t", "`DELETE`"),
            (Mysql, "WITH x AS (SELECT 'a' SOUNDS LIKE 'b') REPLACE t SELECT 1", "`REPLACE`"),
        ] {
            let refusal = allowing(query, kind).map(drop).expect_err(query).to_string();
            assert!(refusal.contains(said), "{query}: {refusal}");
        }
    }

    #[test]
    fn what_the_parser_knows_is_judged_as_ever() {
        for kind in [Postgres, Mysql] {
            assert_eq!(allowing("SELECT 'OK' AS status", kind), check("SELECT 'OK' AS status", kind));
            for query in ["DELETE FROM t", "SELECT 1; DELETE FROM t", "WITH x AS (SELECT 1) INSERT INTO t SELECT 1", ""]
            {
                assert_eq!(allowing(query, kind), check(query, kind), "{query}");
            }
        }
    }

    #[test]
    fn sqlite_gets_nothing_that_was_not_parsed() {
        let refusal = check("SELEKT 1", Sqlite).map(drop).expect_err("no SQL").to_string();
        assert!(!refusal.contains("allow_unparsed"), "{refusal}");
        for query in ["SELEKT 1", "SELECT 1"] {
            assert_eq!(allowing(query, Sqlite), Err(Refusal::NeverUnparsed), "a key that does nothing is refused");
        }
    }
}
