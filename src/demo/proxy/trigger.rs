//! Faults that wait for a pattern in what the client sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memchr::memmem;
use tokio::sync::Notify;

/// Longest pattern that is found across reads.
pub(super) const LONGEST_PATTERN: usize = 1024;

/// What a trigger does to the connection on which its pattern was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Closes both sides; the pattern and what follows it never reach the server.
    CutBefore,
    /// Forwards everything up to the end of the read that completes the pattern and ends the stream to the server;
    /// lets the server finish, swallows its answers, and then closes the client's side.
    CutAfter,
    /// Forwards everything and swallows the server's answers from now on.
    DropAnswers,
    /// Swallows the pattern and everything after it, both ways.
    Blackhole,
}

/// A pattern, which of its occurrences counts, and what happens then.
#[derive(Debug, Clone)]
pub struct Trigger {
    pattern: Vec<u8>,
    action: Action,
    nth: u64,
}

impl Trigger {
    /// Strikes at the first occurrence of `pattern` in what a client sends. A pattern has 1 to 1024 bytes: an empty
    /// one never strikes, a longer one is only found within one read.
    pub fn new(pattern: impl Into<Vec<u8>>, action: Action) -> Self {
        Self { pattern: pattern.into(), action, nth: 1 }
    }

    /// Strikes at the `nth` occurrence instead, counted from 1 over all connections.
    #[must_use]
    pub fn nth(self, nth: u64) -> Self {
        Self { nth, ..self }
    }
}

/// A trigger in force.
#[derive(Debug)]
pub struct Armed {
    trigger: Trigger,
    seen: AtomicU64,
    hits: AtomicU64,
    struck: Notify,
}

/// A trigger that strikes, and where its pattern begins in the read (0 where it began in an earlier one).
pub(super) struct Strike {
    pub(super) action: Action,
    pub(super) start: usize,
    pub(super) by: Arc<Armed>,
}

impl Armed {
    pub(super) fn new(trigger: Trigger) -> Self {
        Self { trigger, seen: AtomicU64::new(0), hits: AtomicU64::new(0), struck: Notify::new() }
    }

    /// Occurrences of the pattern so far, whether they struck or not.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }

    /// How often the action was carried out: 0 or 1.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::SeqCst)
    }

    /// Waits until the action has been carried out; the caller adds its deadline.
    pub async fn hit(&self) {
        let mut struck = std::pin::pin!(self.struck.notified());
        // Enabled before the counter is read, so that a hit in between is not missed.
        struck.as_mut().enable();
        if self.hits() == 0 {
            struck.await;
        }
    }

    pub(super) fn carried_out(&self) {
        self.hits.fetch_add(1, Ordering::SeqCst);
        self.struck.notify_waiters();
    }

    /// Counts the occurrences that end in `read`, which follows `before` on the same connection.
    pub(super) fn look(self: &Arc<Self>, before: &[u8], read: &[u8]) -> Option<Strike> {
        let pattern = self.trigger.pattern.as_slice();
        if pattern.is_empty() {
            return None;
        }
        let overlap = before.len().min(pattern.len() - 1);
        let window = [before.get(before.len() - overlap..).unwrap_or_default(), read].concat();
        let mut strike = None;
        for position in memmem::find_iter(&window, pattern) {
            if self.seen.fetch_add(1, Ordering::SeqCst) + 1 == self.trigger.nth {
                let start = position.saturating_sub(overlap);
                strike = Some(Strike { action: self.trigger.action, start, by: Arc::clone(self) });
            }
        }
        strike
    }
}
