//! Flags and environment variables, parsed into values that are known to be good.
//!
//! Each group of settings is a clap `Args` whose parsing includes its checks, so a process that has its settings has
//! checked them before it opened a socket, and what is wrong is a usage error (exit 2) that names flag and variable.
//! Secrets are taken as [`Secret`] by parsers that cannot fail: clap quotes a value it cannot parse.

mod channels;
mod nats;
mod origin;
mod process;
mod state;

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

pub use self::channels::{ChannelSettings, SmtpSecurity, SmtpSettings};
pub use self::nats::{NatsLogin, NatsSettings};
pub use self::process::{ListenSettings, LogFormat, LogLevel, LogSettings, ProcessSettings};
pub use self::state::StateSettings;
use crate::config::{self, Access, Config, ConfigErrors, Environment, QueryCheck, Reading, from_environment};
use crate::secret::Secret;

/// Settings that cannot be used. The text names the flag and the variable, says what to do, and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

impl SettingsError {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl From<SettingsError> for clap::Error {
    fn from(error: SettingsError) -> Self {
        Self::raw(ErrorKind::ValueValidation, format!("{error}\n"))
    }
}

/// Implements clap's traits for a checked settings type by those of the arguments it is made from. Where the settings
/// are optional, an argument of `$group` says that they are given.
macro_rules! checked_args {
    ($settings:ty, $args:ty, $group:literal) => {
        impl clap::FromArgMatches for $settings {
            fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
                Ok(<$args as clap::FromArgMatches>::from_arg_matches(matches)?.check()?)
            }

            fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
                *self = <Self as clap::FromArgMatches>::from_arg_matches(matches)?;
                Ok(())
            }
        }

        impl clap::Args for $settings {
            fn augment_args(command: clap::Command) -> clap::Command {
                <$args as clap::Args>::augment_args(command)
            }

            fn group_id() -> Option<clap::Id> {
                Some(clap::Id::from($group))
            }

            fn augment_args_for_update(command: clap::Command) -> clap::Command {
                <$args as clap::Args>::augment_args_for_update(command)
            }
        }
    };
}
use checked_args;

/// Where the alerts are defined, and what the definitions may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSettings {
    /// The YAML file, or a folder of them.
    pub path: PathBuf,
    /// Which variables and which folders they may read.
    pub access: Access,
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// The YAML file with the alerts, or a folder of such files
    #[arg(value_name = "CONFIG", env = "CONFIG_PATH")]
    config: Option<PathBuf>,
    /// The same, as a flag
    #[arg(long = "config", value_name = "CONFIG", conflicts_with = "config")]
    config_flag: Option<PathBuf>,
}

/// A group of its own: these alone do not say that there is a configuration.
#[derive(Debug, Args)]
struct AccessArgs {
    /// Variables that ${VAR} may name, comma-separated, with `*` [default: all but credentials of services and clouds]
    #[arg(long, env = "SQLSENTINEL_ALLOWED_VARIABLES", value_name = "PATTERNS", value_delimiter = ',')]
    allowed_variables: Option<Vec<String>>,
    /// Folders that *_file may read, separated by colons [default: /run/secrets, /var/run/secrets, the configuration's]
    #[arg(long, env = "SQLSENTINEL_ALLOWED_FOLDERS", value_name = "FOLDERS", value_delimiter = ':')]
    allowed_folders: Option<Vec<PathBuf>>,
}

impl ConfigArgs {
    fn check(self, access: AccessArgs) -> Result<ConfigSettings, SettingsError> {
        let path = self.config_flag.or(self.config).ok_or_else(|| {
            SettingsError::new("no configuration: give the YAML file as CONFIG, --config or CONFIG_PATH")
        })?;
        let AccessArgs { allowed_variables, allowed_folders } = access;
        let trimmed = |pattern: String| pattern.trim().to_owned();
        let access = Access {
            variables: allowed_variables.map(|patterns| patterns.into_iter().map(trimmed).collect()),
            folders: allowed_folders,
        };
        Ok(ConfigSettings { path, access })
    }
}

