//! Database URLs, as SQLAlchemy and everyone else write them, made into what the database driver reads.

use url::Url;

use crate::secret::Secret;

/// The kinds of database that are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DatabaseKind {
    /// PostgreSQL, over the network.
    Postgres,
    /// MySQL or MariaDB, over the network or a socket. Databases to watch only.
    Mysql,
    /// A SQLite file, or SQLite in memory.
    Sqlite,
}

impl DatabaseKind {
    /// The name in logs and health checks.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
            Self::Mysql => "mysql",
            Self::Sqlite => "sqlite",
        }
    }
}

/// A database URL in the driver's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseUrl {
    /// Which driver it is for.
    pub kind: DatabaseKind,
    /// `postgresql://…`, `mysql://…`, `sqlite://relative.db`, `sqlite:///absolute.db` or `sqlite::memory:`.
    pub url: Secret,
}

/// A database URL that cannot be used. Nothing of the URL but its scheme is shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    /// No `scheme://`.
    #[error("not a database URL: expected `postgresql://…`, `mysql://…` or `sqlite:///…`")]
    NotAUrl,
    /// A database that later versions will read.
    #[error("`{0}` databases are not supported yet")]
    NotSupportedYet(String),
    /// The database that 0.1.x knew and this version does not.
    #[error(
        "BigQuery cannot be watched: there is no driver for it here, and GOOGLE_APPLICATION_CREDENTIALS is not read; \
         expected `postgresql://…`, `mysql://…` or `sqlite:///…`"
    )]
    BigQuery,
    /// Some other scheme.
    #[error("`{0}` is not a database that can be used: expected `postgresql://…`, `mysql://…` or `sqlite:///…`")]
    UnknownScheme(String),
    /// `sqlite://name.db`, which different programs read differently.
    #[error("write `sqlite:///relative/path.db` or `sqlite:////absolute/path.db`")]
    SqliteSlashes,
    /// A query parameter that the SQLite driver would refuse.
    #[error("SQLite has no URL parameter `{0}` here: use `mode`, `cache`, `immutable` or `vfs`")]
    SqliteParameter(String),
    /// Not well formed.
    #[error("not a readable {0} URL ({1}): special characters in user name and password must be percent-encoded")]
    Unreadable(&'static str, #[source] url::ParseError),
}

/// Makes `text` into the driver's form.
pub fn normalise_database_url(text: &str) -> Result<DatabaseUrl, DatabaseUrlError> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("sqlite::memory:") {
        return Ok(DatabaseUrl { kind: DatabaseKind::Sqlite, url: Secret::new("sqlite::memory:") });
    }
    let (scheme, rest) = text.split_once("://").ok_or(DatabaseUrlError::NotAUrl)?;
    let scheme = scheme.to_ascii_lowercase();
    if !scheme.starts_with(|c: char| c.is_ascii_lowercase())
        || !scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-._".contains(c))
    {
        return Err(DatabaseUrlError::NotAUrl);
    }
    // SQLAlchemy writes `dialect+driver`; the driver is ours to choose.
    match scheme.split('+').next().unwrap_or_default() {
        "postgresql" | "postgres" => server(DatabaseKind::Postgres, "PostgreSQL", rest),
        "mysql" | "mariadb" => server(DatabaseKind::Mysql, "MySQL", rest),
        "sqlite" => sqlite(rest),
        "bigquery" => Err(DatabaseUrlError::BigQuery),
        dialect @ ("snowflake" | "duckdb" | "oracle" | "mssql" | "redshift") => {
            Err(DatabaseUrlError::NotSupportedYet(dialect.to_owned()))
        }
        other => Err(DatabaseUrlError::UnknownScheme(other.to_owned())),
    }
}

fn server(kind: DatabaseKind, name: &'static str, rest: &str) -> Result<DatabaseUrl, DatabaseUrlError> {
    let url = format!("{}://{rest}", kind.as_str());
    Url::parse(&url).map_err(|error| DatabaseUrlError::Unreadable(name, error))?;
    Ok(DatabaseUrl { kind, url: Secret::new(url) })
}

