//! Whose key is it? Pure.

use crate::config::feed::{Disposal, Feed};

/// Who an event is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// Feeds of the queue that watch the key, by their place in it.
    Watched(Vec<usize>),
    /// Nobody: it lies in an archive of ours, and we put it there.
    Ours,
    /// Nobody.
    Foreign,
}

/// A bucket and the beginning of keys in it.
type Place = (String, String);

/// The places that are watched and those that we write to.
#[derive(Debug)]
pub(super) struct Routes {
    watched: Vec<Place>,
    archives: Vec<Place>,
}

impl Routes {
    /// `watched` are the feeds of the queue, `all` those of the configuration.
    pub(super) fn new(watched: &[&Feed], all: &[&Feed]) -> Self {
        let archive = |feed: &&Feed| match &feed.disposal {
            Disposal::Archive { bucket, prefix } => Some((bucket.clone(), prefix.clone())),
            Disposal::Keep | Disposal::Delete => None,
        };
        Self {
            watched: watched.iter().map(|feed| (feed.bucket.clone(), feed.prefix.clone())).collect(),
            archives: all.iter().filter_map(archive).collect(),
        }
    }

    /// An archive that a feed watches is that feed's: one may feed the other.
    pub(super) fn of(&self, bucket: &str, key: &str) -> Route {
        let holds = |(of, prefix): &Place| of == bucket && key.starts_with(prefix.as_str());
        let watching: Vec<usize> =
            self.watched.iter().enumerate().filter(|(_, place)| holds(place)).map(|(index, _)| index).collect();
        if !watching.is_empty() {
            Route::Watched(watching)
        } else if self.archives.iter().any(holds) {
            Route::Ours
        } else {
            Route::Foreign
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::fixture;

    fn feed(bucket: &str, prefix: &str, disposal: Disposal) -> Feed {
        Feed { bucket: bucket.to_owned(), prefix: prefix.to_owned(), disposal, ..fixture::feed() }
    }

    #[test]
    fn an_event_goes_to_every_feed_that_watches_its_key_and_to_no_other() {
        let archive = Disposal::Archive { bucket: "store".to_owned(), prefix: "done/".to_owned() };
        let (jobs, all, chained) = (
            feed("drop", "in/jobs/", archive),
            feed("drop", "in/", Disposal::Keep),
            feed("store", "done/again/", Disposal::Delete),
        );
        let elsewhere = feed("other", "", Disposal::Keep);
        let routes = Routes::new(&[&jobs, &all, &chained], &[&jobs, &all, &chained, &elsewhere]);
        for (bucket, key, expected) in [
            ("drop", "in/jobs/1.csv", Route::Watched(vec![0, 1])),
            ("drop", "in/1.csv", Route::Watched(vec![1])),
            ("drop", "in/", Route::Watched(vec![1])),
            ("drop", "in", Route::Foreign),
            ("drop", "elsewhere/in/1.csv", Route::Foreign),
            ("drop2", "in/1.csv", Route::Foreign),
            ("store", "in/1.csv", Route::Foreign),
            ("store", "done/in/jobs/1.csv", Route::Ours),
            ("store", "done/again/1.csv", Route::Watched(vec![2])),
            // A feed of another queue, or of none, does not make it ours.
            ("other", "1.csv", Route::Foreign),
        ] {
            assert_eq!(routes.of(bucket, key), expected, "{bucket} {key}");
        }
    }
}
