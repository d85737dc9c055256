//! `backup`: a copy of a SQLite state database, taken while everything runs.
//!
//! Copying the file itself would leave out what is in its write-ahead log, or catch it in the middle of a write.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;
use sqlsentinel_common::config::DatabaseKind;
use sqlsentinel_common::process::Output;
use sqlsentinel_common::secret::redact_url;
use sqlsentinel_common::settings::StateSettings;
use sqlsentinel_common::store::Store;

use crate::output::{moment, print, print_json};
use crate::state;

/// What to copy, and where to.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The file to make; it must not be there
    file: PathBuf,
    #[command(flatten)]
    state: StateSettings,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Copies it, and says how far the ledger is planned in the copy at least.
pub async fn run(args: BackupArgs) -> anyhow::Result<ExitCode> {
    let url = redact_url(args.state.database.url.expose());
    if args.state.database.kind != DatabaseKind::Sqlite {
        bail!("{url} is not SQLite: PostgreSQL is backed up with its own tools, such as pg_dump");
    }
    if args.file.exists() {
        bail!("{} is there already: name a new file", args.file.display());
    }
    let store = state::open_existing(&args.state)?;
    let copied = async {
        let before = store.leadership().await?;
        copy(&store, &args.file).await?;
        anyhow::Ok(before.map(|row| row.planned_through))
    };
    let copied = copied.await;
    store.close().await;
    let planned_through = copied.with_context(|| format!("cannot back up the state database {url}"))?;
    let bytes = fs::metadata(&args.file)?.len();
    match args.output {
        Output::Json => print_json(&json!({
            "state_database": url,
            "file": args.file,
            "bytes": bytes,
            "planned_through": planned_through,
        }))?,
        Output::Text => {
            let planned = planned_through.map_or("nothing was planned yet".to_owned(), |moment_of| {
                format!("planned through {} or later", moment(moment_of))
            });
            print(&format!(
                "State database {url} was copied to {} ({bytes} bytes), {planned}.\n",
                args.file.display()
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Under the name `file` there is a whole copy or none, whatever happens meanwhile.
async fn copy(store: &Store, file: &Path) -> anyhow::Result<()> {
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let name = part.to_str().with_context(|| format!("{} is no UTF-8", part.display()))?;
    // What an earlier attempt has left behind: SQLite overwrites nothing.
    match fs::remove_file(&part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context(part.display().to_string());
        }
        _ => {}
    }
    store.copy_into(name).await?;
    File::open(&part)?.sync_all()?;
    fs::rename(&part, file)?;
    Ok(())
}