/// SQLAlchemy's third slash begins a relative path, the fourth an absolute one; the driver wants one slash fewer.
fn sqlite(rest: &str) -> Result<DatabaseUrl, DatabaseUrlError> {
    let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    for parameter in query.into_iter().flat_map(|query| query.split('&')) {
        let (name, has_value) = parameter.split_once('=').map_or((parameter, false), |(name, _)| (name, true));
        if !["mode", "cache", "immutable", "vfs"].contains(&name) {
            // What has no value, or is no name, may be a part of a password with a `?` in it.
            let is_name = has_value && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            return Err(DatabaseUrlError::SqliteParameter(if is_name { name } else { "…" }.to_owned()));
        }
    }
    let path = match place.strip_prefix('/') {
        Some(path) => path,
        None if place.is_empty() => "",
        None => return Err(DatabaseUrlError::SqliteSlashes),
    };
    let url = match (path, query) {
        ("" | ":memory:", _) => "sqlite::memory:".to_owned(),
        (path, None) => format!("sqlite://{path}"),
        (path, Some(query)) => format!("sqlite://{path}?{query}"),
    };
    Ok(DatabaseUrl { kind: DatabaseKind::Sqlite, url: Secret::new(url) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(text: &str) -> Result<(DatabaseKind, String), DatabaseUrlError> {
        normalise_database_url(text).map(|url| (url.kind, url.url.expose().to_owned()))
    }

    #[test]
    fn the_forms_that_people_have_in_their_files_are_read() {
        use DatabaseKind::{Mysql, Postgres, Sqlite};
        for (text, kind, url) in [
            ("sqlite:///rel.db", Sqlite, "sqlite://rel.db"),
            ("sqlite:///./data/rel.db", Sqlite, "sqlite://./data/rel.db"),
            ("sqlite:////var/abs.db", Sqlite, "sqlite:///var/abs.db"),
            ("sqlite+pysqlite:////var/abs.db", Sqlite, "sqlite:///var/abs.db"),
            ("sqlite:////var/abs.db?mode=ro", Sqlite, "sqlite:///var/abs.db?mode=ro"),
            ("sqlite://", Sqlite, "sqlite::memory:"),
            ("sqlite:///:memory:", Sqlite, "sqlite::memory:"),
            ("sqlite::memory:", Sqlite, "sqlite::memory:"),
            (
                "postgresql+psycopg2://u:p@h:5432/d?sslmode=require",
                Postgres,
                "postgresql://u:p@h:5432/d?sslmode=require",
            ),
            ("postgres://u@h/d", Postgres, "postgresql://u@h/d"),
            ("PostgreSQL://h/d", Postgres, "postgresql://h/d"),
            ("mysql://u:p@h:3306/d", Mysql, "mysql://u:p@h:3306/d"),
            ("mysql+pymysql://u:p@h/d?charset=utf8mb4", Mysql, "mysql://u:p@h/d?charset=utf8mb4"),
            ("mariadb+mariadbconnector://u@h/d", Mysql, "mysql://u@h/d"),
            (" postgresql:///d?host=/run/postgresql\n", Postgres, "postgresql:///d?host=/run/postgresql"),
        ] {
            assert_eq!(normalised(text), Ok((kind, url.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_used_is_refused_without_showing_it() {
        for (text, said) in [
            ("bigquery://canary", "BigQuery cannot be watched"),
            ("snowflake://canary", "`snowflake` databases are not supported yet"),
            ("mysql://u:canary/1@h/d", "not a readable MySQL URL"),
            ("ftp://canary", "`ftp` is not a database"),
            ("canary", "not a database URL"),
            ("", "not a database URL"),
            ("can ary://x", "not a database URL"),
            ("sqlite://canary.db", "sqlite:///relative"),
            ("sqlite:///x.db?timeout=canary", "`timeout`"),
            ("postgresql://u:canary/1@h/d", "percent-encoded"),
        ] {
            let message = normalise_database_url(text).expect_err(text).to_string();
            assert!(message.contains(said) && !message.contains("canary"), "{text}: {message}");
        }
    }
}
