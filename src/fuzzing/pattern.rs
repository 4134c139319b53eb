//! Key patterns: any text as a pattern, any text as a key.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Choices;
use crate::domain::pattern::{KeyPattern, KeyTime};

const ZONES: [&str; 5] = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Antarctica/Casey"];

/// A zone, a pattern up to the first line end, and a key.
pub fn target(data: &[u8]) {
    let mut choices = Choices::new(data);
    let zone = TimeZone::get(choices.one(&ZONES)).unwrap_or(TimeZone::UTC);
    let Ok(text) = std::str::from_utf8(choices.rest()) else { return };
    let (text, key) = text.split_once('\n').unwrap_or((text, ""));
    let pattern = match KeyPattern::parse(text, zone) {
        Ok(pattern) => pattern,
        Err(error) => {
            assert!(error.at >= 1 && error.at <= text.chars().count() + 1, "{error}: outside {text:?}");
            return;
        }
    };
    assert_eq!(pattern.as_str(), text);
    let bound = |from: Timestamp| pattern.lower_bound("s/", from);
    for extreme in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
        assert!(bound(extreme).starts_with("s/"));
        assert!(pattern.is_ordered() || bound(extreme) == "s/", "{text:?} has no order and yet a bound");
    }
    let Some(parts) = pattern.matches(key) else { return };
    assert!(key.starts_with(pattern.literal_prefix()), "{text:?} {key:?}");
    assert!(key.starts_with(&parts.series) && parts.series.starts_with(pattern.series_root()), "{text:?} {key:?}");
    for (name, value) in &parts.captures {
        assert!(!value.is_empty() && !value.contains('/') && key.contains(value), "{text:?} {key:?}: {name}");
    }
    match parts.time {
        KeyTime::At(time) => {
            assert!(pattern.has_time());
            let bound = pattern.lower_bound(&parts.series, time);
            // Without an order the bound is the series, and a key may be nothing else.
            assert!(key > bound.as_str() || !pattern.is_ordered(), "{text:?}: {key:?} is hidden by {bound:?}");
        }
        KeyTime::Absent => assert!(!pattern.has_time()),
        KeyTime::Impossible => assert!(pattern.has_time()),
    }
}
