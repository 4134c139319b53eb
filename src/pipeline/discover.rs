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

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::config::feed::Feed;
use crate::domain::object;
use crate::domain::ports::{ListRequest, ObjectStore, S3Error};
use crate::domain::state::Channel;
use crate::failpoint::{self, Injected, Point};
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
    /// We are shutting down.
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
    /// The prefix has been swept once: from now on an object can be late.
    settled: AtomicBool,
    /// Why the last listing failed, where it did.
    trouble: Mutex<Option<String>>,
}

impl Discoverer {
    /// Discovery of a feed; rings `wake` when there is work.
    pub fn new(store: Arc<dyn ObjectStore>, ledger: Ledger, feed: Arc<Feed>, wake: Arc<Notify>) -> Self {
        Self { store, ledger, feed, wake, settled: AtomicBool::new(false), trouble: Mutex::default() }
    }

    /// Polls and sweeps until told to stop.
    pub async fn run(&self, stop: &CancellationToken) {
        if bound::timed(&self.feed).is_none() {
            tracing::warn!(feed = %self.feed.name, "the feed's keys carry no ordered time: every poll lists the whole prefix");
        }
        // Without a first sweep there is no position to poll from: the poll would list everything a second time.
        let swept = CancellationToken::new();
        tokio::join!(self.run_sweeps(stop, &swept), self.run_polls(stop, &swept));
    }

    /// Why nothing is discovered at the moment, where that is so.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers how the last listing went.
    fn note(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// One full pass over the prefix.
    pub async fn sweep(&self, stop: &CancellationToken) -> Result<Listed, DiscoverError> {
        let listed = self.list(bound::everything(&self.feed), Channel::Sweep, stop).await?;
        self.ledger.note_sweep(&self.feed.name).await?;
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
