//! `depends_on` between feeds: nobody may wait for itself, not even by way of others.

use super::Checked;
use crate::config::report::Report;
use crate::domain::feed::FeedName;

/// Reports each feed that waits for itself.
pub(in crate::config) fn check_all(feeds: &[Checked], report: &mut Report) {
    let parents = |name: &FeedName| {
        feeds.iter().find(|checked| checked.feed.name == *name).map(|checked| checked.feed.depends_on.as_slice())
    };
    for checked in feeds {
        let own = &checked.feed.name;
        let mut seen: Vec<&FeedName> = Vec::new();
        let mut open: Vec<&FeedName> = checked.feed.depends_on.iter().collect();
        while let Some(name) = open.pop() {
            if name == own {
                let message = "the feed waits for itself, by way of the feeds it names";
                report.problem(&format!("feeds.{own}.depends_on"), message, "break the circle");
                break;
            }
            if !seen.contains(&name) {
                seen.push(name);
                open.extend(parents(name).unwrap_or_default());
            }
        }
    }
}
