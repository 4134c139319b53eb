//! Missing slots: the spans of time in which a feed expected an object and none came.
//!
//! Looked at are the slots from the first known key time of a series (or from `start_from`, where keys have no part
//! before the time) up to the cadence's grace before now: a week back, the latest thousand of them. An object counts
//! for its slot whatever became of it: one in quarantine did come.
//!
//! Each series has slots of its own. One that was not heard of for longer than the look is taken for given up: it is
//! named as silent and its slots do not count. The series heard of last never is, so a feed that stopped altogether
//! stays missing until somebody acts.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::config::feed::{Cadence, Feed};
use crate::domain::cadence::{self, Learnt, MOST_SLOTS, MOST_TIMES, Slot, SlotClock};
use crate::domain::pattern::KeyPattern;
use crate::store::error::StoreError;
use crate::store::ledger::{Ledger, SeriesSpan};

/// Series a cadence is learnt from: those heard of last.
const TEACHERS: usize = 10;
/// Slots looked at over all series of a feed; many series share them. Twenty thousand look-ups take a fifth of a second.
const MOST_LOOKS: usize = 20_000;

/// What a feed's slots look like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FeedSlots {
    /// How often an object is expected.
    pub cadence: Expectation,
    /// How many slots are missing.
    pub missing: u64,
    /// Of these the oldest, at most a thousand.
    pub slots: Vec<MissingSlot>,
    /// Series that were not heard of for so long that their slots no longer count.
    pub silent: Vec<Silent>,
}

/// How often an object is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Expectation {
    /// As the configuration says.
    Declared {
        /// Length of a slot.
        seconds: u64,
    },
    /// As the latest objects came.
    Learnt {
        /// Length of a slot.
        seconds: u64,
    },
    /// The latest objects follow no cadence: no slot can be missing.
    Irregular,
    /// Too few objects came yet to learn a cadence.
    TooFew,
}

/// One span without an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct MissingSlot {
    /// Its first instant.
    pub begins: Timestamp,
    /// The first instant after it.
    pub ends: Timestamp,
    /// Series it is missing in.
    pub series: String,
    /// How the key that never came begins.
    pub key: String,
    /// Whether that is the whole key.
    pub whole_key: bool,
}

/// A series that is not expected any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Silent {
    /// Series.
    pub series: String,
    /// Its newest key time.
    pub since: Timestamp,
}

/// Looks which slots of a feed are missing; none where the feed expects nothing.
pub async fn missing(feed: &Feed, ledger: &Ledger, now: Timestamp) -> Result<Option<FeedSlots>, StoreError> {
    let (Some(slots), Some(pattern)) = (&feed.slots, &feed.pattern) else { return Ok(None) };
    let mut series = ledger.series_spans(&feed.name, now).await?;
    series.extend(never_heard_of(feed, pattern, &series));
    let (span, cadence) = match slots.cadence {
        Cadence::Every(span) => (span, Expectation::Declared { seconds: span.as_secs() }),
        Cadence::Learn => match learn(feed, pattern, ledger, &series, now).await? {
            Learnt::Every(span) => (span, Expectation::Learnt { seconds: span.as_secs() }),
            Learnt::Irregular => return Ok(Some(nothing_to_miss(Expectation::Irregular))),
            Learnt::TooFew => return Ok(Some(nothing_to_miss(Expectation::TooFew))),
        },
    };
    let clock = SlotClock::new(span, pattern.zone().clone());
    let until = back(now, slots.grace.unwrap_or(span));
    let outlook = Outlook { earliest: back(until, clock.look()), until, clock };
    let (live, silent) = split(series, outlook.earliest);
    let looks = outlook.looks(feed, &live);
    let empty = ledger.empty_slots(&feed.name, &looks).await?;
    let mut slots: Vec<MissingSlot> =
        empty.iter().filter_map(|place| looks.get(*place)).map(|(series, slot)| name(pattern, series, *slot)).collect();
    let missing = slots.len() as u64;
    slots.sort();
    slots.truncate(MOST_SLOTS);
    Ok(Some(FeedSlots { cadence, missing, slots, silent }))
}

