//! What `status`, `objects`, `/metrics` and `run --once` read.

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::feed::FeedName;

use super::super::error::StoreError;
use super::{Ledger, from_bigint};

/// Objects of one feed, counted by state.
#[derive(Debug, Clone, Default, Serialize)]
pub struct FeedCounts {
    /// Feed.
    pub feed: String,
    /// State and number of objects, every state present.
    pub states: Vec<(String, u64)>,
    /// Loaded objects whose disposal is not done.
    pub disposal_pending: u64,
    /// Rows of all loaded objects.
    pub rows_loaded: u64,
    /// Records read for them: the sum of loaded, rejected and filtered ones.
    pub rows_read: u64,
    /// Records of them that are rejected and were not loaded since.
    pub rows_rejected: u64,
    /// Records of them that were left out.
    pub rows_filtered: u64,
    /// Key time up to which everything known is terminal.
    pub frontier: Option<Timestamp>,
    /// When the oldest object that is not terminal became visible.
    pub oldest_open_visible_at: Option<Timestamp>,
    /// Last load.
    pub last_loaded_at: Option<Timestamp>,
}

/// Cheap gauges of one feed; no count over terminal objects.
#[derive(Debug, Clone, Default)]
pub struct FeedGauges {
    /// Feed.
    pub feed: String,
    /// Pending objects.
    pub pending: u64,
    /// Leased objects.
    pub leased: u64,
    /// Disposals outstanding.
    pub disposal_pending: u64,
    /// When the oldest open object became visible.
    pub oldest_open_visible_at: Option<Timestamp>,
    /// Frontier.
    pub frontier: Option<Timestamp>,
    /// Whether it is paused now.
    pub paused: bool,
}

/// What of a set of feeds is not finished: how `run --once` knows when to stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenWork {
    /// Loadable within the next seconds, or being loaded.
    pub active: u64,
    /// Of these, being loaded.
    pub leased: u64,
    /// Pending, but waiting out a longer delay or a pause.
    pub waiting: u64,
    /// Quarantined.
    pub quarantined: u64,
    /// Disposals that are due soon.
    pub disposals: u64,
    /// Disposals waiting out a longer delay after failures.
    pub disposals_waiting: u64,
}

/// Which objects to list.
#[derive(Debug, Clone, Default)]
pub struct ObjectFilter {
    /// Only this feed.
    pub feed: Option<String>,
    /// Only these states.
    pub states: Vec<String>,
    /// Only keys that contain this.
    pub key: Option<String>,
    /// Only this id.
    pub ids: Vec<i64>,
    /// At most this many.
    pub limit: i64,
}

/// One object as `keyfall objects` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct ObjectRow {
    /// Ledger id.
    pub id: i64,
    /// Feed.
    pub feed: String,
    /// `s3://bucket/key`.
    pub uri: String,
    /// State.
    pub state: String,
    /// Why skipped.
    pub reason: Option<String>,
    /// Size in bytes.
    pub size: u64,
    /// Key time.
    pub key_time: Option<Timestamp>,
    /// Visible since.
    pub visible_at: Timestamp,
    /// Loaded at.
    pub loaded_at: Option<Timestamp>,
    /// Records read: the sum of the next three.
    pub rows_read: Option<u64>,
    /// Rows loaded.
    pub rows_loaded: Option<u64>,
    /// Records that are rejected and were not loaded since.
    pub rows_rejected: Option<u64>,
    /// Records left out.
    pub rows_filtered: Option<u64>,
    /// Times it was undone and sent back to be loaded again.
    pub replays: i32,
    /// Attempts.
    pub attempt: i32,
    /// Error code.
    pub error_code: Option<String>,
    /// Error detail.
    pub error_detail: Option<String>,
    /// What to do.
    pub error_advice: Option<String>,
    /// Disposal state.
    pub disposal: String,
    /// Last disposal error or note.
    pub disposal_error: Option<String>,
    /// Where the archive copy lies.
    pub archived_to: Option<String>,
}

impl Ledger {
    /// Counts of every feed in the ledger.
    pub async fn feed_counts(&self) -> Result<Vec<FeedCounts>, StoreError> {
        let rows = self.query(FEED_COUNTS, &[]).await?;
        rows.iter().map(read_counts).collect()
    }

