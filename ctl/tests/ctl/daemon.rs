//! The daemon, on one machine: from an alert's file to its webhook, with a nats-server of its own or a given one.
//! Needs `nats-server` on the path.

use std::error::Error;
use std::io::{BufRead, BufReader, Lines};
use std::process::{ChildStderr, ExitStatus, Stdio};

use serde_json::{Value, json};

use crate::support::{NatsServer, Place, Receiver, Running, wait_for};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const ALERTS: &str = r#"
database:
  url: sqlite:///target.db
alerts:
  - name: pulse
    query: "SELECT 'ALERT' AS status, 1 AS actual_value"
    schedule: every 1s
    notify:
      - channel: webhook
        url: ${HOOK_URL}
"#;

fn place(receiver: &Receiver) -> Result<Place> {
    let place = Place::new()?.with("HOOK_URL", &receiver.url("/hook"));
    place.write("alerts.yaml", ALERTS)?;
    place.write("target.db", "")?;
    Ok(place)
}

/// A daemon and its log.
struct Daemon {
    process: Running,
    log: Lines<BufReader<ChildStderr>>,
}

impl Daemon {
    fn start(place: &Place, flags: &[&str]) -> Result<Self> {
        let mut command = place.command(&[&["daemon", "alerts.yaml"], flags].concat());
        let mut process = Running(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?);
        let log = BufReader::new(process.0.stderr.take().ok_or("no stderr")?).lines();
        Ok(Self { process, log })
    }

    /// The context of the next log line that says `message`.
    fn logs(&mut self, message: &str) -> Result<Value> {
        loop {
            let line = self.log.next().ok_or_else(|| format!("the daemon ended before it logged `{message}`"))??;
            let mut line: Value = serde_json::from_str(&line)?;
            if line["message"] == message {
                return Ok(line["context"].take());
            }
        }
    }

    /// Waits for its end; how it ended, and the rest of its log.
    fn end(mut self) -> Result<(ExitStatus, Vec<String>)> {
        let rest = self.log.collect::<std::result::Result<_, _>>()?;
        Ok((self.process.0.wait()?, rest))
    }
}

#[test]
fn one_process_runs_an_alert_from_its_file_to_its_webhook_and_ends_when_asked() -> Result<()> {
    let receiver = Receiver::start()?;
    let place = place(&receiver)?;
    let mut daemon = Daemon::start(&place, &["--port", "0"])?;
    let address = daemon.logs("listening")?["address"].as_str().ok_or("no address")?.to_owned();

    let body: Value = serde_json::from_str(&receiver.next_body()?)?;
    assert_eq!(body["alert_name"], "pulse");
    let status = place.ctl(&["status", "alerts.yaml", "--output", "json"])?;
    assert_eq!(serde_json::from_str::<Value>(&status.out)?[0]["state"]["status"], "ALERT", "{status:?}");
    let port = address.rsplit(':').next().unwrap_or_default();
    let metrics = place.ctl(&["metrics", "--port", port])?;
    assert!(metrics.code == 0 && metrics.out.contains("# TYPE sqlsentinel_uptime_seconds gauge\n"), "{metrics:?}");
    let metrics = place.ctl(&["metrics", "--port", port, "--output", "json"])?;
    let families: Vec<Value> = serde_json::from_str(&metrics.out)?;
    let jobs = families.iter().find(|family| family["name"] == "sqlsentinel_scheduler_jobs");
    assert_eq!(
        jobs.map(|jobs| (&jobs["type"], &jobs["samples"][0]["value"])),
        Some((&json!("gauge"), &json!(1.0))),
        "the running process's own: {metrics:?}"
    );
    let second = place.ctl(&["daemon", "alerts.yaml"])?;
    assert!(second.code == 1 && second.err.contains("another daemon uses"), "{second:?}");

    daemon.process.signal("TERM")?;
    let (ended, rest) = daemon.end()?;
    assert!(ended.success(), "{ended}: {rest:#?}");
    assert!(place.ports_files("sqlsentinel.db.nats")?.is_empty(), "nats-server removes this when it ends as asked");
    assert!(std::net::TcpStream::connect(address).is_err());
    Ok(())
}

#[test]
fn a_database_of_the_command_line_is_the_one_that_is_queried() -> Result<()> {
    let receiver = Receiver::start()?;
    let place = place(&receiver)?;
    place.write("alerts.yaml", &ALERTS.replace("sqlite:///target.db", "sqlite:////nowhere/target.db"))?;
    let daemon = Daemon::start(&place, &["--database-url", "sqlite:///target.db"])?;
    let body: Value = serde_json::from_str(&receiver.next_body()?)?;
    assert_eq!((&body["alert_name"], &body["status"]), (&json!("pulse"), &json!("ALERT")));
    daemon.process.signal("TERM")?;
    let (ended, rest) = daemon.end()?;
    assert!(ended.success(), "{ended}: {rest:#?}");
    Ok(())
}

