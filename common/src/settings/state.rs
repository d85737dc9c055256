//! Where the state database is.

use std::path::PathBuf;

use clap::Args;

use super::{SettingsError, checked_args, secret, secret_or_file};
use crate::config::{DatabaseKind, DatabaseUrl, normalise_database_url};
use crate::secret::Secret;

const DEFAULT: &str = "sqlite:///sqlsentinel.db";

/// The state database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSettings {
    /// Where it is; it may hold a password.
    pub database: DatabaseUrl,
}

#[derive(Debug, Args)]
struct StateArgs {
    /// State database [default: sqlite:///sqlsentinel.db]
    #[arg(long, env = "STATE_DB_URL", value_name = "URL", hide_env_values = true, value_parser = secret)]
    state_db: Option<Secret>,
    /// File that holds the URL of the state database
    #[arg(long, env = "STATE_DB_URL_FILE", value_name = "FILE")]
    state_db_file: Option<PathBuf>,
    /// SQLite file to use as state database, where no URL is given
    #[arg(long, env = "STATE_DB_PATH", value_name = "FILE", hide = true)]
    state_db_path: Option<PathBuf>,
}

checked_args!(StateSettings, StateArgs, "StateArgs");

impl StateArgs {
    fn check(self) -> Result<StateSettings, SettingsError> {
        let given = secret_or_file(self.state_db, self.state_db_file.as_deref(), ("--state-db", "STATE_DB_URL"))?;
        let of_path = || self.state_db_path.map(|path| format!("sqlite:///{}", path.display()));
        let url = given.unwrap_or_else(|| Secret::new(of_path().unwrap_or_else(|| DEFAULT.to_owned())));
        let database = normalise_database_url(url.expose())
            .map_err(|error| SettingsError::new(format!("--state-db (STATE_DB_URL): {error}")))?;
        if database.kind == DatabaseKind::Mysql {
            let reason = "MySQL is a database to watch: the state is kept in PostgreSQL or SQLite";
            return Err(SettingsError::new(format!("--state-db (STATE_DB_URL): {reason}")));
        }
        Ok(StateSettings { database })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::parsed;
    use super::*;

    #[test]
    fn the_url_comes_before_the_path_and_the_path_before_the_default() {
        let url = |arguments| parsed::<StateSettings>(arguments).map(|state| state.database.url.expose().to_owned());
        assert_eq!(url(&[]), Ok("sqlite://sqlsentinel.db".to_owned()));
        assert_eq!(url(&["--state-db-path", "/data/s.db"]), Ok("sqlite:///data/s.db".to_owned()));
        assert_eq!(url(&["--state-db-path", "/x", "--state-db", "sqlite:///a.db"]), Ok("sqlite://a.db".to_owned()));
    }

    #[test]
    fn a_url_that_cannot_be_used_is_a_usage_error_without_its_password() {
        for url in ["oracle://bob:hunter2@db", "mysql://bob:hunter2@db/shop"] {
            let message = parsed::<StateSettings>(&["--state-db", url]).unwrap_err();
            assert!(message.contains("--state-db (STATE_DB_URL)") && !message.contains("hunter2"), "{message}");
        }
    }
}
