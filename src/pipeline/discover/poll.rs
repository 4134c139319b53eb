//! Polling: from the newest key time often, from behind the frontier now and then.
//!
//! The tip poll costs one LIST call when nothing is new, however many objects the bucket holds. The look-back poll
//! begins before the frontier, which open objects hold back, so it never starts past a key that is not terminal.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::domain::backoff;
use crate::domain::pattern::KeyPattern;
use crate::domain::ports::ListRequest;
use crate::domain::state::Channel;
use crate::failpoint::{self, Point};
use crate::telemetry::metrics;

use super::bound::{self, Frontiers, Reach};
use super::listing::Listed;
use super::{DiscoverError, Discoverer};

/// Longest pause after failed polls.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// A notification that is not here after so long counts as missed: S3 sends most within seconds, some within a minute.
const NOTIFICATION_GRACE: Duration = Duration::from_mins(2);

impl Discoverer {
    pub(super) async fn run_polls(&self, stop: &CancellationToken, swept: &CancellationToken) {
        tokio::select! { () = stop.cancelled() => return, () = swept.cancelled() => {} }
        let mut failures = 0;
        let mut before = Frontiers::new();
        let mut next_look_back = Instant::now() + self.feed.lookback_interval;
        loop {
            let reach = if Instant::now() >= next_look_back { Reach::LookBack } else { Reach::Tip };
            let pause = match self.poll(reach, &mut before, stop).await {
                Ok(_) => {
                    failures = 0;
                    if reach == Reach::LookBack {
                        next_look_back = Instant::now() + self.feed.lookback_interval;
                    }
                    self.feed.poll_interval
                }
                Err(DiscoverError::Stopped) => return,
                Err(error) => {
                    failures += 1;
                    self.report(&error, failures);
                    backoff::delay(failures, self.feed.poll_interval, LONGEST_PAUSE, fastrand::f64())
                }
            };
            tokio::select! { () = stop.cancelled() => return, () = sleep_until(Instant::now() + pause) => {} }
        }
    }

    async fn poll(
        &self,
        reach: Reach,
        before: &mut Frontiers,
        stop: &CancellationToken,
    ) -> Result<Listed, DiscoverError> {
        let listed = match bound::timed(&self.feed) {
            Some(pattern) => self.poll_series(pattern, reach, before, stop).await?,
            None => self.list(bound::everything(&self.feed), Channel::Poll, stop).await?,
        };
        self.note(None);
        self.ledger.note_poll(&self.feed.name).await?;
        self.give_up_notifications().await?;
        failpoint::reach(Point::DiscoverPolled).await?;
        if listed.new > 0 {
            tracing::debug!(feed = %self.feed.name, new = listed.new, calls = listed.calls, "discovered");
        }
        Ok(listed)
    }

    /// Counts what polls and sweeps found and no notification told of in time. A queue that is down misses them all.
    async fn give_up_notifications(&self) -> Result<(), DiscoverError> {
        if self.feed.queue.is_none() {
            return Ok(());
        }
        let missed = self.ledger.note_missed(&self.feed.name, NOTIFICATION_GRACE).await?;
        metrics::notifications_missed(&self.feed.name, missed);
        if missed > 0 {
            tracing::warn!(feed = %self.feed.name, missed, "objects were found whose notification did not come");
        }
        Ok(())
    }

    async fn poll_series(
        &self,
        pattern: &KeyPattern,
        reach: Reach,
        before: &mut Frontiers,
        stop: &CancellationToken,
    ) -> Result<Listed, DiscoverError> {
        let series = self.series(pattern).await?;
        let mut listed = Listed::default();
        for position in self.ledger.series_positions(&self.feed.name, &series).await? {
            let range = bound::poll(&self.feed, pattern, reach, &position, before);
            listed.add(self.list(range, Channel::Poll, stop).await?);
            // As it was read before the listing: what arrived during it may have been missed.
            bound::remember(before, reach, &position);
        }
        Ok(listed)
    }

    /// The values of the parts that stand before the time, found by delimiter listing.
    async fn series(&self, pattern: &KeyPattern) -> Result<Vec<String>, DiscoverError> {
        let mut heads = vec![pattern.series_root().to_owned()];
        for level in pattern.series_levels() {
            let mut next = Vec::new();
            for head in heads {
                next.extend(self.children(&head, level.delimiter).await?.iter().map(|child| level.below(child)));
            }
            heads = next;
        }
        Ok(heads)
    }

    async fn children(&self, head: &str, delimiter: char) -> Result<Vec<String>, DiscoverError> {
        let mut request = ListRequest { prefix: head.to_owned(), delimiter: Some(delimiter), ..ListRequest::default() };
        let mut children = Vec::new();
        loop {
            let page = self.store.list(&self.feed.bucket, &request).await?;
            metrics::list_call(&self.feed.name, Channel::Poll);
            children.extend(page.common_prefixes);
            match page.next {
                Some(token) => request.token = Some(token),
                None => return Ok(children),
            }
        }
    }

    pub(super) fn report(&self, error: &DiscoverError, failures: u32) {
        match error {
            DiscoverError::S3(s3) => {
                self.note(Some(format!("bucket {:?} cannot be listed: {s3}; {}", self.feed.bucket, s3.advice())));
                tracing::error!(feed = %self.feed.name, bucket = %self.feed.bucket, failures,
                error.code = s3.code(), error = %s3, advice = s3.advice(), "the bucket cannot be listed");
            }
            DiscoverError::Store(store) => tracing::warn!(feed = %self.feed.name, failures, error = %store,
                "discovery cannot write to the ledger"),
            DiscoverError::Stopped => {}
        }
    }
}
