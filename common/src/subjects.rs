//! Every subject, stream, bucket and durable name, spelled once.
//!
//! A [`Namespace`] keeps several installations apart on one NATS: with the default (empty) namespace the streams are
//! `JOBS` and `RESULTS`; with `eu` they are `eu-JOBS` and `eu-RESULTS`, and subjects begin with `eu.`.

use std::fmt;

use crate::alert::SourceName;
use crate::ids::ExecutionId;

/// The lease's key in the bucket.
pub const LEADER_KEY: &str = "leader";
/// The durable consumer that all notifiers share.
pub const RESULTS_CONSUMER: &str = "notifier";

/// A prefix for everything this installation names on NATS; empty by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace(String);

/// A namespace that could not be a subject token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a namespace: use at most 32 letters, digits, `_` or `-`")]
pub struct InvalidNamespace(String);

impl std::str::FromStr for Namespace {
    type Err = InvalidNamespace;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if text.len() <= 32 && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidNamespace(text.to_owned()))
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Namespace {
    fn name(&self, name: &str) -> String {
        if self.0.is_empty() { name.to_owned() } else { format!("{}-{name}", self.0) }
    }

    fn subject(&self, subject: &str) -> String {
        if self.0.is_empty() { subject.to_owned() } else { format!("{}.{subject}", self.0) }
    }

    /// The work queue of jobs.
    pub fn jobs_stream(&self) -> String {
        self.name("JOBS")
    }

    /// The work queue of outcomes.
    pub fn results_stream(&self) -> String {
        self.name("RESULTS")
    }

    /// The stream that keeps what could not be read.
    pub fn dead_stream(&self) -> String {
        self.name("DEAD")
    }

    /// The key-value bucket of the lease.
    pub fn bucket(&self) -> String {
        self.name("sqlsentinel")
    }

    /// The stream behind the bucket.
    pub fn bucket_stream(&self) -> String {
        format!("KV_{}", self.bucket())
    }

    /// The subject behind the lease's key.
    pub fn leader_subject(&self) -> String {
        format!("$KV.{}.{LEADER_KEY}", self.bucket())
    }

    /// All jobs.
    pub fn all_jobs(&self) -> String {
        self.subject("jobs.*.*")
    }

    /// All jobs of one source.
    pub fn jobs_of(&self, source: &SourceName) -> String {
        self.subject(&format!("jobs.{source}.*"))
    }

    /// The subject of one job.
    pub fn job(&self, source: &SourceName, execution: ExecutionId) -> String {
        self.subject(&format!("jobs.{source}.{execution}"))
    }

    /// The durable consumer that all workers of one source share.
    pub fn jobs_consumer(&self, source: &SourceName) -> String {
        format!("worker-{source}")
    }

    /// The source whose workers share the consumer `durable`.
    pub fn source_of(durable: &str) -> Option<SourceName> {
        durable.strip_prefix("worker-")?.to_owned().try_into().ok()
    }

    /// All outcomes.
    pub fn all_results(&self) -> String {
        self.subject("results.*.*")
    }

    /// The subject of one outcome.
    pub fn result(&self, source: &SourceName, execution: ExecutionId) -> String {
        self.subject(&format!("results.{source}.{execution}"))
    }

    /// All undecodable messages.
    pub fn all_dead(&self) -> String {
        self.subject("dead.*")
    }

    /// Where an undecodable message of `stream` (`jobs` or `results`) is kept.
    pub fn dead(&self, stream: &str) -> String {
        self.subject(&format!("dead.{stream}"))
    }

    /// A reading request of an operator; `verb` is one of [`crate::api`]'s.
    pub fn api_read(&self, verb: &str) -> String {
        self.subject(&format!("api.read.{verb}"))
    }

    /// A request of an operator that changes something. The user is in the subject, so that permissions on NATS can pin it.
    pub fn api_admin(&self, user: &str, verb: &str) -> String {
        self.subject(&format!("api.admin.{}.{verb}", user_token(user)))
    }

    /// The same, of whatever user.
    pub fn api_admin_of_all(&self, verb: &str) -> String {
        self.subject(&format!("api.admin.*.{verb}"))
    }
}

/// `user` as a token of a subject: what could not stand in one is an underscore.
fn user_token(user: &str) -> String {
    let token: String =
        user.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).take(64).collect();
    if token.is_empty() { "_".to_owned() } else { token }
}

/// The execution that a job's or an outcome's subject names, if its last token is one.
pub fn execution_of(subject: &str) -> Option<ExecutionId> {
    subject.rsplit('.').next()?.parse().ok()
}

/// The message id under which the broker drops a republished attempt.
pub fn message_id(execution: ExecutionId, attempt: u32) -> String {
    format!("{execution}/{attempt}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_namespaces_share_no_name() -> Result<(), Box<dyn std::error::Error>> {
        let (plain, eu) = (Namespace::default(), "eu".parse::<Namespace>()?);
        assert_eq!(plain.jobs_stream(), "JOBS");
        assert_eq!(eu.jobs_stream(), "eu-JOBS");
        assert_eq!(eu.leader_subject(), "$KV.eu-sqlsentinel.leader");
        let (id, source) = (ExecutionId::manual(), SourceName::default_source());
        assert_eq!(plain.job(&source, id), format!("jobs.default.{id}"));
        assert_eq!(eu.job(&source, id), format!("eu.jobs.default.{id}"));
        assert_eq!(execution_of(&eu.result(&source, id)), Some(id));
        assert_eq!(execution_of("jobs.default.nonsense"), None);
        assert_eq!(Namespace::source_of(&plain.jobs_consumer(&source)), Some(source));
        assert_eq!(Namespace::source_of(RESULTS_CONSUMER), None);
        assert_eq!(eu.api_admin("Eve.*>\n x", "v"), "eu.api.admin.Eve_____x.v");
        assert_eq!(plain.api_admin("", "v"), "api.admin._.v");
        Ok(())
    }
}
