//! Listing pages into the ledger: the next page is fetched while the last one is written.
//!
//! One page is in memory at a time, whatever the bucket holds; the first objects are loadable as soon as the first page
//! is committed.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::domain::object;
use crate::domain::ports::{ListPage, ListRequest};
use crate::domain::state::Channel;
use crate::failpoint::{self, Point};
use crate::pipeline::duties::Leave;
use crate::store::ledger::changed::{CODE, advice};
use crate::store::ledger::{Found, Recorded};
use crate::telemetry::metrics::{self, ObjectOutcome, Outcome, Stage};

use super::bound::Range;
use super::select::judge;
use super::{DiscoverError, Discoverer};

/// What a listing came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Listed {
    /// LIST calls.
    pub calls: u64,
    /// Objects seen.
    pub seen: u64,
    /// Objects that were new and are to be loaded.
    pub new: u64,
}

impl Listed {
    /// Adds another listing's figures.
    pub fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.seen += other.seen;
        self.new += other.new;
    }
}

impl Discoverer {
    /// Lists one prefix from a bound to its end, or to the page at which the leave is over.
    pub(super) async fn list(
        &self,
        range: Range,
        channel: Channel,
        leave: &Leave<'_>,
    ) -> Result<Listed, DiscoverError> {
        let mut listed = Listed::default();
        let Range { prefix, start_after } = range;
        let mut request = ListRequest { prefix, start_after, delimiter: None, token: None };
        let mut page = self.page(&request, channel).await?;
        let mut greatest = String::new();
        loop {
            if leave.is_over() {
                return Err(DiscoverError::Stopped);
            }
            listed.calls += 1;
            listed.seen += page.objects.len() as u64;
            request.token = page.next.take();
            let objects = std::mem::take(&mut page.objects);
            self.watch_order(&objects, &mut greatest);
            if request.token.is_none() {
                listed.new += self.record(objects, channel).await?;
                return Ok(listed);
            }
            let (recorded, next) =
                futures::future::join(self.record(objects, channel), self.page(&request, channel)).await;
            listed.new += recorded?;
            page = next?;
        }
    }

    /// Beginning a listing at a key passes over smaller keys only where the store lists in byte order. S3 promises that;
    /// directory buckets and some other stores do not keep it. Order is not assumed: the first key that is smaller than
    /// one before it turns polls into listings of the whole prefix, until the next start.
    fn watch_order(&self, objects: &[object::Listed], greatest: &mut String) {
        for listed in objects {
            if listed.key >= *greatest {
                greatest.clone_from(&listed.key);
            } else if !self.unordered.swap(true, Ordering::Relaxed) {
                tracing::warn!(feed = %self.feed.name, bucket = %self.feed.bucket,
                    "the store does not list keys in byte order: every poll lists the whole prefix from now on");
            }
        }
    }

    pub(super) async fn page(&self, request: &ListRequest, channel: Channel) -> Result<ListPage, DiscoverError> {
        let begun = std::time::Instant::now();
        let page = self.store.list(&self.feed.bucket, request).await;
        metrics::list_call(&self.feed.name, channel);
        let outcome = if page.is_ok() { Outcome::Ok } else { Outcome::Error };
        metrics::stage(Stage::List, outcome, begun.elapsed());
        Ok(page?)
    }

    /// Judges a page and writes it down; answers how many objects are to be loaded.
    pub(super) async fn record(&self, objects: Vec<object::Listed>, channel: Channel) -> Result<u64, DiscoverError> {
        let found: Vec<Found> = objects.into_iter().map(|listed| judge(&self.feed, listed)).collect();
        Ok(self.write_down(&found, channel).await?.to_load())
    }

    /// Writes down what was found and wakes the dispatcher.
    pub(super) async fn write_down(&self, found: &[Found], channel: Channel) -> Result<Recorded, DiscoverError> {
        if found.is_empty() {
            return Ok(Recorded::default());
        }
        failpoint::reach(Point::DiscoverListed).await?;
        let recorded = self.ledger.record(&self.feed, found, channel).await?;
        failpoint::reach(Point::DiscoverRecorded).await?;
        self.count(&recorded, channel);
        if recorded.to_load() > 0 {
            self.wake.notify_one();
            // The others look by themselves within a second; failing to wake them is no failure.
            if let Err(error) = self.ledger.announce(&self.feed.name).await {
                tracing::debug!(feed = %self.feed.name, error = %error, "other instances were not woken");
            }
        }
        Ok(recorded)
    }

    fn count(&self, recorded: &Recorded, channel: Channel) {
        metrics::objects_discovered(&self.feed.name, channel, recorded.to_load());
        for seconds in recorded.new.iter().filter(|seconds| **seconds > 0.0) {
            metrics::late_object(&self.feed.name, channel, Duration::from_secs_f64(*seconds));
        }
        for _ in 0..recorded.quarantined {
            metrics::object(&self.feed.name, ObjectOutcome::Quarantined);
        }
        if recorded.quarantined > 0 {
            tracing::error!(feed = %self.feed.name, objects = recorded.quarantined, error.code = CODE,
                advice = advice(self.feed.on_change), "quarantined: other content was loaded from their keys before");
        }
        for reason in &recorded.skipped {
            metrics::objects_skipped(&self.feed.name, *reason, 1);
        }
        if recorded.skipped.contains(&crate::domain::state::SkipReason::Pattern) {
            tracing::warn!(feed = %self.feed.name, keys = recorded.skipped.len(),
                "keys under the prefix do not fit the feed's pattern or filters; `keyfall objects --state skipped` lists them");
        }
    }
}
