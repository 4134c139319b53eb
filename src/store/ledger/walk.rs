//! Walking over everything the ledger knows of a feed's bucket, in the order in which the bucket is listed.
//!
//! Pages are cut by the last key and version seen, along the unique index: a page costs its own length, wherever it
//! lies and however much is written meanwhile. There is no snapshot over all pages; whoever compares them with a
//! listing looks at a difference again before he believes it.

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::config::feed::Feed;
use crate::domain::state::State;

use super::super::error::StoreError;
use super::{Ledger, from_bigint};

/// Rows of one page: 5 MB at most, and few enough round trips for millions of rows.
const PAGE: i64 = 5000;

/// One version of a key, as far as a comparison with the bucket needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Ledger id; later versions of a key have greater ones.
    pub id: i64,
    /// Key.
    pub key: String,
    /// Entity tag and size.
    pub version: String,
    /// Entity tag without its quotes.
    pub etag: String,
    /// Size in bytes.
    pub size: u64,
    /// When this version became visible.
    pub visible_at: Timestamp,
    /// When it was written down.
    pub discovered_at: Timestamp,
    /// State.
    pub state: State,
    /// Why it is skipped.
    pub reason: Option<String>,
    /// Attempts so far.
    pub attempt: u32,
    /// When it may be leased, where that is in the future.
    pub not_before: Option<Timestamp>,
    /// The last failure.
    pub error_code: Option<String>,
    /// `none`, `pending`, `done` or `failed`.
    pub disposal: String,
    /// Where its archive copy lies.
    pub archived_to: Option<String>,
}

/// Where a walk goes on: behind this key and version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    key: String,
    version: String,
}

impl Place {
    /// Before the first version of this key.
    pub fn before(key: &str) -> Self {
        Self { key: key.to_owned(), version: String::new() }
    }

    /// Behind an entry.
    pub fn behind(entry: &Entry) -> Self {
        Self { key: entry.key.clone(), version: entry.version.clone() }
    }
}

impl Ledger {
    /// The next page of a walk, in byte order of the keys; an empty one is the end.
    pub async fn walk(&self, feed: &Feed, place: &Place) -> Result<Vec<Entry>, StoreError> {
        let rows = self.query(WALK, &[&feed.name.as_str(), &feed.bucket, &place.key, &place.version, &PAGE]).await?;
        rows.iter().map(read_entry).collect()
    }

    /// Everything known of these keys now, in their order.
    pub async fn known(&self, feed: &Feed, keys: &[&str]) -> Result<Vec<Entry>, StoreError> {
        let rows = self.query(KNOWN, &[&feed.name.as_str(), &feed.bucket, &keys]).await?;
        rows.iter().map(read_entry).collect()
    }

    /// The database's clock, by which `discovered_at` is written.
    pub async fn now(&self) -> Result<Timestamp, StoreError> {
        let rows = self.query("-- ledger::now\n    SELECT now()", &[]).await?;
        let row = rows.first().ok_or_else(|| StoreError::Connection { detail: "no answer to now()".to_owned() })?;
        Ok(row.try_get(0)?)
    }
}

fn read_entry(row: &Row) -> Result<Entry, StoreError> {
    let state: &str = row.try_get("state")?;
    Ok(Entry {
        id: row.try_get("id")?,
        key: row.try_get("key")?,
        version: row.try_get("version")?,
        etag: row.try_get("etag")?,
        size: from_bigint(row.try_get("size")?),
        visible_at: row.try_get("visible_at")?,
        discovered_at: row.try_get("discovered_at")?,
        state: state.parse().map_err(|detail| StoreError::Connection { detail })?,
        reason: row.try_get("reason")?,
        attempt: row.try_get::<_, i32>("attempt")?.unsigned_abs(),
        not_before: row.try_get("not_before")?,
        error_code: row.try_get("error_code")?,
        disposal: row.try_get("disposal")?,
        archived_to: row.try_get("archived_to")?,
    })
}

const WALK: &str = "-- ledger::walk
    SELECT o.id, o.key, o.version, o.etag, o.size, o.visible_at, o.discovered_at, o.state, o.reason, o.attempt,
           CASE WHEN o.not_before > now() AND isfinite(o.not_before) THEN o.not_before END AS not_before,
           o.error_code, o.disposal, o.archived_to
      FROM keyfall.objects o
     WHERE o.feed = $1 AND o.bucket = $2 AND (o.key, o.version) > ($3::text, $4::text)
     ORDER BY o.key, o.version LIMIT $5";

/// OFFSET 0 keeps the look-up by key a look-up, also while the planner takes the table for empty.
const KNOWN: &str = "-- ledger::known
    SELECT o.*
      FROM unnest($3::text[]) WITH ORDINALITY AS k (key, place) CROSS JOIN LATERAL (
           SELECT o.id, o.key, o.version, o.etag, o.size, o.visible_at, o.discovered_at, o.state, o.reason, o.attempt,
                  CASE WHEN o.not_before > now() AND isfinite(o.not_before) THEN o.not_before END AS not_before,
                  o.error_code, o.disposal, o.archived_to
             FROM keyfall.objects o
            WHERE o.feed = $1 AND o.bucket = $2 AND o.key = k.key OFFSET 0) o
     ORDER BY k.place, o.id";
