//! One conversation with a mail server: connect, encrypt, log in, say to whom, send.
//!
//! Input: the server's settings, the envelope, the message. Output: how the attempt ended. The library's own transport
//! is not used, because it does not tell how far it had come when something broke or took too long, and gives up for
//! all recipients where one is refused.

use std::net::SocketAddr;
use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use sqlsentinel_common::secret::Secret;
use sqlsentinel_common::settings::{SmtpSecurity, SmtpSettings};
use sqlsentinel_common::store::outbox::Claim;

use super::super::SEND_TIMEOUT;
use super::super::addresses::is_refused;
use super::MailerError;
use super::answers::{Refusal, Stage, broken, goes_out, late, refused};
use crate::render::words::one_line;
use crate::retry::Sent;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long taking leave may last: what was sent is sent.
const FAREWELL: Duration = Duration::from_millis(500);
/// How much of a server's answer is kept, in characters.
const LONGEST_ANSWER: usize = 300;

/// From whom and to whom.
pub(super) struct Envelope {
    pub(super) from: Address,
    pub(super) to: Vec<Address>,
}

/// A mail server.
pub(super) struct Server {
    host: String,
    port: u16,
    security: Security,
    login: Option<Credentials>,
}

enum Security {
    None,
    StartTls(TlsParameters),
    Implicit(TlsParameters),
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

/// Why a conversation ended before the mail was taken.
enum Failure {
    /// No address can be used.
    Address(String),
    /// The library says why.
    Smtp(SmtpError),
    /// What follows is known.
    Decided(Sent),
}

impl From<SmtpError> for Failure {
    fn from(error: SmtpError) -> Self {
        Self::Smtp(error)
    }
}

impl Server {
    pub(super) fn new(settings: &SmtpSettings) -> Result<Self, MailerError> {
        let security = match settings.security {
            SmtpSecurity::None => Security::None,
            SmtpSecurity::StartTls => Security::StartTls(tls(settings)?),
            SmtpSecurity::Implicit => Security::Implicit(tls(settings)?),
        };
        let credentials =
            |(user, password): &(String, Secret)| Credentials::new(user.clone(), password.expose().to_owned());
        Ok(Self {
            host: settings.host.clone(),
            port: settings.port,
            security,
            login: settings.login.as_ref().map(credentials),
        })
    }

    /// Makes one attempt, within [`SEND_TIMEOUT`].
    pub(super) async fn send(&self, envelope: &Envelope, message: &[u8], claim: &Claim) -> Sent {
        let mut stage = Stage::Connecting;
        let talk = self.talk(envelope, message, claim, &mut stage);
        match tokio::time::timeout(SEND_TIMEOUT, talk).await {
            Ok(Ok(())) => Sent::Delivered,
            Ok(Err(Failure::Decided(sent))) => sent,
            Ok(Err(Failure::Address(error))) => broken(stage, &error),
            Ok(Err(Failure::Smtp(error))) => match error.status() {
                // Some servers repeat what they were told, and here they were told the password.
                Some(code) if stage == Stage::LoggingIn => refused(stage, code.into(), "the login is refused"),
                Some(code) => refused(stage, code.into(), &said(&error)),
                None => broken(stage, &said(&error)),
            },
            Err(_) => late(stage),
        }
    }

    /// `stage` is how far it has come, for whoever stops waiting.
    async fn talk(&self, envelope: &Envelope, message: &[u8], claim: &Claim, stage: &mut Stage) -> Result<(), Failure> {
        let mut connection = self.connect().await?;
        if let Some(login) = &self.login {
            *stage = Stage::LoggingIn;
            connection.auth(DEFAULT_MECHANISMS, login).await?;
        }
        *stage = Stage::Addressing;
        connection.command(Mail::new(Some(envelope.from.clone()), Vec::new())).await?;
        let mut refusals = Vec::new();
        for recipient in &envelope.to {
            let Err(error) = connection.command(Rcpt::new(recipient.clone(), Vec::new())).await else { continue };
            let Some(code) = error.status() else { return Err(error.into()) };
            let code = code.into();
            // The server is going away (RFC 5321, 3.8): there is nobody to ask about the others.
            if code == 421 {
                return Err(error.into());
            }
            refusals.push(Refusal { recipient: recipient.to_string(), code, said: said(&error) });
        }
        if let Err(sent) = goes_out(envelope.to.len(), &refusals, claim.attempt) {
            take_leave(connection).await;
            return Err(Failure::Decided(sent));
        }
        connection.command(Data).await?;
        // Invariant: from here on, only the server's own word says that the mail is not on its way.
        *stage = Stage::Sending;
        connection.message(message).await?;
        for Refusal { recipient, code, said } in &refusals {
            tracing::warn!(
                alert_name = claim.alert_name, notification_id = %claim.notification_id, channel = "email",
                recipient, code, error = said, "a recipient was refused; the others have got the mail"
            );
        }
        take_leave(connection).await;
        Ok(())
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Failure> {
        let addresses = self.addresses().await?;
        let hello = ClientId::default();
        let implicit = match &self.security {
            Security::Implicit(tls) => Some(tls.clone()),
            Security::None | Security::StartTls(_) => None,
        };
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(&addresses[..], Some(CONNECT_TIMEOUT), &hello, implicit, None).await?;
        if let Security::StartTls(tls) = &self.security {
            if !connection.can_starttls() {
                let error = "it does not offer STARTTLS (SMTP_USE_TLS=false sends without encryption)";
                return Err(Failure::Address(error.to_owned()));
            }
            connection.starttls(tls.clone(), &hello).await?;
        }
        Ok(connection)
    }

    /// The server's addresses, without those that nothing is sent to.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, Failure> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let found = found.map_err(|error| Failure::Address(error.to_string()))?;
        let addresses: Vec<SocketAddr> = found.filter(|address| !is_refused(address.ip())).collect();
        if addresses.is_empty() {
            return Err(Failure::Address("SMTP_HOST stands for link-local or metadata addresses only".to_owned()));
        }
        Ok(addresses)
    }
}

/// What the server or the library says, in one line.
fn said(error: &SmtpError) -> String {
    // The library's own words for a refusal repeat the code.
    let answer = std::error::Error::source(error).filter(|_| error.status().is_some());
    one_line(&answer.map_or_else(|| error.to_string(), ToString::to_string), LONGEST_ANSWER)
}

/// The server may hear that this was all; whether it does makes no difference.
async fn take_leave(mut connection: AsyncSmtpConnection) {
    let _ = tokio::time::timeout(FAREWELL, connection.quit()).await;
}

fn tls(settings: &SmtpSettings) -> Result<TlsParameters, MailerError> {
    let mut builder = TlsParameters::builder(settings.host.clone()).certificate_store(CertificateStore::Default);
    if let Some(path) = &settings.ca_file {
        let pem = std::fs::read(path).map_err(MailerError::CaFile)?;
        builder = builder.add_root_certificate(Certificate::from_pem(&pem).map_err(MailerError::Certificates)?);
    }
    builder.build_rustls().map_err(MailerError::Certificates)
}
