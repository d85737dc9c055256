//! The YAML file that every process reads: strict, validated once into domain types, every error with its place.
//!
//! `load` reads the file, `raw` parses it into a tree that knows its places, `check` makes the tree into
//! [`Config`] and collects everything that is wrong on the way. The definitions go to the coordinator's ledger; the
//! sources' URLs are resolved by workers, the channels' settings by notifiers, and by nobody else.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::alert::{AlertDefinition, ConfigHash, Route, SourceName};

mod channel;
mod check;
mod database_url;
mod email;
mod error;
mod interpolate;
mod judging;
mod keys;
mod notify;
mod raw;
mod scalar;
mod section;
mod slack;
mod template;
mod webhook;

pub use channel::{ChannelConfig, EmailConfig, SlackConfig, WebhookConfig, WebhookMethod};
pub use database_url::{DatabaseKind, DatabaseUrl, DatabaseUrlError, normalise_database_url};
pub use error::{ConfigErrors, ConfigProblem};
pub use interpolate::{Environment, Setting, SyntaxError, UnresolvedSetting, from_environment};
pub use template::{Field, Template, TemplateError};

/// A whole configuration, valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The data sources by name.
    pub sources: BTreeMap<SourceName, SourceConfig>,
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
}

/// One alert: what the cluster shares of it, and what only notifiers use.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertConfig {
    /// What the ledger stores; no secret is in it.
    pub definition: AlertDefinition,
    /// The routes of `definition.notify`, in the same order, with their settings.
    pub channels: Vec<(Route, ChannelConfig)>,
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
    /// The URL in the driver's form, from the process's environment.
    pub fn resolve(&self) -> Result<DatabaseUrl, SourceUrlError> {
        Ok(normalise_database_url(self.url.resolve()?.expose())?)
    }
}

impl Config {
    /// The name of this set of definitions, whatever their order in the file.
    pub fn set_hash(&self) -> Result<ConfigHash, serde_json::Error> {
        let hashes =
            self.alerts.iter().map(|alert| alert.definition.canonical_json().map(|json| ConfigHash::of(&json)));
        let mut hashes = hashes.collect::<Result<Vec<_>, _>>()?;
        hashes.sort_unstable();
        Ok(ConfigHash::of(&hashes.iter().map(ConfigHash::as_str).collect::<Vec<_>>().join("\n")))
    }
}

/// Reads and validates the file at `path`, with the process's environment.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    load_with(path, &from_environment)
}

/// Reads and validates the file at `path`, with the variables of `environment`.
pub fn load_with(path: &Path, environment: &Environment<'_>) -> Result<Config, ConfigErrors> {
    load_checking(path, environment, &|_, _| Ok(()))
}

/// What a program knows of queries and this module does not: why one may not run on a database of this kind.
pub type QueryCheck<'a> = dyn Fn(&str, DatabaseKind) -> Result<(), String> + 'a;

/// The same, where each query must also pass `check`; one whose database's kind is in a variable that this process
/// does not have is not checked.
pub fn load_checking(
    path: &Path,
    environment: &Environment<'_>,
    check: &QueryCheck<'_>,
) -> Result<Config, ConfigErrors> {
    let file = path.display().to_string();
    let text = read(path).map_err(|message| ConfigErrors(vec![ConfigProblem::of_file(&file, message)]))?;
    check::check(&raw::parse(&text, &file)?, &file, environment, check)
}

/// The file's text, if there is no more of it than a configuration may have.
fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(raw::MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() > raw::MAX_FILE_BYTES {
        return Err(raw::too_large());
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|&&b| b == b'\n').count();
        format!("is not UTF-8 (line {line})")
    })
}

/// Validates `text`, which errors call `file`, with the variables of `environment`.
pub fn load_str(text: &str, file: &str, environment: &Environment<'_>) -> Result<Config, ConfigErrors> {
    check::check(&raw::parse(text, file)?, file, environment, &|_, _| Ok(()))
}

#[cfg(test)]
mod tests;
