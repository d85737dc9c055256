//! A real PostgreSQL server of the test's own: state databases and target databases in it, stopped and started at
//! will. It logs each statement of chosen databases, so that a test can count what really ran there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Executor};
use tempfile::TempDir;

use crate::eventually::{SOON, eventually};
use crate::ports;
use crate::process::{Launch, Proc, Signal};
use crate::programs;

const SUPERUSER: &str = "postgres";

/// A PostgreSQL server. Its databases survive [`Postgres::stop`] and [`Postgres::start_again`].
#[derive(Debug)]
pub struct Postgres {
    directory: TempDir,
    launch: Launch,
    port: u16,
    server: Option<Proc>,
}

/// One statement that the server ran for a database whose statements are logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// When it began, in microseconds since the Unix epoch; the server tells milliseconds.
    pub at: i64,
    /// The server process, one for each connection.
    pub pid: String,
    /// What the session called itself when the statement ran.
    pub application_name: String,
    /// The database.
    pub database: String,
    /// The statement's text.
    pub text: String,
}

impl Postgres {
    /// Makes an empty cluster, starts its server and waits until it serves.
    pub async fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("sqlsentinel-postgres-").tempdir()?;
        let user = if rustix::process::geteuid().is_root() {
            Some(programs::own_by(directory.path(), "postgres")?)
        } else {
            None
        };
        let data = directory.path().join("data");
        initdb(directory.path(), &data, user.as_deref()).await?;

        let mut launch = Launch::new("postgres", programs::postgres("postgres")?, directory.path());
        launch.user = user;
        // Immediate shutdown: the server removes its shared memory, which a killed one leaves behind.
        launch.end = Signal::QUIT;
        for _ in 0..10 {
            let port = ports::free()?;
            launch.args = arguments(&data, port);
            if let Some(server) = serving(&launch, port).await? {
                return Ok(Self { directory, launch, port, server: Some(server) });
            }
        }
        bail!("PostgreSQL found no free port ten times")
    }

    /// The URL of one of its databases.
    pub fn url(&self, database: &str) -> String {
        url(self.port, database)
    }

    /// Creates a database and returns its URL.
    pub async fn create_database(&self, name: &str) -> Result<String> {
        self.administer(&format!("CREATE DATABASE {name}")).await?;
        Ok(self.url(name))
    }

    /// Logs every statement of `database` from its next session on, for [`Postgres::statements`].
    pub async fn log_statements(&self, database: &str) -> Result<()> {
        self.administer(&format!("ALTER DATABASE {database} SET log_statement = 'all'")).await
    }

    /// The logged statements, in the order in which they began.
    pub fn statements(&self) -> Result<Vec<Statement>> {
        Ok(parse_log(&std::fs::read_to_string(&self.launch.log)?))
    }

    /// Its process id; none while it is stopped.
    pub fn pid(&self) -> Option<i32> {
        self.server.as_ref().map(Proc::pid)
    }

    /// Where it logs.
    pub fn log_file(&self) -> &Path {
        &self.launch.log
    }

    /// A pool of this test's own on one database.
    pub async fn pool(&self, database: &str) -> Result<PgPool> {
        Ok(PgPoolOptions::new().max_connections(4).connect(&self.url(database)).await?)
    }

    /// Everything in one of its databases, as `pg_dump` prints it, without the lines that differ each time.
    pub async fn dump(&self, database: &str) -> Result<String> {
        self.dump_with(database, &["--blobs"]).await
    }

    /// The same, with these options of `pg_dump`.
    pub async fn dump_with(&self, database: &str, options: &[&str]) -> Result<String> {
        let place = tempfile::tempdir()?;
        let launch = Launch::new("pg_dump", programs::postgres("pg_dump")?, place.path())
            .args(options.iter().copied())
            .args(["--dbname".to_owned(), self.url(database)]);
        let process = launch.start()?;
        let status = process.wait(SOON).await?;
        let text = process.log()?;
        ensure!(status.success(), "pg_dump failed ({status}):\n{text}");
        Ok(text.lines().filter(|line| !line.starts_with('\\')).collect::<Vec<_>>().join("\n"))
    }

    /// Stops the server at once: every session is cut, what was committed stays.
    pub async fn stop(&mut self) -> Result<()> {
        let server = self.server.take().context("PostgreSQL is not running")?;
        server.signal(Signal::QUIT)?;
        server.wait(SOON).await?;
        Ok(())
    }

    /// Starts it again on the same port.
    pub async fn start_again(&mut self) -> Result<()> {
        let server = serving(&self.launch, self.port).await?;
        self.server = Some(server.context("PostgreSQL's port was taken meanwhile")?);
        Ok(())
    }

    /// Keeps a copy of everything in it as it is now, for [`Postgres::put_back`]. The server is away meanwhile.
    pub async fn copy(&mut self) -> Result<()> {
        self.stop().await?;
        self.replace("data", "copy")?;
        self.start_again().await
    }

    /// Makes everything in it as it was when it was copied; the server has to be stopped.
    pub fn put_back(&self) -> Result<()> {
        ensure!(self.server.is_none(), "PostgreSQL is running");
        self.replace("copy", "data")
    }

    /// Replaces one folder by a copy of another, owners and modes included.
    fn replace(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.directory.path().join(from), self.directory.path().join(to));
        if to.exists() {
            std::fs::remove_dir_all(&to)?;
        }
        let status = std::process::Command::new("cp").arg("-a").args([&from, &to]).status()?;
        ensure!(status.success(), "cannot copy {} ({status})", from.display());
        Ok(())
    }

    /// Takes the server away for `duration`.
    pub async fn away_for(&mut self, duration: Duration) -> Result<()> {
        self.stop().await?;
        tokio::time::sleep(duration).await;
        self.start_again().await
    }

    async fn administer(&self, statement: &str) -> Result<()> {
        let mut connection = PgConnection::connect(&self.url(SUPERUSER)).await?;
        connection.execute(AssertSqlSafe(statement)).await?;
        Ok(connection.close().await?)
    }
}

