//! Polling: from the newest key time often, from behind the frontier now and then.
//!
//! The tip poll costs one LIST call when nothing is new, however many objects the bucket holds, and comes the more seldom
//! the longer nothing came. The look-back poll begins before the frontier, which open objects hold back, so it never
//! starts past a key that is not terminal; how far before follows how late objects were.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::backoff;
use crate::domain::duty::Duty;
use crate::domain::pattern::KeyPattern;
use crate::domain::ports::ListRequest;
use crate::domain::state::Channel;
use crate::failpoint::{self, Point};
use crate::pipeline::duties::{Duties, Leave};
use crate::telemetry::metrics;

use super::bound::{self, Frontiers, Reach};
use super::listing::Listed;
use super::{DiscoverError, Discoverer, REFUSALS};

/// Longest pause after failed polls.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// How often the ledger is asked for the end of the first sweep, where another instance does it.
const SWEEP_LOOK: Duration = Duration::from_secs(1);

/// A notification that is not here after so long counts as missed: S3 sends most within seconds, some within a minute.
const NOTIFICATION_GRACE: Duration = Duration::from_mins(2);

/// What polls remember while they are this instance's duty. Whoever takes the duty over begins with nothing, as after a
/// start: his first look-back is shorter, and the ledger tells him whether a sweep is due.
struct Memory {
    before: Frontiers,
    lookback: Duration,
    next_look_back: Instant,
}

impl Discoverer {
    pub(super) async fn run_polls(&self, duties: &Duties, stop: &CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = duties.given(&self.feed.name, Duty::Poll) => {}
            }
            let leave = Leave::while_held(duties, &self.feed.name, Duty::Poll, stop);
            self.until_swept(&leave).await;
            self.poll_while(&leave).await;
            // What kept us from listing is no trouble of the feed while another lists it.
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Without a first sweep there is no position to poll from: the poll would list everything a second time.
    async fn until_swept(&self, leave: &Leave<'_>) {
        let mut failures = 0;
        while !leave.is_over() {
            let pause = match self.ledger.begin_polls(&self.feed.name, self.feed.lookback).await {
                Ok(start) => {
                    if start.gap {
                        self.gap.notify_one();
                    }
                    if start.swept {
                        return;
                    }
                    SWEEP_LOOK
                }
                Err(error) => {
                    failures += 1;
                    self.report(&error.into(), failures);
                    backoff::delay(failures, SWEEP_LOOK, LONGEST_PAUSE, fastrand::f64())
                }
            };
            tokio::select! {
                () = self.swept.notified() => {}
                () = leave.rest_until(Instant::now() + pause) => {}
            }
        }
    }

    async fn poll_while(&self, leave: &Leave<'_>) {
        let mut failures = 0;
        let mut memory = Memory {
            before: Frontiers::new(),
            lookback: self.feed.lookback,
            next_look_back: Instant::now() + self.feed.lookback_interval,
        };
        while !leave.is_over() {
            let until = match self.poll_next(&mut memory, leave).await {
                Ok(pause) => {
                    failures = 0;
                    // An idle feed's long pause must not make look-backs rarer than they are meant to be.
                    memory.next_look_back.min(Instant::now() + pause)
                }
                Err(DiscoverError::Stopped) => return,
                Err(error) => {
                    failures += 1;
                    self.report(&error, failures);
                    let pause = backoff::delay(failures, self.feed.poll_interval, LONGEST_PAUSE, fastrand::f64());
                    Instant::now() + pause
                }
            };
            leave.rest_until(until).await;
        }
    }

    /// One poll, with a look-back where it is time; answers how long the next one can wait.
    async fn poll_next(&self, memory: &mut Memory, leave: &Leave<'_>) -> Result<Duration, DiscoverError> {
        let reach = if Instant::now() < memory.next_look_back {
            Reach::Tip
        } else {
            Reach::LookBack(self.measure_look_back(memory).await?)
        };
        let since_found = self.poll(reach, &mut memory.before, leave).await?;
        if matches!(reach, Reach::LookBack(_)) {
            memory.next_look_back = Instant::now() + self.feed.lookback_interval;
        }
        Ok(bound::until_poll(&self.feed, since_found))
    }

    /// How far to look back now, by what was observed.
    async fn measure_look_back(&self, memory: &mut Memory) -> Result<Duration, DiscoverError> {
        let lateness = self.ledger.lateness(&self.feed.name).await?;
        let distance = bound::lookback(&self.feed, lateness);
        metrics::lookback(&self.feed.name, distance);
        // Every late object moves it a little; a tenth is worth a line.
        if distance.abs_diff(memory.lookback) > memory.lookback / 10 {
            tracing::info!(feed = %self.feed.name, lookback_s = distance.as_secs(), before_s = memory.lookback.as_secs(),
                lateness_s = lateness, "the look-back follows the observed lateness");
            memory.lookback = distance;
        }
        Ok(distance)
    }

    /// Answers how long ago anybody found something new.
    async fn poll(&self, reach: Reach, before: &mut Frontiers, leave: &Leave<'_>) -> Result<Duration, DiscoverError> {
        let is_ordered = !self.unordered.load(Ordering::Relaxed);
        let listed = match bound::timed(&self.feed).filter(|_| is_ordered) {
            Some(pattern) => self.poll_series(pattern, reach, before, leave).await?,
            None => self.list(bound::everything(&self.feed), Channel::Poll, leave).await?,
        };
        self.note(None);
        let since_found = self.ledger.note_poll(&self.feed.name).await?;
        self.give_up_notifications().await?;
        failpoint::reach(Point::DiscoverPolled).await?;
        if listed.new > 0 {
            tracing::debug!(feed = %self.feed.name, new = listed.new, calls = listed.calls, "discovered");
        }
        Ok(since_found)
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
        leave: &Leave<'_>,
    ) -> Result<Listed, DiscoverError> {
        let series = self.series(pattern).await?;
        let mut listed = Listed::default();
        for position in self.ledger.series_positions(&self.feed.name, &series).await? {
            let range = bound::poll(&self.feed, pattern, reach, &position, before);
            listed.add(self.list(range, Channel::Poll, leave).await?);
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
                if failures >= REFUSALS {
                    *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                }
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
