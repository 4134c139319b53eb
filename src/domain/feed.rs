//! The name of a feed, as it stands in the configuration, the ledger and metric labels.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest feed name: it is a metric label and part of ledger keys.
pub const MAX_FEED_NAME: usize = 63;

/// A validated feed name: lower-case ASCII letters, digits and `_`, beginning with a letter.
///
/// The narrow alphabet lets `KEYFALL__FEEDS__NAME__KEY` address every feed and keeps labels printable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeedName(Arc<str>);

impl FeedName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a feed name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "feed name {0:?} is not usable: write lower-case letters, digits and _, begin with a letter, at most {MAX_FEED_NAME} characters"
)]
pub struct FeedNameError(String);

impl FromStr for FeedName {
    type Err = FeedNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let begins_with_letter = text.starts_with(|c: char| c.is_ascii_lowercase());
        let plain = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        // Two underscores would be read as a level of an environment variable.
        if begins_with_letter && plain && text.len() <= MAX_FEED_NAME && !text.contains("__") {
            Ok(Self(Arc::from(text)))
        } else {
            Err(FeedNameError(text.to_owned()))
        }
    }
}

impl fmt::Display for FeedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_plain_names_and_refuses_the_rest() {
        for good in ["a", "hired_employees", "d2"] {
            assert!(good.parse::<FeedName>().is_ok(), "{good}");
        }
        for bad in ["", "A", "2d", "a-b", "a__b", "a b", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<FeedName>().is_err(), "{bad}");
        }
    }
}
