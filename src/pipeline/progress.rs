//! Whether a load still moves.
//!
//! Every wait on the network has a deadline of its own; this is the last one, for a load that hangs in a way nobody
//! thought of. It must free its worker, and its object must count an attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Steps of one load: bytes that arrived, frames that went out.
#[derive(Clone, Default)]
pub struct Progress {
    steps: Arc<AtomicU64>,
}

impl Progress {
    /// Something moved.
    pub fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends when nothing has moved for at least this long, and at most twice as long.
    pub async fn stalled(&self, patience: Duration) {
        self.unmoved_during(|| tokio::time::sleep(patience)).await;
    }

    /// Ends after the first `wait` in which nothing moved.
    async fn unmoved_during<W: Future<Output = ()>>(&self, mut wait: impl FnMut() -> W) {
        let mut seen = self.steps.load(Ordering::Relaxed);
        loop {
            wait().await;
            let now = self.steps.load(Ordering::Relaxed);
            if now == seen {
                return;
            }
            seen = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_load_that_moves_is_not_stalled_and_one_that_stops_is() {
        let progress = Progress::default();
        let mut waits = 0;
        progress
            .unmoved_during(|| {
                waits += 1;
                if waits <= 3 {
                    progress.step();
                }
                std::future::ready(())
            })
            .await;
        assert_eq!(waits, 4);
    }
}
