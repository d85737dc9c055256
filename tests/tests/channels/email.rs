//! Mails to a real mail server, through the outbox: what is sent, how it is encrypted, and what each answer leads to.

use anyhow::{Context, Result};
use serde_json::json;
use sqlsentinel_common::config::{ChannelConfig, EmailConfig, Setting, Template};
use sqlsentinel_common::health::Status;
use sqlsentinel_common::outcome::{RunStatus, Verdict};
use sqlsentinel_common::secret::Secret;
use sqlsentinel_common::settings::{ChannelSettings, SmtpSecurity, SmtpSettings};
use sqlsentinel_common::store::outbox::Receipt;
use tokio::net::TcpListener;

use sqlsentinel_tests::sending::{ALERT, Sending, error_of};
use sqlsentinel_tests::smtp::{Mail, MailServer, Step, Trouble, base64};

const OPS: &str = "ops@example.com";
const BOSS: &str = "boss@example.com";

fn mail_to(recipients: &[&str]) -> ChannelConfig {
    let recipients = recipients.iter().map(|recipient| Setting::literal(*recipient)).collect();
    ChannelConfig::Email(EmailConfig { recipients, subject: None, body: None })
}

fn over(smtp: SmtpSettings) -> ChannelSettings {
    ChannelSettings { smtp: Some(smtp), ..ChannelSettings::default() }
}

async fn mailing(server: &MailServer) -> Result<Sending> {
    Sending::by(mail_to(&[OPS]), &over(server.settings())).await
}

fn only(server: &MailServer) -> Result<Mail> {
    let taken = server.taken();
    anyhow::ensure!(taken.len() == 1, "{taken:?}");
    taken.into_iter().next().context("no mail")
}