#[test]
fn a_daemon_that_was_killed_leaves_nothing_that_stops_the_next_one() -> Result<()> {
    let receiver = Receiver::start()?;
    let place = place(&receiver)?;
    let mut killed = Daemon::start(&place, &[])?;
    killed.logs("nats-server started")?;
    killed.process.signal("KILL")?;
    killed.end()?;

    let mut next = Daemon::start(&place, &[])?;
    next.logs("nats-server started")?;
    assert_eq!(place.ports_files("sqlsentinel.db.nats")?.len(), 1, "the server that was left behind has ended");
    next.process.signal("INT")?;
    let (ended, rest) = next.end()?;
    assert!(ended.success(), "{ended}: {rest:#?}");
    Ok(())
}

#[test]
fn a_daemon_whose_nats_server_dies_ends_with_a_failure_that_says_so() -> Result<()> {
    let receiver = Receiver::start()?;
    let place = place(&receiver)?;
    let mut daemon = Daemon::start(&place, &[])?;
    daemon.logs("nats-server started")?;
    let file = place.ports_files("sqlsentinel.db.nats")?.pop().ok_or("no ports file")?;
    let pid = file.trim_start_matches("nats-server_").trim_end_matches(".ports");
    assert!(std::process::Command::new("kill").args(["-KILL", pid]).status()?.success());
    let (ended, rest) = daemon.end()?;
    assert_eq!(ended.code(), Some(1), "{rest:#?}");
    let last: Value = serde_json::from_str(rest.last().ok_or("no log")?)?;
    let message = last["message"].as_str().unwrap_or_default();
    assert!(last["level"] == "CRITICAL" && message.contains("nats-server ended"), "{last}");
    Ok(())
}

#[test]
fn a_cluster_is_asked_over_nats() -> Result<()> {
    let receiver = Receiver::start()?;
    let place = place(&receiver)?;
    let nats = NatsServer::start()?;
    let daemon = Daemon::start(&place, &["--nats-url", &nats.url])?;
    receiver.next_body()?;

    let asked = || -> Result<(i32, Value)> {
        let ran = place.ctl(&["healthcheck", "--cluster", "--nats-url", &nats.url, "--output", "json"])?;
        Ok((ran.code, serde_json::from_str(&ran.out)?))
    };
    let (code, report) = wait_for("the cluster is well", || {
        let (code, report) = asked()?;
        Ok((code == 0).then_some((code, report)))
    })?;
    let roles: Vec<_> = report["processes"].as_array().into_iter().flatten().map(|process| &process["role"]).collect();
    assert_eq!(roles, [&json!("coordinator"), &json!("worker"), &json!("notifier")], "{report}");
    assert_eq!((code, &report["checks"]["leader"]["status"]), (0, &json!("degraded")), "nobody stands by: {report}");

    let status = place.ctl(&["status", "--nats-url", &nats.url, "--output", "json"])?;
    let states: Value = serde_json::from_str(&status.out)?;
    assert_eq!(
        (&states[0]["alert_name"], &states[0]["state"]["status"]),
        (&json!("pulse"), &json!("ALERT")),
        "{status:?}"
    );

    let elsewhere = ["healthcheck", "--cluster", "--nats-url", &nats.url, "--namespace", "elsewhere"];
    let ran = place.ctl(&elsewhere)?;
    assert!(ran.code == 1 && ran.out.contains("no coordinator answers"), "{ran:?}");

    daemon.process.signal("TERM")?;
    let (ended, rest) = daemon.end()?;
    assert!(ended.success(), "{ended}: {rest:#?}");
    Ok(())
}

#[test]
fn every_variable_of_0_1_is_as_good_as_its_flag() -> Result<()> {
    let receiver = Receiver::start()?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
    let place = Place::new()?
        .with("CONFIG_PATH", "alerts.yaml")
        .with("DATABASE_URL", "sqlite:///target.db")
        .with("STATE_DB_PATH", "own.db")
        .with("PORT", &port)
        .with("TIMEZONE", "Europe/Berlin")
        .with("LOG_LEVEL", "warning")
        .with("LOG_FORMAT", "text")
        .with("LOG_FILE", "daemon.log")
        .with("WEBHOOK_URL", &receiver.url("/hook"));
    let alerts = ALERTS.replace("sqlite:///target.db", "${DATABASE_URL}").replace("        url: ${HOOK_URL}\n", "");
    let alerts = alerts + "  - {name: monday, query: \"SELECT 'OK' AS status\", schedule: '0 9 * * 1'}\n";
    place.write("alerts.yaml", &alerts)?;
    place.write("target.db", "")?;
    let validated = place.ctl(&["validate"])?;
    assert!(validated.code == 0 && validated.out.contains("(Europe/Berlin)"), "{validated:?}");

    let mut command = place.command(&["daemon"]);
    let mut daemon = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    let body: Value = serde_json::from_str(&receiver.next_body()?)?;
    assert_eq!(body["alert_name"], "pulse");
    assert!(place.path("own.db").exists() && !place.path("sqlsentinel.db").exists());
    let metrics = place.ctl(&["metrics"])?;
    assert!(metrics.code == 0 && metrics.out.contains("sqlsentinel_scheduler_jobs 2\n"), "{metrics:?}");
    let log = std::fs::read_to_string(place.path("daemon.log"))?;
    assert!(log.contains("] [WARNING] [") && log.contains("weekdays are POSIX") && !log.contains("[INFO]"), "{log}");
    daemon.signal("TERM")?;
    // Killed at once, it would leave its nats-server behind.
    assert!(daemon.0.wait()?.success());
    Ok(())
}
