//! A mail server in this process: it speaks SMTP in the clear, with STARTTLS or over TLS, wants a login if told so, keeps
//! what it takes, and refuses, breaks off or falls silent wherever a test wants it to.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sqlsentinel_common::secret::Secret;
use sqlsentinel_common::settings::{SmtpSecurity, SmtpSettings};
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::certificates::Authority;

/// What the server answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The connection.
    Connect,
    /// `AUTH`.
    Login,
    /// `MAIL`.
    From,
    /// `RCPT`.
    To,
    /// `DATA`.
    Data,
    /// The end of the text.
    Text,
}

/// What it does there instead of going on.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// Says this.
    Say(&'static str),
    /// Begins its answer, and then says nothing more.
    Silence,
    /// Begins its answer, and goes on after [`MailServer::go_on`].
    Slowness,
    /// Breaks the connection.
    Break,
}

/// A mail that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The sender of the envelope.
    pub from: String,
    /// The recipients of the envelope.
    pub to: Vec<String>,
    /// Headers and text, as they came.
    pub data: String,
    /// Whether the connection was encrypted.
    pub encrypted: bool,
    /// Who had logged in.
    pub user: Option<String>,
}

impl Mail {
    /// A header's value; empty if absent.
    pub fn header(&self, name: &str) -> &str {
        let head = self.data.split("\r\n\r\n").next().unwrap_or_default();
        let line =
            head.split("\r\n").find(|line| line.to_lowercase().starts_with(&format!("{}:", name.to_lowercase())));
        line.and_then(|line| Some(line.split_once(':')?.1.trim())).unwrap_or_default()
    }
}

/// The server. Dropping it closes its port and its connections.
#[derive(Debug)]
pub struct MailServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    authority: NamedTempFile,
    _server: JoinSet<()>,
}

struct Shared {
    security: SmtpSecurity,
    login: Option<(String, String)>,
    tls: TlsAcceptor,
    taken: Mutex<Vec<Mail>>,
    troubles: Mutex<BTreeMap<Step, Trouble>>,
    refused: Mutex<BTreeMap<String, &'static str>>,
    silent: Notify,
    go_on: Notify,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("security", &self.security).finish_non_exhaustive()
    }
}

impl MailServer {
    /// A server that takes everything from everybody.
    pub async fn start(security: SmtpSecurity) -> Result<Self> {
        Self::wanting(security, None).await
    }

