//! A real MariaDB server of the test's own: databases that alerts query, stopped and started at will. It logs every
//! statement, so that a test can see what really ran there.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use sqlx::mysql::{MySqlConnection, MySqlPool, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Executor};
use tempfile::TempDir;

use crate::eventually::{SOON, eventually};
use crate::ports;
use crate::process::{Launch, Proc, Signal};
use crate::programs;

const SUPERUSER: &str = "root";
/// The user that the server runs as, where the tests are root's: it refuses to be root's itself.
const ACCOUNT: &str = "mysql";

/// A MariaDB server. Its databases survive [`Mariadb::stop`] and [`Mariadb::start_again`].
#[derive(Debug)]
pub struct Mariadb {
    _directory: TempDir,
    launch: Launch,
    port: u16,
    server: Option<Proc>,
}

impl Mariadb {
    /// Makes an empty data directory, starts its server and waits until it serves.
    pub async fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("sqlsentinel-mariadb-").tempdir()?;
        let is_root = rustix::process::geteuid().is_root();
        let user = if is_root { Some(programs::own_by(directory.path(), ACCOUNT)?) } else { None };
        let data = directory.path().join("data");
        install(directory.path(), &data, user.as_deref()).await?;

        let mut launch = Launch::new("mariadbd", programs::mariadb("mariadbd")?, directory.path());
        launch.user = user;
        for _ in 0..10 {
            let port = ports::free()?;
            launch.args = arguments(directory.path(), &data, port);
            if let Some(server) = serving(&launch, port).await? {
                return Ok(Self { _directory: directory, launch, port, server: Some(server) });
            }
        }
        bail!("MariaDB found no free port ten times")
    }

    /// The URL of one of its databases, as the superuser.
    pub fn url(&self, database: &str) -> String {
        url(self.port, database)
    }

    /// Creates a database and returns its URL.
    pub async fn create_database(&self, name: &str) -> Result<String> {
        let mut connection = MySqlConnection::connect(&self.url("")).await?;
        connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await?;
        connection.close().await?;
        Ok(self.url(name))
    }

    /// A pool of this test's own on one database.
    pub async fn pool(&self, database: &str) -> Result<MySqlPool> {
        Ok(MySqlPoolOptions::new().max_connections(4).connect(&self.url(database)).await?)
    }

    /// The texts that were run since the server began, in order: prepared ones as often as they were executed.
    pub async fn statements(&self) -> Result<Vec<String>> {
        let mut connection = MySqlConnection::connect(&self.url("mysql")).await?;
        let sql = "SELECT CONVERT(argument USING utf8mb4) FROM general_log WHERE command_type IN ('Query', 'Execute')";
        let statements = sqlx::query_scalar(sql).fetch_all(&mut connection).await?;
        connection.close().await?;
        Ok(statements)
    }

    /// Stops the server at once: every session is cut, what was committed stays.
    pub async fn stop(&mut self) -> Result<()> {
        let server = self.server.take().context("MariaDB is not running")?;
        server.signal(Signal::KILL)?;
        server.wait(SOON).await?;
        Ok(())
    }

    /// Starts it again on the same port.
    pub async fn start_again(&mut self) -> Result<()> {
        let server = serving(&self.launch, self.port).await?;
        self.server = Some(server.context("MariaDB's port was taken meanwhile")?);
        Ok(())
    }
}

fn url(port: u16, database: &str) -> String {
    format!("mysql://{SUPERUSER}@127.0.0.1:{port}/{database}")
}

fn arguments(directory: &Path, data: &Path, port: u16) -> Vec<OsString> {
    let mut arguments = vec![
        // First, or it is not understood: no file of the system's.
        OsString::from("--no-defaults"),
        setting("--datadir=", data),
        setting("--tmpdir=", directory),
        setting("--socket=", &directory.join("socket")),
        setting("--pid-file=", &directory.join("pid")),
    ];
    for setting in [
        format!("--port={port}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--skip-name-resolve".to_owned(),
        "--skip-log-bin".to_owned(),
        "--character-set-server=utf8mb4".to_owned(),
        // The server crashes in a test, the machine does not: a commit has to reach the kernel, not the disk.
        "--innodb-flush-log-at-trx-commit=2".to_owned(),
        "--innodb-buffer-pool-size=16M".to_owned(),
        "--max-allowed-packet=256M".to_owned(),
        "--general-log=1".to_owned(),
        "--log-output=TABLE".to_owned(),
    ] {
        arguments.push(setting.into());
    }
    arguments
}

/// The running server, or none if its port was taken.
async fn serving(launch: &Launch, port: u16) -> Result<Option<Proc>> {
    let server = launch.start()?;
    let state = || async {
        let answers = MySqlConnection::connect(&url(port, "mysql")).await.is_ok();
        Ok((answers, server.ended()?.is_some()))
    };
    let (_, ended) = eventually("MariaDB serves", SOON, state, |(answers, ended)| *answers || *ended).await?;
    if !ended {
        return Ok(Some(server));
    }
    let log = server.log()?;
    if log.contains("Address already in use") { Ok(None) } else { bail!("MariaDB ended at once:\n{log}") }
}

/// `--name=path` as one argument.
fn setting(name: &str, path: &Path) -> OsString {
    let mut text = OsString::from(name);
    text.push(path);
    text
}

async fn install(directory: &Path, data: &Path, user: Option<&str>) -> Result<()> {
    // A folder of its own for temporary tables, too: in a shared one, a server that starts clears away another's.
    let directories = [setting("--datadir=", data), setting("--tmpdir=", directory)];
    let mut launch = Launch::new("mariadb-install-db", programs::mariadb("mariadb-install-db")?, directory)
        .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"])
        .args(directories);
    launch.user = user.map(str::to_owned);
    let process = launch.start()?;
    let status = process.wait(SOON).await?;
    ensure!(status.success(), "mariadb-install-db failed ({status}):\n{}", process.log()?);
    Ok(())
}
