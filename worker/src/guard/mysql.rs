//! What is said differently in MySQL: comments, by MySQL's own lexical rules, and clauses that the grammar need not know
//! to be refused.
//!
//! Comments are blanked out before the parser reads a query, which follows other rules for some of them (it takes what
//! is in `/*! … */` for SQL, which the server may or may not do). The rules hold in the worker's sessions, whose `sql_mode` has neither `ANSI_QUOTES` nor `NO_BACKSLASH_ESCAPES`: a
//! backslash escapes in `'…'` and `"…"`, `--` begins a comment only before a blank or a control character, `#` always
//! does, and block comments do not nest.

use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::Refusal;

/// `sql` with a blank for every byte of its comments, so that every place in it keeps its offset.
pub(super) fn blanked(sql: &str) -> Result<String, Refusal> {
    let mut blanked = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let (length, is_comment) = match first {
            '\'' | '"' => (quoted(rest, first), false),
            '`' => (rest[1..].find('`').map_or(rest.len(), |end| end + 2), false),
            '#' => (line(rest), true),
            '-' if begins_line_comment(rest) => (line(rest), true),
            '/' if rest.starts_with("/*") => {
                for mark in ["!", "M!"] {
                    if rest[2..].starts_with(mark) {
                        return Err(Refusal::ExecutableComment(mark));
                    }
                }
                (rest[2..].find("*/").map_or(rest.len(), |end| end + 4), true)
            }
            _ => (first.len_utf8(), false),
        };
        let (part, after) = rest.split_at(length);
        match is_comment {
            true => blanked.extend(std::iter::repeat_n(' ', part.len())),
            false => blanked.push_str(part),
        }
        rest = after;
    }
    Ok(blanked)
}

/// The length of a literal; a doubled quote reads as two literals side by side, which end at the same place.
fn quoted(text: &str, quote: char) -> usize {
    let mut characters = text.char_indices().skip(1);
    while let Some((index, character)) = characters.next() {
        match character {
            '\\' => _ = characters.next(),
            _ if character == quote => return index + 1,
            _ => {}
        }
    }
    text.len()
}

fn begins_line_comment(text: &str) -> bool {
    text.strip_prefix("--").is_some_and(|rest| {
        rest.chars().next().is_none_or(|next| next.is_ascii_whitespace() || next.is_ascii_control())
    })
}

fn line(text: &str) -> usize {
    text.find('\n').unwrap_or(text.len())
}

/// Refuses what acts in MySQL, in the `words` of a statement.
pub(super) fn check_words(words: &[&TokenWithSpan]) -> Result<(), Refusal> {
    let begins_as_a_query = match words.iter().map(|word| &word.token).find(|token| **token != Token::SemiColon) {
        Some(Token::LParen) => true,
        first => ["SELECT", "WITH", "VALUES", "TABLE"].iter().any(|name| is_keyword(first, name)),
    };
    for (index, word) in words.iter().enumerate() {
        let token = Some(&word.token);
        let next = words.get(index + 1).map(|token| &token.token);
        match &word.token {
            Token::Assignment => return Err(Refusal::Assignment),
            // A name like any other to MySQL: what the parser takes for a text is SQL there.
            Token::DollarQuotedString(_) => return Err(Refusal::Unreadable("`$…$` is no quote in MySQL".to_owned())),
            // It may stand at the end of a query too, and a query has it for nothing else.
            _ if begins_as_a_query && is_keyword(token, "INTO") => return Err(Refusal::Into),
            _ if is_keyword(token, "LOCK") && is_keyword(next, "IN") => {
                return Err(Refusal::Locks("LOCK IN SHARE MODE".to_owned()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_keyword(token: Option<&Token>, name: &str) -> bool {
    matches!(token, Some(Token::Word(word)) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_blanks_and_everything_else_is_kept() {
        for (sql, expected) in [
            ("SELECT 1 -- x\n, 2", "SELECT 1     \n, 2"),
            ("SELECT 1 --\u{1}x", "SELECT 1     "),
            ("SELECT 5--1", "SELECT 5--1"),
            ("SELECT 1 # ü\n, 2", "SELECT 1     \n, 2"),
            ("SELECT 1 /* /* */, 2 /* */", "SELECT 1         , 2      "),
            ("SELECT /*+ NO_ICP(t) */ 1", "SELECT                  1"),
            ("SELECT '-- a', \"# b\", `/* c */`", "SELECT '-- a', \"# b\", `/* c */`"),
            ("SELECT 'it\\'s -- ', 'it''s -- '", "SELECT 'it\\'s -- ', 'it''s -- '"),
            ("SELECT '\\\\' -- '", "SELECT '\\\\'     "),
            ("SELECT 1 /* open", "SELECT 1        "),
            ("SELECT 'open -- ", "SELECT 'open -- "),
        ] {
            assert_eq!(blanked(sql).as_deref(), Ok(expected), "{sql}");
        }
    }

    #[test]
    fn a_comment_that_a_server_executes_is_refused_and_its_text_in_a_literal_is_not() {
        for (sql, mark) in [("SELECT 1 /*!50101 , 2 */", "!"), ("SELECT 1 /*M!100101 , 2*/", "M!"), ("/*!*/", "!")] {
            assert_eq!(blanked(sql), Err(Refusal::ExecutableComment(mark)), "{sql}");
        }
        for sql in ["SELECT '/*! a */'", "SELECT \"/*M! a */\"", "SELECT `/*!`"] {
            assert_eq!(blanked(sql).as_deref(), Ok(sql));
        }
    }
}
