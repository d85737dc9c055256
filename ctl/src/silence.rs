//! `silence`: asks for an alert not to be told for a while. Who asked, when and why is kept in the state database.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use sqlsentinel_common::process::Output;
use sqlsentinel_common::settings::{ConfigSettings, StateSettings};
use sqlsentinel_common::store::silences::SilenceRequest;

use crate::output::{moment, print, print_json};
use crate::state;

/// The longest silence: one that is forgotten ends some day.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// What to silence.
#[derive(Debug, Args)]
pub struct SilenceArgs {
    #[command(flatten)]
    config: ConfigSettings,
    /// Which alert
    #[arg(long, value_name = "NAME")]
    alert: String,
    /// For how long: `30m`, `2h`, `3d`, or a number of hours
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    duration: Duration,
    /// Why, for whoever asks later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    user: UserArgs,
    #[command(flatten)]
    state: StateSettings,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Who asks.
#[derive(Debug, Args)]
pub struct UserArgs {
    /// Who asks: kept on record
    #[arg(long, env = "USER", value_name = "NAME")]
    user: Option<String>,
}

impl UserArgs {
    /// The name, or a word in the place of one.
    pub fn name(&self) -> &str {
        self.user.as_deref().map(str::trim).filter(|name| !name.is_empty()).unwrap_or("unknown")
    }
}

/// Silences the alert.
pub async fn run(args: SilenceArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    state::chosen_alerts(&config, Some(&args.alert))?;
    let store = state::open_existing(&args.state)?;
    let reason = args.reason.as_deref().map(str::trim).filter(|reason| !reason.is_empty());
    let request =
        SilenceRequest { alert_name: &args.alert, duration: args.duration, created_by: args.user.name(), reason };
    let until =
        store.silence(&request).await.context("cannot silence the alert (is the schema up to date? See `init`)")?;
    tracing::info!(alert_name = args.alert, user = args.user.name(), %until, reason, "alert silenced");
    match args.output {
        Output::Json => print_json(&json!({"alert_name": args.alert, "silenced_until": until}))?,
        Output::Text => print(&format!("Alert `{}` is silenced until {}.\n", args.alert, moment(until)))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `30m`, `2h`, `3d`, `1h 30m`, or a number of hours.
fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let duration = match text.parse::<f64>() {
        Ok(hours) => Duration::try_from_secs_f64(hours * 3600.0).ok(),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    let allowed = Duration::from_secs(1)..=LONGEST;
    let duration = duration.ok_or("write `30m`, `2h`, `3d`, or a number of hours")?;
    if allowed.contains(&duration) { Ok(duration) } else { Err("not between one second and 366 days".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_units_or_is_in_hours_as_it_always_was() {
        for (text, seconds) in
            [("1", 3_600), ("0.5", 1_800), ("30m", 1_800), ("2h", 7_200), ("3d", 259_200), ("1h 30m", 5_400), ("1s", 1)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "0", "-1", "soon", "inf", "NaN", "367d", "10000", "1ms"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn whoever_has_no_name_is_unknown() {
        let name = |user: Option<&str>| UserArgs { user: user.map(str::to_owned) }.name().to_owned();
        assert_eq!(
            (name(Some(" eve ")), name(Some(" ")), name(None)),
            ("eve".into(), "unknown".into(), "unknown".into())
        );
    }
}
