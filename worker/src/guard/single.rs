//! Where a second statement begins, by SQLite's lexical rules and nothing else.
//!
//! SQLite's rules are few: quotes are closed by themselves and doubled to stand for themselves, brackets close
//! at the first `]`, block comments do not nest, and an unclosed one ends with the text.

/// What follows the first `;` that ends a statement, if that is more than blanks, comments and further `;`.
pub(super) fn second_statement(sql: &str) -> Option<&str> {
    let mut rest = sql;
    let mut ended = false;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => closed_at(&rest[2..], "*/").map_or(rest.len(), |end| 2 + end),
            _ if first.is_ascii_whitespace() => 1,
            ';' => {
                ended = true;
                1
            }
            _ if ended => return Some(rest),
            '\'' | '"' | '`' => quoted(rest, first),
            '[' => closed_at(rest, "]").unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        rest = &rest[length..];
    }
    None
}

fn closed_at(text: &str, end: &str) -> Option<usize> {
    text.find(end).map(|at| at + end.len())
}

/// The length of the literal or name that `text` begins with. A doubled quote reads as two literals side by side,
/// which ends at the same place.
fn quoted(text: &str, quote: char) -> usize {
    closed_at(&text[1..], &quote.to_string()).map_or(text.len(), |end| 1 + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_statement_is_found_wherever_the_first_hides_its_semicolon() {
        for (sql, second) in [
            ("SELECT 1", None),
            ("SELECT 1;", None),
            (" ;; SELECT 1", Some("SELECT 1")),
            ("SELECT 1; -- done\n /* really */ ;", None),
            ("SELECT 1; VACUUM INTO 'x'", Some("VACUUM INTO 'x'")),
            ("SELECT ';' AS \"a;b\", [c;d], `e;f`", None),
            ("SELECT 'it''s; fine'", None),
            // A backslash does not escape a quote.
            ("SELECT '\\'; DROP TABLE t; --'", Some("DROP TABLE t; --'")),
            // Comments do not nest.
            ("SELECT 1 /* /* */; DROP TABLE t /* */", Some("DROP TABLE t /* */")),
            ("SELECT 1 -- ;\n; DROP TABLE t", Some("DROP TABLE t")),
            ("SELECT 1 /* ; DROP TABLE t", None),
            ("SELECT 'ü;'; é", Some("é")),
        ] {
            assert_eq!(second_statement(sql), second, "{sql}");
        }
    }
}
