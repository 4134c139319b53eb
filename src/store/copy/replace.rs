//! What a load transaction asks and changes where its object is a whole table.
//!
//! As with versions, the lock is the server's, ends with the transaction, and is taken in a statement of its own before
//! anything is looked up: of two objects for one table the second never sees a table that the first is about to change.

use crate::failpoint::{self, Point};

use super::super::catalog::Shape;
use super::super::deadline::bounded;
use super::super::error::StoreError;
use super::super::identifier::quoted_table;
use super::Load;

/// A loaded object that is newer than the one that is being loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newer {
    /// Its ledger id.
    pub id: i64,
    /// Where it was found.
    pub uri: String,
}

impl Load {
    /// Takes these tables; false where another transaction has one of them. Waits for nobody: a table is held for as
    /// long as its COPY lasts.
    pub async fn try_tables(&self, shapes: &[&Shape]) -> Result<bool, StoreError> {
        let oids: Vec<i64> = shapes.iter().map(|shape| i64::from(shape.oid)).collect();
        let rows = self.ask("lock of the table", TRY_TABLES, &[&oids]).await?;
        rows.first().map_or(Ok(false), |row| Ok(row.try_get(0)?))
    }

    /// A loaded object of the same feed that is newer, unless an operator wants this one all the same. Needs the tables.
    pub async fn newer(&self, id: i64) -> Result<Option<Newer>, StoreError> {
        let rows = self.ask("newer objects", NEWER, &[&id]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (bucket, key): (&str, &str) = (row.try_get(1)?, row.try_get(2)?);
        Ok(Some(Newer { id: row.try_get(0)?, uri: format!("s3://{bucket}/{}", key.escape_debug()) }))
    }

    /// Deletes every row of these tables. Readers see them until COMMIT, and for ever if that does not come.
    pub async fn empty(&self, shapes: &[&Shape]) -> Result<(), StoreError> {
        let client = self.client()?;
        // Backwards: a table may refer to one that stands before it.
        for shape in shapes.iter().rev() {
            let sql = empty_sql(shape);
            let statement = bounded("PREPARE", self.stall, client.prepare_cached(&sql)).await?;
            match bounded("DELETE of all rows", self.stall * 10, client.execute(&statement, &[])).await {
                Err(error) if error.is_orphan() => {
                    return Err(StoreError::Target {
                        detail: format!("the rows of {} cannot be replaced: {error}", shape.table),
                        advice: "make the foreign key DEFERRABLE INITIALLY DEFERRED, or use mode \"upsert\"; loading goes \
                                 on by itself",
                    });
                }
                deleted => deleted.map(drop)?,
            }
        }
        failpoint::reach(Point::ReplaceEmptied).await?;
        Ok(())
    }
}

/// No condition: TRUNCATE would lock readers out, and show them an empty table afterwards.
fn empty_sql(shape: &Shape) -> String {
    format!("DELETE FROM {}", quoted_table(&shape.table))
}

/// One number for each table.
const TRY_TABLES: &str = "-- copy::try_tables
    SELECT coalesce(pg_catalog.bool_and(pg_catalog.pg_try_advisory_xact_lock(k.number)), true)
      FROM (SELECT DISTINCT pg_catalog.hashtextextended(n.oid::pg_catalog.text COLLATE pg_catalog.\"C\", 3) AS number
              FROM pg_catalog.unnest($1::pg_catalog.int8[]) AS n (oid) OFFSET 0) k";

/// By the time in the key, then by the key, where both have a time; two versions of one key, and all others, by when they
/// became visible.
const NEWER: &str = "-- copy::newer
    SELECT i.id, i.bucket, i.key
      FROM keyfall.objects o JOIN keyfall.objects i ON i.feed OPERATOR(pg_catalog.=) o.feed
     WHERE o.id OPERATOR(pg_catalog.=) $1 AND NOT o.approved AND i.id OPERATOR(pg_catalog.<>) o.id
       AND i.state OPERATOR(pg_catalog.=) 'loaded'
       AND CASE WHEN i.key_time IS NULL OR o.key_time IS NULL THEN i.visible_at OPERATOR(pg_catalog.>) o.visible_at
                WHEN i.key_time OPERATOR(pg_catalog.<>) o.key_time
                THEN i.key_time OPERATOR(pg_catalog.>) o.key_time
                WHEN i.key OPERATOR(pg_catalog.<>) o.key THEN i.key OPERATOR(pg_catalog.>) o.key
                ELSE i.visible_at OPERATOR(pg_catalog.>) o.visible_at END
     LIMIT 1";
