//! Where NATS is and who we are there.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{ArgGroup, Args};
use url::Url;

use super::{SettingsError, checked_args, secret, secret_or_file};
use crate::secret::Secret;
use crate::subjects::Namespace;

/// The arguments that say that there is a server to be used; a namespace alone does not.
const SERVER_ARGS: [&str; 5] = ["nats_url", "nats_credentials", "nats_user", "nats_password", "nats_password_file"];
const LOCAL: &str = "nats://127.0.0.1:4222";

/// How to reach NATS; made by flags and variables, or field by field where a process starts its own server.
#[derive(Clone, Debug)]
pub struct NatsSettings {
    /// `nats://host:port` or `tls://host:port`, without credentials in it; never empty.
    pub servers: Vec<String>,
    /// Who we are.
    pub login: NatsLogin,
    /// Certificates (PEM) to trust beside the system's, for servers that speak TLS.
    pub ca_file: Option<PathBuf>,
    /// What our streams, subjects and bucket are prefixed with.
    pub namespace: Namespace,
}

/// Who we are on NATS.
#[derive(Clone, Debug)]
pub enum NatsLogin {
    /// Nobody: for a server on loopback, or with `--insecure-nats`.
    Anonymous,
    /// A user with a password.
    Password {
        /// The user's name.
        user: String,
        /// The user's password.
        password: Secret,
    },
    /// A credentials file (JWT and seed).
    Credentials(PathBuf),
}

impl NatsLogin {
    /// What the subjects begin with on which answers come back. A user's own, so that the server can keep one user from
    /// listening to what others are told; whoever has none, or a name that is no subject token, has the usual one.
    pub fn inbox_prefix(&self) -> String {
        let is_token = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        match self {
            Self::Password { user, .. } if !user.is_empty() && user.chars().all(is_token) => format!("_INBOX_{user}"),
            _ => "_INBOX".to_owned(),
        }
    }
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("nats_server").multiple(true).args(SERVER_ARGS))]
struct NatsArgs {
    /// NATS servers, comma-separated [default: nats://127.0.0.1:4222]
    #[arg(long, env = "NATS_URL", value_name = "URL", hide_env_values = true, value_parser = secret)]
    nats_url: Option<Secret>,
    /// Credentials file (JWT and seed)
    #[arg(long, env = "NATS_CREDENTIALS_FILE", value_name = "FILE")]
    nats_credentials: Option<PathBuf>,
    /// User on NATS
    #[arg(long, env = "NATS_USER", value_name = "USER")]
    nats_user: Option<String>,
    /// Its password; better given as NATS_PASSWORD or in a file
    #[arg(long, env = "NATS_PASSWORD", value_name = "PASSWORD", hide_env_values = true, value_parser = secret)]
    nats_password: Option<Secret>,
    /// File that holds the password
    #[arg(long, env = "NATS_PASSWORD_FILE", value_name = "FILE")]
    nats_password_file: Option<PathBuf>,
    /// Certificates (PEM) to trust beside the system's
    #[arg(long, env = "NATS_CA_FILE", value_name = "FILE")]
    nats_ca_file: Option<PathBuf>,
    /// Allow a NATS on another host without credentials
    #[arg(long, env = "INSECURE_NATS", value_parser = BoolishValueParser::new())]
    insecure_nats: bool,
    /// Keeps several installations apart on one NATS
    #[arg(long, env = "SQLSENTINEL_NAMESPACE", value_name = "NAME")]
    namespace: Option<Namespace>,
}

checked_args!(NatsSettings, NatsArgs, "nats_server");

impl NatsArgs {
    fn check(self) -> Result<NatsSettings, SettingsError> {
        let names = ("--nats-password", "NATS_PASSWORD");
        let password = secret_or_file(self.nats_password, self.nats_password_file.as_deref(), names)?;
        let text = self.nats_url.as_ref().map_or(LOCAL, Secret::expose);
        let mut urls = text.split(',').map(|url| server(url.trim())).collect::<Result<Vec<_>, _>>()?;

        let login = match (self.nats_credentials, self.nats_user, password) {
            (Some(file), None, None) => NatsLogin::Credentials(file),
            (None, Some(user), Some(password)) => NatsLogin::Password { user, password },
            (None, None, None) => login_in(&urls),
            (Some(_), _, _) => {
                return Err(SettingsError::new(
                    "--nats-credentials (NATS_CREDENTIALS_FILE) goes without --nats-user (NATS_USER) and its password",
                ));
            }
            _ => {
                return Err(SettingsError::new(
                    "--nats-user (NATS_USER) needs --nats-password (NATS_PASSWORD or NATS_PASSWORD_FILE), and the other way round",
                ));
            }
        };
        for url in &mut urls {
            // A URL that has a host can be without user and password, so neither call can fail.
            let _ = url.set_username("").and_then(|()| url.set_password(None));
            if matches!(login, NatsLogin::Anonymous) && !self.insecure_nats && !is_loopback(url) {
                return Err(SettingsError::new(format!(
                    "refusing to use {url} without credentials: whoever reaches it could run queries and read results. Give \
                     --nats-credentials (NATS_CREDENTIALS_FILE) or --nats-user (NATS_USER) with NATS_PASSWORD, or allow it \
                     with --insecure-nats (INSECURE_NATS=true)"
                )));
            }
        }
        let servers = urls.iter().map(|url| url.as_str().trim_end_matches('/').to_owned()).collect();
        let namespace = self.namespace.unwrap_or_default();
        Ok(NatsSettings { servers, login, ca_file: self.nats_ca_file, namespace })
    }
}

