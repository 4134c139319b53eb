//! `[telemetry]`: logs.

/// Log settings.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// `tracing` filter such as `info` or `keyfall=debug`.
    pub log: String,
    /// Shape of log lines.
    pub format: LogFormat,
}

/// Shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text at a terminal, JSON otherwise.
    Auto,
    /// Human text.
    Text,
    /// One JSON object per line.
    Json,
}