impl ConfigSettings {
    /// Reads everything, and validates nothing yet.
    pub fn read(&self, environment: &Environment<'_>) -> Reading {
        config::read(&self.path, &self.access, environment)
    }

    /// Reads and validates, with the process's environment.
    pub fn load(&self) -> Result<Config, ConfigErrors> {
        self.load_with(&from_environment)
    }

    /// Reads and validates, with the variables of `environment`.
    pub fn load_with(&self, environment: &Environment<'_>) -> Result<Config, ConfigErrors> {
        self.load_checking(environment, &config::any_query)
    }

    /// The same, where each query must also pass `check`.
    pub fn load_checking(&self, environment: &Environment<'_>, check: &QueryCheck<'_>) -> Result<Config, ConfigErrors> {
        self.read(environment).check(environment, check)
    }
}

impl From<&Path> for ConfigSettings {
    /// What is at `path`, which may reach what any configuration may.
    fn from(path: &Path) -> Self {
        Self { path: path.to_owned(), access: Access::default() }
    }
}

impl FromArgMatches for ConfigSettings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(ConfigArgs::from_arg_matches(matches)?.check(AccessArgs::from_arg_matches(matches)?)?)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

// By hand, because clap's derive knows no optional group that holds another one.
impl Args for ConfigSettings {
    fn augment_args(command: Command) -> Command {
        AccessArgs::augment_args(ConfigArgs::augment_args(command))
    }

    fn group_id() -> Option<clap::Id> {
        Some(clap::Id::from("ConfigArgs"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        AccessArgs::augment_args_for_update(ConfigArgs::augment_args_for_update(command))
    }
}

/// `command`, with every environment variable that is set but empty treated as not set: that is what an unset
/// variable becomes on its way through a compose file or a chart.
fn ignoring_empty_variables(command: Command) -> Command {
    let ignoring = |arg: Arg| match arg.get_env().and_then(std::env::var_os) {
        Some(value) if value.is_empty() => arg.env(Resettable::<clap::builder::OsStr>::Reset),
        _ => arg,
    };
    command.mut_args(ignoring).mut_subcommands(ignoring_empty_variables)
}

/// Parses `arguments` (the first of them being the program's name) by `command`.
pub fn parse<A: clap::FromArgMatches>(
    command: Command,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<A, clap::Error> {
    parse_with(command, arguments, A::from_arg_matches)
}

/// Parses `arguments` by `command`, and what was matched by `read`. Empty variables count as not set, and what is
/// wrong is told with the names of flag and variable.
pub fn parse_with<T>(
    command: Command,
    arguments: impl IntoIterator<Item = OsString>,
    read: impl FnOnce(&ArgMatches) -> Result<T, clap::Error>,
) -> Result<T, clap::Error> {
    let mut command = ignoring_empty_variables(command);
    match command.try_get_matches_from_mut(arguments) {
        Ok(matches) => read(&matches).map_err(|error| error.format(&mut command)),
        Err(error) => Err(origin::with_variables(error, &mut command)),
    }
}

/// The settings that the environment alone says, for a part of a process that has no flags of its own.
pub fn of_environment<A: Args>() -> Result<A, clap::Error> {
    parse(A::augment_args(Command::new("environment")), [OsString::from("environment")])
}

/// Takes any text, so that clap has no reason to show it.
pub fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text.to_owned()))
}

