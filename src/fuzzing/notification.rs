//! Messages of a queue: any text is understood or refused, and every key comes through every envelope.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::domain::notification::{Created, Notification, Unreadable, parse};

/// Any text as a message's body, and as the key of an object in one.
pub fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let read = parse(text);
    check(&read);
    let wrapped = parse(&sns(text));
    let too_deep_or_long = matches!(wrapped, Notification::Unreadable(Unreadable::Nested | Unreadable::TooLong));
    assert!(wrapped == read || too_deep_or_long, "{text:?}: {read:?}, in SNS {wrapped:?}");
    keys(text);
}

fn sns(message: &str) -> String {
    json!({"Type": "Notification", "Message": message}).to_string()
}

fn check(read: &Notification) {
    let Notification::Events(events) = read else { return };
    for created in &events.created {
        assert!(is_key(&created.key), "{created:?}");
        let etag = created.etag.as_deref().unwrap_or("x");
        assert!(!etag.is_empty() && !etag.starts_with('"') && !etag.ends_with('"'), "{created:?}");
        assert!(created.size.is_none_or(|size| i64::try_from(size).is_ok()), "{created:?}");
    }
    assert!(events.unreadable.is_none_or(|(records, _)| records > 0));
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.len() <= 1024 && !key.contains('\0') && key.split('/').all(|segment| segment != "..")
}

/// The text as a key: read as it is wherever it may be one, refused everywhere else.
fn keys(key: &str) {
    let encoded = utf8_percent_encode(key, NON_ALPHANUMERIC).to_string();
    let record =
        |key: &str| json!({"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": key}}});
    let spelled = [encoded.replace("%20", "+"), encoded.replace("%2F", "/"), encoded];
    for spelling in spelled {
        found(&json!({"Records": [record(&spelling)]}).to_string(), key);
    }
    let detail = json!({"bucket": {"name": "b"}, "object": {"key": key}});
    found(&json!({"detail-type": "Object Created", "source": "aws.s3", "detail": detail}).to_string(), key);
}

fn found(body: &str, key: &str) {
    let created = match parse(body) {
        Notification::Events(events) => events.created.into_iter().next(),
        Notification::Test | Notification::Unreadable(_) => None,
    };
    assert_eq!(created.map(|Created { key, .. }| key), Some(key.to_owned()).filter(|key| is_key(key)), "{body}");
}
