//! `[lifecycle]`: how the daemon stops.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds;
use super::report::Report;
use super::value::Span;

/// Running loads may finish for this long: below the 30 s that compose files and Kubernetes usually grant.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(25);

/// Shutdown settings.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    /// After SIGTERM running loads may finish for this long; then they are rolled back.
    pub grace: Duration,
}

/// How the daemon stops.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawLifecycle {
    /// After SIGTERM running loads may finish for this long, then they are rolled back and done again later; default
    /// 25 s. Keep it below what the supervisor grants (`TimeoutStopSec`, `stop_grace_period`), or it kills the process
    /// before loads are rolled back in good order.
    grace: Span,
}

impl Default for RawLifecycle {
    fn default() -> Self {
        Self { grace: Span(DEFAULT_GRACE) }
    }
}

/// Checks the section.
pub(super) fn validate(raw: &RawLifecycle, report: &mut Report) -> Lifecycle {
    report.within("lifecycle.grace", raw.grace, Span::seconds(0)..=bounds::DAY);
    Lifecycle { grace: raw.grace.0 }
}
