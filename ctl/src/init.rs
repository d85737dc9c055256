//! `init`: creates or migrates the state database. Coordinators, `run` and `daemon` do the same by themselves; this is
//! for whoever wants it done before, or by another role.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use sqlsentinel_common::process::Output;
use sqlsentinel_common::secret::redact_url;
use sqlsentinel_common::settings::StateSettings;
use sqlsentinel_common::store::schema::Found;
use sqlsentinel_common::store::{Store, StoreRole};

use crate::output::{moment, print, print_json};

/// Which database.
#[derive(Debug, Args)]
pub struct InitArgs {
    #[command(flatten)]
    state: StateSettings,
    /// Say that it was restored from a copy: what it has yet to tell may have been told, and is marked
    #[arg(long)]
    restored: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Brings the schema to this build's version.
pub async fn run(args: &InitArgs) -> anyhow::Result<ExitCode> {
    let url = redact_url(args.state.database.url.expose());
    let store = Store::connect(&args.state.database, StoreRole::Member)?;
    let made = async {
        let before = store.found().await?;
        let cluster_id = store.migrate().await?;
        let rollback = match args.restored {
            true => store.note_restored("sqlsentinel-ctl init --restored").await?,
            false => None,
        };
        anyhow::Ok((before, store.found().await?, cluster_id, rollback))
    };
    let (made, known) = (made.await, store.newest_schema());
    store.close().await;
    let (before, after, cluster_id, rollback) =
        made.with_context(|| format!("cannot prepare the state database {url}"))?;
    let version = match after {
        Found::Ours { version } => version,
        Found::Nothing | Found::Python { .. } => 0,
    };
    match args.output {
        Output::Json => print_json(&json!({
            "state_database": url,
            "cluster_id": cluster_id,
            "schema_version": version,
            "was": was(before, after, known),
            "uncertain_from": rollback.as_ref().map(|rollback| rollback.uncertain_from),
            "possible_duplicates": rollback.as_ref().map(|rollback| rollback.notifications),
        }))?,
        Output::Text => {
            let done = match (was(before, after, known), before) {
                (_, Found::Python { executions }) => {
                    format!("was taken over from SQL Sentinel 0.1, with {executions} runs in its history")
                }
                (CURRENT, _) => "is up to date".to_owned(),
                (NEWER, _) => {
                    format!("has version {version}, which is newer than {known}, this program's, and fit for it")
                }
                (_, Found::Ours { version: old }) => format!("was migrated from version {old} to {version}"),
                (_, Found::Nothing) => "was created".to_owned(),
            };
            print(&format!("State database {url} {done} (cluster {cluster_id}).\n"))?;
            if let Some(rollback) = rollback {
                print(&format!(
                    "It was restored: fires after {} are planned again. Notifications that wait and are marked as possible \
                     duplicates: {}.\n",
                    moment(rollback.uncertain_from),
                    rollback.notifications
                ))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What there was, if nothing had to be done.
const CURRENT: &str = "up_to_date";
/// What there was, if a newer program has made it.
const NEWER: &str = "newer";

/// What there was, in a word for programs.
fn was(before: Found, after: Found, known: i64) -> &'static str {
    match before {
        Found::Nothing => "empty",
        Found::Python { .. } => "python",
        Found::Ours { version } if version > known => NEWER,
        before if before == after => CURRENT,
        Found::Ours { .. } => "older",
    }
}
