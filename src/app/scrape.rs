//! What `/metrics` and `/readyz` say: the ledger's gauges and the state of what we depend on.
//!
//! Refreshed in the background every few seconds, so that a scrape never waits for the database.

mod rarely;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use crate::domain::feed::FeedName;
use crate::domain::state::State;
use crate::engine::Engine;
use crate::http::readiness::Readiness;
use crate::store::error::StoreError;
use crate::store::ledger::FeedCounts;
use crate::telemetry::metrics::{self, FeedGauges, PoolState};

use rarely::Rarely;

/// Counting terminal objects reads the whole ledger: it may take this share of the time at most.
const COUNT_SHARE: u32 = 20;
/// And is done no more often than this.
const COUNT_INTERVAL: Duration = Duration::from_secs(10);

/// The daemon's view of itself.
pub(super) struct Scrape {
    engine: watch::Receiver<Option<Arc<Engine>>>,
    readiness: Arc<Readiness>,
    counts: Mutex<Counts>,
    rarely: Rarely,
    /// Feeds named in the readiness, to be taken out when a reload takes them away.
    feeds: Mutex<BTreeSet<String>>,
}

/// The last full count, and when the next one is due.
struct Counts {
    feeds: Vec<FeedCounts>,
    due: Instant,
}

impl Scrape {
    pub(super) fn new(engine: watch::Receiver<Option<Arc<Engine>>>) -> Self {
        let readiness = Arc::new(Readiness::expecting(["ledger"]));
        Self {
            engine,
            readiness,
            counts: Mutex::new(Counts { feeds: Vec::new(), due: Instant::now() }),
            rarely: Rarely::default(),
            feeds: Mutex::default(),
        }
    }

    /// What `/readyz` reads.
    pub(super) fn readiness(&self) -> Arc<Readiness> {
        Arc::clone(&self.readiness)
    }

    /// Asks the ledger and sets gauges and readiness.
    pub(super) async fn refresh(&self) {
        let engine = self.engine.borrow().clone();
        let Some(engine) = engine else { return };
        let mut asked = self.ask(&engine).await;
        if asked.is_ok() {
            asked = self.report_feeds(&engine).await;
        }
        if asked.is_ok() {
            asked = self.rarely.refresh(&engine).await;
        }
        let (used, idle) = engine.pools.usage();
        metrics::pool_connections(PoolState::Used, used);
        metrics::pool_connections(PoolState::Idle, idle);
        self.readiness.report("ledger", asked.map_err(|error| error.to_string()));
    }

    /// One check per feed, so that a probe tells which one needs somebody. While the ledger is away, they stay as they
    /// were: it is the one to be mended first.
    async fn report_feeds(&self, engine: &Engine) -> Result<(), StoreError> {
        let troubles = engine.troubles().await?;
        let mut known = self.feeds.lock().await;
        let now: BTreeSet<String> = troubles.iter().map(|(feed, _)| format!("feed {feed}")).collect();
        for gone in known.difference(&now) {
            self.readiness.forget(gone);
        }
        *known = now;
        for (feed, trouble) in troubles {
            self.readiness.report(&format!("feed {feed}"), trouble.map_or(Ok(()), Err));
        }
        Ok(())
    }

    async fn ask(&self, engine: &Engine) -> Result<(), StoreError> {
        let gauges = engine.ledger.gauges(engine.feeds()).await?;
        let mut counts = self.counts.lock().await;
        if Instant::now() >= counts.due {
            let begun = Instant::now();
            counts.feeds = engine.ledger.feed_counts().await?;
            counts.due = Instant::now() + COUNT_INTERVAL.max(begun.elapsed() * COUNT_SHARE);
        }
        for (feed, now) in engine.feeds().iter().zip(gauges) {
            let counted = counts.feeds.iter().find(|counted| counted.feed == feed.as_str());
            let mut objects = counted.map(terminal).unwrap_or_default();
            objects.push((State::Pending, now.pending));
            objects.push((State::Leased, now.leased));
            show(feed, objects, counted, &now);
        }
        Ok(())
    }
}

fn show(
    feed: &FeedName,
    objects: Vec<(State, u64)>,
    counted: Option<&FeedCounts>,
    now: &crate::store::ledger::FeedGauges,
) {
    metrics::ledger(
        feed,
        &FeedGauges {
            objects,
            oldest_pending: now.oldest_open_visible_at,
            frontier: now.frontier,
            last_commit: counted.and_then(|counted| counted.last_loaded_at),
            dispose_pending: now.disposal_pending,
            open_rejections: counted.map_or(0, |counted| counted.rows_rejected),
            paused: now.paused,
        },
    );
}

/// The counts of terminal states; open ones are read fresh.
fn terminal(counted: &FeedCounts) -> Vec<(State, u64)> {
    let known = counted.states.iter().filter_map(|(word, n)| Some((word.parse::<State>().ok()?, *n)));
    known.filter(|(state, _)| state.is_terminal()).collect()
}
