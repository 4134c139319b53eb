//! What the pipeline needs from an object store, without naming the SDK that gives it.

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;

use super::object::Listed;

/// Body bytes as they arrive.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, S3Error>> + Send>>;

/// One LIST call.
#[derive(Debug, Clone, Default)]
pub struct ListRequest {
    /// Only keys that begin with this.
    pub prefix: String,
    /// Only keys that sort after this, byte by byte.
    pub start_after: Option<String>,
    /// Fold keys at this character into common prefixes.
    pub delimiter: Option<char>,
    /// Continuation token of the page before.
    pub token: Option<String>,
}

/// One page of a listing.
#[derive(Debug, Clone, Default)]
pub struct ListPage {
    /// Objects in byte order of their keys.
    pub objects: Vec<Listed>,
    /// Common prefixes, where a delimiter was given.
    pub common_prefixes: Vec<String>,
    /// Token of the next page; none at the end.
    pub next: Option<String>,
}

/// One conditional GET.
#[derive(Debug, Clone)]
pub struct GetRequest<'a> {
    /// Bucket.
    pub bucket: &'a str,
    /// Key.
    pub key: &'a str,
    /// The body must still have this entity tag.
    pub etag: &'a str,
    /// Exactly this version, where known.
    pub version_id: Option<&'a str>,
    /// First byte wanted.
    pub offset: u64,
}

/// A checksum over the whole object, as the store states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checksum {
    /// CRC-32 (ISO-HDLC), big-endian.
    Crc32(Vec<u8>),
    /// CRC-32C (Castagnoli), big-endian.
    Crc32c(Vec<u8>),
    /// CRC-64/NVME, big-endian.
    Crc64Nvme(Vec<u8>),
    /// SHA-256.
    Sha256(Vec<u8>),
}

/// The answer to a GET.
pub struct ObjectBody {
    /// Length of what follows.
    pub content_length: Option<u64>,
    /// Size of the whole object, also where only a range was asked for.
    pub total_size: Option<u64>,
    /// Entity tag without quotes.
    pub etag: Option<String>,
    /// Checksum over the whole object, where the store keeps one of a kind we can check.
    pub checksum: Option<Checksum>,
    /// The bytes.
    pub stream: ByteStream,
}

/// The answer to a HEAD, and to a copy about its destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Entity tag without quotes.
    pub etag: String,
    /// Size in bytes.
    pub size: u64,
    /// `keyfall-source-etag` metadata: which version an archive copy was made of.
    pub source_etag: Option<String>,
}

/// One conditional server-side copy.
#[derive(Debug, Clone)]
pub struct CopyRequest<'a> {
    /// Source bucket.
    pub bucket: &'a str,
    /// Source key.
    pub key: &'a str,
    /// The source must still have this entity tag.
    pub etag: &'a str,
    /// Exactly this source version, where known.
    pub version_id: Option<&'a str>,
    /// Size of the source: above 5 GiB it takes a multipart copy.
    pub size: u64,
    /// Destination bucket.
    pub to_bucket: &'a str,
    /// Destination key; must not exist.
    pub to_key: &'a str,
}

/// One conditional delete in a batch.
#[derive(Debug, Clone)]
pub struct DeleteRequest {
    /// Key.
    pub key: String,
    /// Delete only while the key still has this entity tag.
    pub etag: String,
}

