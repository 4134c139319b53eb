//! One worker: takes leases through fetch, decode and load, and writes down what became of each.
//!
//! The only place that sequences the stages, the only one that logs an object's failure.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use uuid::Uuid;

use crate::config::workers::Workers;
use crate::domain::backoff;
use crate::domain::lease::Lease;
use crate::domain::verdict::{Failure, Relation, Verdict};
use crate::failpoint::{self, Point};
use crate::store::copy::{Duplicate, LoadedCounts};
use crate::store::error::StoreError;
use crate::store::ledger::{Ledger, Settlement};
use crate::telemetry::metrics::{self, DuplicateOutcome, ObjectOutcome, RowOutcome};

use super::discover::Discoverer;
use super::load::{self, LoadError, Ready, Way};
use super::progress::Progress;
use super::renew::Held;

/// Tries to read the outcome of a commit back. Afterwards the lease is left to expire: the ledger, asked by the next
/// owner, knows.
const READ_BACKS: u32 = 5;

/// What all workers of a feed share.
pub struct Worker {
    /// What a load works with.
    pub load: load::Context,
    /// Ledger.
    pub ledger: Ledger,
    /// Leases of this instance.
    pub held: Held,
    /// Bounds and delays.
    pub limits: Workers,
    /// Looks a key up again whose version changed.
    pub discoverer: Arc<Discoverer>,
    /// Wakes the disposer.
    pub loaded: Arc<Notify>,
    /// Shutdown's last word: roll back now.
    pub abort: CancellationToken,
}

impl Worker {
    /// Works through the leases of one permit.
    pub async fn run(&self, mut leases: Vec<Lease>) {
        let switch = self.abort.child_token();
        let _held = self.held.enter(&leases, &switch);
        if leases.len() > 1 {
            leases = self.group(leases, &switch).await;
        }
        for lease in leases {
            let span = tracing::info_span!("object", feed = %self.feed(), object.key = %lease.object.uri());
            self.single(lease, &switch).instrument(span).await;
        }
    }

    fn feed(&self) -> &crate::domain::feed::FeedName {
        &self.load.feed.name
    }

    /// Loads small objects together; answers those that have to be loaded one by one.
    async fn group(&self, leases: Vec<Lease>, switch: &CancellationToken) -> Vec<Lease> {
        let (begun, progress) = (Instant::now(), Progress::default());
        let outcome = tokio::select! {
            // Dropping the load closes its connection, the server rolls back.
            () = switch.cancelled() => return self.give_back(leases).await,
            outcome = self.guarded(&progress, load::group(&self.load, &leases, &progress)) => outcome,
        };
        let grouped = match outcome {
            Ok(grouped) => grouped,
            Err(error) if spares_the_others(&error) => {
                tracing::debug!(feed = %self.feed(), error = %error, "group taken apart");
                return leases;
            }
            Err(error) => {
                let failure = error.failure();
                for lease in leases {
                    self.settle(&lease, &failure).await;
                }
                return Vec::new();
            }
        };
        let mut leases: Vec<Option<Lease>> = leases.into_iter().map(Some).collect();
        for (index, error) in grouped.failed {
            if let Some(lease) = leases.get_mut(index).and_then(Option::take) {
                self.settle(&lease, &error.failure()).await;
            }
        }
        let together: Vec<Lease> =
            grouped.members.iter().filter_map(|index| leases.get_mut(*index).and_then(Option::take)).collect();
        let mut alone: Vec<Lease> = leases.into_iter().flatten().collect();
        if let Some(ready) = grouped.ready {
            alone.extend(self.commit(together, ready, (Way::Straight, begun)).await);
        }
        alone
    }

    async fn single(&self, lease: Lease, switch: &CancellationToken) {
        if let Some(lease) = self.attempt(lease, Way::Straight, switch).await {
            tracing::debug!(feed = %self.feed(), object.key = %lease.object.uri(), "refused; loaded again row by row");
            // Nothing is left to be tried after that.
            drop(self.attempt(lease, Way::ByRows, switch).await);
        }
    }

