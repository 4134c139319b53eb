//! Listing a whole prefix into the ledger now, instead of when the daemon's next sweep is due.
//!
//! Safe beside a running daemon: the ledger's unique identity decides what is new, whoever lists.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::config::feed::Feed;
use crate::domain::ports::{
    CopyRequest, DeleteRequest, GetRequest, Head, ListPage, ListRequest, ObjectBody, ObjectStore, S3Error,
};
use crate::pipeline::discover::{DiscoverError, Discoverer, Listed};
use crate::store::error::StoreError;
use crate::store::ledger::Ledger;

/// Why a sweep ended early. What was recorded before stays recorded.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The bucket.
    #[error("feed {feed}: bucket {bucket:?} cannot be listed: {source}")]
    S3 {
        /// The feed.
        feed: String,
        /// Its bucket.
        bucket: String,
        /// What the store said.
        source: S3Error,
    },
    /// The ledger.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Told to stop.
    #[error("the sweep was stopped")]
    Stopped,
}

impl SweepError {
    /// One sentence for the operator.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::S3 { source, .. } => source.advice(),
            Self::Store(error) => error.advice(),
            Self::Stopped => "run it again: what was listed stays in the ledger",
        }
    }
}

/// How many objects a long command has seen so far.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Objects seen.
    pub fn seen(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// So many more.
    pub(super) fn add(&self, objects: u64) {
        self.0.fetch_add(objects, Ordering::Relaxed);
    }
}

/// Lists everything the feed may want into the ledger.
pub async fn sweep(
    feed: &Arc<Feed>,
    store: Arc<dyn ObjectStore>,
    ledger: &Ledger,
    progress: &Progress,
) -> Result<Listed, SweepError> {
    let store = Arc::new(Counting { store, seen: progress.clone() });
    let discoverer = Discoverer::new(store, ledger.clone(), Arc::clone(feed), Arc::new(Notify::new()));
    discoverer.sweep(&CancellationToken::new()).await.map_err(|error| match error {
        DiscoverError::S3(source) => {
            SweepError::S3 { feed: feed.name.to_string(), bucket: feed.bucket.clone(), source }
        }
        DiscoverError::Store(error) => SweepError::Store(error),
        DiscoverError::Stopped => SweepError::Stopped,
    })
}

/// An object store that counts what its listings return.
struct Counting {
    store: Arc<dyn ObjectStore>,
    seen: Progress,
}

#[async_trait]
impl ObjectStore for Counting {
    async fn list(&self, bucket: &str, request: &ListRequest) -> Result<ListPage, S3Error> {
        let page = self.store.list(bucket, request).await?;
        self.seen.add(page.objects.len() as u64);
        Ok(page)
    }

    async fn get(&self, request: &GetRequest<'_>) -> Result<ObjectBody, S3Error> {
        self.store.get(request).await
    }

    async fn head(&self, bucket: &str, key: &str) -> Result<Head, S3Error> {
        self.store.head(bucket, key).await
    }

    async fn copy(&self, request: &CopyRequest<'_>) -> Result<Option<String>, S3Error> {
        self.store.copy(request).await
    }

    async fn delete(&self, bucket: &str, requests: &[DeleteRequest]) -> Result<Vec<Result<(), S3Error>>, S3Error> {
        self.store.delete(bucket, requests).await
    }

    async fn conditional_delete_honoured(&self, bucket: &str, prefix: &str) -> Result<bool, S3Error> {
        self.store.conditional_delete_honoured(bucket, prefix).await
    }

    async fn probe_write(&self, bucket: &str, prefix: &str) -> Result<(), S3Error> {
        self.store.probe_write(bucket, prefix).await
    }
}
