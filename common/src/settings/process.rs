//! What every process can be told, whatever it does: its name, its listener, its logs, its patience.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{SettingsError, checked_args};

/// What every process can be told.
#[derive(Clone, Debug)]
pub struct ProcessSettings {
    /// This process's name in the cluster: 1 to 64 letters, digits, `.`, `_` or `-`.
    pub node: String,
    /// Where it answers probes.
    pub listen: ListenSettings,
    /// How it logs.
    pub log: LogSettings,
    /// How long a stop may take before running work is given back.
    pub grace: Duration,
}

/// Where a process answers `/health`, `/ready` and `/metrics`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenSettings {
    /// `host:port` (port 0: any free one); none if it does not listen.
    pub address: Option<String>,
}

/// How a process logs.
#[derive(Clone, Debug, Args)]
pub struct LogSettings {
    /// Least severe level of our own log lines
    #[arg(
        id = "log_level",
        long = "log-level",
        env = "LOG_LEVEL",
        value_name = "LEVEL",
        ignore_case = true,
        default_value = "INFO"
    )]
    pub level: LogLevel,
    /// Format of log lines
    #[arg(
        id = "log_format",
        long = "log-format",
        env = "LOG_FORMAT",
        value_name = "FORMAT",
        ignore_case = true,
        default_value = "json"
    )]
    pub format: LogFormat,
    /// File to append log lines to, beside stderr
    #[arg(id = "log_file", long = "log-file", env = "LOG_FILE", value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Levels by the names that existing settings use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum LogLevel {
    /// What happens, step by step.
    Debug,
    /// What happened.
    Info,
    /// What somebody should look at some day.
    #[value(alias = "WARN")]
    Warning,
    /// What went wrong.
    Error,
    /// What stopped the process.
    Critical,
}

/// Formats of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

#[derive(Debug, Args)]
struct ProcessArgs {
    /// This process's name in the cluster [default: the host's name and the process id]
    #[arg(long, env = "SQLSENTINEL_NODE", value_name = "NAME")]
    node: Option<String>,
    #[command(flatten)]
    listen: ListenSettings,
    #[command(flatten)]
    log: LogSettings,
    /// How long a stop may take before running work is given back
    #[arg(long, env = "SQLSENTINEL_GRACE_SECONDS", value_name = "SECONDS", default_value_t = 30)]
    grace_seconds: u32,
}

checked_args!(ProcessSettings, ProcessArgs, "ProcessArgs");

impl ProcessArgs {
    fn check(self) -> Result<ProcessSettings, SettingsError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let node = self.node.unwrap_or_else(|| {
            // A host's name is nearly always within these letters, and may be longer.
            let system = rustix::system::uname();
            let host = system.nodename().to_string_lossy().chars().filter(|c| allowed(*c)).take(48).collect::<String>();
            format!("{host}-{}", std::process::id())
        });
        if !(1..=64).contains(&node.len()) || !node.chars().all(allowed) {
            return Err(SettingsError::new(format!(
                "--node (SQLSENTINEL_NODE) is `{node}`: use 1 to 64 letters, digits, `.`, `_` or `-`"
            )));
        }
        let grace = Duration::from_secs(self.grace_seconds.into());
        Ok(ProcessSettings { node, listen: self.listen, log: self.log, grace })
    }
}

#[derive(Debug, Args)]
struct ListenArgs {
    /// Where to answer /health, /ready and /metrics: host:port, or `off` [default: 127.0.0.1:PORT, or off without PORT]
    #[arg(long, env = "LISTEN", value_name = "ADDRESS")]
    listen: Option<String>,
    /// Port to answer on at 127.0.0.1, where --listen is not given
    #[arg(long, env = "PORT", value_name = "PORT")]
    port: Option<u16>,
}

checked_args!(ListenSettings, ListenArgs, "ListenArgs");

impl ListenArgs {
    fn check(self) -> Result<ListenSettings, SettingsError> {
        let address = match self.listen {
            Some(text) if text.eq_ignore_ascii_case("off") => None,
            Some(text) => Some(checked_address(text)?),
            None => self.port.map(|port| format!("127.0.0.1:{port}")),
        };
        Ok(ListenSettings { address })
    }
}

fn checked_address(text: String) -> Result<String, SettingsError> {
    let parts = text.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
    match parts {
        Some((host, Ok(_))) if !host.is_empty() => Ok(text),
        _ => Err(SettingsError::new(format!(
            "--listen (LISTEN) is `{text}`: write host:port, as in 0.0.0.0:8080, or `off`"
        ))),
    }
}

impl ListenSettings {
    /// Where a command on the same machine reaches the process that runs with these settings.
    pub fn local_address(&self) -> Result<String, SettingsError> {
        let Some(address) = &self.address else {
            return Err(SettingsError::new(
                "no port to ask at: give --listen or PORT as the running process has it (it does not listen without)",
            ));
        };
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
        match (host, port) {
            (_, "0") => Err(SettingsError::new(
                "--listen (LISTEN) or PORT says port 0, which is a different one at each start: give the running process's",
            )),
            ("0.0.0.0", port) => Ok(format!("127.0.0.1:{port}")),
            ("[::]", port) => Ok(format!("[::1]:{port}")),
            _ => Ok(address.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::parsed;
    use super::*;

    fn listen(arguments: &[&str]) -> Result<Option<String>, String> {
        parsed::<ListenSettings>(arguments).map(|listen| listen.address)
    }

    #[test]
    fn a_process_listens_where_it_is_told_and_nowhere_by_default() {
        assert_eq!(listen(&[]), Ok(None));
        assert_eq!(listen(&["--port", "8080"]), Ok(Some("127.0.0.1:8080".to_owned())));
        assert_eq!(listen(&["--listen", "0.0.0.0:9", "--port", "8080"]), Ok(Some("0.0.0.0:9".to_owned())));
        assert_eq!(listen(&["--listen", "off", "--port", "8080"]), Ok(None));
        for wrong in ["8080", ":8080", "host:", "host:http", "host:70000"] {
            let message = listen(&["--listen", wrong]).unwrap_err();
            assert!(message.contains("--listen (LISTEN)") && message.contains(wrong), "{message}");
        }
    }

    #[test]
    fn a_probe_reaches_a_process_that_listens_on_every_address() {
        let local = |address: &str| ListenSettings { address: Some(address.to_owned()) }.local_address();
        assert_eq!(local("0.0.0.0:8080"), Ok("127.0.0.1:8080".to_owned()));
        assert_eq!(local("[::]:8080"), Ok("[::1]:8080".to_owned()));
        assert_eq!(local("10.1.2.3:8080"), Ok("10.1.2.3:8080".to_owned()));
        assert!(local("127.0.0.1:0").is_err());
        assert!(ListenSettings { address: None }.local_address().is_err());
    }

    #[test]
    fn levels_are_read_in_any_case_as_before() {
        for (text, level) in [("debug", LogLevel::Debug), ("WARNING", LogLevel::Warning), ("Warn", LogLevel::Warning)] {
            assert_eq!(parsed::<LogSettings>(&["--log-level", text]).map(|log| log.level), Ok(level), "{text}");
        }
    }

    #[test]
    fn a_node_has_a_name_that_fits_everywhere() {
        assert!(
            parsed::<ProcessSettings>(&[])
                .is_ok_and(|settings| settings.node.ends_with(&std::process::id().to_string()))
        );
        for wrong in ["", "a b", "ü", &"x".repeat(65)] {
            assert!(parsed::<ProcessSettings>(&["--node", wrong]).is_err(), "{wrong}");
        }
    }
}
