//! Mail: one message over a connection of its own for each attempt.
//!
//! Input: the route's settings, the attempt, the payload, and the mail server of this process's environment. Output: how
//! it ended, in terms of [`Sent`]. [`conversation`] talks to the server, [`answers`] says what its answers mean.
//!
//! A connection is not used twice. A pooled one that was left in the middle of an attempt would give the next one the
//! answers of the last (docs/adr/0006).

mod answers;
mod conversation;

use std::time::SystemTime;

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, Mailboxes, MultiPart};
use lettre::{Address, Message};
use sqlsentinel_common::config::{EmailConfig, UnresolvedSetting};
use sqlsentinel_common::settings::SmtpSettings;
use sqlsentinel_common::store::outbox::Claim;

use self::conversation::{Envelope, Server};
use crate::render::digest::Digest;
use crate::render::{self, Payload};
use crate::retry::Sent;

/// Said of mails by our own machines, so that nobody's holiday notice answers them.
const AUTO_SUBMITTED: HeaderName = HeaderName::new_from_ascii_str("Auto-Submitted");
const POSSIBLE_DUPLICATE: HeaderName = HeaderName::new_from_ascii_str("X-SQLSentinel-Possible-Duplicate");

/// Why no mail can be sent by this process.
#[derive(Debug, thiserror::Error)]
pub(super) enum MailerError {
    #[error("SMTP_HOST is not set")]
    NoServer,
    #[error("SMTP_FROM_ADDRESS is not set, and SMTP_USERNAME is no address")]
    NoSender,
    #[error("SMTP_FROM_ADDRESS is not a mail address in ASCII")]
    Sender,
    #[error("cannot read SMTP_CA_FILE: {0}")]
    CaFile(#[source] std::io::Error),
    #[error("SMTP_CA_FILE holds no certificates that can be used: {0}")]
    Certificates(#[source] lettre::transport::smtp::Error),
}

/// Why settings cannot make a mail.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    /// A variable is missing: somebody can still set it.
    #[error(transparent)]
    Unresolved(#[from] UnresolvedSetting),
    #[error("`recipients[{0}]` holds a line break or another control character")]
    ControlCharacter(usize),
    #[error("`recipients[{0}]` is not a mail address in ASCII")]
    Recipient(usize),
    #[error("the mail's subject holds a line break or another control character")]
    Subject,
    #[error("the mail cannot be written: {0}")]
    Message(#[from] lettre::error::Error),
}

/// A mail's text, and the name that its `Message-ID` is made of.
struct Draft {
    subject: String,
    text: String,
    html: String,
    key: String,
    possible_duplicate: bool,
}

/// What sends mails.
#[derive(Debug)]
pub(super) struct Mailer {
    server: Server,
    from: Mailbox,
}

impl Mailer {
    /// A mailer on the server of `settings`.
    pub(super) fn new(settings: Option<&SmtpSettings>) -> Result<Self, MailerError> {
        let settings = settings.ok_or(MailerError::NoServer)?;
        let user = settings.login.as_ref().map(|(user, _)| user).filter(|user| user.contains('@'));
        let from = settings.from.as_ref().or(user).ok_or(MailerError::NoSender)?;
        let from = mailbox(from).ok_or(MailerError::Sender)?;
        Ok(Self { server: Server::new(settings)?, from })
    }

    /// Makes one attempt.
    pub(super) async fn send(&self, settings: &EmailConfig, claim: &Claim, payload: &Payload) -> Sent {
        match self.compose(settings, claim, payload) {
            Ok((envelope, message)) => self.server.send(&envelope, &message, claim).await,
            Err(error @ Unusable::Unresolved(_)) => Sent::not_delivered(error.to_string()),
            Err(error) => Sent::Permanent(error.to_string()),
        }
    }

    /// The same for several notifications at once; `claim` is the first of them.
    pub(super) async fn send_digest(&self, settings: &EmailConfig, claim: &Claim, digest: &Digest<'_>) -> Sent {
        let mail = digest.mail();
        let draft = Draft {
            subject: mail.subject,
            text: mail.text,
            html: mail.html,
            key: digest.id.to_string(),
            possible_duplicate: digest.possible_duplicate(),
        };
        match self.write(settings, claim, draft) {
            Ok((envelope, message)) => self.server.send(&envelope, &message, claim).await,
            Err(error @ Unusable::Unresolved(_)) => Sent::not_delivered(error.to_string()),
            Err(error) => Sent::Permanent(error.to_string()),
        }
    }

    fn compose(
        &self,
        settings: &EmailConfig,
        claim: &Claim,
        payload: &Payload,
    ) -> Result<(Envelope, Vec<u8>), Unusable> {
        let mail = render::email::mail(settings.subject.as_ref(), settings.body.as_ref(), claim, payload);
        let draft = Draft {
            subject: mail.subject,
            text: mail.text,
            html: mail.html,
            // The same for all attempts: a mailbox may know by it what it has already.
            key: claim.notification_id.to_string(),
            possible_duplicate: claim.possible_duplicate,
        };
        self.write(settings, claim, draft)
    }

    fn write(&self, settings: &EmailConfig, claim: &Claim, draft: Draft) -> Result<(Envelope, Vec<u8>), Unusable> {
        let recipients = recipients(settings)?;
        if draft.subject.chars().any(char::is_control) {
            return Err(Unusable::Subject);
        }
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(draft.subject)
            .date(SystemTime::from(claim.claimed_at.to_datetime()))
            .message_id(Some(format!("<{}@{}>", draft.key, self.from.email.domain())))
            .raw_header(HeaderValue::new(AUTO_SUBMITTED, "auto-generated".to_owned()));
        if draft.possible_duplicate {
            message = message.raw_header(HeaderValue::new(POSSIBLE_DUPLICATE, "true".to_owned()));
        }
        for recipient in &recipients {
            message = message.to(recipient.clone());
        }
        let message = message.multipart(MultiPart::alternative_plain_html(draft.text, draft.html))?;
        let to: Vec<Address> = recipients.into_iter().map(|recipient| recipient.email).collect();
        Ok((Envelope { from: self.from.email.clone(), to }, message.formatted()))
    }
}

/// Everybody, each address once.
fn recipients(settings: &EmailConfig) -> Result<Vec<Mailbox>, Unusable> {
    let mut all: Vec<Mailbox> = Vec::new();
    for (index, setting) in settings.recipients.iter().enumerate() {
        let text = setting.resolve()?;
        let text = text.expose().trim();
        if text.chars().any(char::is_control) {
            return Err(Unusable::ControlCharacter(index));
        }
        let found: Mailboxes = text.parse().map_err(|_| Unusable::Recipient(index))?;
        for mailbox in found {
            if !is_ascii(&mailbox) {
                return Err(Unusable::Recipient(index));
            }
            if !all.iter().any(|known| known.email == mailbox.email) {
                all.push(mailbox);
            }
        }
    }
    Ok(all)
}

fn mailbox(text: &str) -> Option<Mailbox> {
    let mailbox: Mailbox = text.trim().parse().ok()?;
    (!text.chars().any(char::is_control) && is_ascii(&mailbox)).then_some(mailbox)
}

/// Addresses outside ASCII need servers, on the whole way, that few have.
fn is_ascii(mailbox: &Mailbox) -> bool {
    let address: &str = mailbox.email.as_ref();
    address.is_ascii()
}

#[cfg(test)]
mod tests {
    use sqlsentinel_common::config::Setting;
    use sqlsentinel_common::secret::Secret;
    use sqlsentinel_common::settings::SmtpSecurity;

    use super::*;
    use crate::render::samples::{claim, payload};

    fn smtp(from: Option<&str>) -> SmtpSettings {
        SmtpSettings {
            host: "localhost".to_owned(),
            port: 25,
            security: SmtpSecurity::None,
            ca_file: None,
            login: None,
            from: from.map(str::to_owned),
        }
    }

    fn to(recipients: &[&str]) -> EmailConfig {
        EmailConfig {
            recipients: recipients.iter().map(|text| Setting::literal(*text)).collect(),
            subject: None,
            body: None,
        }
    }

    fn composed(settings: &EmailConfig, claim: &Claim) -> Result<(Vec<String>, String), String> {
        let mailer = Mailer::new(Some(&smtp(Some("SQL Sentinel <alerts@example.com>")))).map_err(|e| e.to_string())?;
        let (envelope, message) = mailer.compose(settings, claim, &payload()).map_err(|error| error.to_string())?;
        let to = envelope.to.iter().map(ToString::to_string).collect();
        Ok((to, String::from_utf8(message).map_err(|error| error.to_string())?))
    }

    #[test]
    fn a_mail_has_both_parts_its_name_and_the_time_of_its_attempt() {
        let (to, mail) = composed(&to(&["Ops <ops@example.com>", "a@b, ops@example.com"]), &claim()).unwrap();
        assert_eq!(to, ["ops@example.com", "a@b"]);
        for line in [
            "From: \"SQL Sentinel\" <alerts@example.com>\r\n",
            "To: Ops <ops@example.com>, a@b\r\n",
            "Subject: [SQL Sentinel] Alert: revenue\r\n",
            "Message-ID: <04440625-1cee-569a-85fa-71b910a8a865@example.com>\r\n",
            "Date: Thu, 01 Jan 2026 00:01:02 +0000\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "Content-Type: text/plain; charset=utf-8\r\n",
            "Content-Type: text/html; charset=utf-8\r\n",
            "Status: ALERT\r\n",
        ] {
            assert!(mail.contains(line), "{line}{mail}");
        }
        assert!(!mail.contains("Possible-Duplicate"), "{mail}");
        let again = Claim { possible_duplicate: true, ..claim() };
        let (_, mail) = composed(&self::to(&["a@b"]), &again).unwrap();
        assert!(mail.contains("X-SQLSentinel-Possible-Duplicate: true\r\n"), "{mail}");
    }

    #[test]
    fn a_mail_is_ascii_whatever_is_in_it() {
        let mut claim = claim();
        claim.alert_name = "Umsätze 売上".to_owned();
        let (_, mail) = composed(&to(&["Jörg <j@example.com>"]), &claim).unwrap();
        assert!(mail.is_ascii() && mail.lines().all(|line| line.len() <= 998), "{mail}");
    }

    #[test]
    fn a_line_break_in_a_header_gives_up_without_showing_it() {
        for (recipient, said) in [
            ("canary@example.com\r\nBcc: b@c", "line break"),
            ("Canary\n <a@b>", "line break"),
            ("canary", "not a mail address"),
            ("canäry@example.com", "ASCII"),
        ] {
            let error = composed(&to(&["a@b", recipient]), &claim()).unwrap_err();
            assert!(error.contains("recipients[1]") && error.contains(said), "{error}");
            assert!(!error.to_lowercase().contains("can"), "{error}");
        }
    }

    #[test]
    fn what_a_mailer_lacks_is_said_by_its_variable() {
        let error = |settings: Option<&SmtpSettings>| Mailer::new(settings).unwrap_err().to_string();
        assert_eq!(error(None), "SMTP_HOST is not set");
        assert!(error(Some(&smtp(None))).contains("SMTP_FROM_ADDRESS is not set"));
        assert!(error(Some(&smtp(Some("nobody")))).contains("not a mail address"));
        assert!(error(Some(&smtp(Some("a@b\r\nBcc: c@d")))).contains("not a mail address"));
        let missing = SmtpSettings {
            security: SmtpSecurity::StartTls,
            ca_file: Some("/nowhere.pem".into()),
            ..smtp(Some("a@b"))
        };
        assert!(error(Some(&missing)).contains("cannot read SMTP_CA_FILE"));
        let login = Some(("user@example.com".to_owned(), Secret::new("p")));
        assert!(Mailer::new(Some(&SmtpSettings { login, ..smtp(None) })).is_ok(), "the user is the sender");
    }
}
