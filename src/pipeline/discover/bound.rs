//! Where listings begin, and when the next one is due. Pure: the properties in `discover/tests.rs` run it on random
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
use crate::store::ledger::{SeriesPosition, Sweeps};

/// How far back a poll looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// From the newest key known.
    Tip,
    /// From so long before the frontier.
    LookBack(Duration),
}

/// Frontier of each series when its last look-back began, or when it was first seen; none where nothing was known of it
/// then, or keys from the future only.
pub(super) type Frontiers = HashMap<String, Option<Timestamp>>;

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
        Reach::LookBack(distance) => {
            let now = position.frontier();
            // Nothing was known then: whatever came since was on time, however early its time, and all of it is listed.
            let before = before.get(&position.series).copied().unwrap_or(now);
            let frontier = before.zip(now).map(|(before, now)| before.min(now));
            // A time too early to subtract from lists the whole series: more, never less.
            frontier.and_then(|time| time.checked_sub(distance).ok())
        }
    };
    let start_after = from.or(feed.start_from).map(|from| pattern.lower_bound(&position.series, from));
    let inside = position.series.starts_with(&feed.prefix);
    Range { prefix: if inside { &position.series } else { &feed.prefix }.clone(), start_after }
}

/// Notes where a series stood when a poll of it began that has come to its end: each look-back, and before the first
/// one whatever poll saw the series first.
pub(super) fn remember(before: &mut Frontiers, reach: Reach, position: &SeriesPosition) {
    let frontier = position.frontier();
    let known = before.entry(position.series.clone()).or_insert(frontier);
    if matches!(reach, Reach::LookBack(_)) {
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

/// How long the next sweep can wait; `None` where it is due now: never swept, interval over, or, after polls had ceased
/// for longer than a look-back covers, none ended since.
pub(super) fn until_sweep(interval: Duration, sweeps: Sweeps) -> Option<Duration> {
    if sweeps.gap {
        return None;
    }
    let left = interval.as_secs_f64() - sweeps.seconds_since?;
    Duration::try_from_secs_f64(left).ok().filter(|left| !left.is_zero())
}

/// Share of the time since the last find that a poll may wait: what comes then is found at most a tenth later than it
/// would have been awaited anyway, and a feed that is idle for ten minutes costs a tenth of the calls.
const PATIENCE: u32 = 10;

/// How long the next tip poll can wait when something new was last found so long ago, by anybody.
pub(super) fn until_poll(feed: &Feed, since_found: Duration) -> Duration {
    (since_found / PATIENCE).clamp(feed.poll_interval, feed.poll_interval_max.max(feed.poll_interval))
}

/// How far before the frontier a look-back begins, by the observed lateness in seconds: twice of it, so that an object
/// somewhat later than all before is found as well, within what the configuration allows.
pub(super) fn lookback(feed: &Feed, lateness: Option<f64>) -> Duration {
    let wanted = lateness.map_or(Duration::ZERO, |seconds| {
        // More than a duration can hold is more than the configuration allows.
        Duration::try_from_secs_f64(seconds * 2.0).unwrap_or(Duration::MAX)
    });
    wanted.clamp(feed.lookback, feed.lookback_max.max(feed.lookback))
}
