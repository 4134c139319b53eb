//! Permits, then leases, then workers: how much runs at once, and whose turn it is.
//!
//! A permit is taken before anything is leased, so nothing waits leased for a free worker. Feeds take turns: after each
//! lease the next feed is asked first, so a backlog in one starves no other.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::config::feed::Feed;
use crate::config::workers::Workers;
use crate::domain::lease::Lease;
use crate::failpoint::{self, Point};
use crate::store::ledger::{LeaseLimits, Ledger};
use crate::telemetry::metrics;

use super::load::is_alone;
use super::worker::Worker;

/// How often the ledger is asked without being woken: for delays that ran out and for other instances' discoveries.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Longest pause while the ledger cannot be asked.
const LONGEST_OUTAGE_PAUSE: Duration = Duration::from_secs(15);

/// One feed as the dispatcher sees it.
pub struct Lane {
    /// The feed's worker.
    pub worker: Arc<Worker>,
    running: Arc<AtomicUsize>,
    /// Nothing was loadable at the last look, which was then; it is asked again after a while.
    idle_since: Option<Instant>,
}

impl Lane {
    /// A lane for a worker.
    pub fn new(worker: Arc<Worker>) -> Self {
        Self { worker, running: Arc::default(), idle_since: None }
    }

    fn feed(&self) -> &Feed {
        &self.worker.load.feed
    }

    fn has_room(&self) -> bool {
        self.running.load(Ordering::Relaxed) < self.feed().max_workers
    }

    fn is_idle(&self) -> bool {
        self.idle_since.is_some_and(|since| since.elapsed() < LOOK_INTERVAL)
    }
}

/// The dispatcher.
pub struct Dispatcher {
    lanes: Vec<Lane>,
    next: usize,
    ledger: Ledger,
    owner: String,
    limits: Workers,
    permits: Arc<Semaphore>,
    gauge: Gauge,
    /// Rung by discovery: any feed may have work.
    wake: Arc<Notify>,
    /// Rung by workers that end: there is room again.
    freed: Arc<Notify>,
    tracker: TaskTracker,
}

impl Dispatcher {
    /// A dispatcher over these lanes; `wake` is rung by discovery, workers run on `tracker`.
    pub fn new(lanes: Vec<Lane>, ledger: Ledger, config: &Config, wake: Arc<Notify>, tracker: TaskTracker) -> Self {
        let (owner, limits) = (config.instance.clone(), config.workers.clone());
        let permits = Arc::new(Semaphore::new(limits.max));
        Self {
            lanes,
            next: 0,
            ledger,
            owner,
            limits,
            permits,
            gauge: Gauge::default(),
            wake,
            freed: Arc::default(),
            tracker,
        }
    }

