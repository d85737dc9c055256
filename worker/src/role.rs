//! Whether the roles that sources connect as could write (check `read_only`): the guard and the read-only transaction
//! keep this program from writing, and only the role makes it certain.
//!
//! A worker watches them ([`watch`]) and tells [`Reach`](crate::reach::Reach); `ctl healthcheck` asks once.

pub mod watch;

use std::collections::BTreeMap;

use sqlsentinel_common::alert::SourceName;
use sqlsentinel_common::health::Check;
use tokio_util::sync::CancellationToken;

use crate::source::{Role, Source};

/// How many roles a message names.
const NAMED: usize = 3;

/// The role that `source` connects as, for whoever asks once.
pub async fn of(source: &Source) -> Option<Role> {
    source.role(&CancellationToken::new()).await.ok().flatten()
}

/// The check that `roles` make up; none if there is none, as with databases that have no roles.
pub fn check(roles: &BTreeMap<SourceName, Role>) -> Option<Check> {
    let warnings: Vec<_> = roles.iter().filter_map(|(source, role)| sentence(source, role)).collect();
    let more = match warnings.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    match warnings.len() {
        _ if roles.is_empty() => None,
        0 => Some(Check::healthy(format!("roles that can only read: {}", roles.len()))),
        _ => Some(Check::degraded(format!(
            "{}{more}. Alerts only read, and only a role that cannot write makes that certain: give it one as \
             docs/guides/database-roles.md shows",
            warnings[..warnings.len().min(NAMED)].join("; ")
        ))),
    }
}

/// What is wrong with the role of `source`, if it could write.
fn sentence(source: &SourceName, Role { name, could_write }: &Role) -> Option<String> {
    could_write.as_ref().map(|reason| format!("database `{source}`: its role `{name}` could write ({reason})"))
}

#[cfg(test)]
mod tests {
    use sqlsentinel_common::health::Status;

    use super::*;

    fn roles(reasons: &[Option<&str>]) -> BTreeMap<SourceName, Role> {
        let role = |(index, reason): (usize, &Option<&str>)| {
            let source = SourceName::try_from(format!("db{index}")).unwrap();
            (source, Role { name: "app".to_owned(), could_write: reason.map(str::to_owned) })
        };
        reasons.iter().enumerate().map(role).collect()
    }

    #[test]
    fn a_role_that_could_write_wants_a_look_and_is_told_where_to_find_the_cure() {
        assert_eq!(check(&roles(&[])), None);
        assert_eq!(check(&roles(&[None, None])), Some(Check::healthy("roles that can only read: 2")));
        let found = check(&roles(&[None, Some("it is a superuser")])).unwrap();
        let message = found.message.unwrap_or_default();
        assert_eq!(found.status, Status::Degraded);
        assert!(message.starts_with("database `db1`: its role `app` could write (it is a superuser). "), "{message}");
        assert!(message.ends_with("docs/guides/database-roles.md shows"), "{message}");
    }

    #[test]
    fn a_message_stays_short_whatever_the_number_of_databases() {
        let message = check(&roles(&[Some("x"); 9])).and_then(|check| check.message).unwrap_or_default();
        assert!(message.contains("`db2`") && !message.contains("`db3`") && message.contains("and 6 more"), "{message}");
    }
}
