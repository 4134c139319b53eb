//! Which objects a repair means, what became of its transaction, and the repairs that touch no row of a table.

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::domain::object::split_uri;

use super::super::error::StoreError;
use super::{Ledger, from_bigint};

/// Which objects a repair means. Every part narrows the choice.
#[derive(Debug, Clone, Default)]
pub struct RepairFilter {
    /// Only this feed.
    pub feed: Option<String>,
    /// Only these ids.
    pub ids: Vec<i64>,
    /// Only keys that contain this, or the one object that `s3://bucket/key` names.
    pub key: Option<String>,
    /// Only key times from the first instant up to, and without, the second.
    pub key_time: (Option<Timestamp>, Option<Timestamp>),
    /// The same of when it was loaded.
    pub loaded_at: (Option<Timestamp>, Option<Timestamp>),
    /// Only these states.
    pub states: Vec<&'static str>,
}

/// One object a repair may mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repairable {
    /// Ledger id.
    pub id: i64,
    /// Feed.
    pub feed: String,
    /// Bucket.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// Entity tag.
    pub etag: String,
    /// Size in bytes.
    pub size: u64,
    /// State.
    pub state: String,
    /// Rows that were loaded, where it is loaded or was.
    pub rows_loaded: u64,
    /// Rejected records that were not loaded since.
    pub rows_rejected: u64,
    /// State of its disposal.
    pub disposal: String,
    /// Where the archive copy lies.
    pub archived_to: Option<String>,
}

impl Repairable {
    /// `s3://bucket/key`.
    pub fn uri(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.key)
    }
}

impl Ledger {
    /// Objects matching the filter, oldest key time first.
    pub async fn repairable(&self, filter: &RepairFilter) -> Result<Vec<Repairable>, StoreError> {
        let exact = filter.key.as_deref().and_then(split_uri);
        let (bucket, key) = exact.unzip();
        let part = filter.key.as_ref().filter(|_| key.is_none());
        let (from, to) = filter.key_time;
        let (loaded_from, loaded_to) = filter.loaded_at;
        let rows = self
            .query(
                REPAIRABLE,
                &[
                    &filter.feed,
                    &filter.ids,
                    &bucket,
                    &key,
                    &part,
                    &from,
                    &to,
                    &loaded_from,
                    &loaded_to,
                    &filter.states,
                ],
            )
            .await?;
        rows.iter().map(read).collect()
    }

    /// Whether the transaction that had this number is durable: the word of the server in a statement of its own, as
    /// with loads. While it says that the transaction still runs, nothing is known.
    pub async fn is_committed(&self, transaction: &str) -> Result<Option<bool>, StoreError> {
        let rows = self.query(IS_COMMITTED, &[&transaction]).await?;
        let status: Option<&str> = rows.first().map(|row| row.try_get(0)).transpose()?.flatten();
        Ok(match status {
            Some("committed") => Some(true),
            Some("aborted") => Some(false),
            _ => None,
        })
    }
}

fn read(row: &Row) -> Result<Repairable, StoreError> {
    let rows = |name| -> Result<u64, StoreError> { Ok(row.try_get::<_, Option<i64>>(name)?.map_or(0, from_bigint)) };
    Ok(Repairable {
        id: row.try_get("id")?,
        feed: row.try_get("feed")?,
        bucket: row.try_get("bucket")?,
        key: row.try_get("key")?,
        etag: row.try_get("etag")?,
        size: from_bigint(row.try_get("size")?),
        state: row.try_get("state")?,
        rows_loaded: rows("rows_loaded")?,
        rows_rejected: rows("rows_rejected")?,
        disposal: row.try_get("disposal")?,
        archived_to: row.try_get("archived_to")?,
    })
}

const REPAIRABLE: &str = "-- ledger::repairable
    SELECT id, feed, bucket, key, etag, size, state, rows_loaded, rows_rejected, disposal, archived_to
      FROM keyfall.objects
     WHERE ($1::text IS NULL OR feed = $1)
       AND (cardinality($2::bigint[]) = 0 OR id = ANY($2))
       AND ($3::text IS NULL OR bucket = $3 AND key = $4::text)
       AND ($5::text IS NULL OR position($5 IN key) > 0)
       AND ($6::timestamptz IS NULL OR key_time >= $6) AND ($7::timestamptz IS NULL OR key_time < $7)
       AND ($8::timestamptz IS NULL OR loaded_at >= $8) AND ($9::timestamptz IS NULL OR loaded_at < $9)
       AND (cardinality($10::text[]) = 0 OR state = ANY($10))
     ORDER BY key_time, key, id";

const IS_COMMITTED: &str = "-- ledger::is_committed
    SELECT pg_catalog.pg_xact_status($1::text::xid8)";
