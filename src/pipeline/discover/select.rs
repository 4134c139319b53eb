//! What a feed's pattern and filters say of a listed object. Pure.

use crate::config::feed::Feed;
use crate::domain::object::Listed;
use crate::domain::pattern::KeyTime;
use crate::domain::state::SkipReason;
use crate::store::ledger::Found;

/// Judges one listed object. Everything under the prefix gets a ledger row; what is not to be loaded gets its reason.
pub fn judge(feed: &Feed, listed: Listed) -> Found {
    let parts = feed.pattern.as_ref().map(|pattern| pattern.matches(&listed.key));
    let (series, key_time, shape_fits) = match parts {
        None => (String::new(), None, true),
        Some(None) => (String::new(), None, false),
        Some(Some(parts)) => match parts.time {
            KeyTime::At(time) => (parts.series, Some(time), true),
            // A key of the right shape with an impossible time is loaded like one without: late rather than never.
            KeyTime::Absent | KeyTime::Impossible => (parts.series, None, true),
        },
    };
    let skip = if listed.is_directory_marker() {
        Some(SkipReason::DirectoryMarker)
    } else if !is_included(feed, &listed.key) {
        Some(SkipReason::Excluded)
    } else if !shape_fits {
        Some(SkipReason::Pattern)
    } else if feed.start_from.zip(key_time).is_some_and(|(start, time)| time < start) {
        Some(SkipReason::BeforeStart)
    } else if listed.is_archived() {
        Some(SkipReason::StorageClass)
    } else {
        None
    };
    Found { listed, series, key_time, skip }
}

fn is_included(feed: &Feed, key: &str) -> bool {
    let included = feed.include.as_ref().is_none_or(|globs| globs.is_match(key));
    let excluded = feed.exclude.as_ref().is_some_and(|globs| globs.is_match(key));
    included && !excluded
}
