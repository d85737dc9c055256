//! `scripts/validate-health.sh`: what it asks of Helm and Compose. Both are other people's programs that need a cluster or
//! an engine, so a script stands for each and says how it was called. What then runs is tested in `helm/cluster.rs`.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use anyhow::Result;
use sqlsentinel_tests::programs::root;
use tempfile::TempDir;

/// Puts a program into `folder` that prints its name and arguments and ends with `code`.
fn stand_in(folder: &Path, name: &str, code: i32) -> Result<()> {
    let program = folder.join(name);
    std::fs::write(&program, format!("#!/bin/sh\necho {name} \"$@\"\nexit {code}\n"))?;
    Ok(std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755))?)
}

/// A path on which there is only what the script itself needs.
fn bare_path() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    for tool in ["bash", "dirname", "sed"] {
        symlink(Path::new("/usr/bin").join(tool), folder.path().join(tool))?;
    }
    Ok(folder)
}

fn run(path: &TempDir, arguments: &[&str]) -> Result<Output> {
    let script = root().join("scripts/validate-health.sh");
    let mut command = Command::new(path.path().join("bash"));
    command.arg(script).args(arguments).env_clear().env("PATH", path.path());
    Ok(command.env("COMPOSE_BIN", path.path().join("compose")).output()?)
}

fn said(output: &Output) -> (Option<i32>, String) {
    let texts = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    (output.status.code(), texts.concat())
}

#[test]
fn a_release_is_asked_by_helm_test_and_its_verdict_is_the_exit_code() -> Result<()> {
    let arguments = ["kubernetes", "sqlsentinel", "-n", "alerts"];
    for code in [0, 1] {
        let path = bare_path()?;
        stand_in(path.path(), "helm", code)?;
        let (ended, text) = said(&run(&path, &arguments)?);
        assert!(
            ended == Some(code) && text.starts_with("helm test sqlsentinel -n alerts --logs\n"),
            "{ended:?} {text}"
        );
    }
    let (ended, text) = said(&run(&bare_path()?, &arguments)?);
    assert!(ended == Some(1) && text.contains("helm is missing"), "{ended:?} {text}");
    for arguments in [&["kubernetes"][..], &["kubernetes", "-n", "alerts"]] {
        let path = bare_path()?;
        stand_in(path.path(), "helm", 0)?;
        let (ended, text) = said(&run(&path, arguments)?);
        assert!(ended == Some(1) && text.contains("which release?"), "{ended:?} {text}");
    }
    Ok(())
}

#[test]
fn a_deployment_by_compose_is_asked_with_its_own_options() -> Result<()> {
    for code in [0, 1] {
        let path = bare_path()?;
        stand_in(path.path(), "compose", code)?;
        let (ended, text) = said(&run(&path, &["-p", "staging", "-f", "a.yaml"])?);
        let called = "compose -p staging -f a.yaml run --rm -T ctl healthcheck --cluster\n";
        assert_eq!((ended, text.as_str()), (Some(code), called));
    }
    let (ended, text) = said(&run(&bare_path()?, &["--help"])?);
    assert!(ended == Some(0) && text.contains("validate-health.sh kubernetes RELEASE"), "{ended:?} {text}");
    Ok(())
}