#[tokio::test]
async fn a_mail_arrives_in_the_clear_by_starttls_and_by_tls_with_and_without_a_login() -> Result<()> {
    for security in [SmtpSecurity::None, SmtpSecurity::StartTls, SmtpSecurity::Implicit] {
        for login in [None, Some(("sentinel", "canary"))] {
            let server = MailServer::wanting(security, login).await?;
            let scene = mailing(&server).await?;
            assert_eq!(scene.attempt().await?, Receipt::Sent, "{security:?} {login:?}");
            let mail = only(&server)?;
            assert_eq!((mail.from.as_str(), mail.to.as_slice()), ("alerts@example.com", &[OPS.to_owned()][..]));
            assert_eq!(mail.encrypted, security != SmtpSecurity::None, "{security:?}");
            assert_eq!(mail.user.as_deref(), login.map(|(user, _)| user));
            assert!(!mail.data.contains("canary"), "{}", mail.data);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_mail_says_what_there_is_to_say() -> Result<()> {
    let server = MailServer::start(SmtpSecurity::StartTls).await?;
    let said = Verdict {
        actual_value: Some(serde_json::from_str("8500.10")?),
        threshold: Some(json!("10\r\nBcc: everybody@example.com")),
        context: serde_json::from_str(r#"{"region": "<b>eu</b>"}"#)?,
        ..Verdict::bare(RunStatus::Alert)
    };
    let subject = Some(Template::subject("{alert_name} is {status}: {actual_value} of {threshold}")?);
    let recipients = vec![Setting::literal("Ops <ops@example.com>"), Setting::literal(BOSS)];
    let channel = ChannelConfig::Email(EmailConfig { recipients, subject, body: None });
    let scene = Sending::saying(said, channel, &over(server.settings())).await?;
    assert_eq!(scene.attempt().await?, Receipt::Sent);

    let mail = only(&server)?;
    assert_eq!(mail.to, [OPS, BOSS]);
    assert_eq!(mail.header("Message-ID"), format!("<{}@example.com>", scene.notification_id().await?));
    assert_eq!(mail.header("Bcc"), "");
    assert!(mail.header("Subject").starts_with("revenue is ALERT: 8500.10 of 10"), "{}", mail.data);
    for part in ["Actual Value: 8500.10\r\n", "region: <b>eu</b>\r\n", "&lt;b&gt;eu&lt;/b&gt;"] {
        assert!(mail.data.contains(part), "{part}: {}", mail.data);
    }
    Ok(())
}

#[tokio::test]
async fn a_server_nobody_vouches_for_gets_nothing_and_one_without_starttls_neither() -> Result<()> {
    for security in [SmtpSecurity::StartTls, SmtpSecurity::Implicit] {
        let server = MailServer::start(security).await?;
        let settings = SmtpSettings { ca_file: None, ..server.settings() };
        let receipt = Sending::by(mail_to(&[OPS]), &over(settings)).await?.attempt().await?;
        assert!(matches!(receipt, Receipt::Retry { may_have_arrived: false, .. }), "{receipt:?}");
        assert!(error_of(&receipt).contains("certificate"), "{receipt:?}");
        assert_eq!(server.taken(), []);
    }
    let server = MailServer::start(SmtpSecurity::None).await?;
    let settings = SmtpSettings { security: SmtpSecurity::StartTls, ..server.settings() };
    let receipt = Sending::by(mail_to(&[OPS]), &over(settings)).await?.attempt().await?;
    assert!(error_of(&receipt).contains("does not offer STARTTLS"), "{receipt:?}");
    assert_eq!(server.taken(), []);
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_can_be_mended_and_is_shown_nowhere() -> Result<()> {
    let server = MailServer::wanting(SmtpSecurity::StartTls, Some(("sentinel", "right"))).await?;
    // The server repeats what it was told.
    let told = base64(b"\0sentinel\0canary");
    for (password, said) in [("canary", "answered 535"), ("right", "")] {
        let login = Some(("sentinel".to_owned(), Secret::new(password)));
        let scene = Sending::by(mail_to(&[OPS]), &over(SmtpSettings { login, ..server.settings() })).await?;
        let receipt = scene.attempt().await?;
        assert!(error_of(&receipt).contains(said) && !error_of(&receipt).contains("canary"), "{receipt:?}");
        assert_eq!(receipt == Receipt::Sent, said.is_empty(), "{receipt:?}");
        let stored = scene.stored_errors().await?;
        assert!(!stored.contains("canary") && !stored.contains(&told), "{stored}");
    }
    Ok(())
}

#[tokio::test]
async fn what_the_server_refuses_for_now_is_tried_again_and_arrives_once() -> Result<()> {
    for step in [Step::Connect, Step::From, Step::To, Step::Data, Step::Text] {
        let server = MailServer::start(SmtpSecurity::None).await?;
        let scene = mailing(&server).await?;
        server.trouble(step, Trouble::Say("451 4.3.0 try again later"));
        let receipt = scene.attempt().await?;
        assert!(matches!(receipt, Receipt::Retry { may_have_arrived: false, .. }), "{step:?}: {receipt:?}");
        assert!(error_of(&receipt).contains("451") && error_of(&receipt).contains("try again later"), "{receipt:?}");
        server.behave();
        assert_eq!(scene.attempt().await?, Receipt::Sent, "{step:?}");
        assert_eq!(only(&server)?.header("X-SQLSentinel-Possible-Duplicate"), "", "{step:?}");
        assert_eq!(scene.status().await?, "SENT");
    }
    Ok(())
}

#[tokio::test]
async fn what_the_server_refuses_for_good_is_given_up_unless_it_is_about_the_connection() -> Result<()> {
    for (step, answer, is_final) in [
        (Step::Connect, "554 5.3.2 no service", false),
        (Step::From, "530 5.7.0 log in first", false),
        (Step::From, "553 5.1.8 who are you", true),
        (Step::To, "550 5.1.1 no such user", true),
        (Step::Data, "554 5.5.1 no", true),
        (Step::Text, "552 5.3.4 too big", true),
    ] {
        let server = MailServer::start(SmtpSecurity::None).await?;
        server.trouble(step, Trouble::Say(answer));
        let scene = mailing(&server).await?;
        let receipt = scene.attempt().await?;
        assert_eq!(matches!(receipt, Receipt::Dead { may_have_arrived: false, .. }), is_final, "{answer}: {receipt:?}");
        assert!(error_of(&receipt).contains(&answer[4..]), "{receipt:?}");
        assert_eq!(scene.status().await?, if is_final { "DEAD" } else { "PENDING" });
        assert_eq!(server.taken(), []);
    }
    Ok(())
}

#[tokio::test]
async fn a_rejected_mailbox_costs_the_others_nothing() -> Result<()> {
    let server = MailServer::start(SmtpSecurity::None).await?;
    server.refuse(BOSS, "550 5.1.1 no such user");
    let scene = Sending::by(mail_to(&[OPS, BOSS]), &over(server.settings())).await?;
    assert_eq!(scene.attempt().await?, Receipt::Sent);
    assert_eq!(only(&server)?.to, [OPS]);
    Ok(())
}

#[tokio::test]
async fn a_full_mailbox_holds_the_mail_up_for_a_while_and_then_only_its_own() -> Result<()> {
    let server = MailServer::start(SmtpSecurity::None).await?;
    server.refuse(BOSS, "452 4.2.2 mailbox full");
    let scene = Sending::by(mail_to(&[OPS, BOSS]), &over(server.settings())).await?;
    for _ in 0..4 {
        let receipt = scene.attempt().await?;
        assert!(matches!(receipt, Receipt::Retry { may_have_arrived: false, .. }), "{receipt:?}");
        assert_eq!(server.taken(), [], "whoever got it now would get it again");
    }
    assert_eq!(scene.attempt().await?, Receipt::Sent);
    assert_eq!(only(&server)?.to, [OPS]);
    Ok(())
}

#[tokio::test]
async fn silence_before_the_text_means_that_nothing_arrived() -> Result<()> {
    for step in [Step::Connect, Step::From, Step::To, Step::Data] {
        let server = MailServer::start(SmtpSecurity::None).await?;
        server.trouble(step, Trouble::Silence);
        let scene = mailing(&server).await?;
        let receipt = scene.attempt_until_it_is_late(server.silent()).await?;
        assert!(matches!(receipt, Receipt::Retry { may_have_arrived: false, .. }), "{step:?}: {receipt:?}");
        assert!(error_of(&receipt).contains("no answer"), "{receipt:?}");
        server.behave();
        assert_eq!(scene.attempt().await?, Receipt::Sent);
        assert_eq!(only(&server)?.header("X-SQLSentinel-Possible-Duplicate"), "");
    }
    Ok(())
}

#[tokio::test]
async fn a_slow_server_takes_the_mail_once_however_slow_it_is_at_each_step() -> Result<()> {
    let steps = [Step::Connect, Step::From, Step::To, Step::Data, Step::Text];
    let server = MailServer::start(SmtpSecurity::None).await?;
    for step in steps {
        server.trouble(step, Trouble::Slowness);
    }
    let scene = mailing(&server).await?;
    let waiting = async {
        for _ in steps {
            server.silent().notified().await;
            server.go_on();
        }
    };
    let (receipt, ()) = tokio::join!(scene.attempt(), waiting);
    assert_eq!(receipt?, Receipt::Sent);
    assert_eq!(only(&server)?.header("X-SQLSentinel-Possible-Duplicate"), "");
    Ok(())
}

#[tokio::test]
async fn silence_after_the_text_makes_the_next_mail_a_possible_duplicate_of_the_same_name() -> Result<()> {
    for trouble in [Trouble::Silence, Trouble::Break] {
        let server = MailServer::start(SmtpSecurity::StartTls).await?;
        server.trouble(Step::Text, trouble.clone());
        let scene = mailing(&server).await?;
        let receipt = match trouble {
            Trouble::Silence => scene.attempt_until_it_is_late(server.silent()).await?,
            _ => scene.attempt().await?,
        };
        assert!(matches!(receipt, Receipt::Retry { may_have_arrived: true, .. }), "{receipt:?}");
        server.behave();
        assert_eq!(scene.attempt().await?, Receipt::Sent);
        let mails = server.taken();
        assert_eq!(mails.len(), 2, "this server had taken it");
        assert_eq!(mails[0].header("X-SQLSentinel-Possible-Duplicate"), "");
        assert_eq!(mails[1].header("X-SQLSentinel-Possible-Duplicate"), "true");
        assert!(mails[1].data.contains("may be a duplicate") && !mails[0].data.contains("may be a duplicate"));
        assert_eq!(mails[0].header("Message-ID"), mails[1].header("Message-ID"));
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_text_carried_nothing() -> Result<()> {
    for step in [Step::Connect, Step::From, Step::To, Step::Data] {
        let server = MailServer::start(SmtpSecurity::None).await?;
        server.trouble(step, Trouble::Break);
        let receipt = mailing(&server).await?.attempt().await?;
        assert!(matches!(receipt, Receipt::Retry { may_have_arrived: false, .. }), "{step:?}: {receipt:?}");
    }
    let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let server = MailServer::start(SmtpSecurity::None).await?;
    let scene = Sending::by(mail_to(&[OPS]), &over(SmtpSettings { port: address.port(), ..server.settings() })).await?;
    let receipt = scene.attempt().await?;
    assert!(error_of(&receipt).contains("no connection to the mail server"), "{receipt:?}");
    Ok(())
}

#[tokio::test]
async fn metadata_addresses_are_refused_to_mails_too() -> Result<()> {
    let server = MailServer::start(SmtpSecurity::None).await?;
    let settings = SmtpSettings { host: "169.254.169.254".to_owned(), ..server.settings() };
    let receipt = Sending::by(mail_to(&[OPS]), &over(settings)).await?.attempt().await?;
    assert!(error_of(&receipt).contains("link-local or metadata"), "{receipt:?}");
    Ok(())
}

#[tokio::test]
async fn settings_that_can_never_make_a_mail_give_up_and_missing_ones_wait() -> Result<()> {
    let server = MailServer::start(SmtpSecurity::None).await?;
    let injected = Sending::by(mail_to(&["canary@example.com\r\nBcc: b@c"]), &over(server.settings())).await?;
    let receipt = injected.attempt().await?;
    assert!(matches!(receipt, Receipt::Dead { may_have_arrived: false, .. }), "{receipt:?}");
    assert!(!error_of(&receipt).contains("canary"), "{receipt:?}");

    let missing = Sending::by(mail_to(&[OPS]), &ChannelSettings::default()).await?;
    let receipt = missing.attempt().await?;
    assert!(matches!(receipt, Receipt::Retry { may_have_arrived: false, .. }), "{receipt:?}");
    assert!(error_of(&receipt).contains("SMTP_HOST is not set"), "{receipt:?}");
    let health = missing.deliverer.channels.check();
    let email = health.channels.get("email").context("no check of mails")?;
    assert!(email.status == Status::Degraded && email.message.as_deref() == Some("SMTP_HOST is not set"), "{email:?}");
    Ok(())
}

#[tokio::test]
async fn health_follows_the_last_mails() -> Result<()> {
    let server = MailServer::start(SmtpSecurity::None).await?;
    let scene = mailing(&server).await?;
    let status = || scene.deliverer.channels.check().channels.get("email").map(|check| check.status);
    assert_eq!(status(), Some(Status::Healthy));
    server.trouble(Step::From, Trouble::Say("451 4.3.0 not now"));
    scene.attempt().await?;
    assert_eq!(status(), Some(Status::Degraded));
    server.behave();
    scene.attempt().await?;
    assert_eq!(status(), Some(Status::Healthy));
    assert_eq!(scene.definition.name, ALERT);
    Ok(())
}
