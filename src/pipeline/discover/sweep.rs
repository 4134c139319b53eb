//! Sweeping: the full listing that finds what every cleverer way missed.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::domain::backoff;
use crate::domain::duty::Duty;
use crate::pipeline::duties::{Duties, Leave};

use super::{DiscoverError, Discoverer, bound};

/// Pauses after failed sweeps.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// How often the ledger is asked whether one is due: an operator may have swept meanwhile, and another instance may
/// have begun to poll after a long pause.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);

impl Discoverer {
    /// Sweeps while this is this instance's duty: where one is due (never swept, interval over, or nothing polled for
    /// longer than the look-back covers), with jitter so that many feeds do not sweep together.
    pub(super) async fn run_sweeps(&self, duties: &Duties, stop: &CancellationToken) {
        let interval = self.feed.sweep_interval.mul_f64(1.0 + fastrand::f64() / 10.0);
        let mut failures = 0;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = duties.given(&self.feed.name, Duty::Sweep) => {}
            }
            let leave = Leave::while_held(duties, &self.feed.name, Duty::Sweep, stop);
            let pause = match self.sweep_if_due(interval, &leave).await {
                Ok(left) => {
                    failures = 0;
                    left.min(LOOK_INTERVAL)
                }
                // Quietly: whoever has the duty now sweeps from the beginning, as the ledger tells him to.
                Err(DiscoverError::Stopped) => continue,
                Err(error) => {
                    failures += 1;
                    self.report(&error, failures);
                    backoff::delay(failures, RETRY.0, RETRY.1, fastrand::f64())
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.gap.notified(), if failures == 0 => {}
                () = sleep_until(Instant::now() + pause) => {}
            }
        }
    }

    /// Answers how long the next sweep can wait.
    async fn sweep_if_due(&self, interval: Duration, leave: &Leave<'_>) -> Result<Duration, DiscoverError> {
        let sweeps = self.ledger.sweeps(&self.feed.name).await?;
        if let Some(left) = bound::until_sweep(interval, sweeps) {
            return Ok(left);
        }
        let listed = self.sweep_while(leave).await?;
        self.note(None);
        tracing::info!(feed = %self.feed.name, seen = listed.seen, new = listed.new, calls = listed.calls, "swept");
        Ok(interval)
    }
}
