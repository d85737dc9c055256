//! `--database-url`: another database in the place of the configuration's `database`, for one command.

use clap::Args;
use clap::error::ErrorKind;
use sqlsentinel_common::config::{from_environment, normalise_database_url};
use sqlsentinel_common::secret::Secret;
use sqlsentinel_common::settings;

/// The variable that `database` means where the configuration has none.
pub const VARIABLE: &str = "DATABASE_URL";

/// The database that alerts query.
#[derive(Clone, Debug, Args)]
pub struct DatabaseArgs {
    /// URL to use as the database `default`, whatever the configuration says; better in DATABASE_URL or in a file
    #[arg(long, value_name = "URL", value_parser = settings::secret)]
    database_url: Option<Secret>,
}

impl DatabaseArgs {
    /// The URL, if one is given: one that can be used.
    pub fn url(&self) -> Result<Option<Secret>, clap::Error> {
        let Some(url) = &self.database_url else { return Ok(None) };
        // By a value parser, clap would show what it refuses.
        let usable = normalise_database_url(url.expose()).map(|_| Some(url.clone()));
        usable.map_err(|error| clap::Error::raw(ErrorKind::ValueValidation, format!("--database-url: {error}\n")))
    }
}

/// The process's variables, in which `url`, if there is one, is DATABASE_URL: then a configuration need name no database.
pub fn variable(name: &str, url: Option<&Secret>) -> Option<String> {
    match (name, url) {
        (VARIABLE, Some(url)) => Some(url.expose().to_owned()),
        (name, _) => from_environment(name),
    }
}
