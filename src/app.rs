//! The composition root: builds everything from a configuration, wires it, waits.

mod daemon;
mod once;
mod scrape;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::aws::s3::S3Store;
use crate::aws::sqs::SqsQueue;
use crate::config::s3::S3;
use crate::config::{Config, Loaded, Sources};
use crate::domain::backoff;
use crate::domain::ports::{ObjectStore, S3Error};
use crate::domain::queue::{NotificationQueue, QueueError};
use crate::pipeline::discover::require_redrive;
use crate::store::error::{StoreError, is_login_failure};
use crate::store::migrate;
use crate::store::pool::Pools;

/// How the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Until told to stop.
    Daemon,
    /// One sweep of every feed, until everything found is loaded and disposed of.
    Once,
}

/// Exit codes of `run`; documented in docs/OPERATING.md.
pub mod exit {
    /// Success.
    pub const OK: u8 = 0;
    /// Something failed.
    pub const FAILURE: u8 = 1;
    /// Finished, but some objects are quarantined.
    pub const QUARANTINED: u8 = 3;
    /// The object store refused.
    pub const S3: u8 = 10;
    /// PostgreSQL refused or could not be reached.
    pub const POSTGRES: u8 = 11;
    /// The ledger's schema is not ours.
    pub const MIGRATION: u8 = 12;
}

/// Pauses between tries to reach the database, or a queue that must be looked at, at start.
const CONNECT_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Runs until done or told to stop; answers the exit code.
pub async fn run(loaded: Loaded, sources: Sources, mode: Mode) -> anyhow::Result<u8> {
    match mode {
        Mode::Daemon => Box::pin(daemon::run(loaded, sources)).await,
        Mode::Once => once::run(&loaded.config).await,
    }
}

/// The object store of a configuration.
pub async fn object_store(config: &Config) -> Result<Arc<dyn ObjectStore>, S3Error> {
    object_store_of(&config.s3).await
}

/// The object store of its settings alone.
pub async fn object_store_of(settings: &S3) -> Result<Arc<dyn ObjectStore>, S3Error> {
    Ok(Arc::new(S3Store::connect(settings).await?))
}

/// Queues by their names in the configuration.
pub type Queues = BTreeMap<String, Arc<dyn NotificationQueue>>;

/// The queues of a configuration that a feed names; asks none of them yet.
pub async fn queues(config: &Config) -> Result<Queues, QueueError> {
    let mut queues = Queues::new();
    for (name, settings) in &config.queues {
        if config.feeds.values().any(|feed| feed.queue.as_ref() == Some(name)) {
            let queue = SqsQueue::connect(&config.s3, settings).await?;
            queues.insert(name.clone(), Arc::new(queue));
        }
    }
    Ok(queues)
}

/// Refuses queues that are `strict` and have no redrive policy, or do not tell. What may pass is waited for.
async fn refuse_lax_queues(config: &Config, queues: &Queues, patience: Patience) -> Result<(), String> {
    for (name, queue) in queues {
        if !config.queues.get(name).is_some_and(|settings| settings.strict) {
            continue;
        }
        let mut failures = 0;
        while let Err(error) = require_redrive(name, queue.as_ref()).await {
            if patience == Patience::None || !error.may_pass() {
                return Err(format!("queues.{name} is strict: {error}; {}", error.advice()));
            }
            failures += 1;
            let pause = backoff::delay(failures, CONNECT_RETRY.0, CONNECT_RETRY.1, fastrand::f64());
            tracing::warn!(queue = %name, error = %error, retry_ms = pause.as_millis(), "waiting for the queue");
            tokio::time::sleep(pause).await;
        }
    }
    Ok(())
}

/// The connection pools of a configuration; connects to nothing yet.
pub fn pools(config: &Config) -> Result<Pools, StoreError> {
    Pools::new(&config.database, config.workers.max)
}

