//! The ledger: what is known of every object, and the only queue.
//!
//! Each transition is one function with one UPDATE that names the state it expects; the caller learns how many rows
//! changed. Leases and delays are compared with the database's clock only.

pub mod changed;
mod choose;
mod discovered;
mod disposals;
mod duties;
mod feeds;
mod instances;
mod leases;
mod notifications;
mod operate;
mod outcomes;
mod reads;
mod reconciled;
mod rejections;
mod repair;
mod slots;
mod walk;

use tokio_postgres::types::ToSql;

use crate::domain::object::{Archived, ObjectRef, split_uri};

use super::error::StoreError;
use super::pool::Pools;

pub use choose::Chosen;
pub use discovered::{Found, Recorded};
pub use disposals::{Disposed, Loaded};
pub use duties::{Beat, Granted};
pub use feeds::{FeedPause, PollStart, SeriesPosition, Sweeps};
pub use instances::InstanceRow;
pub use leases::LeaseLimits;
pub use outcomes::Settlement;
pub use reads::{FeedCounts, FeedGauges, ObjectFilter, ObjectRow, OpenWork};
pub use reconciled::Reconciliation;
pub use rejections::{Kept, RejectedObject, RejectionFilter, RejectionPage, RejectionRow};
pub use repair::{RepairFilter, Repairable};
pub use slots::SeriesSpan;
pub use walk::{Entry, Place};

/// Access to the ledger.
#[derive(Clone)]
pub struct Ledger {
    pools: Pools,
}

impl Ledger {
    /// A ledger on these pools.
    pub fn new(pools: Pools) -> Self {
        Self { pools }
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.query("SELECT 1", &[]).await.map(drop)
    }

    /// One statement of the ledger: the text is a constant.
    pub(super) async fn query(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, StoreError> {
        self.pools.query(sql, parameters).await
    }
}

/// The object's coordinates, from a row that has them under their ledger names.
fn read_object(row: &tokio_postgres::Row) -> Result<ObjectRef, StoreError> {
    Ok(ObjectRef {
        id: row.try_get("id")?,
        bucket: row.try_get("bucket")?,
        key: row.try_get("key")?,
        etag: row.try_get("etag")?,
        version_id: row.try_get("version_id")?,
        size: from_bigint(row.try_get("size")?),
        key_time: row.try_get("key_time")?,
        visible_at: row.try_get("visible_at")?,
        archived: None,
    })
}

/// Where the bytes of an object lie that was loaded, archived and sent back to be loaded again.
fn read_archived(row: &tokio_postgres::Row) -> Result<Option<Archived>, StoreError> {
    let (uri, sha256): (Option<&str>, Option<Vec<u8>>) = (row.try_get("archived_to")?, row.try_get("sha256")?);
    Ok(uri.and_then(split_uri).map(|(bucket, key)| Archived { bucket, key, sha256 }))
}

/// Sizes and counts are `bigint` in the ledger; nothing we count comes near its end.
fn to_bigint(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn from_bigint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
