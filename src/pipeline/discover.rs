//! Stage: what lies in the bucket becomes rows of the ledger.
//!
//! A listing is only a hint where to look: the ledger's unique identity decides what is new, so every listing may
//! overlap any other, run twice, or die half-way. Positions are never stored; they are derived from the ledger, so
//! nothing can run ahead of it.

mod bound;
mod listing;
mod notify;
mod poll;
mod select;
mod sweep;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::feed::Feed;
use crate::domain::object;
use crate::domain::ports::{ListRequest, ObjectStore, S3Error};
use crate::domain::state::Channel;
use crate::failpoint::{self, Injected, Point};
use crate::pipeline::duties::{Duties, Leave};
use crate::store::error::StoreError;
use crate::store::ledger::Ledger;

pub use listing::Listed;
pub use notify::{Consumer, require_redrive};
pub use select::judge;

/// Why a listing ended early. What was recorded before stays recorded.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// The bucket.
    #[error("listing: {0}")]
    S3(#[from] S3Error),
    /// The ledger.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// We are shutting down, or it is another instance's duty now.
    #[error("listing was stopped")]
    Stopped,
}

impl From<Injected> for DiscoverError {
    fn from(injected: Injected) -> Self {
        Self::Store(injected.into())
    }
}

/// Discovery of one feed.
pub struct Discoverer {
    store: Arc<dyn ObjectStore>,
    ledger: Ledger,
    feed: Arc<Feed>,
    /// Rung when something new was recorded.
    wake: Arc<Notify>,
    /// Rung when a sweep has ended: polls have a position from then on.
    swept: Notify,
    /// Rung when polls begin after a long pause: a sweep is due.
    gap: Notify,
    /// Why the last listing failed, where it did.
    trouble: Mutex<Option<String>>,
    /// When the bucket has not answered several times in a row.
    refused: Mutex<Option<Instant>>,
    /// A listing was not in the order of its keys: no poll of this process begins at a key any more.
    unordered: AtomicBool,
}

/// Listings refused in a row from which on another instance had better try.
const REFUSALS: u32 = 3;
/// And for how long.
const DECLINE_FOR: Duration = Duration::from_mins(5);

impl Discoverer {
    /// Discovery of a feed; rings `wake` when there is work.
    pub fn new(store: Arc<dyn ObjectStore>, ledger: Ledger, feed: Arc<Feed>, wake: Arc<Notify>) -> Self {
        Self {
            store,
            ledger,
            feed,
            wake,
            swept: Notify::new(),
            gap: Notify::new(),
            trouble: Mutex::default(),
            refused: Mutex::default(),
            unordered: AtomicBool::new(false),
        }
    }

    /// The feed, as it is configured.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// Polls and sweeps until told to stop, each while it is this instance's duty.
    pub async fn run(&self, duties: &Duties, stop: &CancellationToken) {
        if bound::timed(&self.feed).is_none() {
            tracing::warn!(feed = %self.feed.name, "the feed's keys carry no ordered time: every poll lists the whole prefix");
        }
        tokio::join!(self.run_sweeps(duties, stop), self.run_polls(duties, stop));
    }

    /// Whether the bucket does not answer this instance: another one had better list it, if there is one that can.
    pub fn declines(&self) -> bool {
        let refused = *self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.is_some_and(|at| at.elapsed() < DECLINE_FOR)
    }

    /// Why nothing is discovered at the moment, where that is so.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers how the last listing went.
    fn note(&self, trouble: Option<String>) {
        if trouble.is_none() {
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// One full pass over the prefix, whoever has the duty.
    pub async fn sweep(&self, stop: &CancellationToken) -> Result<Listed, DiscoverError> {
        self.sweep_while(&Leave::until(stop)).await
    }

    async fn sweep_while(&self, leave: &Leave<'_>) -> Result<Listed, DiscoverError> {
        let listed = self.list(bound::everything(&self.feed), Channel::Sweep, leave).await?;
        self.ledger.note_sweep(&self.feed.name).await?;
        self.swept.notify_one();
        failpoint::reach(Point::DiscoverSwept).await?;
        Ok(listed)
    }

    /// Looks one key up again, because its version changed under us. Failing is harmless: look-back and sweep find
    /// the new version as well, only later.
    pub async fn look_again(&self, key: &str) {
        let found = async {
            let exact = self.look_up(key, Channel::Poll).await?;
            self.record(exact.into_iter().collect(), Channel::Poll).await
        };
        if let Err(error) = found.await {
            tracing::debug!(feed = %self.feed.name, error = %error, "a changed key could not be looked up");
        }
    }

    /// What lies under exactly this key now. No longer key sorts before it, so the first page has it.
    async fn look_up(&self, key: &str, channel: Channel) -> Result<Option<object::Listed>, DiscoverError> {
        let request = ListRequest { prefix: key.to_owned(), ..ListRequest::default() };
        let page = self.page(&request, channel).await?;
        Ok(page.objects.into_iter().find(|object| object.key == key))
    }
}

#[cfg(test)]
mod tests;
