//! `[lifecycle]`: how the daemon stops.

use std::time::Duration;

/// Shutdown settings.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    /// After SIGTERM running loads may finish for this long; then they are rolled back.
    pub grace: Duration,
}
