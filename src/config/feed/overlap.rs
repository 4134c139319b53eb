//! What feeds do to each other: archives that would be loaded again, and keys that two feeds would both load.
//!
//! The checks are conservative: where keys cannot be told apart by looking at prefixes, the configuration is refused.

use super::{Checked, Disposal};
use crate::config::report::Report;

/// Checks every feed against every other, and its archive against all.
pub(in crate::config) fn check_all(feeds: &[Checked], report: &mut Report) {
    for (index, feed) in feeds.iter().enumerate() {
        for watching in feeds {
            check_archive(feed, watching, report);
        }
        for other in feeds.iter().skip(index + 1) {
            check_pair(feed, other, report);
        }
    }
}

/// Whether a key may begin with both.
fn overlap(one: &str, other: &str) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

fn check_archive(archiving: &Checked, watching: &Checked, report: &mut Report) {
    let Disposal::Archive { bucket, prefix } = &archiving.feed.disposal else { return };
    // The archive keeps the whole key, so this is how every archived key begins.
    let archived = format!("{prefix}{}", archiving.feed.prefix);
    if *bucket != watching.feed.bucket || !overlap(&archived, &watching.feed.prefix) {
        return;
    }
    let key = format!("feeds.{}.disposal.prefix", archiving.feed.name);
    let message = format!(
        "archived keys begin with {archived:?} in bucket {bucket}, where feed {} watches {:?}: they would be loaded again",
        watching.feed.name, watching.feed.prefix
    );
    report.problem(&key, message, "archive under a prefix that no feed watches, or into another bucket");
}

fn check_pair(feed: &Checked, other: &Checked, report: &mut Report) {
    let same_bucket = feed.feed.bucket == other.feed.bucket;
    if !same_bucket || !overlap(&feed.feed.prefix, &other.feed.prefix) || separated(feed, other) {
        return;
    }
    let message = format!(
        "watches {:?} in bucket {}, and feed {} watches {:?} there: both could load the same keys",
        feed.feed.prefix, feed.feed.bucket, other.feed.name, other.feed.prefix
    );
    let advice = "give each its own prefix, patterns with different beginnings, or different include and exclude globs";
    report.problem(&format!("feeds.{}.prefix", feed.feed.name), message, advice);
}

/// Whether patterns begin differently, or both feeds choose keys by globs that are not the same.
fn separated(feed: &Checked, other: &Checked) -> bool {
    let by_pattern = match (&feed.feed.pattern, &other.feed.pattern) {
        (Some(one), Some(two)) => !overlap(one.literal_prefix(), two.literal_prefix()),
        _ => false,
    };
    let both_choose = !feed.globs.is_empty() && !other.globs.is_empty();
    by_pattern || (both_choose && feed.globs != other.globs)
}
