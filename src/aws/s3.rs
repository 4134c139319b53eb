//! [`ObjectStore`] over the AWS SDK.
//!
//! Guarantees: every request has a deadline; a body is of the entity tag that was asked for; a copy never replaces
//! what is under its destination; a deletion never removes a version other than the one named, as far as the store
//! allows it to be known. Stores that ignore conditions are found out by asking, not by their name.
//!
//! It retries nothing itself: the SDK retries single requests, the ledger retries objects. It does not resume bodies.

mod copy;
mod delete;
mod get;
mod guard;
pub(crate) mod list;
mod probe;
#[cfg(test)]
#[cfg(feature = "demo")]
mod tests;

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use self::guard::Guard;
use super::classify::{Attempt, Missing, classify, transient};
use super::client;
use super::renew::Renewable;
use crate::config::s3::S3;
use crate::domain::ports::{
    CopyRequest, DeleteRequest, GetRequest, Head, ListPage, ListRequest, ObjectBody, ObjectStore, S3Error,
};

/// User metadata of an archive copy: which version of the source it was made of.
const SOURCE_ETAG: &str = "keyfall-source-etag";

/// The longest pause of the SDK between two tries of one request.
const LONGEST_BACKOFF: Duration = Duration::from_secs(20);

/// The object store behind the port.
pub struct S3Store {
    client: Renewable<Client>,
    config: S3,
    region: String,
    /// Deadline of a whole small request, its retries included.
    deadline: Duration,
    /// Deadline for each further piece of a body.
    read_timeout: Duration,
    multipart: copy::Multipart,
    /// Whether the store honours conditions of deletions.
    deletes: Guard,
    /// Whether the store honours conditions on the destination of copies.
    copies: Guard,
}

impl S3Store {
    /// Connects lazily: this reads configuration, the first request opens a connection.
    pub async fn connect(config: &S3) -> Result<Self, S3Error> {
        let (client, region) = client::connect(config).await?;
        Ok(Self {
            client: Renewable::new(client, client::keys(config)),
            config: config.clone(),
            region,
            deadline: deadline(config),
            read_timeout: config.read_timeout,
            multipart: copy::Multipart::default(),
            deletes: Guard::default(),
            copies: Guard::default(),
        })
    }

    fn client(&self) -> Client {
        self.client.client()
    }

    /// Names a request for error messages.
    fn attempt<'a>(&'a self, action: &'static str, permission: &'static str, bucket: &'a str) -> Attempt<'a> {
        Attempt { action, permission, bucket, region: &self.region, missing: Missing::Key }
    }

    /// Awaits a request no longer than the ordinary deadline, and sorts its failure.
    async fn within<T, E>(
        &self,
        attempt: Attempt<'_>,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, S3Error>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let answer = bounded(self.deadline, attempt, request).await;
        if matches!(answer, Err(S3Error::Credentials { .. })) {
            let connect = async { client::connect(&self.config).await.map(|(client, _region)| client) };
            Box::pin(self.client.renew(connect)).await;
        }
        answer
    }
}

/// Awaits a request no longer than `deadline`, and sorts its failure.
async fn bounded<T, E>(
    deadline: Duration,
    attempt: Attempt<'_>,
    request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
) -> Result<T, S3Error>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    // On the heap: an SDK request is a future of many kilobytes.
    match tokio::time::timeout(deadline, Box::pin(request)).await {
        Ok(answer) => answer.map_err(|error| classify(&error, attempt)),
        Err(_elapsed) => Err(transient(attempt, format!("no answer within {} s", deadline.as_secs_f64()))),
    }
}

/// What the tries of one request and the pauses between them may take together.
fn deadline(config: &S3) -> Duration {
    let attempts = config.max_attempts.max(1);
    // The SDK doubles its pause from one second, with jitter below.
    let pauses = (0..attempts - 1).map(|nth| Duration::from_secs(1 << nth.min(16)).min(LONGEST_BACKOFF));
    (config.connect_timeout + config.read_timeout) * attempts + pauses.sum::<Duration>()
}

/// An entity tag as a condition wants it.
fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

/// An entity tag as the domain keeps it.
fn unquoted(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"')
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn list(&self, bucket: &str, request: &ListRequest) -> Result<ListPage, S3Error> {
        list::list(self, bucket, request).await
    }

    async fn get(&self, request: &GetRequest<'_>) -> Result<ObjectBody, S3Error> {
        get::get(self, request).await
    }

    async fn head(&self, bucket: &str, key: &str) -> Result<Head, S3Error> {
        get::head(self, bucket, key).await
    }

    async fn copy(&self, request: &CopyRequest<'_>) -> Result<Option<String>, S3Error> {
        copy::copy(self, request).await
    }

    async fn delete(&self, bucket: &str, requests: &[DeleteRequest]) -> Result<Vec<Result<(), S3Error>>, S3Error> {
        delete::delete(self, bucket, requests).await
    }

    async fn conditional_delete_honoured(&self, bucket: &str, prefix: &str) -> Result<bool, S3Error> {
        delete::probe(self, bucket, prefix).await
    }

    async fn probe_write(&self, bucket: &str, prefix: &str) -> Result<(), S3Error> {
        Box::pin(probe::write(self, bucket, prefix)).await
    }
}
