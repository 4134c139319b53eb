//! An object store that notes how long it is waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream;

use crate::domain::ports::{
    ByteStream, CopyRequest, DeleteRequest, GetRequest, Head, ListPage, ListRequest, ObjectBody, ObjectStore, S3Error,
};

/// How long, in all.
#[derive(Debug, Default)]
pub(super) struct Waits {
    open: AtomicU64,
    body: AtomicU64,
}

impl Waits {
    /// For answers to GET.
    pub(super) fn open(&self) -> Duration {
        Duration::from_nanos(self.open.load(Ordering::Relaxed))
    }

    /// For bytes of bodies.
    pub(super) fn body(&self) -> Duration {
        Duration::from_nanos(self.body.load(Ordering::Relaxed))
    }
}

fn add(to: &AtomicU64, since: Instant) {
    to.fetch_add(u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// The store with its waits.
pub(super) struct Timed {
    pub(super) inner: Arc<dyn ObjectStore>,
    pub(super) waits: Arc<Waits>,
}

#[async_trait]
impl ObjectStore for Timed {
    async fn list(&self, bucket: &str, request: &ListRequest) -> Result<ListPage, S3Error> {
        self.inner.list(bucket, request).await
    }

    async fn get(&self, request: &GetRequest<'_>) -> Result<ObjectBody, S3Error> {
        let since = Instant::now();
        let answer = self.inner.get(request).await;
        add(&self.waits.open, since);
        let ObjectBody { content_length, total_size, etag, checksum, stream } = answer?;
        let stream = watched(stream, Arc::clone(&self.waits));
        Ok(ObjectBody { content_length, total_size, etag, checksum, stream })
    }

    async fn head(&self, bucket: &str, key: &str) -> Result<Head, S3Error> {
        self.inner.head(bucket, key).await
    }

    async fn copy(&self, request: &CopyRequest<'_>) -> Result<Option<String>, S3Error> {
        self.inner.copy(request).await
    }

    async fn delete(&self, bucket: &str, requests: &[DeleteRequest]) -> Result<Vec<Result<(), S3Error>>, S3Error> {
        self.inner.delete(bucket, requests).await
    }

    async fn conditional_delete_honoured(&self, bucket: &str, prefix: &str) -> Result<bool, S3Error> {
        self.inner.conditional_delete_honoured(bucket, prefix).await
    }

    async fn probe_write(&self, bucket: &str, prefix: &str) -> Result<(), S3Error> {
        self.inner.probe_write(bucket, prefix).await
    }
}

/// Counts the time from a poll that had to wait until the bytes were there.
fn watched(mut inner: ByteStream, waits: Arc<Waits>) -> ByteStream {
    let mut since = None;
    stream::poll_fn(move |context| {
        let polled = inner.poll_next_unpin(context);
        if polled.is_pending() {
            since.get_or_insert_with(Instant::now);
        } else if let Some(since) = since.take() {
            add(&waits.body, since);
        }
        polled
    })
    .boxed()
}
