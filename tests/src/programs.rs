//! Where the programs are that tests run: ours in the target folder, servers in `.tools`, on the path, or where
//! Debian puts them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Command};
use sqlsentinel_common::settings::{ConfigSettings, ProcessSettings};

/// The checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// A program of this workspace, as `./scripts/test` (or `cargo build --workspace`) built it.
pub fn ours(name: &str) -> Result<PathBuf> {
    // The running test is `target/<profile>/deps/<test>-<hash>`; programs lie beside `deps`, one of which may be running.
    let test = std::env::current_exe().context("where is the running test?")?;
    let folder = test.parent().context("the test runs outside a target folder")?;
    let profile = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let program = profile.join(name);
    if !program.is_file() {
        bail!("{} is not built: run ./scripts/test, or `cargo build --workspace` first", program.display());
    }
    Ok(program)
}

/// Our services.
pub const SERVICES: [&str; 3] = ["sqlsentinel-coordinator", "sqlsentinel-worker", "sqlsentinel-notifier"];

/// The whole of a service's options. That there is no other is shown by its own help, in the tests of the documents.
pub fn options(service: &'static str) -> Command {
    let command = ProcessSettings::augment_args(ConfigSettings::augment_args(Command::new(service)));
    match service {
        "sqlsentinel-coordinator" => sqlsentinel_coordinator::app::Settings::augment_args(command),
        "sqlsentinel-worker" => sqlsentinel_worker::Settings::augment_args(command),
        _ => sqlsentinel_notifier::app::Settings::augment_args(command),
    }
}

/// The NATS server.
pub fn nats_server() -> Result<PathBuf> {
    let fetched = root().join(".tools/bin/nats-server");
    if fetched.is_file() { Ok(fetched) } else { on_path("nats-server") }
}

/// A program of Prometheus: `prometheus` or `promtool`.
pub fn prometheus(name: &str) -> Result<PathBuf> {
    let fetched = root().join(".tools/bin").join(name);
    if fetched.is_file() { Ok(fetched) } else { on_path(name) }
}

/// A server program of PostgreSQL: from `POSTGRES_BIN`, where Debian puts them (newest first), or on the path.
pub fn postgres(name: &str) -> Result<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::var_os("POSTGRES_BIN").map(PathBuf::from).into_iter().collect();
    if let Ok(entries) = std::fs::read_dir("/usr/lib/postgresql") {
        let mut versions: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        versions.sort_by_key(|path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()));
        folders.extend(versions.into_iter().rev().map(|version| version.join("bin")));
    }
    match folders.into_iter().map(|folder| folder.join(name)).find(|program| program.is_file()) {
        Some(program) => Ok(program),
        None => on_path(name),
    }
}

/// The library that fakes the wall clock of a process that is started with it.
pub fn libfaketime() -> Result<PathBuf> {
    let entries = std::fs::read_dir("/usr/lib").context("where are libraries?")?;
    let found =
        entries.flatten().map(|entry| entry.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.is_file());
    found.context("libfaketime was not found: run ./scripts/test, which gets what the tests need")
}

/// A program of MariaDB: where Debian puts them (servers are not on everybody's path), or on the path.
pub fn mariadb(name: &str) -> Result<PathBuf> {
    let folders = ["/usr/sbin", "/usr/bin"].map(|folder| Path::new(folder).join(name));
    folders.into_iter().find(|program| program.is_file()).map_or_else(|| on_path(name), Ok)
}

/// Gives a folder to the user of a server that refuses to run as root, and returns the user.
pub fn own_by(folder: &Path, user: &str) -> Result<String> {
    let accounts = std::fs::read_to_string("/etc/passwd")?;
    let account = accounts.lines().find_map(|line| line.strip_prefix(user)?.strip_prefix(':'));
    let mut fields =
        account.with_context(|| format!("there is no user {user} to run the server as"))?.split(':').skip(1);
    let mut id = || fields.next().context("short line in /etc/passwd")?.parse::<u32>().context("an id in /etc/passwd");
    let (uid, gid) = (id()?, id()?);
    std::os::unix::fs::chown(folder, Some(uid), Some(gid))?;
    Ok(user.to_owned())
}

fn on_path(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .with_context(|| format!("{name} was not found: run ./scripts/test, which gets what the tests need"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_built_is_named_together_with_the_remedy() {
        let message = ours("sqlsentinel-nonsense").unwrap_err().to_string();
        assert!(message.contains("sqlsentinel-nonsense") && message.contains("./scripts/test"), "{message}");
    }

    #[test]
    fn the_servers_are_found() -> Result<()> {
        assert!(nats_server()?.is_file());
        assert!(postgres("postgres")?.is_file());
        assert!(mariadb("mariadbd")?.is_file());
        assert!(libfaketime()?.is_file());
        Ok(())
    }
}
