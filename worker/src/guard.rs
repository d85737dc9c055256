//! Which SQL may be sent to a target database: one statement, a query, and none of the functions that act.
//!
//! Input: an alert's query as written. Output: a [`GuardedQuery`], or a [`Refusal`] that says what to change. Pure, so
//! that `validate` and the worker refuse the same. It catches accidents and the known ways around a read-only
//! transaction; it is no proof: only the database role makes it certain that nothing is written.

mod functions;
mod mysql;
mod single;
mod unparsed;

use std::ops::ControlFlow;

use sqlparser::ast::{Query, Select, SetExpr, Statement, Visit, Visitor};
use sqlparser::dialect::{Dialect, MySqlDialect, PostgreSqlDialect, SQLiteDialect};
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace};
use sqlsentinel_common::alert::QueryOptions;
use sqlsentinel_common::config::DatabaseKind;

/// How deeply expressions may be nested: generated SQL is deep, and no stack is endless.
const MAX_DEPTH: usize = 200;
/// How many keywords and operators a query may have. `1 + 1 + …` is one level deeper with each, and nothing in the parser
/// bounds that; about twice as many would overflow the stack of a runtime's thread, and end the whole process.
const MAX_LINKS: usize = 10_000;

/// A query that passed the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardedQuery<'q> {
    /// Comments before the query, kept because planners read hints there; it ends where a token begins.
    pub leading: &'q str,
    /// The query, without the semicolons and comments after it.
    pub body: &'q str,
}

/// Why a statement is not sent. The texts are shown to whoever wrote the alert.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing but blanks and comments.
    #[error("the query is empty")]
    Empty,
    /// The parser does not know it.
    #[error(
        "the query is not SQL that can be checked, so it is not run: {0}; \
         if the database knows it, write `allow_unparsed: true`"
    )]
    Unparsed(String),
    /// Not even words can be told apart, or `allow_unparsed` would not help.
    #[error("the query is not SQL that can be checked, so it is not run: {0}")]
    Unreadable(String),
    /// `allow_unparsed` for SQLite.
    #[error("`allow_unparsed` is not for SQLite, which has no read-only transactions to rely on: remove it")]
    NeverUnparsed,
    /// A literal that can hide where it ends, in a statement that the parser does not know.
    #[error("the literal `{0}` is refused in a query that cannot be parsed: write `'…'`")]
    NotPlain(&'static str),
    /// More than one statement.
    #[error("one statement is allowed, and here are several: the rest begins with `{0}`")]
    Several(String),
    /// A statement that is no query.
    #[error("only a query may be run (SELECT, WITH or VALUES), and this is `{0}`")]
    NotAQuery(String),
    /// A query with a part that writes.
    #[error("`{0}` inside a query changes data: a query may only read")]
    Writes(String),
    /// `SELECT … INTO`.
    #[error("`SELECT … INTO` creates a table or a file: a query may only read")]
    Into,
    /// `FOR UPDATE` and its kin.
    #[error("`{0}` locks rows: a query may only read")]
    Locks(String),
    /// `@variable := …`.
    #[error("`:=` changes a variable of the session: a query may only read")]
    Assignment,
    /// A function that acts.
    #[error("the function `{0}` is refused: it acts on the server, its files or its sessions, or runs SQL from a text")]
    Function(String),
    /// `/*! … */`, which some databases execute.
    #[error("the comment `/*{0}` is refused: some databases execute what is in it")]
    ExecutableComment(&'static str),
    /// `U&"…"`, which can spell any refused name.
    #[error("`U&\"…\"` is refused: write the name itself")]
    EscapedName,
    /// `$1` or `?`.
    #[error("the placeholder `{0}` has no value: write the value itself")]
    Placeholder(String),
    /// More keywords and operators than can be checked.
    #[error(
        "the query has more than {MAX_LINKS} keywords and operators, too many to be checked: \
         write a list (`IN (…)`, `VALUES …`) where it repeats itself, or make a view of it"
    )]
    TooLong,
    /// A NUL character.
    #[error("the query contains a NUL character")]
    Nul,
}

