//! A key as a notification spells it, and which keys are refused.

use percent_encoding::percent_decode_str;

use super::Unreadable;

/// Longest key of S3 in bytes.
const LONGEST_KEY: usize = 1024;

/// Undoes form encoding, once: `+` and `%20` are a space, `%2B` is a plus. What is left is the key; `%25` is a percent
/// sign and nothing that is decoded again.
pub(super) fn form_decoded(raw: &str) -> Result<String, Unreadable> {
    if !escapes_are_whole(raw.as_bytes()) {
        return Err(Unreadable::KeyEncoding);
    }
    let spaced = raw.replace('+', " ");
    match percent_decode_str(&spaced).decode_utf8() {
        Ok(key) => checked(key.into_owned()),
        Err(_not_utf8) => Err(Unreadable::KeyText),
    }
}

/// A key that came as it is.
pub(super) fn checked(key: String) -> Result<String, Unreadable> {
    if key.is_empty() {
        return Err(Unreadable::KeyEmpty);
    }
    if key.len() > LONGEST_KEY {
        return Err(Unreadable::KeyTooLong);
    }
    if key.contains('\0') {
        return Err(Unreadable::KeyNul);
    }
    if key.split('/').any(|segment| segment == "..") {
        return Err(Unreadable::KeyClimbs);
    }
    Ok(key)
}

/// Whether each `%` is followed by two hexadecimal digits. The decoder would leave others as they are, and so read a
/// key that does not exist.
fn escapes_are_whole(raw: &[u8]) -> bool {
    let mut rest = raw;
    while let Some((first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => after,
            (b'%', _) => return false,
            _ => after,
        };
    }
    true
}
