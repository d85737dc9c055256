//! The texts that are sent to MySQL and MariaDB, and the options they are connected with. Pure.

use std::str::FromStr;
use std::time::Duration;

use sqlsentinel_common::ids::ExecutionId;
use sqlsentinel_common::secret::Secret;
use sqlx::mysql::MySqlConnectOptions;
use url::Url;

use crate::answer::Limits;
use crate::guard::GuardedQuery;
use crate::source::escape::{as_comment, decoded_password};

/// A worker that is stopped inside its transaction must not hold back the database's clean-up for ever.
const IDLE_IN_TRANSACTION_SECONDS: u32 = 10;
/// Between its runs a connection may be idle for longer than it is kept here.
const IDLE_SECONDS: u32 = 600;

/// The URL parameters that mean something here, in the spellings of SQLAlchemy's drivers too, and the driver's name.
/// It would ignore any other without a word.
const PARAMETERS: &[(&str, &str)] = &[
    ("ssl-mode", "ssl-mode"),
    ("sslmode", "ssl-mode"),
    ("ssl_mode", "ssl-mode"),
    ("ssl-ca", "ssl-ca"),
    ("sslca", "ssl-ca"),
    ("ssl_ca", "ssl-ca"),
    ("ssl-cert", "ssl-cert"),
    ("sslcert", "ssl-cert"),
    ("ssl_cert", "ssl-cert"),
    ("ssl-key", "ssl-key"),
    ("sslkey", "ssl-key"),
    ("ssl_key", "ssl-key"),
    ("socket", "socket"),
    ("unix_socket", "socket"),
    ("statement-cache-capacity", "statement-cache-capacity"),
];

/// Parameters that ask for what is so anyway.
const SETTLED: &[&str] = &["charset"];

/// The parts of `sql_mode` that change where literals and comments end, and modes that contain them. The guard reads a
/// query by the rules without them.
const OTHER_RULES: &[&str] =
    &["ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "ANSI", "DB2", "MAXDB", "MSSQL", "ORACLE", "POSTGRESQL", "IGNORE_SPACE"];

/// Which of the two a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    Mariadb,
    Mysql,
}

impl Flavour {
    /// By what `VERSION()` says.
    pub(super) fn of(version: &str) -> Self {
        if version.to_ascii_lowercase().contains("mariadb") { Self::Mariadb } else { Self::Mysql }
    }

    /// The server's own time-out, as an assignment.
    fn time_out(self, limit: Duration) -> String {
        // Zero would mean no time-out at all.
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).clamp(1, 31_536_000_000);
        match self {
            Self::Mariadb => format!("max_statement_time = {}.{:03}", limit_ms / 1_000, limit_ms % 1_000),
            Self::Mysql => format!("max_execution_time = {}", limit_ms.min(u64::from(u32::MAX))),
        }
    }
}

/// The driver's options for `url`, and the password in it. The error shows nothing of the URL.
pub(super) fn connect_options(url: &Secret) -> Result<(MySqlConnectOptions, Option<String>), &'static str> {
    const UNREADABLE: &str = "its URL cannot be read";
    let mut url = Url::parse(url.expose()).map_err(|_| UNREADABLE)?;
    let mut known = Vec::new();
    for (name, value) in url.query_pairs() {
        match PARAMETERS.iter().find(|(spelling, _)| *spelling == name) {
            Some((_, driver)) => known.push((*driver, value.into_owned())),
            None if SETTLED.contains(&name.as_ref()) => {}
            None => tracing::warn!(parameter = %name, "ignoring a parameter of a database URL"),
        }
    }
    let has = |name| known.iter().any(|(known, _)| *known == name);
    if has("ssl-ca") && !has("ssl-mode") {
        // Whoever names an authority wants the server's certificate to be checked by it.
        known.push(("ssl-mode", "VERIFY_CA".to_owned()));
    }
    url.set_query(None);
    if !known.is_empty() {
        url.query_pairs_mut().extend_pairs(&known);
    }
    let options = MySqlConnectOptions::from_str(url.as_str()).map_err(|_| UNREADABLE)?;
    // The session is set up by `settle`; the driver's own way would add to `sql_mode`.
    let options = options.pipes_as_concat(false).no_engine_substitution(false).timezone(None);
    Ok((options, decoded_password(&url)))
}

/// Asks for what [`settle`] has to know.
pub(super) const GREETING: &str = "SELECT VERSION(), @@SESSION.sql_mode";

/// Sets a new session up: times in UTC, and the server's own `sql_mode` as far as the guard reads queries by its rules.
pub(super) fn settle(sql_mode: &str) -> String {
    let is_name = |mode: &&str| mode.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let modes: Vec<_> = sql_mode.split(',').filter(is_name).filter(|mode| !OTHER_RULES.contains(mode)).collect();
    format!(
        "SET SESSION time_zone = '+00:00', sql_mode = '{}', wait_timeout = {IDLE_SECONDS}, autocommit = 1",
        modes.join(",")
    )
}

/// Begins the transaction, names the fire and asks for the connection's id: one text, one round trip.
///
/// The values are numbers and a UUID, so nothing needs escaping. The server itself stops at one row more than is read.
pub(super) fn begin(flavour: Flavour, execution: ExecutionId, limit: Duration, limits: &Limits) -> String {
    let (time_out, rows) = (flavour.time_out(limit), limits.rows.saturating_add(1));
    format!(
        "SET SESSION {time_out}, wait_timeout = {IDLE_IN_TRANSACTION_SECONDS}, sql_select_limit = {rows}, \
         @sqlsentinel_execution = '{execution}'; START TRANSACTION READ ONLY; SELECT CONNECTION_ID()"
    )
}