/// What becomes of a statement that the parser does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unknown {
    /// It is refused.
    Refused,
    /// It is sent if it looks like a query: the alert says so, and the database itself refuses to write.
    Allowed,
}

/// Checks `query` for a database of `kind`.
pub fn check(query: &str, kind: DatabaseKind) -> Result<GuardedQuery<'_>, Refusal> {
    check_with(query, kind, &QueryOptions::default())
}

/// The same, with what the alert says about its query.
pub fn check_with<'q>(query: &'q str, kind: DatabaseKind, options: &QueryOptions) -> Result<GuardedQuery<'q>, Refusal> {
    let unknown = if options.allow_unparsed { Unknown::Allowed } else { Unknown::Refused };
    match kind {
        DatabaseKind::Postgres => check_by(query, kind, &PostgreSqlDialect {}, unknown),
        DatabaseKind::Mysql => {
            let blanked = mysql::blanked(query)?;
            // Hints stand behind SELECT in MySQL: what is before the query says nothing to its planner.
            let checked = check_by(&blanked, kind, &MySqlDialect {}, unknown)?;
            // Nothing but blanks and semicolons stands before the query, so the first place is the place.
            let start = blanked.find(checked.body).unwrap_or(0);
            Ok(GuardedQuery { leading: "", body: &query[start..start + checked.body.len()] })
        }
        DatabaseKind::Sqlite if unknown == Unknown::Allowed => Err(Refusal::NeverUnparsed),
        DatabaseKind::Sqlite => {
            // Invariant: SQLite's driver runs every statement of a text, so "one statement" is also
            // decided by SQLite's own lexical rules, not only by a parser that might read the text differently.
            if let Some(rest) = single::second_statement(query) {
                return Err(Refusal::Several(first_word(rest)));
            }
            check_by(query, kind, &SQLiteDialect {}, unknown)
        }
    }
}

fn check_by<'q>(
    query: &'q str,
    kind: DatabaseKind,
    dialect: &dyn Dialect,
    unknown: Unknown,
) -> Result<GuardedQuery<'q>, Refusal> {
    if query.contains('\0') {
        return Err(Refusal::Nul);
    }
    let tokens = Tokenizer::new(dialect, query)
        .tokenize_with_location()
        .map_err(|error| Refusal::Unreadable(error.to_string()))?;
    check_tokens(&tokens, kind)?;
    let parts = parts(query, &tokens)?;
    // The parser takes the tokens, and nearly every query is known to it.
    let kept = (unknown == Unknown::Allowed).then(|| tokens.clone());
    let mut parser = Parser::new(dialect).with_recursion_limit(MAX_DEPTH).with_tokens_with_locations(tokens);
    let statements = match (parser.parse_statements(), kept) {
        (Ok(statements), _) => statements,
        (Err(_), Some(tokens)) => return unparsed::check(&tokens).map(|()| parts),
        (Err(error), None) if kind == DatabaseKind::Sqlite => return Err(Refusal::Unreadable(error.to_string())),
        (Err(error), None) => return Err(Refusal::Unparsed(error.to_string())),
    };
    match statements.as_slice() {
        [] => return Err(Refusal::Empty),
        [Statement::Query(_)] => {}
        [_] => return Err(Refusal::NotAQuery(first_word(parts.body))),
        [_, second, ..] => return Err(Refusal::Several(first_word(&second.to_string()))),
    }
    match statements.visit(&mut Reads) {
        ControlFlow::Continue(()) => Ok(parts),
        ControlFlow::Break(refusal) => Err(*refusal),
    }
}

