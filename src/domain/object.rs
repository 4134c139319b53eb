//! One version of one key in a bucket: the unit keyfall loads exactly once.

use jiff::Timestamp;

/// What a listing says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The whole key, as S3 stores it (UTF-8, compared byte by byte).
    pub key: String,
    /// Entity tag without its quotes.
    pub etag: String,
    /// Size in bytes.
    pub size: u64,
    /// When S3 made this version visible (one-second resolution).
    pub last_modified: Timestamp,
    /// Storage class, where the store names one.
    pub storage_class: Option<String>,
}

impl Listed {
    /// The identity of the content under this key: see [`version_of`].
    pub fn version(&self) -> String {
        version_of(&self.etag, self.size)
    }

    /// Whether the body must be restored from an archive tier before it can be read.
    pub fn is_archived(&self) -> bool {
        matches!(self.storage_class.as_deref(), Some("GLACIER" | "DEEP_ARCHIVE"))
    }

    /// Whether this is an S3 console "folder": an empty object whose key ends in a slash.
    pub fn is_directory_marker(&self) -> bool {
        self.size == 0 && self.key.ends_with('/')
    }
}

/// Version of an object in the ledger: `etag-size`.
///
/// A listing knows no `VersionId`, a notification may; only `ETag` and size are known to every channel, so only
/// they make poll, sweep and notification agree on what is the same object (ADR-0002).
pub fn version_of(etag: &str, size: u64) -> String {
    format!("{}-{size}", etag.trim_matches('"'))
}

/// Bucket and key of `s3://bucket/key`.
pub fn split_uri(uri: &str) -> Option<(String, String)> {
    let (bucket, key) = uri.strip_prefix("s3://")?.split_once('/')?;
    (!bucket.is_empty() && !key.is_empty()).then(|| (bucket.to_owned(), key.to_owned()))
}

/// A leased object's coordinates: all that fetch and disposal need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRef {
    /// Ledger id.
    pub id: i64,
    /// Bucket.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// Entity tag without its quotes; the condition of every GET, COPY and DELETE.
    pub etag: String,
    /// `VersionId`, where the discovery channel told it.
    pub version_id: Option<String>,
    /// Size in bytes as discovered.
    pub size: u64,
    /// Time the key carries.
    pub key_time: Option<Timestamp>,
    /// When the object became visible in the bucket.
    pub visible_at: Timestamp,
    /// Its copy, where the original is gone: it was loaded, archived, and is to be loaded again.
    pub archived: Option<Archived>,
}

/// Where the bytes of an object lie after disposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// Bucket of the archive.
    pub bucket: String,
    /// Key of the copy.
    pub key: String,
    /// What the first load read; nothing else is taken for the object.
    pub sha256: Option<Vec<u8>>,
}

impl ObjectRef {
    /// `s3://bucket/key` for messages, with control characters escaped so that a key cannot forge log lines.
    pub fn uri(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.key.escape_debug())
    }
}