    /// Gauges of the feeds given, in their order; cheap whatever the size of the ledger.
    pub async fn gauges(&self, feeds: &[FeedName]) -> Result<Vec<FeedGauges>, StoreError> {
        let names: Vec<&str> = feeds.iter().map(FeedName::as_str).collect();
        let rows = self.query(GAUGES, &[&names]).await?;
        rows.iter()
            .map(|row| {
                Ok(FeedGauges {
                    feed: row.try_get(0)?,
                    pending: from_bigint(row.try_get(1)?),
                    leased: from_bigint(row.try_get(2)?),
                    disposal_pending: from_bigint(row.try_get(3)?),
                    oldest_open_visible_at: row.try_get(4)?,
                    frontier: row.try_get(5)?,
                    paused: row.try_get(6)?,
                })
            })
            .collect()
    }

    /// What is not finished of these feeds.
    pub async fn open_work(&self, feeds: &[FeedName]) -> Result<OpenWork, StoreError> {
        let names: Vec<&str> = feeds.iter().map(FeedName::as_str).collect();
        let rows = self.query(OPEN_WORK, &[&names]).await?;
        let Some(row) = rows.first() else { return Ok(OpenWork::default()) };
        Ok(OpenWork {
            active: from_bigint(row.try_get(0)?),
            leased: from_bigint(row.try_get(5)?),
            waiting: from_bigint(row.try_get(1)?),
            quarantined: from_bigint(row.try_get(2)?),
            disposals: from_bigint(row.try_get(3)?),
            disposals_waiting: from_bigint(row.try_get(4)?),
        })
    }

    /// Objects matching the filter, oldest key time first.
    pub async fn objects(&self, filter: &ObjectFilter) -> Result<Vec<ObjectRow>, StoreError> {
        let rows =
            self.query(OBJECTS, &[&filter.feed, &filter.states, &filter.key, &filter.ids, &filter.limit]).await?;
        rows.iter().map(read_object).collect()
    }
}

fn read_counts(row: &tokio_postgres::Row) -> Result<FeedCounts, StoreError> {
    let mut states = Vec::new();
    for state in crate::domain::state::State::ALL {
        states.push((state.as_str().to_owned(), from_bigint(row.try_get(state.as_str())?)));
    }
    Ok(FeedCounts {
        feed: row.try_get("feed")?,
        states,
        disposal_pending: from_bigint(row.try_get("disposal_pending")?),
        rows_loaded: from_bigint(row.try_get("rows_loaded")?),
        rows_read: from_bigint(row.try_get("rows_read")?),
        rows_rejected: from_bigint(row.try_get("rows_rejected")?),
        rows_filtered: from_bigint(row.try_get("rows_filtered")?),
        frontier: row.try_get("frontier")?,
        oldest_open_visible_at: row.try_get("oldest_open_visible_at")?,
        last_loaded_at: row.try_get("last_loaded_at")?,
    })
}

fn read_object(row: &tokio_postgres::Row) -> Result<ObjectRow, StoreError> {
    let (bucket, key): (String, String) = (row.try_get("bucket")?, row.try_get("key")?);
    let rows = |name| -> Result<Option<u64>, StoreError> { Ok(row.try_get::<_, Option<i64>>(name)?.map(from_bigint)) };
    Ok(ObjectRow {
        id: row.try_get("id")?,
        feed: row.try_get("feed")?,
        uri: format!("s3://{bucket}/{key}"),
        state: row.try_get("state")?,
        reason: row.try_get("reason")?,
        size: from_bigint(row.try_get("size")?),
        key_time: row.try_get("key_time")?,
        visible_at: row.try_get("visible_at")?,
        loaded_at: row.try_get("loaded_at")?,
        rows_read: rows("rows_read")?,
        rows_loaded: rows("rows_loaded")?,
        rows_rejected: rows("rows_rejected")?,
        rows_filtered: rows("rows_filtered")?,
        replays: row.try_get("replays")?,
        attempt: row.try_get("attempt")?,
        error_code: row.try_get("error_code")?,
        error_detail: row.try_get("error_detail")?,
        error_advice: row.try_get("error_advice")?,
        disposal: row.try_get("disposal")?,
        disposal_error: row.try_get("disposal_error")?,
        archived_to: row.try_get("archived_to")?,
    })
}

