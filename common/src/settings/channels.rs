//! What notifiers know of channels beside the file: the mail server, and what entries of `notify` fall back on.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};

use super::{SettingsError, checked_args, secret, secret_or_file};
use crate::secret::Secret;

const HEADING: &str = "Channels";
/// The port of mail submission, with STARTTLS.
const SUBMISSION: u16 = 587;
/// The port of mail submission where TLS comes first.
const SUBMISSIONS: u16 = 465;

/// What channels need and the file does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelSettings {
    /// The mail server, if there is one.
    pub smtp: Option<SmtpSettings>,
    /// Where messages to Slack go whose entry says nothing.
    pub slack_webhook_url: Option<Secret>,
    /// Where webhooks go whose entry says nothing.
    pub webhook_url: Option<Secret>,
    /// What `webhook_url` gets as a header: `Name: value`, or the value of `Authorization`.
    pub webhook_auth_header: Option<Secret>,
}

/// A mail server, and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpSettings {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is encrypted.
    pub security: SmtpSecurity,
    /// Certificates (PEM) to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// User and password, if it wants any.
    pub login: Option<(String, Secret)>,
    /// Whom mails come from, if somebody has said so.
    pub from: Option<String>,
}

/// How a connection to a mail server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpSecurity {
    /// Not at all.
    None,
    /// After STARTTLS; nothing is sent without it.
    StartTls,
    /// From the first byte on.
    Implicit,
}

#[derive(Debug, Args)]
#[command(next_help_heading = HEADING)]
struct ChannelArgs {
    /// Mail server
    #[arg(long, env = "SMTP_HOST", value_name = "HOST")]
    smtp_host: Option<String>,
    /// Its port: TLS from the first byte on 465, STARTTLS elsewhere
    #[arg(long, env = "SMTP_PORT", value_name = "PORT", default_value_t = SUBMISSION, value_parser = clap::value_parser!(u16).range(1..))]
    smtp_port: u16,
    /// User on the mail server
    #[arg(long, env = "SMTP_USERNAME", value_name = "USER")]
    smtp_username: Option<String>,
    /// The same, by a name of 0.1.x
    #[arg(long, env = "SMTP_USER", value_name = "USER", hide = true)]
    smtp_user: Option<String>,
    /// Its password; better given as SMTP_PASSWORD or in a file
    #[arg(long, env = "SMTP_PASSWORD", value_name = "PASSWORD", hide_env_values = true, value_parser = secret)]
    smtp_password: Option<Secret>,
    /// File that holds the password
    #[arg(long, env = "SMTP_PASSWORD_FILE", value_name = "FILE")]
    smtp_password_file: Option<PathBuf>,
    /// Whom mails come from [default: the user, if that is an address]
    #[arg(long, env = "SMTP_FROM_ADDRESS", value_name = "ADDRESS")]
    smtp_from_address: Option<String>,
    /// The same, by a name of 0.1.x
    #[arg(long, env = "SMTP_FROM", value_name = "ADDRESS", hide = true)]
    smtp_from: Option<String>,
    /// The same, by another name of 0.1.x
    #[arg(long, env = "SMTP_FROM_EMAIL", value_name = "ADDRESS", hide = true)]
    smtp_from_email: Option<String>,
    /// Whether to encrypt; `false` sends mails and the password as they are
    #[arg(long, env = "SMTP_USE_TLS", value_name = "BOOL", default_value = "true", action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    smtp_use_tls: bool,
    /// Certificates (PEM) to trust beside the system's
    #[arg(long, env = "SMTP_CA_FILE", value_name = "FILE")]
    smtp_ca_file: Option<PathBuf>,
    /// Incoming webhook of Slack, for entries without `webhook_url`
    #[arg(long, env = "SLACK_WEBHOOK_URL", value_name = "URL", hide_env_values = true, value_parser = secret)]
    slack_webhook_url: Option<Secret>,
    /// File that holds it
    #[arg(long, env = "SLACK_WEBHOOK_URL_FILE", value_name = "FILE")]
    slack_webhook_url_file: Option<PathBuf>,
    /// URL of webhooks whose entry has no `url`
    #[arg(long, env = "WEBHOOK_URL", value_name = "URL", hide_env_values = true, value_parser = secret)]
    webhook_url: Option<Secret>,
    /// File that holds it
    #[arg(long, env = "WEBHOOK_URL_FILE", value_name = "FILE")]
    webhook_url_file: Option<PathBuf>,
    /// Header for that URL: `Name: value`, or the value of `Authorization`
    #[arg(long, env = "WEBHOOK_AUTH_HEADER", value_name = "HEADER", hide_env_values = true, value_parser = secret)]
    webhook_auth_header: Option<Secret>,
    /// File that holds it
    #[arg(long, env = "WEBHOOK_AUTH_HEADER_FILE", value_name = "FILE")]
    webhook_auth_header_file: Option<PathBuf>,
}

checked_args!(ChannelSettings, ChannelArgs, "ChannelArgs");