fn url(port: u16, database: &str) -> String {
    format!("postgresql://{SUPERUSER}@127.0.0.1:{port}/{database}")
}

fn arguments(data: &Path, port: u16) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["-D".into(), data.into()];
    for setting in [
        format!("port={port}"),
        "listen_addresses=127.0.0.1".to_owned(),
        "unix_socket_directories=".to_owned(),
        "max_connections=200".to_owned(),
        // The server crashes in a test, the machine does not: a commit has to reach the kernel, not the disk.
        "fsync=off".to_owned(),
        "synchronous_commit=on".to_owned(),
        "full_page_writes=off".to_owned(),
        "log_line_prefix=|%p|%n|%a|%d|".to_owned(),
        "log_error_verbosity=terse".to_owned(),
        "log_min_messages=log".to_owned(),
    ] {
        arguments.extend(["-c".into(), setting.into()]);
    }
    arguments
}

/// The running server, or none if its port was taken.
async fn serving(launch: &Launch, port: u16) -> Result<Option<Proc>> {
    let server = launch.start()?;
    let state = || async {
        let answers = PgConnection::connect(&url(port, SUPERUSER)).await.is_ok();
        Ok((answers, server.ended()?.is_some()))
    };
    let (_, ended) = eventually("PostgreSQL serves", SOON, state, |(answers, ended)| *answers || *ended).await?;
    if !ended {
        return Ok(Some(server));
    }
    let log = server.log()?;
    if log.contains("Address already in use") { Ok(None) } else { bail!("PostgreSQL ended at once:\n{log}") }
}

async fn initdb(directory: &Path, data: &Path, user: Option<&str>) -> Result<()> {
    let program: PathBuf = programs::postgres("initdb")?;
    let mut launch = Launch::new("initdb", program, directory).args(["--no-sync", "--encoding=UTF8", "--locale=C"]);
    launch = launch
        .args([format!("--username={SUPERUSER}"), "--auth=trust".to_owned()])
        .args(["-D".into(), OsString::from(data)]);
    launch.user = user.map(str::to_owned);
    let process = launch.start()?;
    let status = process.wait(SOON).await?;
    ensure!(status.success(), "initdb failed ({status}):\n{}", process.log()?);
    Ok(())
}