/// Brings the ledger up, waiting for a database that is not there yet. Errors only the operator can mend end it.
async fn open_ledger(pools: &Pools, patience: Patience) -> Result<(), StoreError> {
    let mut failures = 0;
    loop {
        let error = match migrate::migrate(pools).await {
            Ok(migrated) => {
                if !migrated.applied.is_empty() {
                    tracing::info!(version = migrated.version, applied = ?migrated.applied, "ledger schema migrated");
                }
                return Ok(());
            }
            Err(error) => error,
        };
        if patience == Patience::None || !may_pass(&error) {
            return Err(error);
        }
        failures += 1;
        let pause = backoff::delay(failures, CONNECT_RETRY.0, CONNECT_RETRY.1, fastrand::f64());
        tracing::warn!(error = %error, retry_ms = pause.as_millis(), advice = error.advice(), "waiting for PostgreSQL");
        tokio::time::sleep(pause).await;
    }
}

/// Whether to wait for what is not there yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    None,
    Endless,
}

/// Whether an error at start may pass without the operator.
fn may_pass(error: &StoreError) -> bool {
    error.verdict() == crate::domain::verdict::Verdict::Retry && !is_login_failure(error)
}

/// The exit code a store error at start asks for.
fn exit_code(error: &StoreError) -> u8 {
    match error {
        StoreError::Migration { .. } => exit::MIGRATION,
        _ => exit::POSTGRES,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_trait::async_trait;

    use super::*;
    use crate::domain::queue::{Attributes, Message};

    /// A queue that answers this when it is asked how it is set up.
    struct Answer(Result<bool, QueueError>);

    #[async_trait]
    impl NotificationQueue for Answer {
        async fn receive(&self, _: usize, _: Duration) -> Result<Vec<Message>, QueueError> {
            unreachable!("nothing is received before the start")
        }

        async fn acknowledge(&self, _: &[&Message]) -> Result<Vec<Result<(), QueueError>>, QueueError> {
            unreachable!("nothing is taken out before the start")
        }

        async fn attributes(&self) -> Result<Attributes, QueueError> {
            self.0.clone().map(|has_redrive| Attributes { has_redrive, visibility: None, waiting: None })
        }

        async fn probe(&self) -> Result<(), QueueError> {
            unreachable!("only a check tries")
        }
    }

    fn config(strict: bool) -> Config {
        let text = format!(
            "[database]\nurl = \"postgres://u@h/d\"\n[queues.q]\nurl = \"http://h/q\"\nstrict = {strict}\n\
             [feeds.f]\nbucket = \"b\"\ntable = \"t\"\nqueue = \"q\"\n"
        );
        crate::config::load_text(&text).unwrap_or_else(|errors| panic!("{errors}")).config
    }

    async fn refusal(strict: bool, answer: Result<bool, QueueError>) -> Option<String> {
        let queue: Arc<dyn NotificationQueue> = Arc::new(Answer(answer));
        let queues = Queues::from([("q".to_owned(), queue)]);
        refuse_lax_queues(&config(strict), &queues, Patience::None).await.err()
    }

    #[tokio::test]
    async fn a_strict_queue_must_tell_of_a_redrive_policy() {
        let denied = || QueueError::Denied { action: "sqs:GetQueueAttributes", detail: "no".to_owned() };
        let away = || QueueError::Transient { action: "GetQueueAttributes", detail: "away".to_owned() };
        assert_eq!(refusal(true, Ok(true)).await, None);
        for answer in [Ok(false), Err(denied()), Err(away())] {
            assert!(refusal(true, answer.clone()).await.is_some_and(|text| text.contains("queues.q is strict")));
            assert_eq!(refusal(false, answer).await, None, "nobody asks");
        }
    }

    #[tokio::test]
    async fn only_queues_that_a_feed_names_are_received_from() {
        let mut config = config(false);
        config.s3.region = Some("eu-central-1".to_owned());
        assert_eq!(queues(&config).await.unwrap().into_keys().collect::<Vec<_>>(), ["q"]);
        config.feeds.clear();
        assert!(queues(&config).await.unwrap().is_empty());
    }
}
