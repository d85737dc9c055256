//! Three servers as `deploy/nats/cluster.conf` makes them, with TLS and a user for each role: the services do their work
//! with just their subjects, and can do nothing beyond.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use async_nats::{Client, ConnectOptions, Event};
use futures::StreamExt;
use serde_json::Value;
use sqlsentinel_tests::certificates::{Authority, Files};
use sqlsentinel_tests::configuration::Configuration;
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::ledger::Ledger;
use sqlsentinel_tests::ports;
use sqlsentinel_tests::process::{Launch, Proc};
use sqlsentinel_tests::programs;
use sqlsentinel_tests::sink::Sink;
use sqlsentinel_tests::target::Target;
use tempfile::TempDir;
use tokio::sync::mpsc;

const ROLES: [&str; 5] = ["coordinator", "worker", "notifier", "viewer", "admin"];

/// Names a password that no test can guess from another's.
pub(crate) fn password(user: &str) -> String {
    format!("canary-{user}")
}

/// The servers, and what a client needs.
pub(crate) struct Servers {
    pub(crate) folder: TempDir,
    pub(crate) files: Files,
    pub(crate) urls: Vec<String>,
    running: Vec<Proc>,
}

impl Servers {
    pub(crate) async fn start() -> Result<Self> {
        // A port may be lost to another test between choosing and binding it: choose again.
        for _ in 0..5 {
            if let Some(servers) = Self::try_start().await? {
                return Ok(servers);
            }
        }
        bail!("three servers found no ports five times")
    }

    async fn try_start() -> Result<Option<Self>> {
        let folder = tempfile::Builder::new().prefix("sqlsentinel-roles-").tempdir()?;
        let files = Authority::new()?.equip(folder.path(), &["localhost", "127.0.0.1"])?;
        let mut ports_of = Vec::new();
        for _ in 0..3 {
            ports_of.push((ports::free()?, ports::free()?, ports::free()?));
        }
        let routes: Vec<_> = ports_of.iter().map(|(_, route, _)| format!("\"tls://127.0.0.1:{route}\"")).collect();
        let mut servers = Self { folder, files, urls: Vec::new(), running: Vec::new() };
        for (number, (client, route, monitor)) in ports_of.iter().enumerate() {
            let name = format!("nats-{}", number + 1);
            let mut launch = Launch::new(&name, programs::nats_server()?, servers.folder.path());
            launch = launch.args(["-c".into(), programs::root().join("deploy/nats/cluster.conf").into_os_string()]);
            let text = |value: &dyn std::fmt::Display| format!("\"{value}\"");
            for (variable, value) in [
                ("NATS_SERVER_NAME", text(&name)),
                ("NATS_LISTEN", text(&format!("127.0.0.1:{client}"))),
                ("NATS_CLUSTER_LISTEN", text(&format!("127.0.0.1:{route}"))),
                ("NATS_MONITOR_LISTEN", text(&format!("127.0.0.1:{monitor}"))),
                ("NATS_ROUTES", format!("[{}]", routes.join(", "))),
                ("NATS_STORE_DIR", text(&servers.folder.path().join(format!("store-{number}")).display())),
                ("NATS_TLS_CERT", text(&servers.files.certificate.display())),
                ("NATS_TLS_KEY", text(&servers.files.key.display())),
                ("NATS_TLS_CA", text(&servers.files.authority.display())),
            ] {
                launch.env.push((variable.to_owned(), value));
            }
            for role in ROLES {
                launch.env.push((format!("NATS_{}_PASSWORD", role.to_uppercase()), text(&password(role))));
            }
            servers.urls.push(format!("tls://127.0.0.1:{client}"));
            servers.running.push(launch.start()?);
        }
        for server in &servers.running {
            let state = || async { Ok((server.log()?, server.ended()?.is_some())) };
            let quorum =
                |log: &str| log.contains("JetStream cluster new metadata leader") || log.contains("Self is new");
            let (log, ended) = eventually("a quorum", SOON, state, |(log, ended)| *ended || quorum(log)).await?;
            if ended && log.contains("address already in use") {
                return Ok(None);
            }
            ensure!(!ended, "nats-server ended at once:\n{log}");
        }
        Ok(Some(servers))
    }

