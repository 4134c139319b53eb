//! S3's own shape: `{"Records": […]}`.

use serde_json::Value;

use super::{Created, Events, Unreadable, created, key};

/// An empty list tells of nothing, and that is understood.
pub(super) fn read(records: &Value) -> Result<Events, Unreadable> {
    let records = records.as_array().ok_or(Unreadable::UnknownShape)?;
    let mut events = Events::default();
    for record in records {
        match read_one(record) {
            Ok(Some(created)) => events.created.push(created),
            Ok(None) => events.ignored += 1,
            // The others of the message are no worse for it.
            Err(reason) => {
                let (so_far, first) = events.unreadable.unwrap_or((0, reason));
                events.unreadable = Some((so_far + 1, first));
            }
        }
    }
    Ok(events)
}

/// One record; none where it tells of anything but a new object.
fn read_one(record: &Value) -> Result<Option<Created>, Unreadable> {
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
    let name = text("/eventName").ok_or(Unreadable::Field("eventName"))?;
    // Compatible stores write the prefix that AWS has in its configuration only.
    if !name.strip_prefix("s3:").unwrap_or(name).starts_with("ObjectCreated") {
        return Ok(None);
    }
    let bucket = text("/s3/bucket/name").ok_or(Unreadable::Field("s3.bucket.name"))?;
    let key = key::form_decoded(text("/s3/object/key").ok_or(Unreadable::Field("s3.object.key"))?)?;
    let object = record.pointer("/s3/object").unwrap_or(&Value::Null);
    Ok(Some(created(bucket.to_owned(), key, object, "eTag", record.get("eventTime"))))
}
