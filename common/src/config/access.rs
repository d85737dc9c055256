//! What a configuration may reach beside its own text: which variables `${VAR}` may name, and which folders `*_file`
//! may read. Pure.
//!
//! Who may edit alerts decides where notifications go, so whatever a file may read can be sent away. The credentials of
//! our own services are never its business; of everything else the operator decides.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::interpolate::Environment;
use super::keys::shown;

/// Variables that no file may name: what our own services log in with.
const NEVER: [&str; 3] = ["NATS_*", "STATE_DB_*", "SMTP_PASSWORD*"];
/// Variables that a file may name only where the operator lists them: what clouds and orchestrators give to a process
/// of ours, and not to the alerts.
const ONLY_IF_LISTED: [&str; 5] = ["AWS_*", "AZURE_*", "GOOGLE_*", "KUBERNETES_*", "VAULT_*"];
/// Where orchestrators put secrets, if nothing is said.
const SECRETS: [&str; 2] = ["/run/secrets", "/var/run/secrets"];

/// What a configuration may read. The default is every variable but credentials, and the usual folders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Patterns of variables' names in which `*` stands for anything; everything but credentials if none are given.
    pub variables: Option<Vec<String>>,
    /// Folders; if none are given, `/run/secrets`, `/var/run/secrets` and the configuration's own.
    pub folders: Option<Vec<PathBuf>>,
}

/// Something that a configuration may not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// A credential of our own services.
    #[error("the variable `{0}` belongs to SQL Sentinel's own services, and alerts cannot read it")]
    Never(String),
    /// A variable that is not listed.
    #[error("alerts may not read the variable `{0}`")]
    NotListed(String),
    /// A folder that is not listed.
    #[error("alerts may not read `{0}`")]
    Outside(String),
    /// `..` would lead out of any folder.
    #[error("a path may not hold `..`")]
    Upwards,
}

impl Refusal {
    /// What to do about it.
    pub(super) fn help(&self) -> &'static str {
        match self {
            Self::Never(_) => "use a variable of another name",
            Self::NotListed(_) => "use another variable, or have it listed in SQLSENTINEL_ALLOWED_VARIABLES",
            Self::Outside(_) => {
                "use a file below `/run/secrets`, or have its folder listed in SQLSENTINEL_ALLOWED_FOLDERS"
            }
            Self::Upwards => "write the path from its root on",
        }
    }
}

/// `environment` for a query that lists its variables: without the credentials of our own services, whoever has published
/// the job.
pub fn without_credentials(environment: &Environment<'_>) -> impl Fn(&str) -> Option<String> {
    |name| if NEVER.iter().any(|pattern| matches(pattern, name)) { None } else { environment(name) }
}

impl Access {
    /// Whether a file may name the variable `name`.
    pub(super) fn variable(&self, name: &str) -> Result<(), Refusal> {
        if NEVER.iter().any(|pattern| matches(pattern, name)) {
            return Err(Refusal::Never(name.to_owned()));
        }
        let allowed = match &self.variables {
            Some(patterns) => patterns.iter().any(|pattern| matches(pattern, name)),
            None => !ONLY_IF_LISTED.iter().any(|pattern| matches(pattern, name)),
        };
        if allowed { Ok(()) } else { Err(Refusal::NotListed(name.to_owned())) }
    }

    /// The folders of a configuration that lies in `own`, as absolute paths.
    pub(super) fn folders(&self, own: Option<&Path>) -> Arc<[PathBuf]> {
        let absolute = |folder: &Path| std::path::absolute(folder).ok();
        match &self.folders {
            Some(folders) => folders.iter().filter_map(|folder| absolute(folder)).collect(),
            None => {
                // The root is nobody's own: everything would be in it.
                let own = own.and_then(absolute).filter(|folder| folder.parent().is_some());
                SECRETS.iter().map(PathBuf::from).chain(own).collect()
            }
        }
    }
}

