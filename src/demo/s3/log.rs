//! The ordered log of requests: what a test compares with the order of other events.
//!
//! An entry is written when a request arrives, before it has any effect, so "logged after X" proves "happened after
//! X". Its status follows once the request is answered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Operations of S3 that the server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `ListObjectsV2`; the log's key is the prefix.
    ListObjects,
    /// `GetObject`.
    GetObject,
    /// `HeadObject`.
    HeadObject,
    /// `PutObject`.
    PutObject,
    /// `CopyObject`, under the destination key.
    CopyObject,
    /// `DeleteObject`.
    DeleteObject,
    /// `DeleteObjects`: one entry with an empty key for the request, one for each key in it.
    DeleteObjects,
    /// `CreateBucket`.
    CreateBucket,
    /// `HeadBucket`.
    HeadBucket,
    /// `CreateMultipartUpload`.
    CreateUpload,
    /// `UploadPart`.
    UploadPart,
    /// `UploadPartCopy`, under the destination key.
    UploadPartCopy,
    /// `CompleteMultipartUpload`.
    CompleteUpload,
    /// `AbortMultipartUpload`.
    AbortUpload,
}

/// One request, as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestInfo {
    /// Place in the common order.
    pub seq: u64,
    /// What is asked for.
    pub op: Operation,
    /// Bucket.
    pub bucket: String,
    /// Key, or what stands for it: see [`Operation`].
    pub key: String,
}

/// One request of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Place in the common order.
    pub seq: u64,
    /// What was asked for.
    pub op: Operation,
    /// Bucket.
    pub bucket: String,
    /// Key, or what stands for it: see [`Operation`].
    pub key: String,
    /// HTTP status of the answer; 0 while there is none, and for ever where the client went away.
    pub status: u16,
}

/// All requests since the start or the last clearing.
pub(super) struct Log {
    sequence: Arc<AtomicU64>,
    entries: Mutex<Vec<LogEntry>>,
}

impl Log {
    pub(super) fn new(sequence: Arc<AtomicU64>) -> Self {
        Self { sequence, entries: Mutex::new(Vec::new()) }
    }

    /// Enters a request. The number is drawn under the lock, so that entries stand in the order of their numbers.
    pub(super) fn arrive(&self, op: Operation, bucket: &str, key: &str) -> u64 {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let seq = self.sequence.fetch_add(1, Ordering::SeqCst);
        entries.push(LogEntry { seq, op, bucket: bucket.to_owned(), key: key.to_owned(), status: 0 });
        seq
    }

    /// Fills in the status; nothing happens where the log was cleared in the meantime.
    pub(super) fn answer(&self, seq: u64, status: u16) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let place = entries.binary_search_by_key(&seq, |entry| entry.seq);
        if let Some(entry) = place.ok().and_then(|place| entries.get_mut(place)) {
            entry.status = status;
        }
    }

    pub(super) fn entries(&self) -> Vec<LogEntry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn clear(&self) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