/// What can be decided without the grammar, and must not depend on how much of the grammar the parser knows.
fn check_tokens(tokens: &[TokenWithSpan], kind: DatabaseKind) -> Result<(), Refusal> {
    for token in tokens {
        if let Token::Whitespace(Whitespace::MultiLineComment(comment)) = &token.token {
            for mark in ["!", "M!"] {
                if comment.starts_with(mark) {
                    return Err(Refusal::ExecutableComment(mark));
                }
            }
        }
    }
    let words: Vec<_> = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).collect();
    if words.iter().filter(|token| is_link(&token.token)).count() > MAX_LINKS {
        return Err(Refusal::TooLong);
    }
    if kind == DatabaseKind::Mysql {
        mysql::check_words(&words)?;
    }
    for (index, token) in words.iter().enumerate() {
        let next = words.get(index + 1).map(|token| &token.token);
        match &token.token {
            Token::Placeholder(text) => return Err(Refusal::Placeholder(text.clone())),
            Token::Word(word) if next == Some(&Token::LParen) && functions::is_refused(&word.value, kind) => {
                return Err(Refusal::Function(word.value.to_ascii_lowercase()));
            }
            Token::Word(word) if word.value.eq_ignore_ascii_case("into") => {
                if matches!(next, Some(Token::Word(file)) if is_one_of(&file.value, &["outfile", "dumpfile"])) {
                    return Err(Refusal::Into);
                }
            }
            Token::Word(word) if word.value.eq_ignore_ascii_case("u") && next == Some(&Token::Ampersand) => {
                if matches!(words.get(index + 2).map(|token| &token.token), Some(Token::Word(name)) if name.quote_style.is_some())
                {
                    return Err(Refusal::EscapedName);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether the grammar may nest by this token without a parenthesis. Names, values and lists of them do not.
fn is_link(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.keyword != Keyword::NoKeyword,
        Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::NationalStringLiteral(_)
        | Token::EscapedStringLiteral(_)
        | Token::HexStringLiteral(_)
        | Token::DollarQuotedString(_)
        | Token::Comma
        | Token::Period
        | Token::LParen
        | Token::RParen => false,
        _ => true,
    }
}

/// Looks for parts that write, wherever the grammar allows a query.
struct Reads;

impl Visitor for Reads {
    type Break = Box<Refusal>;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        if let Some(lock) = query.locks.first() {
            return ControlFlow::Break(Box::new(Refusal::Locks(format!("FOR {}", lock.lock_type))));
        }
        match query.body.as_ref() {
            SetExpr::Insert(statement)
            | SetExpr::Update(statement)
            | SetExpr::Delete(statement)
            | SetExpr::Merge(statement) => writes(statement),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        match select.into {
            Some(_) => ControlFlow::Break(Box::new(Refusal::Into)),
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<Self::Break> {
        match statement {
            Statement::Query(_) => ControlFlow::Continue(()),
            other => writes(other),
        }
    }
}

fn writes(statement: &Statement) -> ControlFlow<Box<Refusal>> {
    ControlFlow::Break(Box::new(Refusal::Writes(first_word(&statement.to_string()))))
}

/// Splits `query` into what stands before its first token and the query without what stands after its last.
fn parts<'q>(query: &'q str, tokens: &[TokenWithSpan]) -> Result<GuardedQuery<'q>, Refusal> {
    let is_code = |token: &&TokenWithSpan| !matches!(token.token, Token::Whitespace(_) | Token::SemiColon | Token::EOF);
    let (Some(first), Some(last)) = (tokens.iter().find(is_code), tokens.iter().rev().find(is_code)) else {
        return Err(Refusal::Empty);
    };
    let (start, end) = (offset(query, first.span.start), offset(query, last.span.end));
    // A semicolon before the query is an empty statement; what stands before it cannot be a hint.
    let leading = if query[..start].contains(';') { "" } else { &query[..start] };
    Ok(GuardedQuery { leading, body: &query[start..end] })
}

/// The byte at which `location` is: the tokenizer counts lines and characters.
fn offset(query: &str, location: Location) -> usize {
    let (mut line, mut column) = (1, 1);
    for (index, character) in query.char_indices() {
        if (line, column) == (location.line, location.column) {
            return index;
        }
        (line, column) = if character == '\n' { (line + 1, 1) } else { (line, column + 1) };
    }
    query.len()
}

fn first_word(text: &str) -> String {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let end = if end == 0 { text.chars().next().map_or(0, char::len_utf8) } else { end };
    text[..end].chars().take(40).collect::<String>().to_uppercase()
}

fn is_one_of(word: &str, names: &[&str]) -> bool {
    names.iter().any(|name| word.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
