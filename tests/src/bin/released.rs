//! `released`: writes down the state databases of a version that is about to be released, for the tests of later ones.
//! See `tests/fixtures/README.md`.

use anyhow::Result;
use clap::Parser;
use sqlsentinel_tests::cluster::State;
use sqlsentinel_tests::released::{dump, dump_name, file, fill};

/// Makes the state databases of a version from its `state.yaml`, with the programs of this checkout.
#[derive(Debug, Parser)]
#[command(name = "released")]
struct Arguments {
    /// The version: a folder of tests/fixtures
    version: String,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let Arguments { version } = Arguments::parse();
    for state in [State::Sqlite, State::Postgres] {
        let scene = fill(&version, state).await?;
        std::fs::write(file(&version, dump_name(state)), dump(&scene).await?)?;
    }
    Ok(())
}
