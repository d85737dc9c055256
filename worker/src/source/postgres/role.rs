//! What the role that a session has may do beside reading, asked of PostgreSQL's catalogs.

use serde_json::Value;

use crate::answer::{Answer, Row};
use crate::guard::GuardedQuery;
use crate::source::Role;

/// Names the statement at the server.
pub(super) const TAG: &str = "role-check";

/// One row: the role's name, and the first reason why it could write; NULL if there is none.
///
/// What belongs to the server (`pg_*`, `information_schema`) does not count, nor do the temporary tables that everybody
/// may create: they vanish with the session.
pub(super) const QUERY: GuardedQuery<'static> = GuardedQuery {
    leading: "",
    body: "SELECT current_user AS role, COALESCE(
  (SELECT 'it is a superuser' FROM pg_roles AS r WHERE r.rolname = current_user AND r.rolsuper),
  (SELECT 'it is a member of pg_write_all_data' FROM pg_roles AS r
   WHERE r.rolname = 'pg_write_all_data' AND pg_has_role(r.oid, 'USAGE')),
  (SELECT format('it may change %I.%I', n.nspname, c.relname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p', 'f', 'v') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
     AND has_schema_privilege(n.oid, 'USAGE')
     AND (has_any_column_privilege(c.oid, 'INSERT, UPDATE') OR has_table_privilege(c.oid, 'DELETE, TRUNCATE')) LIMIT 1),
  (SELECT format('it may create tables in the schema %I', n.nspname) FROM pg_namespace AS n
   WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
     AND has_schema_privilege(n.oid, 'USAGE') AND has_schema_privilege(n.oid, 'CREATE') LIMIT 1),
  (SELECT 'it may create schemas in this database' WHERE has_database_privilege(current_database(), 'CREATE'))
) AS reason",
};

/// What the answer says; none if it is not the answer to [`QUERY`].
pub(super) fn read(answer: &Answer) -> Option<Role> {
    let row: &Row = answer.rows.first()?;
    let column = |wanted: &str| row.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
    let name = column("role")?.as_str()?.to_owned();
    let could_write = match column("reason")? {
        Value::Null => None,
        reason => Some(reason.as_str()?.to_owned()),
    };
    Some(Role { name, could_write })
}