    /// The same; if there is a `login`, user and password, it takes nothing without it.
    pub async fn wanting(security: SmtpSecurity, login: Option<(&str, &str)>) -> Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (tls, authority) = certificates()?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            security,
            login: login.map(|(user, password)| (user.to_owned(), password.to_owned())),
            tls,
            taken: Mutex::default(),
            troubles: Mutex::default(),
            refused: Mutex::default(),
            silent: Notify::new(),
            go_on: Notify::new(),
        });
        let mut server = JoinSet::new();
        server.spawn(serve(listener, shared.clone()));
        Ok(Self { address, shared, authority, _server: server })
    }

    /// The settings of a notifier that sends by this server.
    pub fn settings(&self) -> SmtpSettings {
        SmtpSettings {
            host: "localhost".to_owned(),
            port: self.address.port(),
            security: self.shared.security,
            ca_file: Some(self.authority.path().to_owned()),
            login: self.shared.login.as_ref().map(|(user, password)| (user.clone(), Secret::new(password.clone()))),
            from: Some("alerts@example.com".to_owned()),
        }
    }

    /// The same as variables of a process's environment, where TLS from the first byte on stands for port 465 alone.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let settings = self.settings();
        let mut variables = vec![
            ("SMTP_HOST", settings.host),
            ("SMTP_PORT", settings.port.to_string()),
            ("SMTP_USE_TLS", (settings.security != SmtpSecurity::None).to_string()),
            ("SMTP_CA_FILE", self.authority.path().display().to_string()),
            ("SMTP_FROM_ADDRESS", settings.from.unwrap_or_default()),
        ];
        if let Some((user, password)) = settings.login {
            variables.extend([("SMTP_USERNAME", user), ("SMTP_PASSWORD", password.expose().to_owned())]);
        }
        variables
    }

    /// What was taken so far, in order.
    pub fn taken(&self) -> Vec<Mail> {
        lock(&self.shared.taken).clone()
    }

    /// From now on, does this at that step.
    pub fn trouble(&self, step: Step, trouble: Trouble) {
        lock(&self.shared.troubles).insert(step, trouble);
    }

    /// Behaves again.
    pub fn behave(&self) {
        lock(&self.shared.troubles).clear();
        lock(&self.shared.refused).clear();
    }

    /// From now on, answers this to one recipient.
    pub fn refuse(&self, recipient: &str, answer: &'static str) {
        lock(&self.shared.refused).insert(recipient.to_owned(), answer);
    }

    /// Lets a slow answer go on.
    pub fn go_on(&self) {
        self.shared.go_on.notify_one();
    }

    /// Told when the server falls silent.
    pub fn silent(&self) -> &Notify {
        &self.shared.silent
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A certificate for `localhost`, and the file of the authority that vouches for it.
fn certificates() -> Result<(TlsAcceptor, NamedTempFile)> {
    let authority = Authority::new()?;
    let (certificate, key) = authority.certify(&["localhost"])?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key)?;
    let file = NamedTempFile::new()?;
    std::fs::write(file.path(), authority.pem())?;
    Ok((TlsAcceptor::from(Arc::new(config)), file))
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        connections.spawn(async move {
            // The client may go away at any time.
            let _ = converse(stream, &shared).await;
        });
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

struct Conversation<'a> {
    stream: BufReader<Box<dyn Stream>>,
    shared: &'a Shared,
    encrypted: bool,
    user: Option<String>,
}

async fn converse(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let encrypted = shared.security == SmtpSecurity::Implicit;
    let stream: Box<dyn Stream> = if encrypted { Box::new(shared.tls.accept(stream).await?) } else { Box::new(stream) };
    let mut conversation = Conversation { stream: BufReader::new(stream), shared, encrypted, user: None };
    conversation.answer(Step::Connect, "220 mail.test ESMTP").await?;
    let (mut from, mut to) = (String::new(), Vec::new());
    loop {
        let line = conversation.line().await?;
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" | "HELO" => conversation.hello().await?,
            "STARTTLS" => conversation = conversation.start_tls().await?,
            "AUTH" => conversation.login(&line).await?,
            "MAIL" if shared.login.is_some() && conversation.user.is_none() => {
                conversation.say("530 5.7.0 Authentication required").await?;
            }
            "MAIL" => {
                from = bracketed(&line);
                conversation.answer(Step::From, "250 2.1.0 Ok").await?;
            }
            "RCPT" => {
                let recipient = bracketed(&line);
                let refusal = lock(&shared.refused).get(&recipient).copied();
                match refusal {
                    Some(answer) => conversation.say(answer).await?,
                    None => {
                        conversation.answer(Step::To, "250 2.1.5 Ok").await?;
                        to.push(recipient);
                    }
                }
            }
            "DATA" => {
                conversation.answer(Step::Data, "354 Go on").await?;
                let data = conversation.text().await?;
                let taken = !matches!(conversation.trouble(Step::Text), Some(Trouble::Say(_)));
                if taken {
                    let (to, user) = (std::mem::take(&mut to), conversation.user.clone());
                    let mail = Mail { from: from.clone(), to, data, encrypted: conversation.encrypted, user };
                    lock(&shared.taken).push(mail);
                }
                conversation.answer(Step::Text, "250 2.0.0 Taken").await?;
            }
            "RSET" | "NOOP" => conversation.say("250 Ok").await?,
            "QUIT" => return conversation.say("221 Bye").await,
            _ => conversation.say("502 5.5.2 What?").await?,
        }
    }
}

