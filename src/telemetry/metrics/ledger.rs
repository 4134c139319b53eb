//! Gauges that are read from the ledger before each scrape.

use jiff::Timestamp;

use super::emit::{seconds, set};
use super::{
    DISPOSE_PENDING, FEED_PAUSED, FRONTIER_TIMESTAMP, LAST_COMMIT_TIMESTAMP, LEDGER_OBJECTS,
    LEDGER_OLDEST_PENDING_TIMESTAMP, MISSING_SLOTS, OPEN_REJECTIONS, RECONCILE_DIFFERENCES, RECONCILED_TIMESTAMP,
};
use crate::domain::feed::FeedName;
use crate::domain::state::State;

/// What the ledger says of one feed now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeedGauges {
    /// Objects by state; states that are not here have none.
    pub objects: Vec<(State, u64)>,
    /// When the oldest object that is not terminal became visible.
    pub oldest_pending: Option<Timestamp>,
    /// Key time of the frontier.
    pub frontier: Option<Timestamp>,
    /// Last commit.
    pub last_commit: Option<Timestamp>,
    /// Loaded objects that still have to be disposed of.
    pub dispose_pending: u64,
    /// Rejected records of loaded objects that were not loaded since.
    pub open_rejections: u64,
    /// Whether the feed is paused.
    pub paused: bool,
}

/// Sets a feed's ledger gauges, each of them, so that a drained state reads 0 rather than its last figure.
pub fn ledger(feed: &FeedName, gauges: &FeedGauges) {
    let feed = feed.as_str();
    for state in State::ALL {
        let objects: u64 = gauges.objects.iter().filter(|(of, _)| *of == state).map(|(_, n)| n).sum();
        set(&LEDGER_OBJECTS, [feed, state.as_str()], objects as f64);
    }
    set(&LEDGER_OLDEST_PENDING_TIMESTAMP, [feed], seconds(gauges.oldest_pending));
    set(&FRONTIER_TIMESTAMP, [feed], seconds(gauges.frontier));
    set(&LAST_COMMIT_TIMESTAMP, [feed], seconds(gauges.last_commit));
    set(&DISPOSE_PENDING, [feed], gauges.dispose_pending as f64);
    set(&OPEN_REJECTIONS, [feed], gauges.open_rejections as f64);
    set(&FEED_PAUSED, [feed], f64::from(u8::from(gauges.paused)));
}

/// Sets how many slots of a feed are missing.
pub fn missing_slots(feed: &FeedName, slots: u64) {
    set(&MISSING_SLOTS, [feed.as_str()], slots as f64);
}

/// Sets what the last reconcile of the whole feed left, and when that was.
pub fn reconciled(feed: &FeedName, at: Option<Timestamp>, differences: u64) {
    set(&RECONCILED_TIMESTAMP, [feed.as_str()], seconds(at));
    set(&RECONCILE_DIFFERENCES, [feed.as_str()], differences as f64);
}
