//! Where listings begin, and when a sweep is due. Pure: the properties in `discover/tests.rs` run it on random
//! histories.
//!
//! Every bound follows from what the ledger says at that moment, and the pattern's [`KeyPattern::lower_bound`] leaves
//! every key at or after the time it is given in the listing. The one thing remembered is where the frontiers stood
//! when the last look-back began: an object that arrived since then was late by what was known then, however far the
//! tip has come in the meantime. Forgetting it (a restart) makes the next look-back shorter, never wrong.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::config::feed::Feed;
use crate::domain::pattern::KeyPattern;
use crate::store::ledger::SeriesPosition;

/// How far back a poll looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// From the newest key known.
    Tip,
    /// From before the frontier.
    LookBack,
}

/// Frontier of each series when its last look-back began, or when it was first seen.
pub(super) type Frontiers = HashMap<String, Timestamp>;

/// One listing: keys that begin with `prefix` and sort after `start_after`, where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) prefix: String,
    pub(super) start_after: Option<String>,
}

/// The pattern, where polling can begin at a time instead of listing everything.
pub(super) fn timed(feed: &Feed) -> Option<&KeyPattern> {
    feed.pattern.as_ref().filter(|pattern| pattern.has_time() && pattern.is_ordered())
}

/// What a poll lists of one series; all of it where nothing is known that it could begin at.
pub(super) fn poll(
    feed: &Feed,
    pattern: &KeyPattern,
    reach: Reach,
    position: &SeriesPosition,
    before: &Frontiers,
) -> Range {
    let from = match reach {
        Reach::Tip => position.newest,
        Reach::LookBack => {
            let before = before.get(&position.series).copied();
            let frontier = position.frontier().map(|now| before.map_or(now, |before| before.min(now)));
            // A time too early to subtract from lists the whole series: more, never less.
            frontier.and_then(|time| time.checked_sub(feed.lookback).ok())
        }
    };
    let start_after = from.or(feed.start_from).map(|from| pattern.lower_bound(&position.series, from));
    let inside = position.series.starts_with(&feed.prefix);
    Range { prefix: if inside { &position.series } else { &feed.prefix }.clone(), start_after }
}

/// Notes where a series stood when a poll of it began that has come to its end: each look-back, and before the first
/// one whatever poll saw the series first.
pub(super) fn remember(before: &mut Frontiers, reach: Reach, position: &SeriesPosition) {
    let Some(frontier) = position.frontier() else { return };
    let known = before.entry(position.series.clone()).or_insert(frontier);
    if reach == Reach::LookBack {
        *known = frontier;
    }
}

/// Everything the feed may want: from `start_from` where keys are ordered by time, else the whole prefix.
pub(super) fn everything(feed: &Feed) -> Range {
    let start_after = match (&feed.pattern, feed.start_from) {
        (Some(pattern), Some(start)) if pattern.has_time() && pattern.series_levels().is_empty() => {
            Some(pattern.lower_bound(pattern.series_root(), start))
        }
        _ => None,
    };
    Range { prefix: feed.prefix.clone(), start_after }
}

/// Seconds since the feed's last sweep and poll, by the ledger; none before the first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Looks {
    pub(super) since_sweep: Option<f64>,
    pub(super) since_poll: Option<f64>,
}

/// How long the next sweep can wait; `None` where it is due now: never swept, interval over, or, at the first look
/// after a start, nothing polled for longer than the look-back covers.
pub(super) fn until_sweep(feed: &Feed, first_look: bool, looks: Looks) -> Option<Duration> {
    let lookback = feed.lookback.as_secs_f64();
    if first_look && looks.since_poll.is_none_or(|seconds| seconds > lookback) {
        return None;
    }
    let left = feed.sweep_interval.as_secs_f64() - looks.since_sweep?;
    Duration::try_from_secs_f64(left).ok().filter(|left| !left.is_zero())
}
