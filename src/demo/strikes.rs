//! What the fault scripts of all embedded servers share: which request a rule strikes, and gates at which one waits.
//!
//! A rule counts its strikes, so that a test can fail when its fault was never met.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// Which of the matching requests are struck: so many in a row, beginning with the n-th.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turns {
    pub(super) first: u64,
    pub(super) count: u64,
}

impl Turns {
    /// All of them.
    pub(super) const EVERY: Self = Self { first: 1, count: u64::MAX };
}

/// A rule in force.
#[derive(Debug, Clone)]
pub struct Injected(Arc<Count>);

#[derive(Debug)]
struct Count {
    turns: Turns,
    seen: AtomicU64,
    hits: AtomicU64,
}

impl Injected {
    pub(super) fn new(turns: Turns) -> Self {
        Self(Arc::new(Count { turns, seen: AtomicU64::new(0), hits: AtomicU64::new(0) }))
    }

    /// How often the rule has struck.
    pub fn hits(&self) -> u64 {
        self.0.hits.load(Ordering::SeqCst)
    }

    /// Counts a matching request; answers whether it is struck.
    pub(super) fn strikes(&self) -> bool {
        let nth = self.0.seen.fetch_add(1, Ordering::SeqCst) + 1;
        let Turns { first, count } = self.0.turns;
        let struck = nth >= first && nth - first < count;
        if struck {
            self.0.hits.fetch_add(1, Ordering::SeqCst);
        }
        struck
    }
}

/// A place where requests wait until a test lets them go on.
#[derive(Debug, Clone)]
pub struct Gate {
    waiting: watch::Sender<u64>,
    open: watch::Sender<bool>,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self { waiting: watch::Sender::new(0), open: watch::Sender::new(false) }
    }

    /// Waits until a request has reached the gate.
    pub async fn reached(&self) {
        let mut waiting = self.waiting.subscribe();
        // The sender lives in `self`, so the channel cannot be closed while we wait.
        waiting.wait_for(|count| *count > 0).await.map(drop).unwrap_or_default();
    }

    /// Opens the gate for good.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits at the gate.
    pub async fn pass(&self) {
        self.waiting.send_modify(|count| *count += 1);
        let mut open = self.open.subscribe();
        open.wait_for(|open| *open).await.map(drop).unwrap_or_default();
    }
}
