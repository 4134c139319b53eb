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

/// What the ledger knows of a feed's sweeps.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sweeps {
    /// Seconds since the last one ended, by the database's clock; none before the first.
    pub seconds_since: Option<f64>,
    /// Polls began again after a pause that no look-back covers, and no sweep has ended since.
    pub gap: bool,
}

/// How polls begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PollStart {
    /// The feed was swept once, so there are positions to begin at.
    pub swept: bool,
    /// Nobody has polled for too long; it is noted.
    pub gap: bool,
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

    /// When the feed was swept, and whether it has to be.
    pub async fn sweeps(&self, feed: &FeedName) -> Result<Sweeps, StoreError> {
        let rows = self.query(SWEEPS, &[&feed.as_str()]).await?;
        let Some(row) = rows.first() else { return Ok(Sweeps::default()) };
        Ok(Sweeps { seconds_since: row.try_get(0)?, gap: row.try_get(1)? })
    }

    /// Before the first poll of an instance: notes it where nobody has polled for longer than a look-back covers. What
    /// arrived meanwhile may lie before everything a poll lists, so a sweep is due, whoever holds that duty and
    /// however often he dies before its end.
    pub async fn begin_polls(&self, feed: &FeedName, lookback: Duration) -> Result<PollStart, StoreError> {
        let rows = self.query(BEGIN_POLLS, &[&feed.as_str(), &lookback.as_secs_f64()]).await?;
        let Some(row) = rows.first() else { return Ok(PollStart::default()) };
        Ok(PollStart { swept: row.try_get(0)?, gap: row.try_get(1)? })
    }

    /// Notes a finished poll; answers how long ago anybody found something new, or since when it is polled.
    pub async fn note_poll(&self, feed: &FeedName) -> Result<Duration, StoreError> {
        let rows = self.query(NOTE_POLL, &[&feed.as_str()]).await?;
        let seconds: f64 = rows.first().map_or(Ok(0.0), |row| row.try_get(0))?;
        // The database's clock may be set back: then it was just now.
        Ok(Duration::try_from_secs_f64(seconds).unwrap_or_default())
    }

    /// The lateness in seconds that 99 of 100 of the last week's late objects stayed below, by whatever channel they
    /// were found; `None` where none was late.
    pub async fn lateness(&self, feed: &FeedName) -> Result<Option<f64>, StoreError> {
        let rows = self.query(LATENESS, &[&feed.as_str()]).await?;
        rows.first().map_or(Ok(None), |row| Ok(row.try_get(0)?))
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

const SWEEPS: &str = "-- ledger::sweeps
    SELECT extract(epoch FROM now() - last_sweep_at)::float8, coalesce(poll_gap_at > last_sweep_at, false)
      FROM keyfall.feeds WHERE feed = $1";

const BEGIN_POLLS: &str = "-- ledger::begin_polls
    WITH gap AS (
        UPDATE keyfall.feeds SET poll_gap_at = now()
         WHERE feed = $1 AND last_poll_at < now() - make_interval(secs => $2)
        RETURNING feed
    )
    SELECT last_sweep_at IS NOT NULL, EXISTS (SELECT FROM gap) FROM keyfall.feeds WHERE feed = $1";

const NOTE_POLL: &str = "-- ledger::note_poll
    INSERT INTO keyfall.feeds AS f (feed, last_poll_at, last_found_at) VALUES ($1, now(), now())
    ON CONFLICT (feed) DO UPDATE SET last_poll_at = now(), last_found_at = coalesce(f.last_found_at, now())
    RETURNING extract(epoch FROM now() - f.last_found_at)::float8";

/// The latest ten thousand are enough for a percentile, and bound what one look-back reads after a bad week.
const LATENESS: &str = "-- ledger::lateness
    SELECT percentile_disc(0.99) WITHIN GROUP (ORDER BY l.late_seconds)
      FROM (SELECT o.late_seconds FROM keyfall.objects o
             WHERE o.feed = $1 AND o.late_seconds IS NOT NULL AND o.discovered_at > now() - interval '7 d'
             ORDER BY o.discovered_at DESC LIMIT 10000) l";

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