    /// A client of one user, and what the servers refuse it.
    async fn client(&self, user: &str) -> Result<(Client, mpsc::Receiver<String>)> {
        let (refused, refusals) = mpsc::channel(16);
        let client = ConnectOptions::new()
            .user_and_password(user.to_owned(), password(user))
            .custom_inbox_prefix(format!("_INBOX_{user}"))
            .add_root_certificates(self.files.authority.clone())
            .event_callback(move |event| {
                let refused = refused.clone();
                async move {
                    if let Event::ServerError(error) = event {
                        // Nobody reads them any more.
                        let _ = refused.try_send(error.to_string());
                    }
                }
            })
            .connect(self.urls.as_slice())
            .await?;
        Ok((client, refusals))
    }

    /// One of our programs as `user`, with what everybody is told.
    fn launch(&self, program: &str, user: &str) -> Result<Launch> {
        let mut launch = Launch::new(user, programs::ours(program)?, self.folder.path());
        for (variable, value) in [
            ("NATS_URL", self.urls.join(",")),
            ("NATS_CA_FILE", self.files.authority.display().to_string()),
            ("NATS_USER", user.to_owned()),
            ("NATS_PASSWORD", password(user)),
            ("LOG_LEVEL", "DEBUG".to_owned()),
        ] {
            launch.env.push((variable.to_owned(), value));
        }
        Ok(launch)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_works_with_a_user_for_each_role_and_an_operator_who_may_only_look_sees_it() -> Result<()> {
    let servers = Servers::start().await?;
    let sink = Sink::start().await?;
    let target = Target::sqlite(servers.folder.path()).await?;
    target.set("orders", "ALERT", 7).await?;
    let configuration = servers.folder.path().join("alerts.yaml");
    let alerts = Configuration::new(target.url(), &sink.url("hook"));
    std::fs::write(&configuration, alerts.alert("orders", "every 1s", &target.query("orders")).text())?;
    let state = format!("sqlite:///{}", servers.folder.path().join("state.db").display());

    let mut services = Vec::new();
    for (name, user) in
        [("leader", "coordinator"), ("worker", "worker"), ("notifier", "notifier"), ("standby", "coordinator")]
    {
        let mut launch = servers.launch(&format!("sqlsentinel-{user}"), user)?;
        launch.log = servers.folder.path().join(format!("{name}.log"));
        launch.env.push(("CONFIG_PATH".to_owned(), configuration.display().to_string()));
        if user != "worker" {
            launch.env.push(("STATE_DB_URL".to_owned(), state.clone()));
        }
        if user == "coordinator" {
            launch.env.push(("SQLSENTINEL_NATS_REPLICAS".to_owned(), "3".to_owned()));
        }
        services.push(launch.start()?);
        if name == "leader" {
            let leads = || async { services[0].log() };
            eventually("the first coordinator leads", SOON, leads, |log| log.contains("\"leading\"")).await?;
        }
    }
    let told = |times: usize| {
        let sink = &sink;
        let count = move || async move { Ok(sink.about("orders").len()) };
        async move { eventually("the alert arrives", SOON, count, |told| *told == times).await }
    };
    told(1).await?;
    ensure!(services[0].terminate().await?.success(), "the leader hands over");
    let ledger = Ledger::open(&state.replacen("sqlite:///", "sqlite://", 1))?;
    for status in ["OK", "ALERT"] {
        target.set("orders", status, 8).await?;
        let judged = || async { ledger.state("orders").await };
        eventually("the successor goes on", SOON, judged, |state| state.as_deref() == Some(status)).await?;
    }
    told(2).await?;

    let healthy = || async {
        let mut launch =
            servers.launch("sqlsentinel-ctl", "viewer")?.args(["healthcheck", "--cluster", "--output", "json"]);
        launch.log = servers.folder.path().join("healthcheck.json");
        std::fs::write(&launch.log, "")?;
        launch.env.retain(|(name, _)| name != "LOG_LEVEL");
        let code = launch.start()?.wait(SOON).await?.code();
        let report: Value = serde_json::from_str(&std::fs::read_to_string(&launch.log)?)?;
        Ok((code, report["processes"].as_array().map(Vec::len)))
    };
    eventually("every process answers the viewer", SOON, healthy, |found| *found == (Some(0), Some(3))).await?;

    // Whatever a service needed and may not do would be in here.
    for service in &services {
        let log = service.log()?;
        assert!(!log.to_lowercase().contains("permissions violation"), "{log}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_user_can_do_what_is_not_its_own() -> Result<()> {
    let servers = Servers::start().await?;
    let refused_to_publish: [(&str, &[&str]); 4] = [
        (
            "worker",
            &[
                "jobs.default.x",
                "$KV.sqlsentinel.leader",
                "$JS.API.STREAM.DELETE.JOBS",
                "dead.results",
                "api.read.status",
            ],
        ),
        (
            "notifier",
            &[
                "results.default.x",
                "jobs.default.x",
                "$KV.sqlsentinel.leader",
                "dead.jobs",
                "$JS.API.CONSUMER.MSG.NEXT.JOBS.worker-default",
            ],
        ),
        (
            "viewer",
            &["api.admin.viewer.step-down", "api.admin.admin.step-down", "jobs.default.x", "$JS.API.STREAM.INFO.JOBS"],
        ),
        ("admin", &["api.admin.viewer.step-down", "jobs.default.x", "$KV.sqlsentinel.leader"]),
    ];
    for (user, subjects) in refused_to_publish {
        let (client, mut refusals) = servers.client(user).await?;
        for subject in subjects {
            client.publish(*subject, "{}".into()).await?;
            expect_refusal(&mut refusals, subject).await.with_context(|| format!("{user} publishes to {subject}"))?;
        }
    }
    let refused_to_hear: [(&str, &[&str]); 3] = [
        ("worker", &["results.>", "jobs.>", "$KV.>", "_INBOX.>", "_INBOX_notifier.>", ">"]),
        ("notifier", &["jobs.>", "results.>", "_INBOX_worker.>", "api.admin.>"]),
        ("viewer", &["results.>", "_INBOX_admin.>", "api.read.>"]),
    ];
    for (user, subjects) in refused_to_hear {
        let (client, mut refusals) = servers.client(user).await?;
        for subject in subjects {
            let mut heard = client.subscribe(*subject).await?;
            expect_refusal(&mut refusals, subject).await.with_context(|| format!("{user} listens to {subject}"))?;
            assert!(futures::poll!(heard.next()).is_pending() || heard.next().await.is_none());
        }
    }
    Ok(())
}

async fn expect_refusal(refusals: &mut mpsc::Receiver<String>, subject: &str) -> Result<()> {
    let refusal = tokio::time::timeout(SOON, refusals.recv()).await?.context("the connection is gone")?;
    let refusal = refusal.to_lowercase();
    ensure!(refusal.contains("permissions violation") && refusal.contains(&subject.to_lowercase()), "{refusal}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_nobody_or_speaks_without_tls_gets_nothing() -> Result<()> {
    let servers = Servers::start().await?;
    let trusting = || ConnectOptions::new().add_root_certificates(servers.files.authority.clone());
    let wrong = trusting().user_and_password("worker".to_owned(), "guess".to_owned());
    for options in [trusting(), wrong, ConnectOptions::new().user_and_password("worker".to_owned(), password("worker"))]
    {
        let attempt = options.connection_timeout(Duration::from_secs(10)).connect(servers.urls.as_slice()).await;
        assert!(attempt.is_err());
    }
    Ok(())
}
