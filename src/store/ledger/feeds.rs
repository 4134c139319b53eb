//! Per feed: pauses, and where polling begins.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::feed::FeedName;
use crate::domain::verdict::Failure;

use super::super::error::StoreError;
use super::Ledger;

/// Where a series stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesPosition {
    /// Key text before its time.
    pub series: String,
    /// Newest key time known that is not in the future: where the tip poll begins.
    pub newest: Option<Timestamp>,
    /// Oldest key time not terminal: nothing may begin past it.
    pub oldest_open: Option<Timestamp>,
}

impl SeriesPosition {
    /// The frontier's time: every known key before it is terminal. None where nothing is known but the future.
    pub fn frontier(&self) -> Option<Timestamp> {
        self.newest.map(|newest| self.oldest_open.map_or(newest, |open| open.min(newest)))
    }
}

/// Why a feed does not load at the moment.
#[derive(Debug, Clone)]
pub struct FeedPause {
    /// Feed.
    pub feed: String,
    /// `operator` or `halt`.
    pub by: String,
    /// Until when; `None` for an operator's pause, which has no end.
    pub until: Option<Timestamp>,
    /// Reason.
    pub reason: String,
    /// What to do.
    pub advice: String,
}

impl Ledger {
    /// Positions of the series given, in their order.
    pub async fn series_positions(
        &self,
        feed: &FeedName,
        series: &[String],
    ) -> Result<Vec<SeriesPosition>, StoreError> {
        let rows = self.query(SERIES_POSITIONS, &[&feed.as_str(), &series]).await?;
        rows.iter()
            .map(|row| {
                Ok(SeriesPosition { series: row.try_get(0)?, newest: row.try_get(1)?, oldest_open: row.try_get(2)? })
            })
            .collect()
    }

    /// Seconds since the feed's last full sweep by the database's clock; `None` before the first.
    pub async fn seconds_since_sweep(&self, feed: &FeedName) -> Result<Option<f64>, StoreError> {
        self.seconds_since(
            "-- ledger::seconds_since_sweep
            SELECT extract(epoch FROM now() - last_sweep_at)::float8 FROM keyfall.feeds WHERE feed = $1",
            feed,
        )
        .await
    }

    /// Seconds since the feed's last poll; `None` before the first.
    pub async fn seconds_since_poll(&self, feed: &FeedName) -> Result<Option<f64>, StoreError> {
        self.seconds_since(
            "-- ledger::seconds_since_poll
            SELECT extract(epoch FROM now() - last_poll_at)::float8 FROM keyfall.feeds WHERE feed = $1",
            feed,
        )
        .await
    }

    async fn seconds_since(&self, sql: &'static str, feed: &FeedName) -> Result<Option<f64>, StoreError> {
        let rows = self.query(sql, &[&feed.as_str()]).await?;
        match rows.first() {
            Some(row) => Ok(row.try_get(0)?),
            None => Ok(None),
        }
    }

    /// Notes a finished poll.
    pub async fn note_poll(&self, feed: &FeedName) -> Result<(), StoreError> {
        self.query(
            "-- ledger::note_poll
            INSERT INTO keyfall.feeds (feed, last_poll_at) VALUES ($1, now())
            ON CONFLICT (feed) DO UPDATE SET last_poll_at = now()",
            &[&feed.as_str()],
        )
        .await
        .map(drop)
    }

    /// Notes a finished sweep.
    pub async fn note_sweep(&self, feed: &FeedName) -> Result<(), StoreError> {
        self.query(
            "-- ledger::note_sweep
            INSERT INTO keyfall.feeds (feed, last_sweep_at, last_poll_at) VALUES ($1, now(), now())
            ON CONFLICT (feed) DO UPDATE SET last_sweep_at = now(), last_poll_at = now()",
            &[&feed.as_str()],
        )
        .await
        .map(drop)
    }

    /// Pauses a feed after a failure only the operator can mend. It tries again by itself after a delay that
    /// doubles from `first` up to `longest`, so that a mended cause needs no command. An operator's pause stays.
    pub async fn halt(
        &self,
        feed: &FeedName,
        failure: &Failure,
        first: Duration,
        longest: Duration,
    ) -> Result<(), StoreError> {
        let (first, longest) = (first.as_secs_f64(), longest.as_secs_f64());
        self.query(HALT, &[&feed.as_str(), &failure.detail, &failure.advice, &first, &longest]).await.map(drop)
    }

    /// Ends a halt after the feed has loaded something.
    pub async fn clear_halt(&self, feed: &FeedName) -> Result<bool, StoreError> {
        let rows = self.query(CLEAR_HALT, &[&feed.as_str()]).await?;
        Ok(!rows.is_empty())
    }

    /// Feeds that are paused now, or whose last halt has not been followed by a load.
    pub async fn pauses(&self) -> Result<Vec<FeedPause>, StoreError> {
        let rows = self.query(PAUSES, &[]).await?;
        rows.iter()
            .map(|row| {
                Ok(FeedPause {
                    feed: row.try_get(0)?,
                    by: row.try_get(1)?,
                    until: row.try_get(2)?,
                    reason: row.try_get(3)?,
                    advice: row.try_get(4)?,
                })
            })
            .collect()
    }
}

/// A key from the future, a typing error or a clock gone wrong, is no newest one: every poll would begin there, and
/// what arrives until that day would be found by sweeps alone.
const SERIES_POSITIONS: &str = "-- ledger::series_positions
    SELECT s.series,
           (SELECT max(o.key_time) FROM keyfall.objects o
             WHERE o.feed = $1 AND o.series = s.series AND o.key_time <= now()),
           (SELECT min(o.key_time) FROM keyfall.objects o
             WHERE o.feed = $1 AND o.series = s.series AND o.state IN ('pending', 'leased'))
      FROM unnest($2::text[]) WITH ORDINALITY AS s (series, n) ORDER BY s.n";

const HALT: &str = "-- ledger::halt
    INSERT INTO keyfall.feeds AS f (feed, paused_by, paused_at, paused_until, paused_reason, paused_advice, halts)
    VALUES ($1, 'halt', now(), now() + make_interval(secs => $4), $2, $3, 1)
    ON CONFLICT (feed) DO UPDATE
       SET paused_by = 'halt', paused_at = now(), paused_reason = $2, paused_advice = $3, halts = f.halts + 1,
           paused_until = now() + make_interval(secs => least($5, $4 * power(2, least(f.halts, 20))))
     WHERE f.paused_by IS DISTINCT FROM 'operator' AND f.paused_until <= now()";

const CLEAR_HALT: &str = "-- ledger::clear_halt
    UPDATE keyfall.feeds
       SET paused_by = NULL, paused_at = NULL, paused_until = '-infinity', paused_reason = NULL,
           paused_advice = NULL, halts = 0
     WHERE feed = $1 AND paused_by = 'halt'
    RETURNING feed";

const PAUSES: &str = "-- ledger::pauses
    SELECT feed, paused_by, CASE WHEN isfinite(paused_until) THEN paused_until END,
           coalesce(paused_reason, ''), coalesce(paused_advice, '')
      FROM keyfall.feeds WHERE paused_by IS NOT NULL ORDER BY feed";