    /// Loads one object; answers it where the server has refused one of its rows and each has to be tried.
    async fn attempt(&self, lease: Lease, way: Way, switch: &CancellationToken) -> Option<Lease> {
        let (begun, progress) = (Instant::now(), Progress::default());
        let outcome = tokio::select! {
            () = switch.cancelled() => {
                self.give_back(vec![lease]).await;
                return None;
            }
            outcome = self.guarded(&progress, load::stream(&self.load, &lease, way, &progress)) => outcome,
        };
        match outcome {
            Ok(ready) => self.commit(vec![lease], ready, (way, begun)).await.pop(),
            Err(error) if self.is_tried_by_rows(way, &error) => Some(lease),
            Err(error) => {
                self.settle(&lease, &load::settled(&self.load, &lease, error).failure()).await;
                None
            }
        }
    }

    fn is_tried_by_rows(&self, way: Way, error: &LoadError) -> bool {
        way == Way::Straight && load::may_isolate(&self.load, error)
    }

    /// Confines a load that panics or hangs to its own objects: it is dropped, its connection closes, the server rolls
    /// back, and the attempt counts against them. Without this they would be tried for ever, one lease after the other.
    async fn guarded<T>(
        &self,
        progress: &Progress,
        load: impl Future<Output = Result<T, LoadError>>,
    ) -> Result<T, LoadError> {
        let load = AssertUnwindSafe(Box::pin(load)).catch_unwind();
        tokio::select! {
            () = progress.stalled(self.limits.stall_timeout) => {
                Err(LoadError::Stalled { seconds: self.limits.stall_timeout.as_secs() })
            }
            outcome = load => outcome.unwrap_or_else(|_panic| {
                metrics::worker_panicked();
                Err(LoadError::Panicked)
            }),
        }
    }

    /// Commits and believes only what the ledger answers afterwards. Answers those that did not load and have to be
    /// tried another way: members of a group, for what may be one member's fault, a deferred constraint for instance,
    /// each alone; a single object, for what may be one row's fault, row by row.
    ///
    /// Killed before COMMIT reached the server: nothing happened, the leases expire. Killed after: rows and ledger
    /// are durable, the next start goes on with disposal. Running twice: the fence lets one of them through.
    async fn commit(&self, leases: Vec<Lease>, ready: Ready, (way, begun): (Way, Instant)) -> Vec<Lease> {
        let counts = ready.counts().to_vec();
        let decoded_bytes = ready.decoded_bytes;
        // Dropped half-way, the outcome is as unknown as after any error: the read-back tells.
        let commit = async { Ok(ready.commit(&self.load.feed).await?) };
        let committed = self.guarded(&Progress::default(), commit).await;
        let held: Vec<(i64, Uuid)> = leases.iter().map(|lease| (lease.object.id, lease.token)).collect();
        let Some(loaded) = self.read_back(&held).await else {
            tracing::error!(feed = %self.feed(), objects = leases.len(),
                "the outcome of a commit could not be read back; the leases are left to expire");
            return Vec::new();
        };
        failpoint::pass(Point::CommitReadBack).await;
        metrics::decoded_bytes(self.feed(), decoded_bytes);
        let error = match committed {
            Ok(duplicates) => {
                self.warn_of(&duplicates, &leases);
                None
            }
            Err(error) => Some(error),
        };
        let is_tried_again = match (&error, leases.as_slice()) {
            (Some(error), [lease]) => self.is_tried_by_rows(way, error) && !load::is_waiting(&self.load, lease, error),
            (Some(error), _) => may_be_one_members(error.verdict()),
            (None, _) => leases.len() > 1,
        };
        let mut failure = not_committed(error.as_ref());
        if let (Some(error), [lease]) = (error, leases.as_slice()) {
            failure = load::settled(&self.load, lease, error).failure();
        }
        let mut alone = Vec::new();
        for lease in leases {
            if loaded.contains(&lease.object.id) {
                let count = counts.iter().find(|count| count.id == lease.object.id);
                self.celebrate(&lease, count, begun);
            } else if is_tried_again {
                alone.push(lease);
            } else {
                // While a COMMIT is still on its way, the row is locked and this waits for it; if it arrives, the
                // row is `loaded` and this changes nothing.
                self.settle(&lease, &failure).await;
            }
        }
        if !loaded.is_empty() {
            self.loaded.notify_one();
            if let Ok(true) = self.ledger.clear_halt(self.feed()).await {
                tracing::info!(feed = %self.feed(), "the feed loads again");
            }
        }
        alone
    }