/// Ends the transaction, and the session is as [`settle`] made it.
pub(super) fn end() -> String {
    format!(
        "ROLLBACK; SET SESSION wait_timeout = {IDLE_SECONDS}, sql_select_limit = DEFAULT, @sqlsentinel_execution = NULL"
    )
}

/// The query itself. The text is the same for every fire of an alert, so that it is prepared once.
pub(super) fn plain(query: &GuardedQuery<'_>, alert_name: &str) -> String {
    format!("{} /* sqlsentinel:{} */", query.body, as_comment(alert_name))
}

/// How much of a column is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// All of it: its type is short.
    Whole,
    /// The beginning of a text or of bytes.
    Beginning,
    /// The beginning of what JSON looks like.
    Json,
    /// The beginning of what a geometry is written as.
    Geometry,
}

/// The query with the beginnings alone of columns that may hold megabytes: the driver would read them whole.
///
/// The columns get names by their place, because two of a query may have the same.
pub(super) fn cut(query: &GuardedQuery<'_>, alert_name: &str, columns: &[Cut], limits: &Limits) -> String {
    // One character or byte more than the limit, so that a cut cell is seen to be too long and marked.
    let more = limits.cell_bytes.saturating_add(1);
    let names: Vec<_> = (0..columns.len()).map(|index| format!("c{index}")).collect();
    let cut = |(name, cut): (&String, &Cut)| match cut {
        Cut::Whole => name.clone(),
        Cut::Beginning => format!("LEFT({name}, {more})"),
        Cut::Json => format!("LEFT(CAST({name} AS CHAR), {more})"),
        Cut::Geometry => format!("LEFT(ST_AsText({name}), {more})"),
    };
    let cells: Vec<_> = names.iter().zip(columns).map(cut).collect();
    format!(
        "WITH sqlsentinel_answer ({}) AS (\n{}\n) SELECT {} FROM sqlsentinel_answer /* sqlsentinel:{} */",
        names.join(", "),
        query.body,
        cells.join(", "),
        as_comment(alert_name)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: GuardedQuery<'static> = GuardedQuery { leading: "", body: "SELECT 1 -- one\n, t FROM x" };

    #[test]
    fn a_query_is_sent_as_it_is_unless_a_column_may_be_long() {
        assert_eq!(plain(&QUERY, "a b*/"), "SELECT 1 -- one\n, t FROM x /* sqlsentinel:a_b__ */");
        let limits = Limits { rows: 1, cell_bytes: 9, ..Limits::default() };
        assert_eq!(
            cut(&QUERY, "a", &[Cut::Whole, Cut::Beginning, Cut::Json, Cut::Geometry], &limits),
            "WITH sqlsentinel_answer (c0, c1, c2, c3) AS (\nSELECT 1 -- one\n, t FROM x\n) \
             SELECT c0, LEFT(c1, 10), LEFT(CAST(c2 AS CHAR), 10), LEFT(ST_AsText(c3), 10) \
             FROM sqlsentinel_answer /* sqlsentinel:a */"
        );
    }

    #[test]
    fn a_time_out_is_never_none_and_is_in_the_servers_own_unit() {
        for (limit, mariadb, mysql) in [
            (Duration::ZERO, "max_statement_time = 0.001", "max_execution_time = 1"),
            (Duration::from_millis(61_500), "max_statement_time = 61.500", "max_execution_time = 61500"),
            (Duration::MAX, "max_statement_time = 31536000.000", "max_execution_time = 4294967295"),
        ] {
            let flavour = |version| Flavour::of(version).time_out(limit);
            assert_eq!(flavour("10.11.19-MariaDB-0+deb12u1"), mariadb);
            assert_eq!(flavour("8.4.2"), mysql);
        }
    }

    #[test]
    fn the_servers_sql_mode_is_kept_but_for_what_moves_the_ends_of_literals() {
        let settled = settle("STRICT_TRANS_TABLES,ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,ORACLE,x'y");
        assert!(settled.contains("sql_mode = 'STRICT_TRANS_TABLES,PIPES_AS_CONCAT',"), "{settled}");
    }

    #[test]
    fn the_password_is_known_so_that_it_can_be_hidden_and_a_named_authority_is_used() {
        for (url, password, mode) in [
            ("mysql://u:ca%40na+ry@h/d?charset=utf8mb4", Some("ca@na+ry"), "Preferred"),
            ("mysql://u@h/d?ssl_ca=/ca.pem", None, "VerifyCa"),
            ("mysql://u@h/d?ssl_ca=/ca.pem&ssl-mode=VERIFY_IDENTITY", None, "VerifyIdentity"),
            ("mysql://u@h/d?unix_socket=/run/mysqld/mysqld.sock", None, "Preferred"),
        ] {
            let (options, known) = connect_options(&Secret::new(url)).unwrap();
            assert_eq!(known.as_deref(), password, "{url}");
            assert_eq!(format!("{:?}", options.get_ssl_mode()), mode, "{url}");
        }
        assert!(connect_options(&Secret::new("mysql://h:port/d")).is_err());
    }
}
