//! `replay`: sends notifications after all that were given up. Who has asked for it stands in their rows.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;
use sqlsentinel_common::ids::NotificationId;
use sqlsentinel_common::process::Output;
use sqlsentinel_common::settings::StateSettings;
use sqlsentinel_common::store::outbox::Replay;

use crate::output::{print, print_json};
use crate::silence::UserArgs;
use crate::state;

/// What to send after all.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Which notification (`notifications --status dead` names them)
    #[arg(value_name = "NOTIFICATION_ID", required_unless_present = "all_dead", conflicts_with = "all_dead")]
    notification: Option<NotificationId>,
    /// All that were given up
    #[arg(long)]
    all_dead: bool,
    /// Only those of this alert
    #[arg(long, value_name = "NAME", requires = "all_dead")]
    alert: Option<String>,
    #[command(flatten)]
    user: UserArgs,
    #[command(flatten)]
    state: StateSettings,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Puts them back into the outbox, where notifiers find them.
pub async fn run(args: ReplayArgs) -> anyhow::Result<ExitCode> {
    let store = state::open_existing(&args.state)?;
    let which = match args.notification {
        Some(notification) => Replay::One(notification),
        None => Replay::All { alert: args.alert.as_deref() },
    };
    let replayed = store.replay(which, args.user.name()).await;
    let replayed = replayed.context("cannot replay (is the schema up to date? See `init`)")?;
    if let (Some(notification), true) = (args.notification, replayed.is_empty()) {
        bail!("there is no notification {notification} that was given up");
    }
    for record in &replayed {
        tracing::info!(
            alert_name = record.alert_name,
            notification_id = record.notification_id,
            user = args.user.name(),
            "notification replayed"
        );
    }
    match args.output {
        Output::Json => {
            let ids: Vec<&str> = replayed.iter().map(|record| record.notification_id.as_str()).collect();
            print_json(&json!({"replayed": ids}))?;
        }
        Output::Text => {
            for record in &replayed {
                let (alert, kind, route) = (&record.alert_name, &record.kind, &record.route_key);
                print(&format!("{} ({kind} of `{alert}` to {route}) is to be sent.\n", record.notification_id))?;
            }
            if replayed.is_empty() {
                print("Nothing was given up.\n")?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
