//! The composition root: builds everything from a configuration, wires it, waits.

mod daemon;
mod once;
mod scrape;

use std::sync::Arc;
use std::time::Duration;

use crate::aws::s3::S3Store;
use crate::config::{Config, Loaded, Sources};
use crate::domain::backoff;
use crate::domain::ports::{ObjectStore, S3Error};
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

/// Pauses between tries to reach the database at start.
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
    Ok(Arc::new(S3Store::connect(&config.s3).await?))
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

/// Whether to wait for the database.
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
