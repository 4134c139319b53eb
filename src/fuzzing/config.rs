//! The configuration file: any text is loaded or refused with its problems, twice the same.

use crate::config::{self, ConfigErrors, Loaded};

/// Any text as a file. It has no environment, and the files it may name are only read.
pub fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match (config::load_text(text), config::load_text(text)) {
        (Ok(first), Ok(second)) => accepted(&first, &second),
        (Err(first), Err(second)) => refused(&first, &second),
        (first, second) => unreachable!("accepted once: {}, {}", first.is_ok(), second.is_ok()),
    }
}

fn accepted(first: &Loaded, second: &Loaded) {
    // Feeds hold compiled patterns, whose debug form tells them apart.
    assert_eq!(format!("{:?}", first.config), format!("{:?}", second.config));
    assert!(!config::show(first).is_empty(), "nothing is effective");
    for feed in first.config.feeds.values() {
        let root = feed.pattern.as_ref().map_or("", |pattern| pattern.literal_prefix());
        assert!(root.starts_with(&feed.prefix) || feed.prefix.starts_with(root), "{root:?} and {:?}", feed.prefix);
        assert!(!feed.bucket.is_empty() && feed.max_workers > 0 && !feed.poll_interval.is_zero(), "{feed:?}");
        let limits = &feed.limits;
        assert!(limits.max_bytes > 0 && limits.max_record_bytes > 0 && limits.max_fields > 0, "{limits:?}");
    }
}

fn refused(first: &ConfigErrors, second: &ConfigErrors) {
    assert_eq!(first, second);
    assert!(!first.problems.is_empty(), "refused without a reason");
    for problem in &first.problems {
        assert!(!problem.key.is_empty() && !problem.message.is_empty() && !problem.advice.is_empty(), "{problem:?}");
    }
}