impl ChannelArgs {
    fn check(self) -> Result<ChannelSettings, SettingsError> {
        let one = |direct, file: &Option<PathBuf>, names| secret_or_file(direct, file.as_deref(), names);
        let slack = ("--slack-webhook-url", "SLACK_WEBHOOK_URL");
        let auth = ("--webhook-auth-header", "WEBHOOK_AUTH_HEADER");
        let password = ("--smtp-password", "SMTP_PASSWORD");
        let slack_webhook_url = one(self.slack_webhook_url, &self.slack_webhook_url_file, slack)?;
        let webhook_url = one(self.webhook_url, &self.webhook_url_file, ("--webhook-url", "WEBHOOK_URL"))?;
        let webhook_auth_header = one(self.webhook_auth_header, &self.webhook_auth_header_file, auth)?;
        let password = one(self.smtp_password, &self.smtp_password_file, password)?;
        let smtp = match self.smtp_host {
            // The rest may be set for something else on the same machine.
            None => None,
            Some(host) => Some(SmtpSettings {
                host: host.trim().to_owned(),
                port: self.smtp_port,
                security: match (self.smtp_use_tls, self.smtp_port) {
                    (false, _) => SmtpSecurity::None,
                    (true, SUBMISSIONS) => SmtpSecurity::Implicit,
                    (true, _) => SmtpSecurity::StartTls,
                },
                ca_file: self.smtp_ca_file,
                login: login(self.smtp_username.or(self.smtp_user), password)?,
                from: self.smtp_from_address.or(self.smtp_from).or(self.smtp_from_email),
            }),
        };
        Ok(ChannelSettings { smtp, slack_webhook_url, webhook_url, webhook_auth_header })
    }
}

fn login(user: Option<String>, password: Option<Secret>) -> Result<Option<(String, Secret)>, SettingsError> {
    match (user, password) {
        (Some(user), Some(password)) => Ok(Some((user, password))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(SettingsError::new(
            "--smtp-username (SMTP_USERNAME) has no password: set SMTP_PASSWORD or SMTP_PASSWORD_FILE",
        )),
        (None, Some(_)) => {
            Err(SettingsError::new("--smtp-password (SMTP_PASSWORD) has no user: set --smtp-username (SMTP_USERNAME)"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::parsed;
    use super::*;

    fn smtp(arguments: &[&str]) -> Result<SmtpSettings, String> {
        let arguments: Vec<&str> = ["--smtp-host", "mail.example"].iter().chain(arguments).copied().collect();
        parsed::<ChannelSettings>(&arguments)?.smtp.ok_or_else(|| "no mail server".to_owned())
    }

    #[test]
    fn without_a_host_there_is_no_mail_server() {
        assert_eq!(parsed::<ChannelSettings>(&["--smtp-user", "x"]), Ok(ChannelSettings::default()));
    }

    #[test]
    fn a_mail_server_is_a_host_and_what_is_usual() {
        let usual = smtp(&[]).unwrap();
        assert_eq!((usual.port, usual.security), (587, SmtpSecurity::StartTls));
        assert_eq!((usual.login, usual.from, usual.ca_file), (None, None, None));
        let security = |arguments| smtp(arguments).map(|smtp| smtp.security);
        assert_eq!(security(&["--smtp-port", "465"]), Ok(SmtpSecurity::Implicit));
        assert_eq!(security(&["--smtp-port", "25"]), Ok(SmtpSecurity::StartTls));
        assert_eq!(security(&["--smtp-port", "465", "--smtp-use-tls", "no"]), Ok(SmtpSecurity::None));
        assert!(smtp(&["--smtp-port", "0"]).unwrap_err().contains("--smtp-port"));
    }

    #[test]
    fn the_names_of_the_python_system_count_where_ours_are_not_there() {
        let login = |arguments| smtp(arguments).map(|smtp| smtp.login.map(|(user, _)| user));
        assert_eq!(login(&["--smtp-user", "old", "--smtp-password", "p"]), Ok(Some("old".to_owned())));
        assert_eq!(
            login(&["--smtp-user", "old", "--smtp-username", "new", "--smtp-password", "p"]),
            Ok(Some("new".to_owned()))
        );
        let from = |arguments| smtp(arguments).map(|smtp| smtp.from);
        assert_eq!(from(&["--smtp-from-email", "c@x"]), Ok(Some("c@x".to_owned())));
        assert_eq!(from(&["--smtp-from-email", "c@x", "--smtp-from", "b@x"]), Ok(Some("b@x".to_owned())));
        assert_eq!(from(&["--smtp-from", "b@x", "--smtp-from-address", "a@x"]), Ok(Some("a@x".to_owned())));
    }

    #[test]
    fn half_a_login_is_a_usage_error_that_shows_no_password() {
        for (arguments, said) in
            [(["--smtp-user", "u"], "SMTP_PASSWORD"), (["--smtp-password", "canary"], "SMTP_USERNAME")]
        {
            let message = smtp(&arguments).unwrap_err();
            assert!(message.contains(said) && !message.contains("canary"), "{message}");
        }
    }

    #[test]
    fn every_secret_may_be_in_a_file_and_shows_nothing() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("secret");
        std::fs::write(&path, "canary\n")?;
        let path = path.display().to_string();
        let settings = parsed::<ChannelSettings>(&[
            "--smtp-host",
            "h",
            "--smtp-username",
            "u",
            "--smtp-password-file",
            &path,
            "--slack-webhook-url-file",
            &path,
            "--webhook-url-file",
            &path,
            "--webhook-auth-header-file",
            &path,
        ])
        .unwrap();
        let canary = Some(Secret::new("canary"));
        assert_eq!(settings.smtp.as_ref().and_then(|smtp| smtp.login.clone()).map(|(_, password)| password), canary);
        let others = [&settings.slack_webhook_url, &settings.webhook_url, &settings.webhook_auth_header];
        assert!(others.iter().all(|secret| **secret == canary));
        assert!(!format!("{settings:?}").contains("canary"));
        Ok(())
    }
}
