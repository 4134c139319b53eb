//! One running configuration: everything that discovers, loads and disposes, wired up.
//!
//! A reload starts a second engine and drains the first: two engines in one process share work through the ledger
//! exactly as two processes do.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::config::feed::Feed;
use crate::domain::backoff;
use crate::domain::feed::FeedName;
use crate::domain::ports::ObjectStore;
use crate::domain::queue::NotificationQueue;
use crate::pipeline::discover::{Consumer, Discoverer};
use crate::pipeline::dispatcher::{Dispatcher, Lane};
use crate::pipeline::dispose::Disposer;
use crate::pipeline::duties::{self, Duties, Keeper};
use crate::pipeline::load;
use crate::pipeline::renew::{self, Held};
use crate::pipeline::worker::Worker;
use crate::store::bell::{self, Bells};
use crate::store::catalog::Catalog;
use crate::store::error::StoreError;
use crate::store::ledger::Ledger;
use crate::store::pool::Pools;
use crate::telemetry::metrics;

/// After the grace period: time for rolled-back loads to give their leases back.
const RELEASE_TIME: Duration = Duration::from_secs(5);

/// Pauses before a background task that panicked is started again.
const AFTER_PANIC: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// How the engine finds objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// Polls and sweeps for ever.
    Continuous,
    /// Whoever started the engine sweeps by himself.
    OnDemand,
}

/// The outside world as the engine sees it, but for the database.
pub struct Ports {
    /// Object store.
    pub store: Arc<dyn ObjectStore>,
    /// Queues to receive notifications from, by their names in the configuration.
    pub queues: BTreeMap<String, Arc<dyn NotificationQueue>>,
}

/// A running engine.
pub struct Engine {
    /// Ledger.
    pub ledger: Ledger,
    /// Connections.
    pub pools: Pools,
    /// Discovery, per feed.
    pub discoverers: Vec<Arc<Discoverer>>,
    /// What is this instance's to do. Whoever sweeps by himself also disposes by himself, and waits for nobody.
    duties: Duties,
    consumers: Vec<Arc<Consumer>>,
    feeds: Vec<FeedName>,
    grace: Duration,
    /// Nothing new is begun.
    stop: CancellationToken,
    /// What runs is rolled back.
    abort: CancellationToken,
    /// Leases are no longer renewed.
    let_go: CancellationToken,
    tracker: TaskTracker,
}

impl Engine {
    /// Starts everything. The ledger must have been migrated.
    pub fn start(config: &Config, pools: Pools, ports: Ports, discovery: Discovery) -> Self {
        let mut engine = Self {
            ledger: Ledger::new(pools.clone()),
            pools,
            discoverers: Vec::new(),
            duties: Duties::unshared(),
            consumers: Vec::new(),
            feeds: config.feeds.keys().cloned().collect(),
            grace: config.lifecycle.grace,
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            let_go: CancellationToken::new(),
            tracker: TaskTracker::new(),
        };
        let bells = Bells::default();
        let keeper = (discovery == Discovery::Continuous).then(|| engine.keeper(config, &bells));
        if let Some(keeper) = &keeper {
            engine.duties = keeper.duties();
        }
        let shared = Shared { store: ports.store, catalog: Arc::new(Catalog::default()), held: Held::default(), bells };
        let lanes = config.feeds.values().map(|feed| engine.start_feed(config, feed, &shared, discovery)).collect();
        engine.start_dispatcher(config, lanes, &shared);
        for (name, queue) in ports.queues {
            engine.start_consumer(config, &name, queue);
        }
        if let Some(keeper) = keeper {
            engine.start_keeper(keeper);
        }
        engine
    }

    fn keeper(&self, config: &Config, bells: &Bells) -> Keeper {
        let lease = duties::lease(config.workers.lease);
        let (name, feeds) = (config.instance.clone(), self.feeds.clone());
        Keeper::new(self.ledger.clone(), name, feeds, lease, bells.clone())
    }

    /// Ends first: with `stop`, so that another instance goes on while the loads of this one still run.
    fn start_keeper(&self, keeper: Keeper) {
        let discoverers = self.discoverers.clone();
        let declined = move || {
            let declining = discoverers.iter().filter(|discoverer| discoverer.declines());
            declining.map(|discoverer| discoverer.feed().name.clone()).collect()
        };
        let stop = self.stop.clone();
        self.tracker.spawn(kept_up("duties", stop.clone(), async move || keeper.run(&declined, &stop).await));
    }

    /// Consumes one queue for the feeds that name it. Every instance does: SQS hands each message to one of them at a
    /// time, and a message that two have changes nothing the second time.
    fn start_consumer(&mut self, config: &Config, name: &str, queue: Arc<dyn NotificationQueue>) {
        let Some(settings) = config.queues.get(name) else { return };
        let all: Vec<&Feed> = config.feeds.values().map(AsRef::as_ref).collect();
        let named = self.discoverers.iter().filter(|discoverer| discoverer.feed().queue.as_deref() == Some(name));
        let feeds = named.cloned().collect();
        let consumer = Arc::new(Consumer::new(settings, queue, self.ledger.clone(), feeds, &all));
        self.consumers.push(Arc::clone(&consumer));
        let stop = self.stop.clone();
        self.tracker.spawn(kept_up("consumer", stop.clone(), async move || consumer.run(&stop).await));
    }