/// The secret that is given directly or in a file; `names` is how the direct form is called, as flag and variable.
fn secret_or_file(
    direct: Option<Secret>,
    file: Option<&Path>,
    (flag, variable): (&str, &str),
) -> Result<Option<Secret>, SettingsError> {
    match (direct, file) {
        (Some(_), Some(_)) => Err(SettingsError::new(format!(
            "{flag} ({variable}) and {flag}-file ({variable}_FILE) are both set: set one of them"
        ))),
        (Some(secret), None) => Ok(Some(secret)),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                SettingsError::new(format!(
                    "cannot read {}, which {flag}-file ({variable}_FILE) names: {error}",
                    path.display()
                ))
            })?;
            let text = text.trim_end_matches(['\r', '\n']);
            if text.is_empty() {
                return Err(SettingsError::new(format!(
                    "{}, which {flag}-file ({variable}_FILE) names, is empty",
                    path.display()
                )));
            }
            Ok(Some(Secret::new(text.to_owned())))
        }
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What `arguments` are parsed into, without the environment of whoever runs the tests.
    pub(crate) fn parsed<A: Args>(arguments: &[&str]) -> Result<A, String> {
        let command =
            A::augment_args(Command::new("test")).mut_args(|arg| arg.env(Resettable::<clap::builder::OsStr>::Reset));
        let arguments = std::iter::once("test").chain(arguments.iter().copied()).map(OsString::from);
        parse(command, arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn the_configuration_is_taken_from_either_place_and_asked_for_by_all_its_names() {
        let path = |arguments| parsed::<ConfigSettings>(arguments).map(|settings| settings.path);
        assert_eq!(path(&["a.yaml"]), Ok(PathBuf::from("a.yaml")));
        assert_eq!(path(&["--config", "b.yaml"]), Ok(PathBuf::from("b.yaml")));
        let message = path(&[]).unwrap_err();
        assert!(message.contains("CONFIG, --config or CONFIG_PATH"), "{message}");
    }

    #[test]
    fn what_a_configuration_may_reach_is_a_list_of_patterns_and_one_of_folders() {
        let access =
            |arguments: &[&str]| parsed::<ConfigSettings>(&[&["a.yaml"], arguments].concat()).map(|s| s.access);
        assert_eq!(access(&[]), Ok(Access::default()));
        let variables = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());
        assert_eq!(
            access(&["--allowed-variables", "SHOP_*, HOOK_URL", "--allowed-folders", "/srv/keys:/etc/alerts"]),
            Ok(Access {
                variables: variables(&["SHOP_*", "HOOK_URL"]),
                folders: Some(vec![PathBuf::from("/srv/keys"), PathBuf::from("/etc/alerts")]),
            })
        );
        // It would be the working folder.
        assert!(access(&["--allowed-folders", "/srv/keys:"]).is_err());
    }

    #[test]
    fn a_list_alone_does_not_say_that_there_is_a_configuration() {
        #[derive(Debug, Args)]
        struct Optional {
            #[command(flatten)]
            config: Option<ConfigSettings>,
        }
        let config = |arguments: &[&str]| parsed::<Optional>(arguments).map(|optional| optional.config.is_some());
        assert_eq!(config(&["--allowed-variables", "A"]), Ok(false));
        assert_eq!(config(&["--config", "a.yaml", "--allowed-variables", "A"]), Ok(true));
    }

    #[test]
    fn a_secret_comes_from_one_place_only_and_loses_its_files_line_end() -> std::io::Result<()> {
        let names = ("--nats-password", "NATS_PASSWORD");
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("password");
        std::fs::write(&path, " pa ss \r\n")?;
        let from_file = secret_or_file(None, Some(&path), names);
        let both = secret_or_file(Some(Secret::new("x".to_owned())), Some(&path), names);
        std::fs::write(&path, "\n")?;
        let empty = secret_or_file(None, Some(&path), names);
        std::fs::remove_file(&path)?;
        let missing = secret_or_file(None, Some(&path), names);

        assert_eq!(
            from_file.map(|secret| secret.map(|secret| secret.expose().to_owned())),
            Ok(Some(" pa ss ".to_owned()))
        );
        for (result, text) in [(both, "are both set"), (empty, "is empty"), (missing, "cannot read")] {
            let message = result.map(|_| ()).unwrap_err().to_string();
            assert!(message.contains(text) && message.contains("NATS_PASSWORD_FILE"), "{message}");
        }
        Ok(())
    }
}
