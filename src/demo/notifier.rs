//! What S3 sends to a queue when an object is created or removed: in each envelope, with each spelling of the key that
//! AWS and its emulators use, and as unreliably as a test wants it.
//!
//! Guaranteed: what is dropped, doubled and delayed depends on the seed alone. It watches nothing: whoever puts an object
//! says so.

mod body;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::time::Duration;

use fastrand::Rng;

use super::sqs::EmbeddedSqs;

pub use body::{Envelope, Event, KeySpelling, compose, in_sns, spell, test_event};

/// How unreliable the way from the bucket to the queue is.
#[derive(Debug, Clone)]
pub struct Unreliability {
    /// Percentage of events that are never sent.
    pub dropped: f64,
    /// Percentage of events that are sent twice.
    pub doubled: f64,
    /// Milliseconds by which each message is delayed: those sent later may overtake it.
    pub delay_ms: Range<u64>,
}

impl Default for Unreliability {
    /// Everything arrives, once, in order.
    fn default() -> Self {
        Self { dropped: 0.0, doubled: 0.0, delay_ms: 0..1 }
    }
}

/// What was done with events so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Told {
    /// Events sent at least once.
    pub sent: u64,
    /// Of these, sent twice.
    pub doubled: u64,
    /// Events never sent.
    pub dropped: u64,
}

/// Sends events of a bucket to a queue.
#[derive(Debug)]
pub struct Notifier {
    queue: String,
    envelope: Envelope,
    spelling: KeySpelling,
    unreliability: Unreliability,
    random: Rng,
    told: Told,
}

impl Notifier {
    /// As AWS does it: bare S3 notifications, keys form-encoded, everything once.
    pub fn new(queue: impl Into<String>, seed: u64) -> Self {
        Self {
            queue: queue.into(),
            envelope: Envelope::S3,
            spelling: KeySpelling::Aws,
            unreliability: Unreliability::default(),
            random: Rng::with_seed(seed),
            told: Told::default(),
        }
    }

    /// Another envelope and spelling.
    #[must_use]
    pub fn speaking(self, envelope: Envelope, spelling: KeySpelling) -> Self {
        Self { envelope, spelling, ..self }
    }

    /// Less reliable.
    #[must_use]
    pub fn losing(self, unreliability: Unreliability) -> Self {
        Self { unreliability, ..self }
    }

    /// Tells one event; answers the ids of the messages that carry it.
    pub fn tell(&mut self, sqs: &EmbeddedSqs, event: &Event) -> Vec<String> {
        // Drawn always, so that the next event's luck does not depend on this one's.
        let (lost, twice) = (self.random.f64() * 100.0, self.random.f64() * 100.0);
        let delays = [(); 2].map(|()| self.random.u64(self.unreliability.delay_ms.clone()));
        if lost < self.unreliability.dropped {
            self.told.dropped += 1;
            return Vec::new();
        }
        let is_doubled = twice < self.unreliability.doubled;
        self.told.sent += 1;
        self.told.doubled += u64::from(is_doubled);
        let body = compose(std::slice::from_ref(event), self.envelope, self.spelling);
        let times = if is_doubled { 2 } else { 1 };
        let send = |delay: u64| sqs.send_later(&self.queue, &body, Duration::from_millis(delay));
        delays.into_iter().take(times).filter_map(send).collect()
    }

    /// What was done so far.
    pub fn told(&self) -> Told {
        self.told
    }
}