const FEED_COUNTS: &str = "-- ledger::feed_counts
    SELECT feed, pending, leased, loaded, quarantined, skipped, missing, superseded, undone, disposal_pending,
           rows_loaded, rows_read, rows_rejected, rows_filtered, frontier, oldest_open_visible_at, last_loaded_at
      FROM keyfall.feed_status ORDER BY feed";

const GAUGES: &str = "-- ledger::gauges
    SELECT f.feed, coalesce(open.pending, 0), coalesce(open.leased, 0),
           (SELECT count(*) FROM keyfall.objects d WHERE d.feed = f.feed AND d.disposal = 'pending'),
           open.oldest,
           -- With nothing open the frontier is the newest key of any series, found by hopping from series to
           -- series along the index; otherwise it ends at the oldest open one.
           coalesce(open.first_time, (
               WITH RECURSIVE hop AS (
                   SELECT min(o.series) AS series FROM keyfall.objects o WHERE o.feed = f.feed
                   UNION ALL
                   SELECT (SELECT min(o.series) FROM keyfall.objects o WHERE o.feed = f.feed AND o.series > hop.series)
                     FROM hop WHERE hop.series IS NOT NULL)
               SELECT max((SELECT max(o.key_time) FROM keyfall.objects o
                            WHERE o.feed = f.feed AND o.series = hop.series)) FROM hop)),
           coalesce((SELECT p.paused_until > now() FROM keyfall.feeds p WHERE p.feed = f.feed), false)
      FROM unnest($1::text[]) WITH ORDINALITY AS f (feed, n)
      LEFT JOIN LATERAL (
           SELECT count(*) FILTER (WHERE o.state = 'pending') AS pending,
                  count(*) FILTER (WHERE o.state = 'leased') AS leased,
                  min(o.visible_at) AS oldest, min(o.key_time) AS first_time
             FROM keyfall.objects o WHERE o.feed = f.feed AND o.state IN ('pending', 'leased')) open ON true
     ORDER BY f.n";

/// "Soon" is five seconds: longer than the pauses between the stages of one object, shorter than a back-off after
/// repeated failures.
const OPEN_WORK: &str = "-- ledger::open_work
    SELECT count(*) FILTER (WHERE o.state = 'leased'
                               OR o.state = 'pending' AND o.not_before <= now() + interval '5 s' AND NOT p.paused),
           count(*) FILTER (WHERE o.state = 'pending' AND (o.not_before > now() + interval '5 s' OR p.paused)),
           count(*) FILTER (WHERE o.state = 'quarantined'),
           count(*) FILTER (WHERE o.disposal = 'pending' AND o.disposal_attempts < 4),
           count(*) FILTER (WHERE o.disposal = 'pending' AND o.disposal_attempts >= 4),
           count(*) FILTER (WHERE o.state = 'leased')
      FROM keyfall.objects o
      CROSS JOIN LATERAL (SELECT coalesce((SELECT f.paused_until > now() FROM keyfall.feeds f
                                            WHERE f.feed = o.feed), false) AS paused) p
     WHERE o.feed = ANY($1)
       AND (o.state IN ('pending', 'leased', 'quarantined') OR o.disposal = 'pending')";

const OBJECTS: &str = "-- ledger::objects
    SELECT id, feed, bucket, key, state, reason, size, key_time, visible_at, loaded_at, rows_read, rows_loaded,
           rows_rejected, rows_filtered, replays, attempt, error_code, error_detail, error_advice, disposal, disposal_error, archived_to
      FROM keyfall.objects
     WHERE ($1::text IS NULL OR feed = $1)
       AND (cardinality($2::text[]) = 0 OR state = ANY($2))
       AND ($3::text IS NULL OR position($3 IN key) > 0)
       AND (cardinality($4::bigint[]) = 0 OR id = ANY($4))
     ORDER BY key_time, key LIMIT $5";
