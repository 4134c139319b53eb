//! The ordered log of requests: what a test compares with the order of other events.
//!
//! An entry is written when a request arrives, before it has any effect. Its status follows with the answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Operations of SQS that the server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `ReceiveMessage`.
    Receive,
    /// `DeleteMessage`.
    Delete,
    /// `DeleteMessageBatch`.
    DeleteBatch,
    /// `ChangeMessageVisibility`.
    ChangeVisibility,
    /// `GetQueueAttributes`.
    GetAttributes,
    /// `GetQueueUrl`.
    GetUrl,
    /// `SendMessage`.
    Send,
    /// `PurgeQueue`.
    Purge,
}

impl Operation {
    /// The operation of a target such as `AmazonSQS.ReceiveMessage`.
    pub(super) fn of_target(target: &str) -> Option<Self> {
        Some(match target.strip_prefix("AmazonSQS.")? {
            "ReceiveMessage" => Self::Receive,
            "DeleteMessage" => Self::Delete,
            "DeleteMessageBatch" => Self::DeleteBatch,
            "ChangeMessageVisibility" => Self::ChangeVisibility,
            "GetQueueAttributes" => Self::GetAttributes,
            "GetQueueUrl" => Self::GetUrl,
            "SendMessage" => Self::Send,
            "PurgeQueue" => Self::Purge,
            _ => return None,
        })
    }
}

/// One request of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Place in the common order.
    pub seq: u64,
    /// What was asked for.
    pub op: Operation,
    /// Name of the queue.
    pub queue: String,
    /// HTTP status of the answer; 0 while there is none, and for ever where the client went away.
    pub status: u16,
    /// Ids of the messages that were handed out, or that the request wants deleted and still are there.
    pub messages: Vec<String>,
    /// How many messages the request wants deleted, those included that are gone.
    pub entries: usize,
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
    pub(super) fn arrive(&self, op: Operation, queue: &str) -> u64 {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let seq = self.sequence.fetch_add(1, Ordering::SeqCst);
        entries.push(LogEntry { seq, op, queue: queue.to_owned(), status: 0, messages: Vec::new(), entries: 0 });
        seq
    }

    /// Adds what messages a request is about.
    pub(super) fn about(&self, seq: u64, messages: Vec<String>) {
        self.change(seq, |entry| entry.messages = messages);
    }

    /// Adds how many messages a request wants deleted.
    pub(super) fn wants(&self, seq: u64, entries: usize) {
        self.change(seq, |entry| entry.entries = entries);
    }

    /// Fills in the status; nothing happens where the log was cleared in the meantime.
    pub(super) fn answer(&self, seq: u64, status: u16) {
        self.change(seq, |entry| entry.status = status);
    }

    fn change(&self, seq: u64, change: impl FnOnce(&mut LogEntry)) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let place = entries.binary_search_by_key(&seq, |entry| entry.seq);
        if let Some(entry) = place.ok().and_then(|place| entries.get_mut(place)) {
            change(entry);
        }
    }

    pub(super) fn entries(&self) -> Vec<LogEntry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn clear(&self) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