/// One server's URL; the port and the scheme may be left out. The error does not quote it: it may hold a password.
fn server(text: &str) -> Result<Url, SettingsError> {
    let refuse = |why: &str| {
        Err(SettingsError::new(format!(
            "--nats-url (NATS_URL) {why}: write nats://host:port or tls://host:port, several separated by commas"
        )))
    };
    let text = if text.contains("://") { text.to_owned() } else { format!("nats://{text}") };
    let Ok(mut url) = Url::parse(&text) else { return refuse("holds something that is not a URL") };
    if !matches!(url.scheme(), "nats" | "tls") {
        return refuse(&format!("has the scheme `{}`", url.scheme()));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return refuse("holds a URL without a host");
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return refuse("holds a URL with more than host and port");
    }
    if url.port().is_none() {
        // Not an error: a URL that has a host can have a port.
        let _ = url.set_port(Some(4222));
    }
    Ok(url)
}

/// The credentials of the first URL that has some. Client libraries use one login for a whole cluster.
fn login_in(urls: &[Url]) -> NatsLogin {
    let decoded = |text: &str| {
        url::form_urlencoded::parse(format!("x={}", text.replace('+', "%2B")).as_bytes())
            .map(|(_, value)| value.into_owned())
            .collect::<String>()
    };
    let login = urls.iter().find_map(|url| Some((url.username(), url.password()?)));
    login.map_or(NatsLogin::Anonymous, |(user, password)| NatsLogin::Password {
        user: decoded(user),
        password: Secret::new(decoded(password)),
    })
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::super::tests::parsed;
    use super::*;

    fn nats(arguments: &[&str]) -> Result<NatsSettings, String> {
        parsed(arguments)
    }

    #[test]
    fn loopback_needs_no_credentials_and_is_the_default() {
        assert_eq!(nats(&[]).map(|nats| nats.servers), Ok(vec![LOCAL.to_owned()]));
        for local in ["nats://localhost:4222", "nats://127.3.2.1", "nats://[::1]:4222", "localhost:4222", "127.0.0.1"] {
            assert!(nats(&["--nats-url", local]).is_ok(), "{local}");
        }
    }

    #[test]
    fn a_nats_elsewhere_without_credentials_is_refused_with_the_ways_out() {
        for remote in [
            "nats://nats:4222",
            "nats://10.0.0.1",
            "nats://127.0.0.1,tls://nats.example",
            "nats://127.0.0.1.evil.example",
        ] {
            let message = nats(&["--nats-url", remote]).map(|_| ()).unwrap_err();
            for way in ["--nats-credentials", "--nats-user", "--insecure-nats"] {
                assert!(message.contains(way), "{message}");
            }
            assert!(nats(&["--nats-url", remote, "--insecure-nats"]).is_ok(), "{remote}");
            assert!(nats(&["--nats-url", remote, "--nats-credentials", "worker.creds"]).is_ok(), "{remote}");
            assert!(nats(&["--nats-url", remote, "--nats-user", "w", "--nats-password", "p"]).is_ok(), "{remote}");
        }
    }

    #[test]
    fn credentials_in_a_url_are_used_and_taken_out_of_it() -> Result<(), String> {
        let found = nats(&["--nats-url", "nats://bob:p%40ss+word@nats:4222,nats-2"])?;
        assert_eq!(found.servers, ["nats://nats:4222", "nats://nats-2:4222"]);
        match found.login {
            NatsLogin::Password { user, password } => assert_eq!((&*user, password.expose()), ("bob", "p@ss+word")),
            other => return Err(format!("{other:?}")),
        }
        Ok(())
    }

    #[test]
    fn optional_settings_are_given_by_a_server_and_not_by_a_namespace() -> Result<(), String> {
        #[derive(Args)]
        struct Optional {
            #[command(flatten)]
            nats: Option<NatsSettings>,
        }
        let servers = |arguments| parsed::<Optional>(arguments).map(|found| found.nats.map(|nats| nats.servers));
        assert_eq!(servers(&["--namespace", "eu"])?, None);
        assert_eq!(servers(&["--nats-url", "localhost"])?, Some(vec!["nats://localhost:4222".to_owned()]));
        assert_eq!(servers(&["--nats-credentials", "f"])?, Some(vec![LOCAL.to_owned()]));
        Ok(())
    }

    #[test]
    fn each_user_listens_for_answers_where_nobody_else_does() -> Result<(), String> {
        let inbox = |user| nats(&["--nats-user", user, "--nats-password", "p"]).map(|nats| nats.login.inbox_prefix());
        assert_eq!(inbox("worker")?, "_INBOX_worker");
        assert_eq!(inbox("a.b")?, "_INBOX");
        assert_eq!(nats(&[])?.login.inbox_prefix(), "_INBOX");
        Ok(())
    }

    #[test]
    fn half_a_login_or_two_logins_are_refused() {
        for wrong in [
            &["--nats-user", "w"][..],
            &["--nats-password", "p"],
            &["--nats-credentials", "f", "--nats-user", "w", "--nats-password", "p"],
        ] {
            assert!(nats(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn no_message_repeats_a_password() {
        for url in [
            "http://bob:hunter2@nats",
            "nats://bob:hunter2@",
            "nats://bob:hunter2@nats:x",
            "nats://bob:hunter2@nats/path",
        ] {
            let message = nats(&["--nats-url", url]).map(|_| ()).unwrap_err();
            assert!(message.contains("NATS_URL") && !message.contains("hunter2"), "{message}");
        }
        let debug = format!("{:?}", nats(&["--nats-user", "w", "--nats-password", "hunter2"]));
        assert!(!debug.contains("hunter2"), "{debug}");
    }
}
