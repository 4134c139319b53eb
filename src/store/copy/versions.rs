//! What a load transaction asks and changes about other versions of its keys, for `on_change`.
//!
//! The lock is the server's and ends with the transaction, however that ends. It is taken in a statement of its own
//! before anything is looked up: in READ COMMITTED the next statement sees whatever its holder before us committed. With
//! the lock in hand nobody else's version of the key becomes loaded before our COMMIT, so what was looked up stays true.

use tokio_postgres::Row;

use crate::failpoint::{self, Point};

use super::super::catalog::{Provenance, Shape};
use super::super::deadline::bounded;
use super::super::error::StoreError;
use super::super::identifier::{quoted, quoted_table};
use super::Load;

/// A loaded version of a key of which another version is being loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherVersion {
    /// The object that is being loaded.
    pub of: i64,
    /// Its ledger id.
    pub id: i64,
    /// Its version.
    pub version: String,
    /// Rows it was loaded with.
    pub rows: u64,
    /// An operator wants the object loaded all the same.
    pub is_approved: bool,
}

impl Load {
    /// Takes the keys of these objects; false where another transaction has one of them. Waits for nobody: a key is
    /// held for as long as its COPY lasts.
    pub async fn try_keys(&self, ids: &[i64]) -> Result<bool, StoreError> {
        let rows = self.ask("lock of the key", TRY_KEYS, &[&ids]).await?;
        rows.first().map_or(Ok(false), |row| Ok(row.try_get(0)?))
    }

    /// Takes the keys of these objects, all in one order, so that two transactions cannot wait for each other. To be
    /// called when COMMIT is all that is left: then nobody waits for long, and `lock_timeout` ends it.
    pub async fn await_keys(&self, ids: &[i64]) -> Result<(), StoreError> {
        self.ask("lock of the key", AWAIT_KEYS, &[&ids]).await.map(drop)
    }

    /// Other versions of the keys of these objects that are loaded. Needs the keys.
    pub async fn other_versions(&self, ids: &[i64]) -> Result<Vec<OtherVersion>, StoreError> {
        let rows = self.ask("other versions", OTHER_VERSIONS, &[&ids]).await?;
        rows.iter().map(read_other).collect()
    }

    /// Deletes the rows of other versions of our keys; answers how many there were. COMMIT makes it true together with
    /// the rows that take their place, and a rollback, whoever or whatever causes it, brings them back.
    pub async fn delete_others(&mut self, shapes: &[&Shape], others: &[OtherVersion]) -> Result<u64, StoreError> {
        let ids: Vec<i64> = others.iter().map(|other| other.id).collect();
        let client = self.client()?;
        let mut deleted = 0;
        // Backwards: a table may refer to one that stands before it.
        for shape in shapes.iter().rev() {
            let sql = delete_sql(shape);
            let statement = bounded("PREPARE", self.stall, client.prepare_cached(&sql)).await?;
            // As long as the end of a COPY: rows, their indexes and triggers are at work.
            deleted += bounded("the older rows", self.stall * 10, client.execute(&statement, &[&ids])).await?;
        }
        self.replaced.extend(others.iter().map(|other| (other.id, other.of)));
        failpoint::reach(Point::ReplaceDeleted).await?;
        Ok(deleted)
    }

    /// Writes down that the versions whose rows are gone have been replaced: the last statement before the fence, in
    /// the same transaction. Every one that was looked up, or the transaction is rolled back: one that is no longer
    /// `loaded` was changed by somebody who does not take the lock.
    pub(super) async fn supersede(&self) -> Result<(), StoreError> {
        if self.replaced.is_empty() {
            return Ok(());
        }
        let (older, newer): (Vec<i64>, Vec<i64>) = self.replaced.iter().copied().unzip();
        let changed = self.ask("ledger update", SUPERSEDE, &[&older, &newer]).await?.len() as u64;
        let expected = older.len() as u64;
        if changed != expected {
            return Err(StoreError::Transition { transition: "copy::supersede", expected, changed });
        }
        failpoint::reach(Point::ReplaceSuperseded).await?;
        Ok(())
    }
}

fn read_other(row: &Row) -> Result<OtherVersion, StoreError> {
    Ok(OtherVersion {
        of: row.try_get(0)?,
        id: row.try_get(1)?,
        version: row.try_get(2)?,
        rows: row.try_get::<_, i64>(3)?.unsigned_abs(),
        is_approved: row.try_get(4)?,
    })
}

/// The table's triggers need the role's search path, so the operator is named in full.
pub(super) fn delete_sql(shape: &Shape) -> String {
    format!(
        "DELETE FROM {} WHERE {} OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.int8[])",
        quoted_table(&shape.table),
        quoted(Provenance::ObjectId.column())
    )
}

/// One number for each key. Two keys with the same one only wait for each other.
const TRY_KEYS: &str = "-- copy::try_keys
    SELECT coalesce(pg_catalog.bool_and(pg_catalog.pg_try_advisory_xact_lock(k.number)), true)
      FROM (SELECT DISTINCT pg_catalog.hashtextextended(
                   pg_catalog.concat_ws(E'\\n', o.feed, o.bucket, o.key) COLLATE pg_catalog.\"C\", 1) AS number
              FROM keyfall.objects o WHERE o.id OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.int8[]) OFFSET 0) k";

const AWAIT_KEYS: &str = "-- copy::await_keys
    SELECT pg_catalog.pg_advisory_xact_lock(k.number)
      FROM (SELECT DISTINCT pg_catalog.hashtextextended(
                   pg_catalog.concat_ws(E'\\n', o.feed, o.bucket, o.key) COLLATE pg_catalog.\"C\", 1) AS number
              FROM keyfall.objects o WHERE o.id OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.int8[])
             ORDER BY 1 OFFSET 0) k";

/// By key, one object after the other: see `ledger::record` for what a join would come to.
const OTHER_VERSIONS: &str = "-- copy::other_versions
    SELECT o.id, l.id, l.version, l.rows_loaded, o.approved
      FROM keyfall.objects o CROSS JOIN LATERAL (
           SELECT i.id, i.version, i.rows_loaded, i.state FROM keyfall.objects i
            WHERE i.feed OPERATOR(pg_catalog.=) o.feed AND i.bucket OPERATOR(pg_catalog.=) o.bucket
              AND i.key OPERATOR(pg_catalog.=) o.key OFFSET 0) l
     WHERE o.id OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.int8[]) AND l.state OPERATOR(pg_catalog.=) 'loaded'
       AND l.id OPERATOR(pg_catalog.<>) o.id
     ORDER BY o.id, l.id";

/// Nothing is left to dispose of: the key holds the newer content. The token stays, as the load's name.
const SUPERSEDE: &str = "-- copy::supersede
    UPDATE keyfall.objects o
       SET state = 'superseded', superseded_by = n.newer, disposal = 'none'
      FROM unnest($1::pg_catalog.int8[], $2::pg_catalog.int8[]) AS n (id, newer)
     WHERE o.id OPERATOR(pg_catalog.=) n.id AND o.state OPERATOR(pg_catalog.=) 'loaded'
    RETURNING o.id";
