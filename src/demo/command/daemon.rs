//! The daemon inside the demo: the code behind `keyfall run`, stopped the way a service manager stops it.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use signal_hook::consts::SIGTERM;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::app::{self, Mode};
use crate::config::{Loaded, Sources};

/// The demo's grace period, time to give leases back, and some more.
const STOP_DEADLINE: Duration = Duration::from_secs(12);

/// Whether the daemon has got a signal already, because the user sent it to the whole process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// It has not.
    ByUs,
    /// It has; a second one would end it without draining.
    AlreadyBySignal,
}

/// A running daemon.
pub(super) struct Daemon {
    task: JoinHandle<anyhow::Result<u8>>,
}

impl Daemon {
    /// Starts it beside us.
    pub(super) fn start(loaded: Loaded, sources: Sources) -> Self {
        Self { task: TaskTracker::new().spawn(Box::pin(app::run(loaded, sources, Mode::Daemon))) }
    }

    /// Why it ended although nobody told it to. Waits for ever otherwise.
    pub(super) async fn failure(&mut self) -> anyhow::Error {
        match (&mut self.task).await {
            Ok(Ok(code)) => anyhow!("the daemon ended with exit code {code}; the log above says why"),
            Ok(Err(error)) => error.context("the daemon failed"),
            Err(error) => anyhow!(error).context("the daemon broke down; this is a defect of keyfall"),
        }
    }

    /// Drains it.
    pub(super) async fn stop(mut self, told: Told) -> anyhow::Result<()> {
        if self.task.is_finished() {
            return Ok(());
        }
        if told == Told::ByUs {
            signal_hook::low_level::raise(SIGTERM).context("tell the daemon to stop")?;
        }
        if tokio::time::timeout(STOP_DEADLINE, &mut self.task).await.is_err() {
            // The services it works with are about to go: nothing is gained by waiting longer.
            self.task.abort();
            tracing::warn!("the daemon did not stop in time and was cut off");
        }
        Ok(())
    }
}
