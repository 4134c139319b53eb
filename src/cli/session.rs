//! What a command works with: sources of the configuration, logs, a runtime, the ledger.

use std::future::Future;

use crate::app;
use crate::config::telemetry::{LogFormat, Telemetry};
use crate::config::{self, Config, Loaded, Sources};
use crate::store::inspect;
use crate::store::ledger::Ledger;
use crate::store::migrate;
use crate::store::pool::Pools;
use crate::telemetry::tracing::{Delivery, Logging, Shape, Stamps};

use super::arguments::Verbosity;
use super::exit::{Exit, Failure};
use super::output::Output;

/// One invocation.
pub(super) struct Session {
    pub(super) sources: Sources,
    pub(super) verbosity: Verbosity,
    pub(super) output: Output,
}

/// Whether a command serves for a long time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Logs are its output: the configuration's filter holds.
    Service,
    /// Its result is its output; only trouble is logged beside it.
    Errand,
}

impl Session {
    /// Loads the configuration and starts logging by it.
    pub(super) fn load(&self, kind: Kind) -> Result<Loaded, Failure> {
        let loaded = config::load(&self.sources)?;
        self.log(&loaded.config.telemetry, kind)?;
        for warning in &loaded.warnings {
            match kind {
                Kind::Service => tracing::warn!("{warning}"),
                // `check` and `config check` show them; every other command would only repeat them.
                Kind::Errand => tracing::info!("{warning}"),
            }
        }
        Ok(loaded)
    }

    /// Starts logging; once per process.
    pub(super) fn log(&self, telemetry: &Telemetry, kind: Kind) -> Result<(), Failure> {
        let filter = match (self.verbosity, kind) {
            (Verbosity::Quiet, _) => "error".to_owned(),
            (Verbosity::Normal, Kind::Service) => telemetry.log.clone(),
            (Verbosity::Normal, Kind::Errand) => "warn".to_owned(),
            (Verbosity::Verbose, _) => "info,keyfall=debug".to_owned(),
            (Verbosity::Everything, _) => "debug,keyfall=trace".to_owned(),
        };
        let shape = match telemetry.format {
            // An errand is watched by whoever typed it, also where its logs go to a file.
            LogFormat::Auto if kind == Kind::Errand => Shape::Text,
            LogFormat::Auto => Shape::Auto,
            LogFormat::Text => Shape::Text,
            LogFormat::Json => Shape::Json,
        };
        let journal = self.sources.environment.contains_key("JOURNAL_STREAM");
        let stamps = if journal { Stamps::Journal } else { Stamps::Ours };
        let delivery = match kind {
            Kind::Service => Delivery::Queued,
            Kind::Errand => Delivery::Direct,
        };
        crate::telemetry::tracing::install(&Logging { filter, shape, stamps, delivery })
            .map_err(|error| Failure::new(Exit::Config, error.to_string(), "correct telemetry.log"))
    }

    /// Runs an errand against the ledger: configuration, pools and a ledger of our schema version.
    pub(super) fn with_ledger<F, T>(&self, errand: impl FnOnce(Desk) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let loaded = self.load(Kind::Errand)?;
        let place = loaded.config.database.place();
        block_on(async {
            let pools = app::pools(&loaded.config)?;
            require_ledger(&pools).await?;
            errand(Desk { ledger: Ledger::new(pools.clone()), pools, config: loaded.config }).await
        })
        .map_err(|failure: Failure| failure.at(&place))
    }
}

/// What an errand against the ledger has at hand.
pub(super) struct Desk {
    pub(super) config: Config,
    pub(super) pools: Pools,
    pub(super) ledger: Ledger,
}

/// Runs a future on the program's runtime, which ends with it.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(work)
}

/// Tells a missing ledger from one of another version: the advice differs.
async fn require_ledger(pools: &Pools) -> Result<(), Failure> {
    if inspect::ledger_version(pools).await?.is_none() {
        let advice = "run `keyfall migrate`, or start the daemon: either makes it";
        return Err(Failure::new(Exit::Migration, "there is no ledger yet in this database", advice));
    }
    Ok(migrate::verify(pools).await?)
}