impl Conversation<'_> {
    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    async fn text(&mut self) -> io::Result<String> {
        let mut text = String::new();
        loop {
            let line = self.line().await?;
            if line == "." {
                return Ok(text);
            }
            text.push_str(line.strip_prefix('.').unwrap_or(&line));
            text.push_str("\r\n");
        }
    }

    async fn say(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(format!("{text}\r\n").as_bytes()).await?;
        self.stream.flush().await
    }

    fn trouble(&self, step: Step) -> Option<Trouble> {
        lock(&self.shared.troubles).get(&step).cloned()
    }

    async fn answer(&mut self, step: Step, text: &str) -> io::Result<()> {
        match self.trouble(step) {
            None => self.say(text).await,
            Some(Trouble::Say(other)) => self.say(other).await,
            Some(Trouble::Break) => Err(io::ErrorKind::ConnectionReset.into()),
            Some(trouble @ (Trouble::Silence | Trouble::Slowness)) => {
                self.stream.write_all(&text.as_bytes()[..2]).await?;
                self.stream.flush().await?;
                self.shared.silent.notify_one();
                if matches!(trouble, Trouble::Silence) {
                    return std::future::pending().await;
                }
                self.shared.go_on.notified().await;
                self.say(&text[2..]).await
            }
        }
    }

    async fn hello(&mut self) -> io::Result<()> {
        let mut extensions = vec!["mail.test"];
        if self.shared.security == SmtpSecurity::StartTls && !self.encrypted {
            extensions.push("STARTTLS");
        }
        if self.shared.login.is_some() {
            extensions.push("AUTH PLAIN LOGIN");
        }
        extensions.push("8BITMIME");
        let last = extensions.len() - 1;
        let lines = extensions.iter().enumerate().map(|(index, text)| {
            let mark = if index == last { ' ' } else { '-' };
            format!("250{mark}{text}")
        });
        let lines = lines.collect::<Vec<_>>().join("\r\n");
        self.say(&lines).await
    }

    async fn start_tls(mut self) -> io::Result<Self> {
        if self.shared.security != SmtpSecurity::StartTls || self.encrypted {
            self.say("502 5.5.1 Not offered").await?;
            return Ok(self);
        }
        self.say("220 2.0.0 Go on").await?;
        let stream: Box<dyn Stream> = Box::new(self.shared.tls.accept(self.stream.into_inner()).await?);
        Ok(Self { stream: BufReader::new(stream), encrypted: true, ..self })
    }

    async fn login(&mut self, line: &str) -> io::Result<()> {
        // The library says `AUTH PLAIN` with its initial response; `\0user\0password` in base64.
        let words: Vec<&str> = line.split(' ').collect();
        let Some((user, password)) = self.shared.login.clone() else { return self.say("502 5.5.1 Not offered").await };
        let expected = base64(format!("\0{user}\0{password}").as_bytes());
        if words.get(1) != Some(&"PLAIN") || words.get(2) != Some(&expected.as_str()) {
            // Badly behaved on purpose: it repeats what it was told.
            return self.say(&format!("535 5.7.8 Wrong: {line}")).await;
        }
        self.user = Some(user);
        self.answer(Step::Login, "235 2.7.0 Welcome").await
    }
}

fn bracketed(line: &str) -> String {
    let inside = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inside.map(|(address, _)| address.to_owned()).unwrap_or_default()
}

/// `bytes` as `AUTH PLAIN` writes them.
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().chain([0, 0].iter()).take(3).fold(0u32, |group, byte| group << 8 | u32::from(*byte));
        for place in 0..4 {
            let letter = LETTERS[(group >> (18 - 6 * place) & 63) as usize];
            text.push(if place > chunk.len() { '=' } else { char::from(letter) });
        }
    }
    text
}
