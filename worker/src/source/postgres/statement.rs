//! The texts that are sent to PostgreSQL, and the options it is connected with. Pure.

use std::str::FromStr;
use std::time::Duration;

use sqlsentinel_common::ids::ExecutionId;
use sqlsentinel_common::secret::Secret;
use sqlx::postgres::PgConnectOptions;
use url::Url;

use crate::answer::Limits;
use crate::guard::GuardedQuery;
use crate::source::escape::{as_comment, decoded_password};

/// A worker that is stopped inside its transaction must not hold back the database's clean-up for ever.
const IDLE_TIMEOUT_MS: u64 = 10_000;

/// The URL parameters that the driver understands; it would log any other with its value.
const PARAMETERS: &[&str] = &[
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
    "statement-cache-capacity",
];

/// The driver's options for `url`, and the password in it. The error shows nothing of the URL.
pub(super) fn connect_options(url: &Secret) -> Result<(PgConnectOptions, Option<String>), &'static str> {
    const UNREADABLE: &str = "its URL cannot be read";
    let mut url = Url::parse(url.expose()).map_err(|_| UNREADABLE)?;
    let pairs: Vec<_> = url.query_pairs().into_owned().collect();
    let (known, ignored): (Vec<_>, Vec<_>) =
        pairs.into_iter().partition(|(name, _)| PARAMETERS.contains(&name.as_str()) || name.starts_with("options["));
    for (parameter, _) in &ignored {
        tracing::warn!(%parameter, "ignoring a parameter of a database URL");
    }
    url.set_query(None);
    if !known.is_empty() {
        url.query_pairs_mut().extend_pairs(&known);
    }
    let password = known.into_iter().rev().find(|(name, _)| name == "password").map(|(_, password)| password);
    let options = PgConnectOptions::from_str(url.as_str()).map_err(|_| UNREADABLE)?;
    Ok((options, password.or_else(|| decoded_password(&url))))
}

/// Begins the transaction, names the session and asks for its process id: one text, one round trip.
///
/// Everything is set for this transaction only. The values are a number and a UUID, so nothing needs escaping.
pub(super) fn begin(execution: ExecutionId, limit: Duration) -> String {
    // Zero would mean no time-out at all.
    let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).clamp(1, i32::MAX as u64);
    format!(
        "BEGIN READ ONLY; SET LOCAL statement_timeout = {limit_ms}; \
         SET LOCAL idle_in_transaction_session_timeout = {IDLE_TIMEOUT_MS}; \
         SET LOCAL application_name = 'sqlsentinel {execution}'; SELECT pg_backend_pid()"
    )
}

/// The query, with each row as one JSON text.
///
/// The text is the same for every fire of an alert, so that it is prepared once. `OFFSET 0` keeps the planner from
/// merging the levels, which would compute each expression of the query as often as `line` is named here.
pub(super) fn wrap(query: &GuardedQuery<'_>, alert_name: &str, limits: &Limits) -> String {
    let GuardedQuery { leading, body } = query;
    let (limit, bytes, tag) = (limits.cell_bytes, limits.bytes, as_comment(alert_name));
    // A cell may have the limit's bytes, or its share of a row's. A cut one keeps one character more, so that it is seen
    // to be too long and marked.
    format!(
        "{leading}SELECT CASE WHEN octet_length(line) <= {limit} THEN line ELSE (\
         SELECT json_object_agg(key, CASE WHEN octet_length(value::text) <= share THEN value \
         ELSE to_json(left(value #>> '{{}}', share + 1)) END)::text FROM (\
         SELECT key, value, LEAST({limit}, {bytes} / count(*) OVER ())::int AS share FROM json_each({})) AS cells) END \
         FROM (SELECT row_to_json(answer.*)::text AS line FROM (\n{body}\n) AS answer OFFSET 0) AS lines \
         /* sqlsentinel:{tag} */",
        with_visible_nuls("line")
    )
}

/// The JSON in the column `text`, where NUL is the six characters that it is shown as in the end: a text of PostgreSQL's
/// cannot hold it, so a row with one in a column of JSON could not be taken apart.
///
/// An escape has an odd number of backslashes. The literals mean the same whatever `standard_conforming_strings` is.
fn with_visible_nuls(text: &str) -> String {
    let (escaped, spelled) = (r"E'(?<!\\\\)((?:\\\\\\\\)*)\\\\u0000'", r"E'\\1\\\\\\\\u0000'");
    format!("regexp_replace({text}, {escaped}, {spelled}, 'g')::json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_keeps_its_text_its_hint_and_its_own_lines() {
        let query = GuardedQuery { leading: "/*+ SeqScan(t) */ ", body: "SELECT 1 -- one" };
        let sql = wrap(&query, "a b", &Limits::default());
        assert!(sql.starts_with("/*+ SeqScan(t) */ SELECT CASE"), "{sql}");
        assert!(sql.contains("(\nSELECT 1 -- one\n)"), "{sql}");
        assert!(sql.ends_with("/* sqlsentinel:a_b */"), "{sql}");
    }

    #[test]
    fn a_time_out_is_never_none_and_never_too_large_for_the_server() {
        let id = ExecutionId::manual();
        for (limit, expected) in
            [(Duration::ZERO, "= 1;"), (Duration::from_millis(1_500), "= 1500;"), (Duration::MAX, "= 2147483647;")]
        {
            assert!(begin(id, limit).contains(&format!("statement_timeout {expected}")), "{limit:?}");
        }
    }

    #[test]
    fn the_password_is_known_so_that_it_can_be_hidden() {
        for (url, password) in [
            ("postgresql://u:ca%40na+ry@h/d?sslmode=disable&connect_timeout=3", Some("ca@na+ry")),
            ("postgresql://u@h/d?password=can+ary", Some("can ary")),
            ("postgresql://u@h/d", None),
        ] {
            let known = connect_options(&Secret::new(url)).map(|(_, password)| password);
            assert_eq!(known, Ok(password.map(str::to_owned)), "{url}");
        }
        assert!(connect_options(&Secret::new("postgresql://h:port/d")).is_err());
    }
}