/// Whether `path`, absolute, is by its letters in one of `folders`. Where links lead is looked at when it is read.
pub(super) fn in_folders(path: &Path, folders: &[PathBuf]) -> Result<(), Refusal> {
    if path.components().any(|component| component == Component::ParentDir) {
        return Err(Refusal::Upwards);
    }
    if folders.iter().any(|folder| path.starts_with(folder)) {
        return Ok(());
    }
    Err(Refusal::Outside(shown(&path.display().to_string())))
}

/// Whether all of `name` is what `pattern` describes; `*` stands for any characters, none included.
fn matches(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(pieces.next().unwrap_or_default()) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        let Some((_, after)) = rest.split_once(piece) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(patterns: &[&str]) -> Access {
        Access { variables: Some(patterns.iter().map(|&pattern| pattern.to_owned()).collect()), folders: None }
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name, expected) in [
            ("A", "A", true),
            ("A", "AB", false),
            ("A*", "A", true),
            ("A*", "AB", true),
            ("*_URL", "SHOP_URL", true),
            ("*_URL", "SHOP_URL_FILE", false),
            ("A*B*C", "AxBxC", true),
            ("A*B*C", "AxCxB", false),
            ("A*A", "A", false),
            ("*", "", true),
            ("", "", true),
            ("", "A", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_query_sees_no_credential_of_ours_whatever_its_job_lists() {
        let everything = |name: &str| Some(name.to_owned());
        let seen = without_credentials(&everything);
        assert_eq!(["NATS_PASSWORD", "STATE_DB_URL", "SMTP_PASSWORD_FILE"].map(&seen), [None, None, None]);
        assert_eq!(seen("FLOOR").as_deref(), Some("FLOOR"));
    }

    #[test]
    fn our_own_credentials_are_never_read() {
        let everything = listed(&["*", "NATS_PASSWORD"]);
        for name in ["NATS_PASSWORD", "NATS_CREDS_FILE", "STATE_DB_URL", "STATE_DB_URL_FILE", "SMTP_PASSWORD"] {
            for access in [&Access::default(), &everything] {
                assert_eq!(access.variable(name), Err(Refusal::Never(name.to_owned())));
            }
        }
    }

    #[test]
    fn a_clouds_credentials_have_to_be_listed_and_a_list_is_all_there_is() {
        let name = "AWS_SECRET_ACCESS_KEY";
        assert_eq!(Access::default().variable(name), Err(Refusal::NotListed(name.to_owned())));
        assert_eq!(listed(&["AWS_*"]).variable(name), Ok(()));
        for (name, by_default, by_list) in [("SHOP_URL", true, true), ("SHOP_TOKEN", true, false)] {
            assert_eq!(Access::default().variable(name).is_ok(), by_default, "{name}");
            assert_eq!(listed(&["*_URL"]).variable(name).is_ok(), by_list, "{name}");
        }
        assert!(listed(&[]).variable("SHOP_URL").is_err());
    }

    #[test]
    fn a_file_is_in_a_folder_by_whole_names_and_never_upwards() {
        let folders = Access::default().folders(Some(Path::new("/etc/alerts")));
        for (path, expected) in [
            ("/run/secrets/db", true),
            ("/var/run/secrets/a/db", true),
            ("/etc/alerts/db", true),
            ("/etc/alerts-of-others/db", false),
            ("/etc/passwd", false),
            ("/run/secrets/../passwd", false),
            ("/proc/self/environ", false),
        ] {
            assert_eq!(in_folders(Path::new(path), &folders).is_ok(), expected, "{path}");
        }
    }

    #[test]
    fn a_list_of_folders_takes_the_place_of_the_usual_ones_and_the_root_is_nobodys_own() {
        let access = Access { folders: Some(vec![PathBuf::from("/srv/keys")]), variables: None };
        assert_eq!(*access.folders(Some(Path::new("/etc/alerts"))), [PathBuf::from("/srv/keys")]);
        let usual = SECRETS.map(PathBuf::from);
        assert_eq!(*Access::default().folders(Some(Path::new("/"))), usual);
        assert_eq!(*Access::default().folders(None), usual);
    }
}
