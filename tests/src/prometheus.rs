//! A real Prometheus that scrapes a cluster under test.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::ports;
use crate::process::{Launch, Proc};
use crate::programs;

/// A Prometheus that scrapes the members of a cluster once a second, under the names of the jobs that we ship.
#[derive(Debug)]
pub struct Prometheus {
    _process: Proc,
    url: String,
}

impl Prometheus {
    /// Starts it, with these files of rules.
    pub fn scraping(cluster: &Cluster, rules: &[PathBuf]) -> Result<Self> {
        // The first of a process installs it; the others find it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = cluster.directory();
        let mut jobs = String::new();
        for member in cluster.names(None) {
            let component = member.split('-').next().unwrap_or_default();
            let address = cluster.address(&member)?;
            jobs.push_str(&format!(
                "  - {{job_name: sqlsentinel-{component}, static_configs: [{{targets: ['{address}']}}]}}\n"
            ));
        }
        let file = directory.join("prometheus.yml");
        let rules: Vec<_> = rules.iter().map(|file| format!("'{}'", file.display())).collect();
        std::fs::write(
            &file,
            format!(
                "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{}]\nscrape_configs:\n{jobs}",
                rules.join(", ")
            ),
        )?;
        let address = format!("127.0.0.1:{}", ports::free()?);
        let launch = Launch::new("prometheus", programs::prometheus("prometheus")?, directory).args([
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", directory.join("prometheus").display()),
            format!("--web.listen-address={address}"),
        ]);
        Ok(Self { _process: launch.start()?, url: format!("http://{address}") })
    }

    /// The data of an answer of its API.
    pub async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let url = reqwest::Url::parse_with_params(&format!("{}{path}", self.url), parameters)?;
        let answer: Value = serde_json::from_str(&reqwest::get(url).await?.text().await?)?;
        ensure!(answer["status"] == "success", "{answer}");
        Ok(answer["data"].clone())
    }

    /// How many series an expression has.
    pub async fn series(&self, expression: &str) -> Result<usize> {
        let data = self.get("/api/v1/query", &[("query", expression)]).await?;
        Ok(data["result"].as_array().map_or(1, Vec::len))
    }
}