    async fn read_back(&self, held: &[(i64, Uuid)]) -> Option<std::collections::HashSet<i64>> {
        for attempt in 1..=READ_BACKS {
            match self.ledger.loaded_among(held).await {
                Ok(loaded) => return Some(loaded),
                Err(error) => tracing::warn!(feed = %self.feed(), error = %error, attempt, "read-back failed"),
            }
            tokio::time::sleep(self.delay(attempt)).await;
        }
        None
    }

    fn celebrate(&self, lease: &Lease, counts: Option<&LoadedCounts>, begun: Instant) {
        let of = |number: fn(&LoadedCounts) -> i64| counts.map_or(0, |counts| number(counts).unsigned_abs());
        let (read, rows) = (of(|counts| counts.read), of(|counts| counts.loaded));
        let outcome = if read == 0 { ObjectOutcome::Empty } else { ObjectOutcome::Loaded };
        let feed = self.feed();
        metrics::object(feed, outcome);
        metrics::rows(feed, RowOutcome::Read, read);
        metrics::rows(feed, RowOutcome::Loaded, rows);
        metrics::rows(feed, RowOutcome::Rejected, of(|counts| counts.rejected));
        metrics::rows(feed, RowOutcome::Filtered, of(|counts| counts.filtered));
        metrics::read_bytes(feed, lease.object.size);
        metrics::object_duration(feed, begun.elapsed());
        let latency = Timestamp::now().duration_since(lease.object.visible_at);
        metrics::latency(feed, latency.unsigned_abs());
        tracing::debug!(feed = %feed, object.key = %lease.object.uri(), object.size_bytes = lease.object.size, rows,
            duration_ms = begun.elapsed().as_millis(), "loaded");
    }

    /// One line for all duplicates of a transaction; the ledger has each of them.
    fn warn_of(&self, duplicates: &[Duplicate], leases: &[Lease]) {
        for _ in duplicates {
            metrics::duplicate(self.feed(), DuplicateOutcome::Loaded);
        }
        let Some(Duplicate { id, of, uri }) = duplicates.first() else { return };
        let key = leases.iter().find(|lease| lease.object.id == *id).map(|lease| lease.object.uri());
        tracing::warn!(feed = %self.feed(), object.key = key, object.duplicate_of = of, original = %uri,
            duplicates = duplicates.len(), "loaded bytes that were loaded before from another key");
    }

    /// Ends a lease that did not load, and logs why, once.
    async fn settle(&self, lease: &Lease, failure: &Failure) {
        let settlement = Settlement::of(failure.verdict, lease, self.limits.max_attempts, self.delay(lease.attempt));
        self.report(lease, failure, settlement);
        failpoint::pass(Point::SettleBegun).await;
        if failure.verdict == Verdict::Halt {
            let halted = self.ledger.halt(self.feed(), failure, self.limits.retry_min, self.limits.retry_max).await;
            if let Err(error) = halted {
                tracing::warn!(feed = %self.feed(), error = %error, "the feed could not be paused");
            }
        }
        match self.ledger.settle(lease, settlement, failure).await {
            Ok(true) => {}
            Ok(false) => tracing::info!(object.key = %lease.object.uri(), "the lease had passed on; nothing written"),
            // The lease expires and the object is tried again: nothing is lost, only time.
            Err(error) => tracing::warn!(object.key = %lease.object.uri(), error = %error, "lease left to expire"),
        }
        failpoint::pass(Point::SettleWritten).await;
        if matches!(failure.verdict, Verdict::Superseded) {
            self.discoverer.look_again(&lease.object.key).await;
        }
    }

