//! An S3 server inside this process, for the demo, the tests and the benchmarks.
//!
//! It speaks real HTTP with checked signatures on a free loopback port and answers as AWS does in all that keyfall
//! relies on: listings in byte order, conditions on GET, COPY, PUT and DELETE, ranges, checksums, multipart copies.
//! Objects live in memory and are handed out without being copied. Every request is logged in one order, and a
//! [`FaultRule`] makes the n-th matching request fail in a chosen way.
//!
//! Buckets may have versioning. It has no ACLs, no regions and no persistence. Requests that fail before they reach an operation
//! (a bad signature, an unknown call) are not logged.

mod canned;
mod faults;
mod history;
mod keyring;
mod log;
mod multipart;
mod respond;
mod server;
mod service;
mod state;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use self::canned::Canned;
pub use self::faults::{Action, FaultRule};
pub use self::log::{LogEntry, Operation, RequestInfo};
use self::state::State;
pub(super) use self::store::hex;
pub use self::store::{ChecksumKind, PutOptions};
use super::listener::accept_loop;
pub use super::strikes::{Gate, Injected};

/// The access key the server knows at the start.
pub const ACCESS_KEY_ID: &str = "keyfall-demo";
/// Its secret. Not a secret at all: the server listens on loopback only and dies with the process.
pub const SECRET_ACCESS_KEY: &str = "keyfall-demo-secret";
/// The region clients should sign for; any is accepted.
pub const REGION: &str = "us-east-1";

/// A running server. Dropping it closes the port and every connection.
pub struct EmbeddedS3 {
    state: Arc<State>,
    address: SocketAddr,
    // Cancels the accept loop and the connections when the handle goes.
    _stop: DropGuard,
}

impl EmbeddedS3 {
    /// Starts a server on a free port of 127.0.0.1, inside the current tokio runtime.
    pub async fn start() -> std::io::Result<Self> {
        Self::start_with_sequence(Arc::new(AtomicU64::new(0))).await
    }

    /// The same, numbering the request log from a counter that other logs of a test share.
    pub async fn start_with_sequence(sequence: Arc<AtomicU64>) -> std::io::Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::new(sequence));
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let service = service::build(Arc::clone(&state));
        let serve = move |stream| server::serve(stream, service.clone());
        tasks.spawn(accept_loop(listener, stop.clone(), tasks.clone(), serve));
        Ok(Self { state, address, _stop: stop.drop_guard() })
    }

    /// `http://127.0.0.1:PORT`, for `s3.endpoint_url` together with path-style addressing.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Creates a bucket; an existing one is left as it is.
    pub fn create_bucket(&self, bucket: &str) {
        self.state.store.create_bucket(bucket);
    }

    /// Keeps what is replaced or deleted in this bucket from now on, as AWS does with versioning enabled.
    pub fn enable_versioning(&self, bucket: &str) {
        self.state.store.enable_versioning(bucket);
    }

    /// All versions of a key, the oldest first: id, and bytes, or none for a delete marker.
    pub fn versions(&self, bucket: &str, key: &str) -> Vec<(String, Option<Bytes>)> {
        let versions = self.state.store.versions(bucket, key);
        versions.into_iter().map(|(id, object)| (id, object.map(|object| object.data.clone()))).collect()
    }

    /// Takes another access key from now on; requests signed with an earlier one are answered `ExpiredToken`.
    pub fn rotate_key(&self, access_key_id: &str, secret_access_key: &str) {
        self.state.keys.rotate(access_key_id, secret_access_key);
    }

    /// Stores an object without HTTP, creating the bucket where it is missing. Answers the entity tag.
    pub fn put(&self, bucket: &str, key: &str, data: impl Into<Bytes>) -> String {
        self.put_with(bucket, key, data, PutOptions::default())
    }

    /// The same, visible since `last_modified`.
    pub fn put_at(&self, bucket: &str, key: &str, data: impl Into<Bytes>, last_modified: Timestamp) -> String {
        self.put_with(bucket, key, data, PutOptions { last_modified: Some(last_modified), ..PutOptions::default() })
    }

    /// The same with everything an object may have.
    pub fn put_with(&self, bucket: &str, key: &str, data: impl Into<Bytes>, options: PutOptions) -> String {
        self.state.store.put(bucket, key, data.into(), options)
    }

    /// Stores the same bytes under many keys of a bucket without versioning, for a million of them without a gigabyte.
    pub fn put_everywhere(&self, bucket: &str, keys: impl IntoIterator<Item = String>, data: impl Into<Bytes>) {
        self.state.store.put_everywhere(bucket, keys, data.into());
    }

    /// The bytes under a key.
    pub fn get(&self, bucket: &str, key: &str) -> Option<Bytes> {
        self.state.store.peek(bucket, key).map(|object| object.data.clone())
    }

    /// The user metadata under a key.
    pub fn metadata(&self, bucket: &str, key: &str) -> Option<BTreeMap<String, String>> {
        self.state.store.peek(bucket, key).map(|object| object.attributes().metadata.clone().into_iter().collect())
    }

    /// The entity tag under a key, without quotes.
    pub fn etag(&self, bucket: &str, key: &str) -> Option<String> {
        self.state.store.peek(bucket, key).map(|object| object.etag.clone())
    }

    /// Removes an object; answers whether there was one.
    pub fn remove(&self, bucket: &str, key: &str) -> bool {
        self.state.store.remove(bucket, key)
    }

    /// All keys of a bucket in byte order.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        self.state.store.keys(bucket)
    }

    /// How many objects a bucket holds.
    pub fn len(&self, bucket: &str) -> usize {
        self.state.store.len(bucket)
    }

    /// Whether a bucket holds no object.
    pub fn is_empty(&self, bucket: &str) -> bool {
        self.len(bucket) == 0
    }

    /// Multipart uploads neither completed nor aborted.
    pub fn open_uploads(&self) -> usize {
        self.state.uploads.len()
    }

    /// All requests so far, in the order in which they arrived.
    pub fn log(&self) -> Vec<LogEntry> {
        self.state.log.entries()
    }

    /// Forgets the requests so far.
    pub fn clear_log(&self) {
        self.state.log.clear();
    }

    /// Adds a fault. The answer counts how often it struck.
    pub fn inject(&self, rule: FaultRule) -> Injected {
        self.state.faults.inject(rule)
    }

    /// Removes all faults; requests held at a [`Gate`] stay held until it opens.
    pub fn heal(&self) {
        self.state.faults.clear();
    }

    /// Awaits `hook` for each request after it was logged and before it has any effect.
    pub fn on_request(&self, hook: impl Fn(RequestInfo) -> BoxFuture<'static, ()> + Send + Sync + 'static) {
        self.state.set_hook(Arc::new(hook));
    }
}
