//! A load that is only tried: the ledger's entry for it exists in its own transaction and nowhere else.
//!
//! Everything after that runs as in a load, on the same statements. Whoever is dropped without COMMIT is rolled back, and a
//! trial has no COMMIT. Only sequences keep what they gave.

use crate::domain::feed::FeedName;
use crate::domain::lease::Lease;
use crate::domain::record::{Position, Rejection};

use super::super::catalog::{Provenance, Shape};
use super::super::deadline::bounded;
use super::super::error::StoreError;
use super::super::identifier::{quoted, quoted_table};
use super::super::pool::Pools;
use super::Load;
use super::repair::expect_one;

impl Load {
    /// Opens a transaction in which the lease's object is leased. Its version is one that no object has, so nobody's row
    /// is touched; `approved`, so that other versions and equal bytes do not stand against it.
    pub async fn begin_trial(
        pools: &Pools,
        shapes: &[&Shape],
        feed: &FeedName,
        lease: &Lease,
    ) -> Result<Self, StoreError> {
        let load = Self::begin(pools, shapes, &[]).await?;
        let object = &lease.object;
        let version = format!("trial-{}", lease.token);
        let size = i64::try_from(object.size).unwrap_or(i64::MAX);
        let made = load
            .ask(
                "entry of the trial",
                TRIAL,
                &[
                    &object.id,
                    &feed.as_str(),
                    &object.bucket,
                    &object.key,
                    &version,
                    &object.etag,
                    &size,
                    &object.key_time,
                    &object.visible_at,
                    &lease.token,
                ],
            )
            .await?;
        expect_one("copy::trial", made.len())?;
        Ok(load)
    }

    /// The first rejections of an object, as this transaction has written them down, each without its record.
    pub async fn rejected(&self, id: i64, limit: u32) -> Result<Vec<Rejection>, StoreError> {
        let rows = self.ask("rejections", REJECTED, &[&id, &i64::from(limit)]).await?;
        rows.iter()
            .map(|row| {
                let number = |column: usize| -> Result<u64, StoreError> {
                    Ok(row.try_get::<_, Option<i64>>(column)?.unwrap_or(0).unsigned_abs())
                };
                Ok(Rejection {
                    position: Position { record: number(0)?, line: number(1)?, byte: number(2)? },
                    table: row.try_get(3)?,
                    column: row.try_get(4)?,
                    code: row.try_get(5)?,
                    reason: row.try_get(6)?,
                    raw: Vec::new(),
                    raw_bytes: number(7)?,
                })
            })
            .collect()
    }

    /// Rows of an object in a table that says which object they come from.
    pub async fn rows_in(&self, shape: &Shape, id: i64) -> Result<u64, StoreError> {
        let sql = count_sql(shape);
        let client = self.client()?;
        let statement = bounded("PREPARE", self.settle, client.prepare_cached(&sql)).await?;
        // Without an index on the column it reads the whole table.
        let row = bounded("count of the rows", self.stall * 10, client.query_one(&statement, &[&id])).await?;
        Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
    }
}

/// Runs with the role's search path, hence the qualified names.
fn count_sql(shape: &Shape) -> String {
    format!(
        "SELECT pg_catalog.count(*) FROM {} WHERE {} OPERATOR(pg_catalog.=) $1::pg_catalog.int8",
        quoted_table(&shape.table),
        quoted(Provenance::ObjectId.column())
    )
}

const TRIAL: &str = "-- copy::trial
    INSERT INTO keyfall.objects
           (id, feed, bucket, key, version, etag, size, key_time, visible_at, discovered_by, state, approved,
            lease_owner, lease_token, lease_expires_at)
    OVERRIDING SYSTEM VALUE
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'api', 'leased', true, 'trial', $10, 'infinity')
    RETURNING id";

const REJECTED: &str = "-- copy::rejected
    SELECT r.record_no, r.line, r.byte_offset, r.table_name, r.column_name, r.code, r.reason, r.raw_bytes
      FROM keyfall.rejections r WHERE r.object_id OPERATOR(pg_catalog.=) $1
     ORDER BY r.record_no LIMIT $2";
