//! What the account that a session has may do beside reading, asked of MySQL's grants.

use serde_json::Value;

use crate::answer::Answer;
use crate::guard::GuardedQuery;
use crate::source::Role;

/// Names the statements at the server.
pub(super) const TAG: &str = "role-check";

/// One row: the account, and its active roles.
pub(super) const ACCOUNT: GuardedQuery<'static> =
    GuardedQuery { leading: "", body: "SELECT CURRENT_USER() AS account, CURRENT_ROLE() AS roles" };

/// Privileges that change nothing, in the spellings of MySQL and MariaDB. Whatever is not here could write, or let its
/// holder get rights that could: new versions bring new privileges.
///
/// Temporary tables vanish with the session, and a function runs inside the read-only transaction.
const HARMLESS: &[&str] = &[
    "USAGE",
    "SELECT",
    "SHOW VIEW",
    "SHOW DATABASES",
    "SHOW CREATE ROUTINE",
    "SHOW_ROUTINE",
    "PROCESS",
    "EXECUTE",
    "LOCK TABLES",
    "CREATE TEMPORARY TABLES",
    "REPLICATION CLIENT",
    "BINLOG MONITOR",
    "SLAVE MONITOR",
    "REPLICA MONITOR",
];

/// The statement that lists the grants, active roles included: MariaDB counts those by itself, MySQL if it is told
/// their names, which it gives in quotes.
pub(super) fn grants(account: &Answer) -> String {
    match column(account, "roles") {
        Some(roles) if roles.starts_with('`') => format!("SHOW GRANTS FOR CURRENT_USER() USING {roles}"),
        _ => "SHOW GRANTS".to_owned(),
    }
}

/// What the answers say; none if they are not those of [`ACCOUNT`] and [`grants`].
pub(super) fn read(account: &Answer, grants: &Answer) -> Option<Role> {
    let name = column(account, "account")?.to_owned();
    let mut lines = grants.rows.iter().filter_map(|row| row.first()?.1.as_str());
    // An account without a single line has not been read.
    grants.rows.first()?;
    Some(Role { name, could_write: lines.find_map(reason) })
}

fn column<'a>(answer: &'a Answer, wanted: &str) -> Option<&'a str> {
    answer.rows.first()?.iter().find(|(name, _)| name == wanted).map(|(_, value)| value).and_then(Value::as_str)
}

/// Why the holder of `grant` could write, without the rest of the line, which may hold the hash of a password.
fn reason(grant: &str) -> Option<String> {
    let rest = grant.strip_prefix("GRANT ")?;
    // Without `ON` it gives a role, whose grants have lines of their own.
    let (privileges, rest) = rest.split_once(" ON ")?;
    let object = rest.split_once(" TO ").map_or(rest, |(object, _)| object);
    let harmful = names(privileges).into_iter().find(|name| !HARMLESS.contains(&name.as_str()));
    let passes_on = rest.contains("WITH GRANT OPTION").then(|| "GRANT OPTION".to_owned());
    harmful.or(passes_on).map(|privilege| format!("it has {privilege} on {object}"))
}

/// The names in a list of privileges, without the columns that some are limited to: `SELECT (a, b), INSERT`.
fn names(privileges: &str) -> Vec<String> {
    let mut depth = 0_usize;
    let outside = |c: &char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => return depth == 0,
        }
        false
    };
    let privileges: String = privileges.chars().filter(outside).collect();
    privileges.split(',').map(|name| name.trim().to_ascii_uppercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_that_could_write_is_named_and_one_that_reads_is_not() {
        for (grant, expected) in [
            ("GRANT USAGE ON *.* TO `r`@`%` IDENTIFIED BY PASSWORD '*ABC'", None),
            ("GRANT SELECT, SHOW VIEW ON `shop`.* TO `r`@`%`", None),
            ("GRANT SELECT (`a`, `update`) ON `shop`.`orders` TO `r`@`%`", None),
            ("GRANT EXECUTE ON FUNCTION `shop`.`f` TO `r`@`%`", None),
            ("GRANT `readers` TO `r`@`%`", None),
            ("GRANT SELECT, INSERT ON `shop`.* TO `r`@`%`", Some("it has INSERT on `shop`.*")),
            ("GRANT SELECT (a), UPDATE (b) ON `shop`.`o` TO `r`@`%`", Some("it has UPDATE on `shop`.`o`")),
            ("GRANT ALL PRIVILEGES ON *.* TO `root`@`%` IDENTIFIED BY 'x'", Some("it has ALL PRIVILEGES on *.*")),
            ("GRANT SELECT ON `shop`.* TO `r`@`%` WITH GRANT OPTION", Some("it has GRANT OPTION on `shop`.*")),
            ("GRANT FILE ON *.* TO `r`@`%`", Some("it has FILE on *.*")),
            ("GRANT PROXY ON ``@`%` TO `r`@`%`", Some("it has PROXY on ``@`%`")),
            ("GRANT SOME_NEW_ADMIN ON *.* TO `r`@`%`", Some("it has SOME_NEW_ADMIN on *.*")),
        ] {
            assert_eq!(reason(grant).as_deref(), expected, "{grant}");
        }
    }

    #[test]
    fn mysql_is_told_the_roles_and_mariadb_knows_them() {
        let account = |roles: Value| Answer {
            rows: vec![vec![("account".to_owned(), Value::from("r@%")), ("roles".to_owned(), roles)]],
            ..Answer::default()
        };
        for (roles, expected) in [
            (Value::Null, "SHOW GRANTS"),
            (Value::from("NONE"), "SHOW GRANTS"),
            (Value::from("readers"), "SHOW GRANTS"),
            (Value::from("`readers`@`%`"), "SHOW GRANTS FOR CURRENT_USER() USING `readers`@`%`"),
        ] {
            assert_eq!(grants(&account(roles)), expected);
        }
        assert_eq!(read(&account(Value::Null), &Answer::default()), None);
    }
}