/// What the pipeline needs from S3. Every method has its own deadline.
#[async_trait]
pub trait ObjectStore: Send + Sync {
    /// One page of a listing.
    async fn list(&self, bucket: &str, request: &ListRequest) -> Result<ListPage, S3Error>;
    /// Headers of an object and a stream of its body.
    async fn get(&self, request: &GetRequest<'_>) -> Result<ObjectBody, S3Error>;
    /// What is under a key now.
    async fn head(&self, bucket: &str, key: &str) -> Result<Head, S3Error>;
    /// Copies one version and answers the copy's entity tag where it is one of the content; [`S3Error::Exists`] where
    /// the destination key is taken.
    async fn copy(&self, request: &CopyRequest<'_>) -> Result<Option<String>, S3Error>;
    /// Deletes up to 1000 keys, each only in the version named; one answer per request, in order.
    async fn delete(&self, bucket: &str, requests: &[DeleteRequest]) -> Result<Vec<Result<(), S3Error>>, S3Error>;
    /// Whether a deletion looks at its condition. Asks the store to delete a key that does not exist, so that nothing
    /// is lost whatever it answers; the key begins with `prefix`, where permission to delete is to be expected.
    async fn conditional_delete_honoured(&self, bucket: &str, prefix: &str) -> Result<bool, S3Error>;
    /// Whether writing under `prefix` is permitted. Asks the store to replace a key that does not exist, which it cannot;
    /// where it ignores the condition, what it wrote is removed again.
    async fn probe_write(&self, bucket: &str, prefix: &str) -> Result<(), S3Error>;
}

/// Why a request to the object store failed.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// The key does not exist.
    #[error("no such key")]
    NotFound,
    /// The bucket does not exist.
    #[error("no such bucket {bucket:?}")]
    NoSuchBucket {
        /// Its name.
        bucket: String,
    },
    /// The object is no longer the version asked for.
    #[error("the object changed: it no longer has the entity tag it was discovered with")]
    Changed,
    /// The destination of a copy is taken.
    #[error("the destination key exists already")]
    Exists,
    /// Permission is missing.
    #[error("access denied: {action} ({detail})")]
    Denied {
        /// The IAM action that was refused.
        action: &'static str,
        /// What the store said.
        detail: String,
    },
    /// No credentials, or expired ones.
    #[error("no usable AWS credentials: {detail}")]
    Credentials {
        /// What the chain said.
        detail: String,
    },
    /// The store takes our clock for wrong: nobody has to give us other credentials.
    #[error("the clock is wrong: {detail}")]
    Clock {
        /// What the store said.
        detail: String,
    },
    /// The bucket lives in another region.
    #[error("wrong region: {detail}")]
    WrongRegion {
        /// What the store said.
        detail: String,
    },
    /// The body lies in an archive tier.
    #[error("the object lies in an archive storage class and must be restored first")]
    Archived,
    /// The store asks us to slow down, failed, or could not be reached; trying again may help.
    #[error("{action} failed: {detail}")]
    Transient {
        /// The S3 action.
        action: &'static str,
        /// What happened, with its causes.
        detail: String,
    },
    /// No byte came within the deadline.
    #[error("no progress for {seconds} s")]
    Stalled {
        /// The deadline that passed.
        seconds: u64,
    },
    /// The store refused the request and will refuse it again.
    #[error("{action} was refused: {detail}")]
    Refused {
        /// The S3 action.
        action: &'static str,
        /// What the store said.
        detail: String,
    },
}

impl S3Error {
    /// Stable code for the ledger and for `grep`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "E-S3-MISSING",
            Self::NoSuchBucket { .. } => "E-S3-BUCKET",
            Self::Changed => "E-S3-CHANGED",
            Self::Exists => "E-S3-EXISTS",
            Self::Denied { .. } => "E-S3-DENIED",
            Self::Credentials { .. } => "E-S3-CREDENTIALS",
            Self::Clock { .. } => "E-S3-CLOCK",
            Self::WrongRegion { .. } => "E-S3-REGION",
            Self::Archived => "E-S3-ARCHIVED",
            Self::Transient { .. } => "E-S3-TRANSIENT",
            Self::Stalled { .. } => "E-S3-STALLED",
            Self::Refused { .. } => "E-S3-REFUSED",
        }
    }

    /// One sentence for the operator.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::NotFound => "the object was removed before it could be loaded; upload it again if it is needed",
            Self::NoSuchBucket { .. } => "correct `bucket` in the feed, or create the bucket",
            Self::Changed => "nothing to do: the newer version is loaded in its place",
            Self::Exists => "look at what lies under the archive key",
            Self::Denied { .. } => {
                "grant the IAM action named above on this bucket; `keyfall check` lists all that is needed"
            }
            Self::Clock { .. } => "set this machine's clock (NTP): S3 takes requests that are at most 15 minutes off",
            Self::Credentials { .. } => "give the process AWS credentials: instance role, environment or profile",
            Self::WrongRegion { .. } => "set `s3.region` to the bucket's region",
            Self::Archived => "restore the object from its archive tier, then `keyfall retry`",
            Self::Transient { .. } | Self::Stalled { .. } => "nothing to do if it passes: it is tried again",
            Self::Refused { .. } => "see the store's answer; `keyfall retry` after mending it",
        }
    }
}