/// Reads statements out of the server's log: `|pid|time|application|database|LOG:  execute name: text`, where further
/// lines of a text begin with a tab.
fn parse_log(log: &str) -> Vec<Statement> {
    let mut statements: Vec<Statement> = Vec::new();
    let mut within = false;
    for line in log.lines() {
        if let Some(rest) = line.strip_prefix('\t') {
            if let (true, Some(last)) = (within, statements.last_mut()) {
                last.text.push('\n');
                last.text.push_str(rest);
            }
            continue;
        }
        let statement = parse_line(line);
        within = statement.is_some();
        statements.extend(statement);
    }
    statements
}

fn parse_line(line: &str) -> Option<Statement> {
    let mut fields = line.strip_prefix('|')?.splitn(5, '|');
    let (pid, at, application_name) = (fields.next()?, fields.next()?, fields.next()?);
    let (database, rest) = (fields.next()?, fields.next()?);
    let message = rest.strip_prefix("LOG:  ")?;
    let text = match message.strip_prefix("statement: ") {
        Some(text) => text,
        None => message.strip_prefix("execute ")?.split_once(": ")?.1,
    };
    let (seconds, milliseconds) = at.split_once('.')?;
    Some(Statement {
        at: (seconds.parse::<i64>().ok()? * 1_000 + milliseconds.parse::<i64>().ok()?) * 1_000,
        pid: pid.to_owned(),
        application_name: application_name.to_owned(),
        database: database.to_owned(),
        text: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_gives_back_what_was_run_by_whom() {
        let log = "|7|1800000000.000||| LOG:  starting\n\
            |8|1800000000.042|sqlsentinel x|shop|LOG:  execute sqlx_s_1: SELECT 1\n\t, 2\n\
            |8|1800000000.042|sqlsentinel x|shop|DETAIL:  parameters: $1 = '5'\n\
            |8|1800000000.043||shop|LOG:  statement: ROLLBACK\n\
            |8|1800000000.043||shop|ERROR:  no: such thing\n\t it says\n";
        let statements = parse_log(log);
        assert_eq!(statements.iter().map(|s| s.text.as_str()).collect::<Vec<_>>(), ["SELECT 1\n, 2", "ROLLBACK"]);
        assert_eq!((statements[0].application_name.as_str(), statements[0].pid.as_str()), ("sqlsentinel x", "8"));
        assert_eq!((statements[0].database.as_str(), statements[0].at), ("shop", 1_800_000_000_042_000));
    }

    #[tokio::test]
    async fn a_stopped_server_comes_back_on_its_port_with_its_data_and_its_statements_are_counted() -> Result<()> {
        let mut postgres = Postgres::start().await?;
        let url = postgres.create_database("shop").await?;
        postgres.log_statements("shop").await?;
        let mut connection = PgConnection::connect(&url).await?;
        connection.execute("CREATE TABLE t (x INT)").await?;
        sqlx::query("INSERT INTO t VALUES ($1)").bind(5).execute(&mut connection).await?;
        postgres.stop().await?;
        assert!(PgConnection::connect(&url).await.is_err());
        postgres.start_again().await?;
        let mut connection = PgConnection::connect(&url).await?;
        let found: i32 = sqlx::query_scalar("SELECT x FROM t").fetch_one(&mut connection).await?;
        assert_eq!(found, 5);
        let texts: Vec<String> = postgres.statements()?.into_iter().map(|statement| statement.text).collect();
        assert!(texts.contains(&"SELECT x FROM t".to_owned()), "{texts:?}");
        assert_eq!(texts.iter().filter(|text| text.starts_with("INSERT")).count(), 1, "{texts:?}");
        Ok(())
    }
}