    /// Dispatches until told to stop. Running workers are not touched: who stops them waits for the tracker.
    pub async fn run(&mut self, stop: &CancellationToken) {
        let mut outage = 0;
        while let Some(permit) = self.permit(stop).await {
            // While one feed has a backlog there is no rest, and the others must be asked all the same.
            if self.wake.notified().now_or_never().is_some() {
                self.ask_all();
            }
            match self.lease_next().await {
                Ok(Some((lane, leases))) => {
                    outage = 0;
                    self.spawn(lane, leases, permit);
                }
                Ok(None) => {
                    outage = 0;
                    drop(permit);
                    self.rest(stop).await;
                }
                Err(error) => {
                    outage += 1;
                    drop(permit);
                    tracing::warn!(error = %error, "the ledger cannot be asked for work");
                    let pause =
                        crate::domain::backoff::delay(outage, LOOK_INTERVAL, LONGEST_OUTAGE_PAUSE, fastrand::f64());
                    tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(pause) => {} }
                }
            }
        }
    }

    async fn permit(&self, stop: &CancellationToken) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            permit = Arc::clone(&self.permits).acquire_owned() => permit.ok(),
        }
    }

    /// Asks the feeds in turn, beginning after the one served last.
    async fn lease_next(&mut self) -> Result<Option<(usize, Vec<Lease>)>, crate::store::error::StoreError> {
        for step in 0..self.lanes.len() {
            let index = (self.next + step) % self.lanes.len();
            let Some(lane) = self.lanes.get(index) else { continue };
            if lane.is_idle() || !lane.has_room() {
                continue;
            }
            let (feed, limits) = (lane.feed(), self.lease_limits(lane.feed()));
            let leases = match feed.depends_on.as_slice() {
                [] => self.ledger.lease(&feed.name, &self.owner, limits).await?,
                parents => self.ledger.lease_after(&feed.name, parents, &self.owner, limits).await?,
            };
            if leases.is_empty() {
                if let Some(lane) = self.lanes.get_mut(index) {
                    lane.idle_since = Some(Instant::now());
                }
                continue;
            }
            failpoint::reach(Point::LeaseTaken).await?;
            self.next = index + 1;
            return Ok(Some((index, leases)));
        }
        Ok(None)
    }

    fn lease_limits(&self, feed: &Feed) -> LeaseLimits {
        let in_flight = self.gauge.bytes.load(Ordering::Relaxed);
        let budget = match in_flight {
            // Nothing in work: any object goes through, alone, whatever its size.
            0 => u64::MAX,
            _ => self.limits.max_in_flight_bytes.saturating_sub(in_flight),
        };
        LeaseLimits {
            group_objects: if is_alone(feed) { 1 } else { self.limits.group_objects },
            group_bytes: self.limits.group_bytes,
            budget,
            lease: self.limits.lease,
        }
    }

    fn spawn(&mut self, index: usize, leases: Vec<Lease>, permit: OwnedSemaphorePermit) {
        let Some(lane) = self.lanes.get(index) else { return };
        let worker = Arc::clone(&lane.worker);
        let load = InFlight::begin(&lane.running, &self.gauge, &self.freed, &leases);
        self.tracker.spawn(async move {
            let _permit = permit;
            let _load = load;
            if AssertUnwindSafe(worker.run(leases)).catch_unwind().await.is_err() {
                // The lease is left to expire; the panic's own message went to stderr.
                metrics::worker_panicked();
                tracing::error!(feed = %worker.load.feed.name, "a worker panicked; please report this");
            }
        });
    }

    /// Waits for a discovery, a finished worker, or the next look.
    async fn rest(&mut self, stop: &CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.wake.notified() => {}
            () = self.freed.notified() => {}
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
        self.ask_all();
    }

    fn ask_all(&mut self) {
        for lane in &mut self.lanes {
            lane.idle_since = None;
        }
    }
}

/// What is in work over all feeds.
#[derive(Clone, Default)]
struct Gauge {
    leases: Arc<AtomicUsize>,
    bytes: Arc<AtomicU64>,
}

impl Gauge {
    fn show(&self) {
        metrics::in_flight(self.leases.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
    }
}

/// Counts a worker's load while it runs, whatever way it ends.
struct InFlight {
    running: Arc<AtomicUsize>,
    gauge: Gauge,
    freed: Arc<Notify>,
    bytes: u64,
    leases: usize,
}

impl InFlight {
    fn begin(running: &Arc<AtomicUsize>, gauge: &Gauge, freed: &Arc<Notify>, leases: &[Lease]) -> Self {
        // An empty object still counts: zero means that nothing is in work.
        let bytes = leases.iter().map(|lease| lease.object.size.max(1)).sum();
        running.fetch_add(1, Ordering::Relaxed);
        gauge.bytes.fetch_add(bytes, Ordering::Relaxed);
        gauge.leases.fetch_add(leases.len(), Ordering::Relaxed);
        gauge.show();
        let (running, gauge, freed) = (Arc::clone(running), gauge.clone(), Arc::clone(freed));
        Self { running, gauge, freed, bytes, leases: leases.len() }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        self.gauge.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.gauge.leases.fetch_sub(self.leases, Ordering::Relaxed);
        self.gauge.show();
        self.freed.notify_one();
    }
}