/// The one series that `start_from` announces before anything came.
fn never_heard_of(feed: &Feed, pattern: &KeyPattern, known: &[SeriesSpan]) -> Option<SeriesSpan> {
    let start = feed.start_from.filter(|_| known.is_empty() && pattern.series_levels().is_empty())?;
    Some(SeriesSpan { series: pattern.series_root().to_owned(), first: start, newest: start })
}

async fn learn(
    feed: &Feed,
    pattern: &KeyPattern,
    ledger: &Ledger,
    series: &[SeriesSpan],
    now: Timestamp,
) -> Result<Learnt, StoreError> {
    let teachers: Vec<String> = series.iter().take(TEACHERS).map(|span| span.series.clone()).collect();
    let times = ledger.latest_times(&feed.name, &teachers, now, MOST_TIMES).await?;
    Ok(cadence::learn(&times, pattern.zone()))
}

fn nothing_to_miss(cadence: Expectation) -> FeedSlots {
    FeedSlots { cadence, missing: 0, slots: Vec::new(), silent: Vec::new() }
}

/// Series that are still expected, and those that are not. They come with the one heard of last first, which is
/// expected whenever that was.
fn split(series: Vec<SeriesSpan>, earliest: Timestamp) -> (Vec<SeriesSpan>, Vec<Silent>) {
    let (mut live, mut silent) = (Vec::new(), Vec::new());
    for span in series {
        if live.is_empty() || span.newest >= earliest {
            live.push(span);
        } else {
            silent.push(Silent { series: span.series, since: span.newest });
        }
    }
    (live, silent)
}

/// Which slots are looked at.
struct Outlook {
    clock: SlotClock,
    earliest: Timestamp,
    until: Timestamp,
}

impl Outlook {
    fn looks<'a>(&self, feed: &Feed, live: &'a [SeriesSpan]) -> Vec<(&'a str, Slot)> {
        let most = (MOST_LOOKS / live.len().max(1)).clamp(1, MOST_SLOTS);
        let single = feed.pattern.as_ref().is_some_and(|pattern| pattern.series_levels().is_empty());
        let mut looks = Vec::new();
        for span in live.iter().take(MOST_LOOKS) {
            let first = feed.start_from.filter(|_| single).unwrap_or(span.first);
            let slots = self.clock.slots(first.max(self.earliest), self.until, most);
            looks.extend(slots.into_iter().map(|slot| (span.series.as_str(), slot)));
        }
        looks
    }
}

fn name(pattern: &KeyPattern, series: &str, slot: Slot) -> MissingSlot {
    let key = pattern.expected(series, slot.begins, slot.ends);
    MissingSlot { begins: slot.begins, ends: slot.ends, series: series.to_owned(), key: key.text, whole_key: key.whole }
}

/// An instant so much earlier; the first one there is where there is none so early.
fn back(at: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(series: &str, newest: &str) -> SeriesSpan {
        let newest = newest.parse().unwrap();
        SeriesSpan { series: series.to_owned(), first: newest, newest }
    }

    #[test]
    fn a_series_not_heard_of_is_silent_unless_no_other_was_heard_of_later() {
        let earliest = "2024-05-10T00:00:00Z".parse().unwrap();
        let (live, silent) =
            split(vec![span("a", "2024-05-12T00:00:00Z"), span("b", "2024-05-01T00:00:00Z")], earliest);
        assert_eq!((live.len(), silent[0].series.as_str()), (1, "b"));
        let (live, silent) =
            split(vec![span("a", "2024-05-02T00:00:00Z"), span("b", "2024-05-01T00:00:00Z")], earliest);
        assert_eq!((live[0].series.as_str(), silent.len()), ("a", 1));
    }
}
