//! `init`: creates or migrates the state database. Coordinators, `run` and `daemon` do the same by themselves; this is
//! for whoever wants it done before, or by another role.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use sqlsentinel_common::process::Output;
use sqlsentinel_common::secret::redact_url;
use sqlsentinel_common::settings::StateSettings;
use sqlsentinel_common::store::{Store, StoreRole};

use crate::output::{print, print_json};

/// Which database.
#[derive(Debug, Args)]
pub struct InitArgs {
    #[command(flatten)]
    state: StateSettings,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Brings the schema to this build's version.
pub async fn run(args: &InitArgs) -> anyhow::Result<ExitCode> {
    let store = Store::connect(&args.state.database, StoreRole::Member)?;
    let cluster_id = store.migrate().await?;
    store.close().await;
    let url = redact_url(args.state.database.url.expose());
    match args.output {
        Output::Json => print_json(&json!({"state_database": url, "cluster_id": cluster_id}))?,
        Output::Text => print(&format!("State database {url} is up to date (cluster {cluster_id}).\n"))?,
    }
    Ok(ExitCode::SUCCESS)
}
