//! What nearly every road test needs: a cluster, a database that its alerts query, and a webhook receiver.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::cluster::{Cluster, Plan};
use crate::configuration::Configuration;
use crate::eventually::{SOON, eventually};
use crate::ledger::{Execution, Fire, OPEN};
use crate::postgres::{Postgres, Statement};
use crate::sink::{Received, Sink};
use crate::target::{Kind, Target};

/// A cluster with its surroundings. Nothing runs before [`Scene::play`].
#[derive(Debug)]
pub struct Scene {
    /// The cluster, whose members end before everything else.
    pub cluster: Cluster,
    /// The database that alerts query.
    pub target: Target,
    /// Where notifications arrive.
    pub sink: Sink,
    /// The target's server, where it is not the state database's too.
    target_server: Option<Postgres>,
}

impl Scene {
    /// Starts the servers. A PostgreSQL target shares the state database's server if there is one.
    pub async fn set(plan: Plan, kind: Kind) -> Result<Self> {
        let cluster = plan.servers().await?;
        let (target, target_server) = match (kind, &cluster.postgres) {
            (Kind::Sqlite, _) => (Target::sqlite(cluster.directory()).await?, None),
            (Kind::Postgres, Some(server)) => (Target::postgres(server).await?, None),
            (Kind::Postgres, None) => Self::own_server().await?,
        };
        Ok(Self { cluster, target, sink: Sink::start().await?, target_server })
    }

    /// The same, with a PostgreSQL target on a server of its own: it stays when the state database goes.
    pub async fn set_apart(plan: Plan) -> Result<Self> {
        let cluster = plan.servers().await?;
        let (target, target_server) = Self::own_server().await?;
        Ok(Self { cluster, target, sink: Sink::start().await?, target_server })
    }

    async fn own_server() -> Result<(Target, Option<Postgres>)> {
        let server = Postgres::start().await?;
        Ok((Target::postgres(&server).await?, Some(server)))
    }

    /// An empty configuration over the target and the receiver.
    pub fn configuration(&self) -> Configuration {
        Configuration::new(self.target.url(), &self.sink.url("hook"))
    }

    /// Writes the configuration and starts all members.
    pub fn play(&mut self, configuration: &Configuration) -> Result<()> {
        self.cluster.configure(configuration.text())?;
        self.cluster.start()
    }

    /// A pool on a PostgreSQL target's database, for looking at it from inside.
    pub async fn target_pool(&self) -> Result<sqlx::PgPool> {
        let server = self.target_server.as_ref().or(self.cluster.postgres.as_ref());
        server.context("only a PostgreSQL target has such a pool")?.pool("target").await
    }

    /// The queries of signals whose name begins like this which ran at a PostgreSQL target, in order.
    pub fn runs(&self, signal: &str) -> Result<Vec<Statement>> {
        let server = self.target_server.as_ref().or(self.cluster.postgres.as_ref());
        let statements = server.context("only a PostgreSQL target counts its runs")?.statements()?;
        let mention = format!("name = '{signal}");
        let queries = statements.into_iter().filter(|statement| statement.database == "target");
        Ok(queries.filter(|statement| statement.text.contains(&mention)).collect())
    }

    /// Waits until the finished runs of an alert are as expected, and returns them.
    pub async fn until_executions(
        &self,
        alert: &str,
        awaited: &str,
        expected: impl Fn(&[Execution]) -> bool,
    ) -> Result<Vec<Execution>> {
        let seen = || async { self.cluster.ledger.executions(Some(alert)).await };
        let executions = eventually(awaited, SOON, seen, |executions| expected(executions)).await?;
        self.cluster.all_alive()?;
        Ok(executions)
    }

    /// Waits until `count` more runs of an alert have ended with `status`.
    pub async fn until_more(&self, alert: &str, status: &str, count: usize) -> Result<Vec<Execution>> {
        let so_far = self.cluster.ledger.executions(Some(alert)).await.unwrap_or_default();
        let ended = |executions: &[Execution]| executions.iter().filter(|run| run.status == status).count();
        let goal = ended(&so_far) + count;
        self.until_executions(alert, &format!("{goal} runs of {alert} that end as {status}"), |now| ended(now) >= goal)
            .await
    }

    /// Waits until `count` requests about an alert have arrived.
    pub async fn until_received(&self, alert: &str, count: usize) -> Result<Vec<Received>> {
        let awaited = format!("{count} requests about {alert}");
        let seen =
            eventually(&awaited, SOON, || async { Ok(self.sink.about(alert)) }, |seen| seen.len() >= count).await?;
        self.cluster.all_alive()?;
        Ok(seen)
    }

    /// Waits until no fire that was due up to `moment` is open, and returns all of those.
    pub async fn until_closed(&self, moment: i64, deadline: Duration) -> Result<Vec<Fire>> {
        let fires = || async {
            let leadership = self.cluster.ledger.leadership().await?;
            let mut fires = self.cluster.ledger.fires(None).await?;
            fires.retain(|fire| fire.scheduled_for <= moment);
            let open: Vec<Fire> = fires.iter().filter(|fire| OPEN.contains(&fire.status.as_str())).cloned().collect();
            Ok(Closing { fires, open, planned: leadership.planned_through >= moment })
        };
        let awaited = "every fire due so far is planned and has ended";
        let closed = eventually(awaited, deadline, fires, |now| now.planned && now.open.is_empty()).await?;
        Ok(closed.fires)
    }
}

struct Closing {
    fires: Vec<Fire>,
    open: Vec<Fire>,
    planned: bool,
}

impl std::fmt::Debug for Closing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let some = &self.open[..self.open.len().min(5)];
        write!(f, "planned: {}, {} fires, {} open, such as {some:?}", self.planned, self.fires.len(), self.open.len())
    }
}

/// Makes two tests of each `async fn name(state: State) -> Result<()>`, one for each kind of state database.
#[macro_export]
macro_rules! on_both_state_databases {
    ($($test:ident),+ $(,)?) => {
        mod on_sqlite_state {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() -> anyhow::Result<()> {
                super::$test($crate::cluster::State::Sqlite).await
            })+
        }
        mod on_postgres_state {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() -> anyhow::Result<()> {
                super::$test($crate::cluster::State::Postgres).await
            })+
        }
    };
}