    fn start_feed(&mut self, config: &Config, feed: &Arc<Feed>, shared: &Shared, discovery: Discovery) -> Lane {
        let discoverer = Arc::new(Discoverer::new(
            Arc::clone(&shared.store),
            self.ledger.clone(),
            Arc::clone(feed),
            Arc::clone(&shared.bells.work),
        ));
        self.discoverers.push(Arc::clone(&discoverer));
        let loaded = Arc::new(Notify::new());
        let disposer = Disposer {
            store: Arc::clone(&shared.store),
            ledger: self.ledger.clone(),
            feed: Arc::clone(feed),
            discoverer: Arc::clone(&discoverer),
            duties: self.duties.clone(),
            // A dead instance's loads and disposals are taken over after the same time.
            taken_for: config.workers.lease,
            loaded: Arc::clone(&loaded),
        };
        let stop = self.stop.clone();
        self.tracker.spawn(kept_up("disposer", stop.clone(), async move || disposer.run(&stop).await));
        if discovery == Discovery::Continuous {
            let (discoverer, duties, stop) = (Arc::clone(&discoverer), self.duties.clone(), self.stop.clone());
            self.tracker.spawn(kept_up("discoverer", stop.clone(), async move || discoverer.run(&duties, &stop).await));
        }
        Lane::new(Arc::new(Worker {
            load: load::Context {
                store: Arc::clone(&shared.store),
                pools: self.pools.clone(),
                catalog: Arc::clone(&shared.catalog),
                feed: Arc::clone(feed),
                layouts: Arc::default(),
                patience: config.s3.read_timeout,
                purpose: load::Purpose::Load,
            },
            ledger: self.ledger.clone(),
            held: shared.held.clone(),
            limits: config.workers.clone(),
            discoverer,
            loaded,
            abort: self.abort.clone(),
        }))
    }

    fn start_dispatcher(&self, config: &Config, lanes: Vec<Lane>, shared: &Shared) {
        let mut dispatcher =
            Dispatcher::new(lanes, self.ledger.clone(), config, Arc::clone(&shared.bells.work), self.tracker.clone());
        let stop = self.stop.clone();
        self.tracker.spawn(kept_up("dispatcher", stop.clone(), async move || dispatcher.run(&stop).await));
        let (pools, bells, stop) = (self.pools.clone(), shared.bells.clone(), self.stop.clone());
        self.tracker.spawn(kept_up("bell", stop.clone(), async move || bell::listen(&pools, &bells, &stop).await));
        // Not in the tracker: renewal must outlast the loads that the tracker waits for.
        let (ledger, held, let_go) = (self.ledger.clone(), shared.held.clone(), self.let_go.clone());
        let lease = config.workers.lease;
        let renewal =
            kept_up("renewal", let_go.clone(), async move || renew::run(&ledger, &held, lease, &let_go).await);
        #[expect(clippy::disallowed_methods, reason = "ends with `let_go`, after the tracker is empty")]
        drop(tokio::spawn(renewal));
    }

    /// Names of the feeds, in order.
    pub fn feeds(&self) -> &[FeedName] {
        &self.feeds
    }

    /// What keeps each feed from working, if anything: its bucket cannot be listed, the feed is halted, or its queue
    /// fails.
    pub async fn troubles(&self) -> Result<Vec<(FeedName, Option<String>)>, StoreError> {
        let pauses = self.ledger.pauses().await?;
        let halt = |feed: &FeedName| {
            let halted = pauses.iter().find(|pause| pause.feed == feed.as_str() && pause.by == "halt")?;
            Some(format!("{}; {}", halted.reason, halted.advice))
        };
        let unnotified =
            |feed: &FeedName| self.consumers.iter().filter(|it| it.serves(feed)).find_map(|it| it.trouble());
        Ok(self
            .feeds
            .iter()
            .zip(&self.discoverers)
            .map(|(feed, discoverer)| {
                let trouble = discoverer.trouble().or_else(|| self.duties.trouble()).or_else(|| halt(feed));
                (feed.clone(), trouble.or_else(|| unnotified(feed)))
            })
            .collect())
    }

    /// Whether the ledger answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.ledger.ping().await
    }

    /// Stops leasing and lets running loads finish, however long they take: a reload is no reason to roll them back.
    /// [`Self::drain`], called meanwhile, puts an end to that.
    pub async fn retire(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
        self.let_go.cancel();
    }

    /// Stops leasing, lets running loads finish within the grace period, rolls the rest back.
    ///
    /// Cut short anywhere, nothing is lost: what was not committed is rolled back by the server, and its lease
    /// expires.
    pub async fn drain(&self) {
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(self.grace, self.tracker.wait()).await.is_err() {
            tracing::warn!(grace_s = self.grace.as_secs(), "the grace period is over; running loads are rolled back");
            self.abort.cancel();
            if tokio::time::timeout(RELEASE_TIME, self.tracker.wait()).await.is_err() {
                tracing::warn!("some leases could not be given back; they expire by themselves");
            }
        }
        self.let_go.cancel();
    }
}

/// Runs a background task until it is told to stop, and again if it panics: a bug of ours in one feed's discovery or
/// disposal must neither end it for good, unseen, nor take the other feeds down. All of them may be cut off anywhere,
/// so they may also begin again.
async fn kept_up(what: &'static str, stop: CancellationToken, mut task: impl AsyncFnMut()) {
    let mut panics = 0;
    while AssertUnwindSafe(task()).catch_unwind().await.is_err() {
        panics += 1;
        metrics::worker_panicked();
        tracing::error!(task = what, panics, "a background task panicked and is started again; please report this");
        let pause = backoff::delay(panics, AFTER_PANIC.0, AFTER_PANIC.1, fastrand::f64());
        tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(pause) => {} }
    }
}

/// What the feeds of one engine share.
struct Shared {
    store: Arc<dyn ObjectStore>,
    catalog: Arc<Catalog>,
    held: Held,
    bells: Bells,
}
