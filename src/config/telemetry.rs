//! `[telemetry]`: logs.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use tracing_subscriber::EnvFilter;

use super::report::Report;
use super::value::choose;

/// State changes of the service, and nothing per object.
pub const DEFAULT_LOG: &str = "info";

/// Log settings.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// `tracing` filter such as `info` or `keyfall=debug`.
    pub log: String,
    /// Shape of log lines.
    pub format: LogFormat,
}

/// Shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text at a terminal, JSON otherwise.
    Auto,
    /// Human text.
    Text,
    /// One JSON object per line.
    Json,
}

impl<'de> Deserialize<'de> for LogFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        choose(deserializer, &[("auto", Self::Auto), ("text", Self::Text), ("json", Self::Json)])
    }
}

/// Logs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawTelemetry {
    /// Filter of log lines: a level (`error`, `warn`, `info`, `debug`, `trace`) or directives such as
    /// `info,keyfall=debug`; default `info`. `debug` writes a line per object, `trace` slows loading down.
    log: String,
    /// Shape of log lines: `auto` (text at a terminal, JSON otherwise), `text` or `json`; default `auto`.
    format: LogFormat,
}

impl Default for RawTelemetry {
    fn default() -> Self {
        Self { log: DEFAULT_LOG.to_owned(), format: LogFormat::Auto }
    }
}

/// Checks the section.
pub(super) fn validate(raw: &RawTelemetry, report: &mut Report) -> Telemetry {
    report.not_blank("telemetry.log", Some(&raw.log));
    if let Err(error) = EnvFilter::builder().parse(&raw.log) {
        let advice = "write a level such as `info`, or directives such as `info,keyfall=debug`";
        report.problem("telemetry.log", format!("{:?} is no filter: {error}", raw.log), advice);
    }
    Telemetry { log: raw.log.clone(), format: raw.format }
}
