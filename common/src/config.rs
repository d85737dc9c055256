//! The YAML files that every process reads: strict, validated once into domain types, every error with its place.
//!
//! `reading` finds and reads the files, `raw` parses each into a tree that knows its places, `check` makes the trees
//! into [`Config`] and collects everything that is wrong on the way. The definitions go to the coordinator's ledger; the
//! sources' URLs are resolved by workers, the channels' settings by notifiers, and by nobody else. Processes load by
//! [`crate::settings::ConfigSettings`], which knows what a configuration may reach.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::alert::{AlertDefinition, ChannelName, ConfigHash, QueryOptions, Route, SourceName};
use crate::secret::Secret;

mod about;
mod access;
mod channel;
mod channel_entry;
mod channels;
mod check;
mod database_url;
mod email;
mod error;
mod instance_key;
mod interpolate;
mod judging;
mod keys;
mod notify;
mod planning;
mod query_env;
mod raw;
mod reading;
mod scalar;
mod schema;
mod secret_file;
mod section;
mod slack;
mod sources;
mod template;
mod text;
mod webhook;
mod whole;

pub use access::{Access, without_credentials};
pub use channel::{
    Channel, ChannelConfig, ChannelLimits, EmailConfig, Rate, SlackConfig, WebhookConfig, WebhookMethod,
};
pub use database_url::{DatabaseKind, DatabaseUrl, DatabaseUrlError, normalise_database_url};
pub use error::{ConfigErrors, ConfigProblem};
pub use interpolate::{Environment, Setting, SyntaxError, UnresolvedSetting, from_environment};
pub use reading::{Reading, Watched};
pub use schema::schema;
pub use secret_file::SecretFileError;
pub use template::{Escape, Notice, PlacesError, Template, TemplateError, VARIABLES, one_line};

/// A whole configuration, valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The data sources by name.
    pub sources: BTreeMap<SourceName, SourceConfig>,
    /// The channels that have a name.
    pub channels: BTreeMap<ChannelName, Arc<Channel>>,
    /// The alerts in the file's order; their names are unique.
    pub alerts: Vec<AlertConfig>,
    /// What `validate` should mention and nobody needs to fix.
    pub warnings: Vec<ConfigProblem>,
}

/// One data source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceConfig {
    /// Its URL, unresolved.
    pub url: Setting,
    /// How many of its jobs workers may hold at once, in the whole cluster; the coordinator's own limit if none.
    pub max_concurrency: Option<u16>,
    /// How many connections one worker may have; the worker's own limit if none.
    pub pool_size: Option<u16>,
    /// How long a run may take whose alert does not say.
    pub timeout: Option<Duration>,
}

/// One alert: what the cluster shares of it, and what only notifiers use.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertConfig {
    /// What the ledger stores; no secret is in it.
    pub definition: AlertDefinition,
    /// The routes of `definition.notify`, in the same order, with where they lead.
    pub channels: Vec<(Route, Arc<Channel>)>,
}

/// A source whose URL cannot be used by this process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceUrlError {
    /// A variable is missing.
    #[error(transparent)]
    Unresolved(#[from] UnresolvedSetting),
    /// The URL is not one that can be used.
    #[error(transparent)]
    Url(#[from] DatabaseUrlError),
}

impl SourceConfig {
    /// A source of which nothing but its URL is known.
    pub fn at(url: Setting) -> Self {
        Self { url, max_concurrency: None, pool_size: None, timeout: None }
    }

    /// The URL in the driver's form, from the process's environment.
    pub fn resolve(&self) -> Result<DatabaseUrl, SourceUrlError> {
        Ok(normalise_database_url(self.url.resolve()?.expose())?)
    }
}

impl Config {
    /// The same with `url` as the database `default`, whatever the files say. False: they have no database of this name.
    pub fn set_default_database(&mut self, url: &Secret) -> bool {
        let source = self.sources.get_mut(&SourceName::default_source());
        source.map(|source| source.url = Setting::literal(url.expose())).is_some()
    }

    /// The name of this set of definitions, whatever their order in the file.
    pub fn set_hash(&self) -> Result<ConfigHash, serde_json::Error> {
        let hashes =
            self.alerts.iter().map(|alert| alert.definition.canonical_json().map(|json| ConfigHash::of(&json)));
        let mut hashes = hashes.collect::<Result<Vec<_>, _>>()?;
        hashes.sort_unstable();
        Ok(ConfigHash::of(&hashes.iter().map(ConfigHash::as_str).collect::<Vec<_>>().join("\n")))
    }
}

/// What a program knows of queries and this module does not: why one may not run on a database of this kind. One whose
/// database's kind is in a variable or a file that this process does not have is not checked.
pub type QueryCheck<'a> = dyn Fn(&str, DatabaseKind, &QueryOptions) -> Result<(), String> + 'a;

/// Takes any query.
pub fn any_query(_: &str, _: DatabaseKind, _: &QueryOptions) -> Result<(), String> {
    Ok(())
}

/// Reads the file or the folder at `path`, and what its files include, with the variables of `environment`.
pub fn read(path: &Path, access: &Access, environment: &Environment<'_>) -> Reading {
    reading::read(path, access, environment)
}

/// Validates `text`, which errors call `file`, with the variables of `environment`.
pub fn load_str(text: &str, file: &str, environment: &Environment<'_>) -> Result<Config, ConfigErrors> {
    reading::read_text(text, file, &Access::default(), environment).check(environment, &any_query)
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
