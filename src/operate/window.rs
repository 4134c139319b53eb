//! `--from` and `--to`: which key times a command looks at.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

use crate::config::feed::Feed;
use crate::domain::moment;
use crate::domain::pattern::{KeyPattern, KeyTime};

/// Key times from one instant up to, and without, another; without bounds all objects, also those without a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// First instant.
    pub from: Option<Timestamp>,
    /// First instant after it.
    pub to: Option<Timestamp>,
}

/// Why texts make no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// The feed's keys carry no time.
    #[error("the keys of feed {0:?} carry no time that --from and --to could mean")]
    NoTime(String),
    /// Not a time.
    #[error("{0:?} is no time")]
    NoMoment(String),
    /// Nothing lies between the bounds.
    #[error("--from lies at or after --to: no object can lie between them")]
    Empty,
}

impl WindowError {
    /// What to type instead.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NoTime(_) => "name another feed with --feed, or leave --from and --to out",
            Self::NoMoment(_) => {
                "write a time such as 2024-01-01T06:00, a date such as 2024-01-01, `yesterday` or `today`; by the feed's timezone"
            }
            Self::Empty => "--to is the first instant that is not meant: --from yesterday --to today is yesterday",
        }
    }
}

impl Window {
    /// Reads both bounds by the clock that the feed's names follow.
    pub fn read(feed: &Feed, from: Option<&str>, to: Option<&str>, now: Timestamp) -> Result<Self, WindowError> {
        if from.is_none() && to.is_none() {
            return Ok(Self::default());
        }
        let pattern = feed.pattern.as_ref().filter(|pattern| pattern.has_time());
        let zone = pattern.map(KeyPattern::zone).ok_or_else(|| WindowError::NoTime(feed.name.to_string()))?;
        Self::between(from, to, zone, now)
    }

    /// Reads both bounds of what is no feed's time, such as when an object was loaded: UTC where they name no offset.
    pub fn read_utc(from: Option<&str>, to: Option<&str>, now: Timestamp) -> Result<Self, WindowError> {
        Self::between(from, to, &TimeZone::UTC, now)
    }

    fn between(from: Option<&str>, to: Option<&str>, zone: &TimeZone, now: Timestamp) -> Result<Self, WindowError> {
        let bound = |text: Option<&str>| text.map(|text| moment(text, zone, now)).transpose();
        let window = Self { from: bound(from)?, to: bound(to)? };
        match (window.from, window.to) {
            (Some(from), Some(to)) if from >= to => Err(WindowError::Empty),
            _ => Ok(window),
        }
    }

    /// Whether nothing is left out.
    pub fn is_everything(self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    /// Whether a key is meant. Asked of keys of the bucket and of the ledger alike, so both leave out the same ones.
    pub fn holds(self, feed: &Feed, key: &str) -> bool {
        if self.is_everything() {
            return true;
        }
        let time = feed.pattern.as_ref().and_then(|pattern| pattern.matches(key)).map(|parts| parts.time);
        let Some(KeyTime::At(time)) = time else { return false };
        self.from.is_none_or(|from| time >= from) && self.to.is_none_or(|to| time < to)
    }
}

fn moment(text: &str, zone: &TimeZone, now: Timestamp) -> Result<Timestamp, WindowError> {
    let text = text.trim();
    let today = || Zoned::new(now, zone.clone()).start_of_day();
    let found = match text {
        "today" => today().ok().map(|day| day.timestamp()),
        "yesterday" => today().ok().and_then(|day| day.checked_sub(1.day()).ok()).map(|day| day.timestamp()),
        _ => moment::parse(text, zone),
    };
    found.ok_or_else(|| WindowError::NoMoment(text.to_owned()))
}