    fn report(&self, lease: &Lease, failure: &Failure, settlement: Settlement) {
        let quarantined = settlement == Settlement::Quarantined;
        let outcome = if quarantined { ObjectOutcome::Quarantined } else { ObjectOutcome::from(failure.verdict) };
        metrics::object(self.feed(), outcome);
        self.count_duplicate(failure);
        let (key, attempt) = (lease.object.uri(), lease.attempt);
        let Failure { code, detail, advice, .. } = failure;
        if quarantined {
            tracing::error!(feed = %self.feed(), object.key = %key, lease.attempt = attempt, error.code = %code,
                error = %detail, advice = %advice, "object quarantined, nothing of it loaded");
        } else if let Verdict::Skip(reason) = failure.verdict {
            metrics::objects_skipped(self.feed(), reason, 1);
            tracing::info!(feed = %self.feed(), object.key = %key, error = %detail, reason = reason.as_str(),
                "object skipped");
        } else if failure.verdict == Verdict::Halt {
            tracing::error!(feed = %self.feed(), object.key = %key, error.code = %code, error = %detail,
                advice = %advice, "feed paused; it tries again by itself");
        } else {
            tracing::warn!(feed = %self.feed(), object.key = %key, lease.attempt = attempt, error.code = %code,
                error = %detail, outcome = outcome.as_str(), "object not loaded");
        }
    }

    fn count_duplicate(&self, failure: &Failure) {
        if let Some(Relation::DuplicateOf(_)) = failure.relation {
            let is_skipped = matches!(failure.verdict, Verdict::Skip(_));
            let outcome = if is_skipped { DuplicateOutcome::Skipped } else { DuplicateOutcome::Quarantined };
            metrics::duplicate(self.feed(), outcome);
        }
    }

    async fn give_back(&self, leases: Vec<Lease>) -> Vec<Lease> {
        let held: Vec<(i64, Uuid)> = leases.iter().map(|lease| (lease.object.id, lease.token)).collect();
        for _ in &leases {
            metrics::object(self.feed(), ObjectOutcome::Released);
        }
        match self.ledger.release(&held).await {
            Ok(released) => tracing::info!(feed = %self.feed(), released, "leases given back"),
            Err(error) => tracing::warn!(feed = %self.feed(), error = %error, "leases left to expire"),
        }
        failpoint::pass(Point::ShutdownReleased).await;
        Vec::new()
    }

    fn delay(&self, failures: u32) -> std::time::Duration {
        backoff::delay(failures, self.limits.retry_min, self.limits.retry_max, fastrand::f64())
    }
}

/// Whether a group's failure may be one member's own, so that the others should be tried alone.
fn spares_the_others(error: &LoadError) -> bool {
    match error {
        // Of the latter two: one member's other version, or its twin. The others have nothing to do with it.
        LoadError::Store(StoreError::Transition { .. } | StoreError::ShapeChanged)
        | LoadError::Changed(_)
        | LoadError::Duplicate(_) => true,
        error => may_be_one_members(error.verdict()),
    }
}

/// Whether a group's failure may lie in the content of one member.
fn may_be_one_members(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Quarantine | Verdict::Suspect)
}

fn not_committed(error: Option<&LoadError>) -> Failure {
    match error {
        Some(error) => error.failure(),
        // `commit()` said yes and the ledger says no: the server rolled back behind the driver's back.
        None => Failure {
            verdict: Verdict::Suspect,
            code: "E-COMMIT-UNDONE".into(),
            detail: "COMMIT was answered, but the ledger does not have the object as loaded".to_owned(),
            advice: "nothing to do: the object is tried again",
            relation: None,
        },
    }
}
