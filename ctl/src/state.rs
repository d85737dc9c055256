//! Opening the state database for commands that only read it, and choosing among a configuration's alerts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::bail;
use sqlsentinel_common::config::{Config, DatabaseKind, DatabaseUrl};
use sqlsentinel_common::settings::StateSettings;
use sqlsentinel_common::store::{Store, StoreRole};

/// The state database, which must be there: reading must not create an empty one.
pub fn open_existing(settings: &StateSettings) -> anyhow::Result<Store> {
    if let Some(path) = sqlite_path(&settings.database)
        && !path.exists()
    {
        bail!(
            "there is no state database at {}: name it with --state-db (STATE_DB_URL), or make one with `init`, `run` or \
             `daemon`",
            path.display()
        );
    }
    Ok(Store::connect(&settings.database, StoreRole::Member)?)
}

/// The file behind a SQLite URL; none for other databases, and for SQLite in memory.
pub fn sqlite_path(database: &DatabaseUrl) -> Option<PathBuf> {
    let url = match database.kind {
        DatabaseKind::Sqlite => database.url.expose(),
        DatabaseKind::Postgres | DatabaseKind::Mysql => return None,
    };
    let path = url.strip_prefix("sqlite://")?.split('?').next()?;
    (!path.is_empty() && path != ":memory:").then(|| Path::new(path).to_owned())
}

/// The names of all alerts in `config`, or `wanted` alone, which must be one of them.
pub fn chosen_alerts(config: &Config, wanted: Option<&str>) -> anyhow::Result<BTreeSet<String>> {
    let names: BTreeSet<String> = config.alerts.iter().map(|alert| alert.definition.name.clone()).collect();
    match wanted {
        None => Ok(names),
        Some(wanted) if names.contains(wanted) => Ok(BTreeSet::from([wanted.to_owned()])),
        Some(wanted) => {
            let known: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
            bail!("there is no alert `{wanted}`; the configuration has {}", known.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlsentinel_common::config::normalise_database_url;

    use super::*;

    #[test]
    fn a_sqlite_url_names_its_file_and_others_name_none() {
        let path = |url: &str| normalise_database_url(url).ok().and_then(|url| sqlite_path(&url));
        assert_eq!(path("sqlite:///rel.db"), Some(PathBuf::from("rel.db")));
        assert_eq!(path("sqlite:////abs/s.db?mode=rwc"), Some(PathBuf::from("/abs/s.db")));
        assert_eq!(path("sqlite::memory:"), None);
        assert_eq!(path("postgresql://db/x"), None);
    }
}
