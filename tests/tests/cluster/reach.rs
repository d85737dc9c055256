//! What a configuration reaches: other files, and secrets in files; and what none may reach, in any program.

use std::fs;

use anyhow::Result;
use sqlsentinel_tests::cluster::{Plan, State};
use sqlsentinel_tests::eventually::{SOON, eventually};
use sqlsentinel_tests::scene::Scene;
use sqlsentinel_tests::sink::Received;
use sqlsentinel_tests::target::Kind;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_of_an_included_file_is_told_to_where_a_file_says_at_that_moment() -> Result<()> {
    let mut scene = Scene::set(Plan::new(State::Sqlite), Kind::Sqlite).await?;
    scene.target.set("orders", "ALERT", 7).await?;
    let folder = scene.cluster.directory().join("more");
    fs::create_dir(&folder)?;
    let write = |name: &str, text: &str| fs::write(folder.join(name), text);
    write("hook", &format!("{}\n", scene.sink.url("first-canary")))?;
    write("authorization", "Bearer header-canary\n")?;
    write("target", scene.target.url())?;
    write(
        "channels.yaml",
        "channels:\n  ops:\n    channel: webhook\n    url_file: hook\n    headers: {Authorization: {file: authorization}}\n",
    )?;
    write("database.yaml", "database: {url_file: target}\n")?;
    let query = scene.target.query("orders");
    scene.cluster.configure(&format!(
        "include: [more/*.yaml]\nalerts:\n- name: orders\n  query: |\n    {query}\n  schedule: every 1s\n  repeat_interval: 1s\n  notify: [ops]\n"
    ))?;
    scene.cluster.start()?;
    let first = scene.until_received("orders", 1).await?.remove(0);
    assert_eq!((first.path.as_str(), first.header("authorization")), ("/first-canary", "Bearer header-canary"));

    write("hook", &scene.sink.url("second"))?;
    let seen = || async { Ok(scene.sink.about("orders")) };
    let at_second = |all: &Vec<Received>| all.iter().any(|one| one.path == "/second");
    eventually("it is told to the new address", SOON, seen, at_second).await?;
    scene.cluster.all_alive()?;
    for name in scene.cluster.names(None) {
        assert!(!scene.cluster.log(&name)?.contains("canary"), "{name}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_program_lets_alerts_name_what_is_not_for_them() -> Result<()> {
    let outside = tempfile::tempdir()?;
    let plan = Plan::new(State::Sqlite)
        .env("SQLSENTINEL_ALLOWED_VARIABLES", "SHOP_*")
        .env("SQLSENTINEL_ALLOWED_FOLDERS", "/srv/surely-not-there")
        .env("SHOP_NAME", "Shop")
        .env("TOKEN", "token-canary")
        .env("NATS_PASSWORD_OF_OTHERS", "nats-canary");
    let scene = Scene::set(plan, Kind::Sqlite).await?;
    let secret = outside.path().join("secret");
    fs::write(&secret, "file-canary")?;
    let alert = |keys: &str| {
        let url = scene.target.url();
        format!("database: {{url: '{url}'}}\nalerts:\n- {{name: a, query: SELECT 1, schedule: '@daily', {keys}}}\n")
    };
    for (keys, said) in [
        ("description: '${TOKEN}'", "alerts may not read the variable `TOKEN`"),
        ("description: '${NATS_PASSWORD_OF_OTHERS}'", "belongs to SQL Sentinel's own services"),
        ("query_env: [TOKEN]", "alerts may not read the variable `TOKEN`"),
        ("notify: [{channel: webhook, url: 'https://h/${TOKEN}'}]", "alerts may not read the variable `TOKEN`"),
        (&format!("notify: [{{channel: webhook, url_file: '{}'}}]", secret.display()), "alerts may not read `/"),
    ] {
        scene.cluster.configure(&alert(keys))?;
        for name in scene.cluster.names(None) {
            let ended = scene.cluster.run(&name, &[]).await?;
            assert!(ended.code == Some(1) && ended.output.contains(said), "{keys}: {name}: {ended:?}");
            assert!(!ended.output.contains("canary"), "{name}: {ended:?}");
        }
        for command in ["validate", "run", "status", "daemon"] {
            let ended = scene.cluster.ctl(&[command]).await?;
            assert!(ended.code == Some(1) && ended.output.contains(said), "{keys}: {command}: {ended:?}");
            assert!(!ended.output.contains("canary"), "{command}: {ended:?}");
        }
    }
    scene.cluster.configure(&alert("description: 'Orders of ${SHOP_NAME}'"))?;
    let ended = scene.cluster.ctl(&["validate"]).await?;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    Ok(())
}
