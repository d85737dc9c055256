//! A folder to run the program in, a receiver of webhooks, a nats-server.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A folder and an environment of its own.
pub(crate) struct Place {
    folder: TempDir,
    variables: BTreeMap<&'static str, String>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Place {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { folder: TempDir::new()?, variables: BTreeMap::new() })
    }

    /// The same place, with a variable.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.insert(name, value.to_owned());
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> io::Result<()> {
        std::fs::write(self.path(name), text)
    }

    /// The program with `arguments`, in this place and in no other environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sqlsentinel-ctl"));
        command.args(arguments).current_dir(self.folder.path()).env_clear().envs(&self.variables);
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
    }

    /// The ports files of nats-server in the folder `name`: it keeps one while it runs.
    pub(crate) fn ports_files(&self, name: &str) -> io::Result<Vec<String>> {
        ports_files(&self.path(name))
    }

    pub(crate) fn ctl(&self, arguments: &[&str]) -> io::Result<Ran> {
        let output = self.command(arguments).output()?;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(io::Error::other);
        Ok(Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout)?, err: text(output.stderr)? })
    }
}

/// Takes webhooks, and answers each with 200.
pub(crate) struct Receiver {
    address: String,
    bodies: std::sync::mpsc::Receiver<String>,
}

impl Receiver {
    pub(crate) fn start() -> io::Result<Self> {
        Self::answering_together(1)
    }

    /// Takes webhooks, and answers so many of them at a time, when they are all there.
    #[expect(clippy::disallowed_methods, reason = "the test waits for what the thread receives")]
    pub(crate) fn answering_together(count: usize) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let (sender, bodies) = std::sync::mpsc::sync_channel(16);
        std::thread::spawn(move || -> io::Result<()> {
            loop {
                let mut waiting = Vec::new();
                while waiting.len() < count {
                    let mut reader = BufReader::new(listener.accept()?.0);
                    let body = read_request(&mut reader)?;
                    waiting.push((reader, body));
                }
                for (mut reader, body) in waiting {
                    reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
                    let _ = sender.send(body);
                }
            }
        });
        Ok(Self { address, bodies })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next webhook's body.
    pub(crate) fn next_body(&self) -> Result<String, std::sync::mpsc::RecvTimeoutError> {
        self.bodies.recv_timeout(Duration::from_secs(10))
    }
}

/// Reads a request, and gives its body.
fn read_request(reader: &mut impl BufRead) -> io::Result<String> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().to_ascii_lowercase().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().map_err(io::Error::other)?,
            None if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// A process that is killed when the test ends before it.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) -> io::Result<()> {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status()?;
        if sent.success() { Ok(()) } else { Err(io::Error::other(format!("kill -{name} failed"))) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A nats-server on a free port of loopback.
pub(crate) struct NatsServer {
    pub(crate) url: String,
    _process: Running,
    _folder: TempDir,
}

impl NatsServer {
    pub(crate) fn start() -> Result<Self, Box<dyn Error>> {
        let folder = TempDir::new()?;
        let process = Command::new("nats-server")
            .args(["-a", "127.0.0.1", "-p", "-1", "-js", "-sd", "js", "--ports_file_dir", "."])
            .current_dir(folder.path())
            .stderr(Stdio::null())
            .spawn()?;
        let process = Running(process);
        let url = wait_for("nats-server listens", || {
            let Some(file) = ports_files(folder.path())?.pop() else { return Ok(None) };
            let ports = serde_json::from_slice::<serde_json::Value>(&std::fs::read(folder.path().join(file))?);
            Ok(ports.ok().and_then(|ports| ports["nats"][0].as_str().map(str::to_owned)))
        })?;
        Ok(Self { url, _process: process, _folder: folder })
    }
}

fn ports_files(folder: &Path) -> io::Result<Vec<String>> {
    let names = folder.read_dir()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| name.ends_with(".ports")).collect())
}

/// Looks again until `look` finds something, for at most half a minute.
#[expect(clippy::disallowed_methods, reason = "there is no runtime here, and nothing to wait for but the look itself")]
pub(crate) fn wait_for<T>(
    what: &str,
    mut look: impl FnMut() -> Result<Option<T>, Box<dyn Error>>,
) -> Result<T, Box<dyn Error>> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if let Some(found) = look()? {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(format!("waited in vain until {what}").into())
}
