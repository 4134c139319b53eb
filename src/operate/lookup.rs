//! Finding what an operator named: a feed, or the feed that was meant.

use std::fmt;
use std::sync::Arc;

use crate::config::Config;
use crate::config::feed::Feed;
use crate::store::error::StoreError;
use crate::store::ledger::{Ledger, ObjectFilter};

/// A name that is no feed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct UnknownFeed {
    name: String,
    known: Vec<String>,
}

impl UnknownFeed {
    /// What to type instead.
    pub fn advice(&self) -> String {
        match nearest(&self.name, self.known.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None if self.known.is_empty() => "the configuration has no feeds".to_owned(),
            None => format!("the feeds are {}", self.known.join(", ")),
        }
    }
}

impl fmt::Display for UnknownFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no feed {:?}", self.name)
    }
}

/// The configured feed of this name.
pub fn feed<'a>(config: &'a Config, name: &str) -> Result<&'a Arc<Feed>, UnknownFeed> {
    let found = config.feeds.iter().find(|(known, _)| known.as_str() == name);
    found.map(|(_, feed)| feed).ok_or_else(|| UnknownFeed {
        name: name.to_owned(),
        known: config.feeds.keys().map(ToString::to_string).collect(),
    })
}

/// Whether a name means something to the configuration or to the ledger, where feeds live on that were configured
/// once.
pub async fn feed_anywhere(
    config: &Config,
    ledger: &Ledger,
    name: &str,
) -> Result<Result<(), UnknownFeed>, StoreError> {
    let Err(unknown) = feed(config, name) else { return Ok(Ok(())) };
    let filter = ObjectFilter { feed: Some(name.to_owned()), limit: 1, ..ObjectFilter::default() };
    let in_ledger = !ledger.objects(&filter).await?.is_empty();
    Ok(if in_ledger { Ok(()) } else { Err(unknown) })
}

/// The known word that is most like `word`, where one is like enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters may be wrong: `departmnets` is `departments`, `foo` is nothing we know.
    let tolerance = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= tolerance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(name: &str) -> UnknownFeed {
        UnknownFeed { name: name.to_owned(), known: vec!["departments".to_owned(), "jobs".to_owned()] }
    }

    #[test]
    fn a_typing_error_is_answered_with_the_feed_that_was_meant() {
        assert_eq!(unknown("departmnets").advice(), "did you mean \"departments\"?");
    }

    #[test]
    fn a_strange_name_is_answered_with_all_feeds() {
        assert_eq!(unknown("payments").advice(), "the feeds are departments, jobs");
    }
}
