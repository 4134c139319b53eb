//! `run --once`: sweep every feed, load and dispose of what is found, say what came of it.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::engine::{Discovery, Engine, Ports};
use crate::lifecycle::{Request, SignalStream, forced_exit_code};
use crate::pipeline::discover::DiscoverError;
use crate::store::error::StoreError;
use crate::store::ledger::OpenWork;

use super::{Patience, Queues, exit, exit_code, object_store, open_ledger, pools};

/// How often the ledger is asked whether everything is done.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Without anything leased and without any change for this long, the pass gives up: longer than every pause between
/// two tries of the dispatcher.
const STANDSTILL: Duration = Duration::from_mins(1);

/// What one pass came to.
#[derive(Debug, Clone, Default)]
struct Summary {
    /// Objects seen in listings.
    seen: u64,
    /// Objects that were new.
    new: u64,
    /// Feeds whose bucket could not be listed.
    failed_feeds: u64,
    /// Objects still pending, waiting out a delay or a pause.
    waiting: u64,
    /// Objects in quarantine.
    quarantined: u64,
    /// Disposals that failed and are tried again by the next run.
    disposals_waiting: u64,
}

pub(super) async fn run(config: &Config) -> anyhow::Result<u8> {
    let mut signals = SignalStream::install()?;
    let pools = pools(config)?;
    if let Err(error) = open_ledger(&pools, Patience::None).await {
        tracing::error!(error = %error, advice = error.advice(), "the ledger cannot be opened");
        return Ok(exit_code(&error));
    }
    let store = match object_store(config).await {
        Ok(store) => store,
        Err(error) => {
            tracing::error!(error = %error, advice = error.advice(), "the object store cannot be used");
            return Ok(exit::S3);
        }
    };
    // No queue: a sweep is complete, and messages are left to the daemon.
    let ports = Ports { store, queues: Queues::new() };
    let engine = Engine::start(config, pools, ports, Discovery::OnDemand);
    let stop = CancellationToken::new();
    let outcome = tokio::select! {
        outcome = pass(&engine, &stop) => outcome,
        signal = stopped(&mut signals) => {
            stop.cancel();
            tokio::select! { () = engine.drain() => {}, again = stopped(&mut signals) => return Ok(forced_exit_code(again)) }
            return Ok(forced_exit_code(signal));
        }
    };
    engine.drain().await;
    match outcome {
        Ok(summary) => {
            tracing::info!(
                seen = summary.seen,
                new = summary.new,
                waiting = summary.waiting,
                quarantined = summary.quarantined,
                failed_feeds = summary.failed_feeds,
                "one pass is done"
            );
            Ok(code(&summary))
        }
        Err(error) => {
            tracing::error!(error = %error, advice = error.advice(), "the pass was broken off; run it again");
            Ok(exit_code(&error))
        }
    }
}

async fn stopped(signals: &mut SignalStream) -> i32 {
    loop {
        if let Request::Stop(signal) = signals.next().await {
            return signal;
        }
    }
}

/// Sweeps while the dispatcher already loads, then waits for the end.
async fn pass(engine: &Engine, stop: &CancellationToken) -> Result<Summary, StoreError> {
    let mut summary = Summary::default();
    let sweeps = engine.discoverers.iter().map(|discoverer| discoverer.sweep(stop));
    for swept in futures::future::join_all(sweeps).await {
        match swept {
            Ok(listed) => {
                summary.seen += listed.seen;
                summary.new += listed.new;
            }
            Err(DiscoverError::Store(error)) => return Err(error),
            Err(error) => {
                summary.failed_feeds += 1;
                tracing::error!(error = %error, "a feed could not be listed");
            }
        }
    }
    let open = settled(engine).await?;
    summary.waiting = open.waiting;
    summary.quarantined = open.quarantined;
    summary.disposals_waiting = open.disposals_waiting;
    Ok(summary)
}

/// Waits until nothing is active any more, or nothing moves any more although nobody works on anything: then the
/// dispatcher or the disposer has logged why it gets nowhere.
async fn settled(engine: &Engine) -> Result<OpenWork, StoreError> {
    let (mut last, mut moved_at) = (OpenWork::default(), Instant::now());
    loop {
        let open = engine.ledger.open_work(engine.feeds()).await?;
        if open.active == 0 && open.disposals == 0 {
            return Ok(open);
        }
        if open != last || open.leased > 0 {
            (last, moved_at) = (open, Instant::now());
        } else if moved_at.elapsed() > STANDSTILL {
            let (waiting, disposals_waiting) = (open.waiting + open.active, open.disposals_waiting + open.disposals);
            return Ok(OpenWork { waiting, disposals_waiting, ..open });
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

fn code(summary: &Summary) -> u8 {
    if summary.failed_feeds > 0 {
        exit::S3
    } else if summary.waiting > 0 || summary.disposals_waiting > 0 {
        exit::FAILURE
    } else if summary.quarantined > 0 {
        exit::QUARANTINED
    } else {
        exit::OK
    }
}
