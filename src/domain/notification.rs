//! What a message says: the events in it, out of any envelope that carries bucket notifications.
//!
//! Known are S3's own shape, the same inside SNS or delivered raw by it, and EventBridge, by itself or inside SNS. Pure:
//! nothing named in a body is ever asked, an SNS `SubscribeURL` least of all. A body that is not understood is told with
//! its reason and never guessed at. `VersionId` and `sequencer` are not read: an object's identity is `ETag` and size in
//! every channel (ADR-0002), and the ledger decides what is new.

mod bridge;
mod key;
mod records;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde_json::Value;

/// Longest body that is read: SQS carries up to 1 MiB.
pub const LONGEST_BODY: usize = 1 << 20;
/// SNS may stand in SNS, as topics that feed queues through other topics do it, but no deeper.
const MOST_ENVELOPES: usize = 2;
/// Longest entity tag that is believed; S3's have up to 39 characters.
const LONGEST_ETAG: usize = 128;

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notification {
    /// `s3:TestEvent`: S3 tried whether it may send.
    Test,
    /// Events, none of them perhaps.
    Events(Events),
    /// Nothing that can be used.
    Unreadable(Unreadable),
}

/// The events of one message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Events {
    /// Objects that were created or overwritten.
    pub created: Vec<Created>,
    /// How many events told of something else: removals, restores, tags.
    pub ignored: u64,
    /// How many records could not be read, and why the first of them could not.
    pub unreadable: Option<(u64, Unreadable)>,
}

/// An object was created, as far as the event tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Bucket.
    pub bucket: String,
    /// The whole key, decoded.
    pub key: String,
    /// Entity tag without its quotes.
    pub etag: Option<String>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// When it happened, by S3's clock.
    pub time: Option<Timestamp>,
}

/// Why a body, or a record of it, cannot be used. Holds nothing of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Longer than SQS carries.
    #[error("longer than {LONGEST_BODY} bytes")]
    TooLong,
    /// Not JSON.
    #[error("no JSON: line {line}, column {column}")]
    NotJson {
        /// Line up to which it is.
        line: usize,
        /// Column.
        column: usize,
    },
    /// JSON of a shape nobody told us of.
    #[error("neither a bucket notification of S3 nor SNS nor EventBridge")]
    UnknownShape,
    /// An SNS subscription wants to be confirmed.
    #[error(
        "an SNS subscription that is not confirmed: confirm it yourself (`aws sns confirm-subscription`), no URL is followed"
    )]
    Subscription,
    /// SNS in SNS in SNS.
    #[error("more than {MOST_ENVELOPES} SNS envelopes in each other")]
    Nested,
    /// An EventBridge event that is not S3's.
    #[error("an EventBridge event of another source than aws.s3")]
    OtherSource,
    /// A field is missing or of the wrong type.
    #[error("{0} is missing or no text")]
    Field(&'static str),
    /// The key's percent-encoding is broken.
    #[error("the key is not form-encoded as S3 does it")]
    KeyEncoding,
    /// The key is no UTF-8.
    #[error("the key is no UTF-8 once it is decoded")]
    KeyText,
    /// The key is empty.
    #[error("the key is empty")]
    KeyEmpty,
    /// The key is longer than S3 allows.
    #[error("the key is longer than 1024 bytes")]
    KeyTooLong,
    /// The key has a segment `..`.
    #[error("the key has a segment `..`: what it lies under depends on who reads it")]
    KeyClimbs,
    /// The key has a NUL.
    #[error("the key has a NUL character, which PostgreSQL cannot store")]
    KeyNul,
}

/// Reads a message.
pub fn parse(body: &str) -> Notification {
    match read(body, 0) {
        Ok(notification) => notification,
        Err(reason) => Notification::Unreadable(reason),
    }
}

fn read(body: &str, envelopes: usize) -> Result<Notification, Unreadable> {
    if body.len() > LONGEST_BODY {
        return Err(Unreadable::TooLong);
    }
    // Editors and shells put it there; SQS carries it.
    let body = body.strip_prefix('\u{feff}').unwrap_or(body);
    let value: Value = serde_json::from_str(body)
        .map_err(|error| Unreadable::NotJson { line: error.line(), column: error.column() })?;
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    if let Some(records) = value.get("Records") {
        return records::read(records).map(Notification::Events);
    }
    if text("Event") == Some("s3:TestEvent") {
        return Ok(Notification::Test);
    }
    if let Some(kind) = text("detail-type") {
        return bridge::read(kind, &value).map(Notification::Events);
    }
    match text("Type") {
        Some("Notification") if envelopes >= MOST_ENVELOPES => Err(Unreadable::Nested),
        Some("Notification") => read(text("Message").ok_or(Unreadable::Field("Message"))?, envelopes + 1),
        Some("SubscriptionConfirmation" | "UnsubscribeConfirmation") => Err(Unreadable::Subscription),
        _ => Err(Unreadable::UnknownShape),
    }
}

/// What both shapes tell of an object beside its key. What makes no sense is taken for missing: the bucket is asked.
fn created(bucket: String, key: String, object: &Value, etag_field: &str, time: Option<&Value>) -> Created {
    let etag = object.get(etag_field).and_then(Value::as_str);
    let etag = etag.map(|etag| etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"'));
    let is_tag = |etag: &&str| !etag.is_empty() && etag.len() <= LONGEST_ETAG && !etag.contains(char::is_control);
    let size = object.get("size").and_then(Value::as_u64).filter(|size| i64::try_from(*size).is_ok());
    let time = time.and_then(Value::as_str).and_then(|time| time.parse::<Timestamp>().ok());
    Created {
        bucket,
        key,
        etag: etag.filter(is_tag).map(str::to_owned),
        size,
        // S3 is younger than the epoch.
        time: time.filter(|time| *time > Timestamp::UNIX_EPOCH),
    }
}
