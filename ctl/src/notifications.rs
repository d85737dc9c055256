//! `notifications`: what has become of notifications, newest first; those that were given up are what `replay` sends
//! after all.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use sqlsentinel_common::process::Output;
use sqlsentinel_common::settings::{ConfigSettings, StateSettings};
use sqlsentinel_common::store::outbox::{NotificationFilter, NotificationRecord, NotificationStatus};

use crate::output::{moment, print, print_json, table};
use crate::state;

/// Which notifications.
#[derive(Debug, Args)]
pub struct NotificationsArgs {
    #[command(flatten)]
    config: Option<ConfigSettings>,
    /// Only those that have come so far: `pending`, `sending`, `sent`, `dead` (given up) or `skipped`
    #[arg(long, value_name = "STATUS", value_parser = status)]
    status: Option<NotificationStatus>,
    /// Only this alert's
    #[arg(long, value_name = "NAME")]
    alert: Option<String>,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    #[command(flatten)]
    state: StateSettings,
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Prints them. A configuration serves to recognise a mistyped alert.
pub async fn run(args: NotificationsArgs) -> anyhow::Result<ExitCode> {
    if let Some(settings) = &args.config {
        state::chosen_alerts(&settings.load()?, args.alert.as_deref())?;
    }
    let store = state::open_existing(&args.state)?;
    let filter = NotificationFilter { status: args.status, alert: args.alert.as_deref(), limit: args.limit };
    let found = store.notifications(filter).await;
    let found = found.context("cannot read the notifications (is the schema up to date? See `init`)")?;
    match args.output {
        Output::Json => print_json(&found)?,
        Output::Text if found.is_empty() => print("No such notification.\n")?,
        Output::Text => {
            let headings = ["Queued", "Alert Name", "Kind", "Route", "Status", "Attempts", "Notification", "Remarks"];
            print(&table(headings, &found.iter().map(row).collect::<Vec<_>>()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn status(text: &str) -> Result<NotificationStatus, String> {
    let wanted = text.trim().to_uppercase();
    let known = NotificationStatus::ALL.into_iter().find(|status| status.as_str() == wanted);
    known.ok_or_else(|| "write `pending`, `sending`, `sent`, `dead` or `skipped`".to_owned())
}

fn row(record: &NotificationRecord) -> [String; 8] {
    let alert = match record.instance.as_str() {
        "" => record.alert_name.clone(),
        instance => format!("{} ({instance})", record.alert_name),
    };
    let remarks = [
        record.possible_duplicate.then(|| "possible duplicate".to_owned()),
        record.fallback_for.as_ref().map(|route| format!("stands in for {route}")),
        record.digest_id.as_ref().map(|_| "in a digest".to_owned()),
        record.replayed_by.as_ref().map(|user| format!("replayed by {user}")),
        record.last_error.clone().filter(|_| record.status != NotificationStatus::Sent.as_str()),
    ];
    [
        moment(record.created_at),
        alert,
        record.kind.clone(),
        record.route_key.clone(),
        record.status.clone(),
        record.attempt.to_string(),
        record.notification_id.clone(),
        remarks.into_iter().flatten().collect::<Vec<_>>().join(", "),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_written_in_any_case() {
        assert_eq!(status("dead"), Ok(NotificationStatus::Dead));
        assert_eq!(status(" PENDING "), Ok(NotificationStatus::Pending));
        assert!(status("gone").is_err());
    }
}
