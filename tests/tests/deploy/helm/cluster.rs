//! What the chart's pods are given, given to real programs: no Kubernetes, but its files, variables and commands, against
//! three NATS servers with TLS and a user for each role.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use sqlsentinel_common::settings::SmtpSecurity;
use sqlsentinel_tests::configuration::Configuration;
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::helm::{manifests, set};
use sqlsentinel_tests::ports;
use sqlsentinel_tests::process::{Launch, Proc};
use sqlsentinel_tests::programs;
use sqlsentinel_tests::sink::Sink;
use sqlsentinel_tests::smtp::MailServer;
use sqlsentinel_tests::target::Target;

use super::{COMPONENTS, items, pods};
use crate::nats_roles::{Servers, password};

/// Files of pods begin here, and lie below a folder of each pod's own.
const FILES: &str = "/etc/sqlsentinel";

/// Writes what a volume holds; `content` has what is behind (name of the object, key).
fn write(volume: &Value, folder: &Path, content: &impl Fn(&str, &str) -> Result<String>) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let own = volume.as_object().context("a volume")?.iter().filter(|(kind, _)| *kind == "configMap");
    let projected = items(&volume["projected"]["sources"]).filter_map(Value::as_object).flatten();
    for (kind, source) in own.chain(projected) {
        let name = source["name"].as_str().with_context(|| format!("a {kind} without a name"))?;
        if source["items"].is_null() {
            std::fs::write(folder.join("alerts.yaml"), content(name, "alerts.yaml")?)?;
        }
        for item in items(&source["items"]) {
            let (key, path) = (item["key"].as_str().context("a key")?, item["path"].as_str().context("a path")?);
            std::fs::write(folder.join(path), content(name, key)?)?;
        }
    }
    Ok(())
}

/// A pod's container as a process of this machine, with the pod's files below `folder` and a port of its own.
fn container(
    name: &str,
    pod: &Value,
    folder: &Path,
    content: &impl Fn(&str, &str) -> Result<String>,
) -> Result<Launch> {
    let container = &pod["containers"][0];
    for mount in items(&container["volumeMounts"]) {
        let volume = items(&pod["volumes"]).find(|volume| volume["name"] == mount["name"]).context("its volume")?;
        let path = mount["mountPath"].as_str().and_then(|path| path.strip_prefix('/')).context("a path")?;
        write(volume, &folder.join(path), content)?;
    }
    let mut launch = command(name, &container["command"], folder)?;
    for variable in items(&container["env"]) {
        let key = variable["name"].as_str().context("a name")?.to_owned();
        let below = format!("{}{FILES}", folder.display());
        let value = match variable["value"].as_str() {
            _ if key == "LISTEN" => format!("127.0.0.1:{}", ports::free()?),
            Some(value) => value.replace(FILES, &below),
            None => name.to_owned(),
        };
        launch.env.push((key, value));
    }
    Ok(launch)
}

/// A command as in a pod: a list of words.
fn command(name: &str, words: &Value, folder: &Path) -> Result<Launch> {
    let words: Vec<&str> = items(words).filter_map(Value::as_str).collect();
    let (program, arguments) = words.split_first().context("a command")?;
    Ok(Launch::new(name, programs::ours(program)?, folder).args(arguments.iter().copied()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_pods_are_given_makes_a_cluster_that_is_ready_alerts_and_passes_helm_test() -> Result<()> {
    let servers = Servers::start().await?;
    let (sink, folder) = (Sink::start().await?, servers.folder.path());
    let target = Target::sqlite(folder).await?;
    target.set("orders", "ALERT", 7).await?;
    let mail = MailServer::wanting(SmtpSecurity::StartTls, Some(("alerts", "canary-mail"))).await?;
    let alerts = Configuration::new(target.url(), &sink.url("hook"));
    let alerts = alerts.alert("orders", "every 1s", &target.query("orders"));
    let alerts = alerts.text().to_owned() + "      - {channel: email, recipients: [ops@example.com]}\n";
    let mut authorities = std::fs::read_to_string(&servers.files.authority)?;
    authorities += &std::fs::read_to_string(mail.settings().ca_file.context("the mail server's authority")?)?;
    let content = |object: &str, key: &str| match (object, key) {
        ("alerts", "alerts.yaml") => Ok(alerts.clone()),
        ("company-ca", "ca.crt") => Ok(authorities.clone()),
        ("state", "url") => Ok(format!("sqlite:///{}", folder.join("state.db").display())),
        ("shop", "url") => Ok(target.url().to_owned()),
        ("smtp", "password") => Ok("canary-mail".to_owned()),
        ("nats-users", user) => Ok(password(user)),
        other => bail!("nobody was told to make {other:?}"),
    };
    let values = json!({
        "nats": {"url": servers.urls.join(","), "replicas": 3},
        "caBundle": {"existingConfigMap": "company-ca"},
        "worker": {"databaseUrl": {"existingSecret": "shop"}},
        "notifier": {"smtp": {
            "host": "localhost", "port": mail.settings().port, "username": "alerts", "fromAddress": "alerts@example.com",
            "password": {"existingSecret": "smtp"},
        }},
    });
    let manifests = manifests(&set("minimal"), &values)?;
    let pods = pods(&manifests);
    let place = |name: &str| -> Result<_> {
        let folder = folder.join("pods").join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    };
    let pod = |of: &str| -> Result<Launch> {
        let (name, _, pod) = pods.iter().find(|(name, _, _)| *name == of).with_context(|| format!("no pod {of}"))?;
        container(name, pod, &place(name)?, &content)
    };

    let migrated = pod("migrate")?.start()?;
    ensure!(migrated.wait(SOON).await?.success(), "the Job: {}", migrated.log()?);
    let launches = COMPONENTS.map(|name| Ok((name, pod(name)?)));
    let launches = launches.into_iter().collect::<Result<Vec<_>>>()?;
    let _running = launches.iter().map(|(_, launch)| launch.start()).collect::<Result<Vec<Proc>>>()?;
    for (name, launch) in &launches {
        let (_, _, pod) = pods.iter().find(|(pod, _, _)| pod == name).context("its pod")?;
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let mut asked = command(probe, &pod["containers"][0][probe]["exec"]["command"], &place(name)?)?;
            asked.env.clone_from(&launch.env);
            let code = || async { Ok(asked.start()?.wait(SOON).await?.code()) };
            eventually(&format!("{name} passes its {probe}"), SOON, code, |code| *code == Some(0)).await?;
        }
    }
    let told = || async { Ok((sink.about("orders").len(), mail.taken().len())) };
    eventually("the alert arrives by webhook and mail", SOON, told, |told| *told == (1, 1)).await?;
    assert!(mail.taken()[0].encrypted);

    let test = pod("healthcheck")?;
    let passes = || async { Ok(test.start()?.wait(SOON).await?.code()) };
    eventually("helm test passes", SOON, passes, |code| *code == Some(0)).await?;
    // The bundle is what it trusts: without, the servers' certificates are a stranger's.
    let mut doubting = pod("healthcheck")?;
    doubting.env.retain(|(name, _)| name != "SSL_CERT_DIR");
    doubting.log = folder.join("doubting.log");
    let asked = doubting.start()?;
    assert_eq!(asked.wait(SOON).await?.code(), Some(1));
    assert!(asked.log()?.contains("cannot reach NATS"), "{}", asked.log()?);
    Ok(())
}
