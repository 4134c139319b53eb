//! What is asked about slots: which series there are, how their latest times lie, and in which slots nothing came.
//!
//! Every question is answered by look-ups in the index over `(feed, series, key_time)`, one for each series, time or
//! slot: how many objects lie between does not matter, nor whether the table has ever been analysed. Objects that an
//! include or exclude glob leaves out, and directory markers, are nobody's slot; any other known object has come,
//! whatever became of it.

use jiff::Timestamp;

use crate::domain::cadence::Slot;
use crate::domain::feed::FeedName;

use super::super::error::StoreError;
use super::Ledger;

/// From when to when a series is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesSpan {
    /// Key text before its time.
    pub series: String,
    /// Its first key time.
    pub first: Timestamp,
    /// Its newest one that is not in the future.
    pub newest: Timestamp,
}

impl Ledger {
    /// All series of a feed that have objects, the one that was heard of last first.
    pub async fn series_spans(&self, feed: &FeedName, now: Timestamp) -> Result<Vec<SeriesSpan>, StoreError> {
        let rows = self.query(SERIES_SPANS, &[&feed.as_str(), &now]).await?;
        rows.iter()
            .map(|row| Ok(SeriesSpan { series: row.try_get(0)?, first: row.try_get(1)?, newest: row.try_get(2)? }))
            .collect()
    }

    /// The latest distinct key times of each of these series, at most `most` each, oldest first.
    pub async fn latest_times(
        &self,
        feed: &FeedName,
        series: &[String],
        now: Timestamp,
        most: usize,
    ) -> Result<Vec<Vec<Timestamp>>, StoreError> {
        let most = i32::try_from(most).unwrap_or(i32::MAX);
        let rows = self.query(LATEST_TIMES, &[&feed.as_str(), &series, &now, &most]).await?;
        rows.iter()
            .map(|row| {
                let mut times: Vec<Timestamp> = row.try_get(0)?;
                times.sort_unstable();
                Ok(times)
            })
            .collect()
    }

    /// Which of these slots no known object lies in: their places in the list.
    pub async fn empty_slots(&self, feed: &FeedName, slots: &[(&str, Slot)]) -> Result<Vec<usize>, StoreError> {
        let series: Vec<&str> = slots.iter().map(|(series, _)| *series).collect();
        let begins: Vec<Timestamp> = slots.iter().map(|(_, slot)| slot.begins).collect();
        let ends: Vec<Timestamp> = slots.iter().map(|(_, slot)| slot.ends).collect();
        let rows = self.query(EMPTY_SLOTS, &[&feed.as_str(), &series, &begins, &ends]).await?;
        rows.iter()
            .map(|row| {
                let place: i64 = row.try_get(0)?;
                Ok(usize::try_from(place).unwrap_or(usize::MAX).saturating_sub(1))
            })
            .collect()
    }
}

/// Hops from series to series along the index; a `GROUP BY` would read every row. Each of the two look-ups stops at the
/// first object that counts, and gives a series up whose thousand oldest or newest objects are all left out.
const SERIES_SPANS: &str = "-- ledger::series_spans
    WITH RECURSIVE hop AS (
        SELECT min(o.series) AS series FROM keyfall.objects o WHERE o.feed = $1
        UNION ALL
        SELECT (SELECT min(o.series) FROM keyfall.objects o WHERE o.feed = $1 AND o.series > hop.series)
          FROM hop WHERE hop.series IS NOT NULL)
    SELECT hop.series, coalesce(oldest.key_time, newest.key_time), newest.key_time
      FROM hop
     CROSS JOIN LATERAL (
           SELECT x.key_time
             FROM (SELECT o.key_time, o.reason FROM keyfall.objects o
                    WHERE o.feed = $1 AND o.series = hop.series AND o.key_time <= $2
                    ORDER BY o.key_time DESC LIMIT 1000) x
            WHERE x.reason IS NULL OR x.reason NOT IN ('excluded', 'directory_marker')
            ORDER BY x.key_time DESC LIMIT 1) newest
      LEFT JOIN LATERAL (
           SELECT x.key_time
             FROM (SELECT o.key_time, o.reason FROM keyfall.objects o
                    WHERE o.feed = $1 AND o.series = hop.series AND o.key_time <= $2
                    ORDER BY o.key_time LIMIT 1000) x
            WHERE x.reason IS NULL OR x.reason NOT IN ('excluded', 'directory_marker')
            ORDER BY x.key_time LIMIT 1) oldest ON true
     WHERE hop.series IS NOT NULL
     ORDER BY newest.key_time DESC, hop.series";

/// Hops from time to time: a thousand objects of one time are one step.
const LATEST_TIMES: &str = "-- ledger::latest_times
    SELECT ARRAY(
           WITH RECURSIVE back AS (
               SELECT (SELECT max(o.key_time) FROM keyfall.objects o
                        WHERE o.feed = $1 AND o.series = s.series AND o.key_time <= $3) AS key_time, 1 AS n
               UNION ALL
               SELECT (SELECT max(o.key_time) FROM keyfall.objects o
                        WHERE o.feed = $1 AND o.series = s.series AND o.key_time < back.key_time), back.n + 1
                 FROM back WHERE back.key_time IS NOT NULL AND back.n < $4)
           SELECT back.key_time FROM back WHERE back.key_time IS NOT NULL)
      FROM unnest($2::text[]) WITH ORDINALITY AS s (series, place)
     ORDER BY s.place";

/// OFFSET 0 keeps the look-up one look-up per slot: left to itself, the planner may join all slots with all objects of
/// the feed, which is quadratic while it takes the table for small.
const EMPTY_SLOTS: &str = "-- ledger::empty_slots
    SELECT s.place
      FROM unnest($2::text[], $3::timestamptz[], $4::timestamptz[])
           WITH ORDINALITY AS s (series, begins, ends, place)
     WHERE NOT EXISTS (
           SELECT 1 FROM keyfall.objects o
            WHERE o.feed = $1 AND o.series = s.series AND o.key_time >= s.begins AND o.key_time < s.ends
              AND (o.reason IS NULL OR o.reason NOT IN ('excluded', 'directory_marker')) OFFSET 0)
     ORDER BY s.place";
