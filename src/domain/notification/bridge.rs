//! EventBridge's shape: one event, its key as it is.

use serde_json::Value;

use super::{Events, Unreadable, created, key};

/// `kind` is the event's `detail-type`.
pub(super) fn read(kind: &str, event: &Value) -> Result<Events, Unreadable> {
    if event.get("source").and_then(Value::as_str) != Some("aws.s3") {
        return Err(Unreadable::OtherSource);
    }
    if kind != "Object Created" {
        return Ok(Events { ignored: 1, ..Events::default() });
    }
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
    let bucket = text("/detail/bucket/name").ok_or(Unreadable::Field("detail.bucket.name"))?;
    let key = key::checked(text("/detail/object/key").ok_or(Unreadable::Field("detail.object.key"))?.to_owned())?;
    let object = event.pointer("/detail/object").unwrap_or(&Value::Null);
    let created = created(bucket.to_owned(), key, object, "etag", event.get("time"));
    Ok(Events { created: vec![created], ..Events::default() })
}
