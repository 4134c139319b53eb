//! Bodies of messages, as AWS, LocalStack and moto write them.

use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::demo::sqs::{ACCOUNT, REGION};

/// What is wrapped around an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Envelope {
    /// The S3 notification itself: from S3, or by way of SNS with raw delivery.
    S3,
    /// An SNS message that holds the S3 notification as text.
    Sns,
    /// An `EventBridge` event, which holds one record.
    EventBridge,
}

/// How a key is written. `EventBridge` writes it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySpelling {
    /// Form-encoded: `a b+c` is `a+b%2Bc`, slashes stay.
    Aws,
    /// Percent-encoded: `a b+c` is `a%20b%2Bc`, slashes stay. LocalStack.
    Percent,
    /// Form-encoded with the slashes: `in/a b` is `in%2Fa+b`. moto.
    Slashes,
    /// As it is.
    Plain,
}

/// Bytes that are never escaped.
const UNRESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'*');
const WITH_SLASHES: AsciiSet = UNRESERVED.remove(b'/');

/// A key as it stands in a message.
pub fn spell(key: &str, spelling: KeySpelling) -> String {
    match spelling {
        KeySpelling::Aws => utf8_percent_encode(key, &WITH_SLASHES).to_string().replace("%20", "+"),
        KeySpelling::Percent => utf8_percent_encode(key, &WITH_SLASHES).to_string(),
        KeySpelling::Slashes => utf8_percent_encode(key, &UNRESERVED).to_string().replace("%20", "+"),
        KeySpelling::Plain => key.to_owned(),
    }
}

/// Something that happened to an object.
#[derive(Debug, Clone)]
pub struct Event {
    /// Bucket.
    pub bucket: String,
    /// Key, as it is.
    pub key: String,
    /// Entity tag without quotes; none for a removal.
    pub etag: Option<String>,
    /// Size; none for a removal.
    pub size: Option<u64>,
    /// Version, where the bucket has versioning.
    pub version: Option<String>,
    /// When it happened.
    pub time: Timestamp,
    /// What happened, such as `ObjectCreated:Put`.
    pub name: String,
    /// Grows with each event of a key.
    pub sequencer: u64,
}

impl Event {
    /// An object was put just now.
    pub fn put(bucket: &str, key: &str, etag: &str, size: u64) -> Self {
        Self {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            etag: Some(etag.to_owned()),
            size: Some(size),
            version: None,
            time: Timestamp::now(),
            name: "ObjectCreated:Put".to_owned(),
            sequencer: 1,
        }
    }

    /// An object was removed.
    pub fn removed(bucket: &str, key: &str) -> Self {
        let name = "ObjectRemoved:Delete".to_owned();
        Self { etag: None, size: None, name, ..Self::put(bucket, key, "", 0) }
    }

    fn object(&self, spelling: KeySpelling) -> Value {
        let mut object = json!({ "key": spell(&self.key, spelling), "sequencer": format!("{:018X}", self.sequencer) });
        let is_bridge = spelling == KeySpelling::Plain;
        let (etag, version) = if is_bridge { ("etag", "version-id") } else { ("eTag", "versionId") };
        let optional = [
            ("size", self.size.map(Value::from)),
            (etag, self.etag.clone().map(Value::from)),
            (version, self.version.clone().map(Value::from)),
        ];
        if let Value::Object(fields) = &mut object {
            fields.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        }
        object
    }

    fn record(&self, spelling: KeySpelling) -> Value {
        let Self { bucket, name, .. } = self;
        json!({
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": REGION,
            "eventTime": self.time.to_string(),
            "eventName": name,
            "userIdentity": { "principalId": "AWS:TEST" },
            "requestParameters": { "sourceIPAddress": "127.0.0.1" },
            "responseElements": { "x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "test" },
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "keyfall",
                "bucket": {
                    "name": bucket,
                    "ownerIdentity": { "principalId": "TEST" },
                    "arn": format!("arn:aws:s3:::{bucket}"),
                },
                "object": self.object(spelling),
            },
        })
    }

    /// The event as `EventBridge` tells it: alone, the key as it is.
    fn bridged(&self) -> Value {
        let is_removal = self.name.starts_with("ObjectRemoved");
        json!({
            "version": "0",
            "id": uuid::Uuid::new_v4().to_string(),
            "detail-type": if is_removal { "Object Deleted" } else { "Object Created" },
            "source": "aws.s3",
            "account": ACCOUNT,
            "time": self.time.to_string(),
            "region": REGION,
            "resources": [format!("arn:aws:s3:::{}", self.bucket)],
            "detail": {
                "version": "0",
                "bucket": { "name": self.bucket },
                "object": self.object(KeySpelling::Plain),
                "request-id": "C3D13FE58DE4C810",
                "requester": ACCOUNT,
                "source-ip-address": "127.0.0.1",
                "reason": if is_removal { "DeleteObject" } else { "PutObject" },
            },
        })
    }
}

/// The body of one message about these events. `EventBridge` takes the first only: it sends each event alone.
pub fn compose(events: &[Event], envelope: Envelope, spelling: KeySpelling) -> String {
    let records: Vec<Value> = events.iter().map(|event| event.record(spelling)).collect();
    let notification = json!({ "Records": records });
    match envelope {
        Envelope::S3 => notification.to_string(),
        Envelope::Sns => in_sns(&notification.to_string()),
        Envelope::EventBridge => events.first().map(Event::bridged).unwrap_or_default().to_string(),
    }
}

/// An SNS message around a text.
pub fn in_sns(text: &str) -> String {
    let message = json!({
        "Type": "Notification",
        "MessageId": uuid::Uuid::new_v4().to_string(),
        "TopicArn": format!("arn:aws:sns:{REGION}:{ACCOUNT}:uploads"),
        "Subject": "Amazon S3 Notification",
        "Message": text,
        "Timestamp": Timestamp::now().to_string(),
        "SignatureVersion": "1",
        "Signature": "test",
        "SigningCertURL": "https://sns.invalid/cert.pem",
        "UnsubscribeURL": "https://sns.invalid/unsubscribe",
    });
    message.to_string()
}

/// What S3 sends when notifications are set up.
pub fn test_event(bucket: &str) -> String {
    let event = json!({
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": Timestamp::now().to_string(),
        "Bucket": bucket,
        "RequestId": "5582815E1AEA5ADF",
        "HostId": "test",
    });
    event.to_string()
}
