//! Sweeping: the full listing that finds what every cleverer way missed.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::backoff;

use super::bound::{self, Looks};
use super::{DiscoverError, Discoverer};

/// Pauses after failed sweeps.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

impl Discoverer {
    /// Sweeps at the start where one is due (never swept, interval over, or stopped for longer than the look-back
    /// covers), and then every interval, with jitter so that many feeds do not sweep together.
    pub(super) async fn run_sweeps(&self, stop: &CancellationToken, swept: &CancellationToken) {
        let mut failures = 0;
        loop {
            let pause = match self.sweep_if_due(stop, swept).await {
                Ok(pause) => {
                    failures = 0;
                    // Polling has a position from here on.
                    swept.cancel();
                    pause
                }
                Err(DiscoverError::Stopped) => return,
                Err(error) => {
                    failures += 1;
                    self.report(&error, failures);
                    backoff::delay(failures, RETRY.0, RETRY.1, fastrand::f64())
                }
            };
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(pause) => {} }
        }
    }

    /// Answers how long to wait until the next look.
    async fn sweep_if_due(
        &self,
        stop: &CancellationToken,
        swept: &CancellationToken,
    ) -> Result<Duration, DiscoverError> {
        let looks = Looks {
            since_sweep: self.ledger.seconds_since_sweep(&self.feed.name).await?,
            since_poll: self.ledger.seconds_since_poll(&self.feed.name).await?,
        };
        if let Some(left) = bound::until_sweep(&self.feed, !swept.is_cancelled(), looks) {
            return Ok(left.mul_f64(1.0 + fastrand::f64() / 10.0));
        }
        // A sweep of a known bucket runs beside the polls; only the very first one holds them back.
        if looks.since_sweep.is_some() {
            swept.cancel();
        }
        let listed = self.sweep(stop).await?;
        self.note(None);
        tracing::info!(feed = %self.feed.name, seen = listed.seen, new = listed.new, calls = listed.calls, "swept");
        Ok(self.feed.sweep_interval.mul_f64(1.0 + fastrand::f64() / 10.0))
    }
}
