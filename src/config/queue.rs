//! `[queues.NAME]`: SQS queues that carry a bucket's notifications. Feeds name the queue they are fed by; several may
//! share one.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::bounds::{self, to_usize};
use super::report::Report;
use super::value::{Count, Span, choose};

/// Receivers of one queue: one is enough for some hundred objects per second.
pub const DEFAULT_RECEIVERS: u64 = 1;
/// How long one request waits for messages: as long as SQS allows, so that an idle queue costs least.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(20);

/// One queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its name in the configuration.
    pub name: String,
    /// Its URL, as SQS gives it; names endpoint and region as well.
    pub url: String,
    /// Region to sign for, where the URL does not tell.
    pub region: Option<String>,
    /// Requests for messages at once.
    pub receivers: usize,
    /// How long one request waits for messages.
    pub wait: Duration,
    /// What becomes of messages about objects no feed wants.
    pub foreign_events: ForeignEvents,
    /// Refuse to start where the queue has no redrive policy.
    pub strict: bool,
}

/// What becomes of messages about buckets and keys that no feed of the queue watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ForeignEvents {
    /// They stay in the queue until its redrive policy takes them away, for somebody to see.
    Leave,
    /// They are acknowledged and counted.
    Acknowledge,
}

impl<'de> Deserialize<'de> for ForeignEvents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        choose(deserializer, &[("leave", Self::Leave), ("acknowledge", Self::Acknowledge)])
    }
}

/// An SQS queue that carries a bucket's notifications.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawQueue {
    /// The queue's URL, such as `https://sqs.eu-central-1.amazonaws.com/123456789012/keyfall`; its host is the endpoint
    /// that is asked. Required.
    url: Option<String>,
    /// Region to sign for; default: the one in the URL, else that of `s3`. Needed where the URL names none.
    region: Option<String>,
    /// Requests for messages at once, from 1 to 32; default 1. Each takes ten messages at a time; more help where
    /// messages arrive faster than some hundred a second.
    receivers: Count,
    /// How long one request waits for messages, at most 20 s; default 20 s. Shorter waits cost more requests on an idle
    /// queue and gain nothing.
    wait: Span,
    /// What becomes of messages about buckets and keys that no feed of this queue watches: `leave` them to the redrive
    /// policy, or `acknowledge` them; default `leave`. Either way they are counted and nothing is fetched.
    foreign_events: ForeignEvents,
    /// Refuse to start where the queue has no redrive policy, which takes messages away that nobody can read; default
    /// false, then a warning says so.
    strict: bool,
}

impl Default for RawQueue {
    fn default() -> Self {
        Self {
            url: None,
            region: None,
            receivers: Count(DEFAULT_RECEIVERS),
            wait: Span(DEFAULT_WAIT),
            foreign_events: ForeignEvents::Leave,
            strict: false,
        }
    }
}

/// Checks one queue. None where its URL is missing or unusable; the report then says what.
pub(super) fn validate(name: &str, raw: &RawQueue, report: &mut Report) -> Option<Queue> {
    let key = |field: &str| format!("queues.{name}.{field}");
    report.not_blank(&key("region"), raw.region.as_deref());
    report.within(&key("receivers"), raw.receivers, Count(1)..=Count(32));
    report.within(&key("wait"), raw.wait, Span::seconds(0)..=Span::seconds(20));
    if !raw.wait.0.as_millis().is_multiple_of(1000) {
        report.problem(&key("wait"), format!("{} is no whole number of seconds", raw.wait), "SQS waits whole seconds");
    }
    let Some(url) = raw.url.as_deref() else {
        report.missing(&key("url"), "write the queue's URL, as the SQS console shows it");
        return None;
    };
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or_default();
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if host.is_empty() || path.is_empty() || host.contains('@') || url.contains(char::is_whitespace) {
        let advice = "write it as the SQS console shows it: \"https://sqs.REGION.amazonaws.com/ACCOUNT/NAME\"";
        report.problem(&key("url"), format!("{url:?} is no queue URL"), advice);
        return None;
    }
    if url.strip_suffix(".fifo").is_some() {
        let advice = "use a standard queue: S3 sends to no other, and the ledger removes duplicates itself";
        report.warn(format!("{} is a FIFO queue, which S3 cannot send to; {advice}", key("url")));
    }
    Some(Queue {
        name: name.to_owned(),
        url: url.to_owned(),
        region: raw.region.clone(),
        receivers: to_usize(raw.receivers),
        wait: raw.wait.0.min(bounds::DAY.0),
        foreign_events: raw.foreign_events,
        strict: raw.strict,
    })
}
