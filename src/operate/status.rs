//! What every feed's ledger looks like now. Reads the ledger only, so it works while no daemon runs.

use jiff::Timestamp;
use serde::Serialize;

use crate::config::Config;
use crate::domain::state::State;
use crate::store::error::StoreError;
use crate::store::ledger::{FeedCounts, FeedPause, Ledger};

use super::slots::{self, FeedSlots};

/// One feed.
#[derive(Debug, Clone, Serialize)]
pub struct FeedStatus {
    /// Name.
    pub feed: String,
    /// Whether the configuration has it; the ledger remembers feeds that were removed from it.
    pub configured: bool,
    /// Objects by state, every state present.
    pub objects: serde_json::Map<String, serde_json::Value>,
    /// Loaded objects whose disposal is not done.
    pub disposal_pending: u64,
    /// Rows of all loaded objects.
    pub rows_loaded: u64,
    /// Records read for them: the sum of loaded, rejected and filtered ones.
    pub rows_read: u64,
    /// Rejected records of them that are still to be looked at.
    pub rows_rejected: u64,
    /// Records of them that were left out.
    pub rows_filtered: u64,
    /// Key time up to which everything known is terminal.
    pub frontier: Option<Timestamp>,
    /// For how long the oldest object that is not terminal has been visible in the bucket.
    pub oldest_waiting_seconds: Option<u64>,
    /// Last load.
    pub last_loaded_at: Option<Timestamp>,
    /// Why it does not load at the moment.
    pub paused: Option<Paused>,
    /// Spans in which an object was expected and none came, where the feed says when objects are expected.
    pub slots: Option<FeedSlots>,
    /// What the last `reconcile` of the whole feed left.
    pub reconciled: Option<Reconciled>,
}

/// The last `reconcile` of a whole feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reconciled {
    /// When it ended.
    pub at: Timestamp,
    /// Objects that were not as they should be.
    pub differences: u64,
}

/// Why a feed does not load at the moment.
#[derive(Debug, Clone, Serialize)]
pub struct Paused {
    /// `operator`, or `halt`: keyfall itself, after a failure that only a person can mend.
    pub by: String,
    /// When it is tried again; none for an operator's pause.
    pub until: Option<Timestamp>,
    /// Why.
    pub reason: String,
    /// What to do.
    pub advice: String,
}

impl FeedStatus {
    /// Objects in a state.
    pub fn count(&self, state: State) -> u64 {
        self.objects.get(state.as_str()).and_then(serde_json::Value::as_u64).unwrap_or(0)
    }
}

/// Every configured feed, then those that only the ledger knows; each group by name.
pub async fn status(config: &Config, ledger: &Ledger, now: Timestamp) -> Result<Vec<FeedStatus>, StoreError> {
    let mut counted = ledger.feed_counts().await?;
    let pauses = ledger.pauses().await?;
    let mut feeds = Vec::new();
    for name in config.feeds.keys() {
        let found = counted.iter().position(|counts| counts.feed == name.as_str());
        let counts = found.map_or_else(|| nothing_yet(name.as_str()), |index| counted.remove(index));
        feeds.push(summarise(counts, true, &pauses, now));
    }
    feeds.extend(counted.into_iter().map(|counts| summarise(counts, false, &pauses, now)));
    for (status, feed) in feeds.iter_mut().zip(config.feeds.values()) {
        status.slots = slots::missing(feed, ledger, now).await?;
    }
    for last in ledger.reconciliations().await? {
        if let Some(status) = feeds.iter_mut().find(|status| status.feed == last.feed) {
            status.reconciled = Some(Reconciled { at: last.at, differences: last.differences });
        }
    }
    Ok(feeds)
}

fn nothing_yet(feed: &str) -> FeedCounts {
    FeedCounts { feed: feed.to_owned(), ..FeedCounts::default() }
}

fn summarise(counts: FeedCounts, configured: bool, pauses: &[FeedPause], now: Timestamp) -> FeedStatus {
    let mut objects: serde_json::Map<_, _> =
        State::ALL.map(|state| (state.as_str().to_owned(), 0.into())).into_iter().collect();
    objects.extend(counts.states.into_iter().map(|(state, count)| (state, count.into())));
    let pause = pauses.iter().find(|pause| pause.feed == counts.feed);
    FeedStatus {
        configured,
        objects,
        disposal_pending: counts.disposal_pending,
        rows_loaded: counts.rows_loaded,
        rows_read: counts.rows_read,
        rows_rejected: counts.rows_rejected,
        rows_filtered: counts.rows_filtered,
        frontier: counts.frontier,
        // Clocks of bucket and operator differ: an object "from the future" has waited for no time.
        oldest_waiting_seconds: counts
            .oldest_open_visible_at
            .map(|since| u64::try_from(now.duration_since(since).as_secs()).unwrap_or(0)),
        last_loaded_at: counts.last_loaded_at,
        paused: pause.map(|pause| Paused {
            by: pause.by.clone(),
            until: pause.until,
            reason: pause.reason.clone(),
            advice: pause.advice.clone(),
        }),
        slots: None,
        reconciled: None,
        feed: counts.feed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_feed_without_ledger_rows_shows_zeros() {
        let status = summarise(nothing_yet("jobs"), true, &[], at("2024-01-01T00:00:00Z"));
        assert!(State::ALL.iter().all(|state| status.count(*state) == 0));
        assert_eq!(status.objects.len(), State::ALL.len());
        assert_eq!(status.oldest_waiting_seconds, None);
    }

    #[test]
    fn the_oldest_object_s_age_is_never_negative() {
        let counts = FeedCounts { oldest_open_visible_at: Some(at("2024-01-01T00:00:10Z")), ..nothing_yet("jobs") };
        let waiting = |now: &str| summarise(counts.clone(), true, &[], at(now)).oldest_waiting_seconds;
        assert_eq!(waiting("2024-01-01T00:01:00Z"), Some(50));
        assert_eq!(waiting("2024-01-01T00:00:00Z"), Some(0));
    }

    #[test]
    fn a_pause_belongs_to_its_feed() {
        let pause = FeedPause {
            feed: "jobs".to_owned(),
            by: "halt".to_owned(),
            until: None,
            reason: "no such table".to_owned(),
            advice: "create it".to_owned(),
        };
        let pauses = [pause];
        let now = at("2024-01-01T00:00:00Z");
        assert!(summarise(nothing_yet("departments"), true, &pauses, now).paused.is_none());
        assert_eq!(summarise(nothing_yet("jobs"), true, &pauses, now).paused.unwrap().reason, "no such table");
    }
}
