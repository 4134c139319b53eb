//! `[workers]`: how much is done at once, and how failures are spaced.

use std::time::Duration;

/// Bounds on concurrent work.
#[derive(Debug, Clone)]
pub struct Workers {
    /// Loads at once over all feeds.
    pub max: usize,
    /// Sum of the sizes of the objects in work; a single larger object still goes through, alone.
    pub max_in_flight_bytes: u64,
    /// How long a lease lasts without renewal.
    pub lease: Duration,
    /// Suspicious failures after which an object is quarantined.
    pub max_attempts: u32,
    /// First delay after a failure; doubles with jitter.
    pub retry_min: Duration,
    /// Largest delay after a failure.
    pub retry_max: Duration,
    /// Small objects loaded in one transaction: at most this many (1 turns grouping off).
    pub group_objects: usize,
    /// Objects up to this size may share a transaction.
    pub group_bytes: u64,
}
