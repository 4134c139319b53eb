//! Keys as listings encode them.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::aws::s3::list::decoded;
use crate::domain::object::ObjectRef;

/// Any text as a listing's key, and any text encoded as one.
pub fn target(data: &[u8]) {
    let Ok(raw) = std::str::from_utf8(data) else { return };
    if let Ok(key) = decoded(raw.to_owned()) {
        assert!(key.len() <= raw.len(), "decoding made {raw:?} longer");
        assert!(raw.contains(['%', '+']) || key == raw, "{raw:?} became {key:?}");
        assert_eq!(decoded(encoded(&key)).as_deref(), Ok(key.as_str()), "{raw:?}");
    }
    // The other way round: every key survives both spellings of its space.
    let spelled = encoded(raw);
    assert_eq!(decoded(spelled.replace("%20", "+")).as_deref(), Ok(raw));
    assert_eq!(decoded(spelled).as_deref(), Ok(raw));
    let shown = object(raw).uri();
    assert!(!shown.contains(char::is_control), "{shown:?} could forge a log line");
}

fn encoded(key: &str) -> String {
    utf8_percent_encode(key, NON_ALPHANUMERIC).to_string()
}

fn object(key: &str) -> ObjectRef {
    ObjectRef {
        id: 1,
        bucket: "drop".to_owned(),
        key: key.to_owned(),
        etag: String::new(),
        version_id: None,
        size: 0,
        key_time: None,
        visible_at: jiff::Timestamp::UNIX_EPOCH,
        archived: None,
    }
}
