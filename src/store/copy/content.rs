//! What a load transaction asks about other objects with the same bytes, for `duplicate_content`.
//!
//! As with versions, the lock comes in a statement before the look-up: of two objects with the same bytes the second
//! waits until the first has committed, and then finds it loaded.

use tokio_postgres::Row;

use crate::domain::feed::FeedName;

use super::super::error::StoreError;
use super::super::ledger::Ledger;
use super::{Load, LoadedCounts};

/// An object whose bytes were loaded before under another key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// Its ledger id.
    pub id: i64,
    /// The object that was loaded first.
    pub of: i64,
    /// Where that one was found.
    pub uri: String,
}

impl Load {
    /// Takes the contents of these objects, all in one order, so that two transactions cannot wait for each other. To
    /// be called when COMMIT is all that is left: then nobody waits for long, and `lock_timeout` ends it.
    pub async fn await_contents(&self, feed: &FeedName, objects: &[LoadedCounts]) -> Result<(), StoreError> {
        let hashes: Vec<&[u8]> = objects.iter().map(|object| object.sha256.as_slice()).collect();
        self.ask("lock of the content", AWAIT_CONTENTS, &[&feed.as_str(), &hashes]).await.map(drop)
    }

    /// Those of the objects that are duplicates and that no operator has approved. Needs the contents.
    pub async fn duplicates(&self, objects: &[LoadedCounts]) -> Result<Vec<Duplicate>, StoreError> {
        let (ids, hashes) = with_rows(objects);
        self.ask("duplicates", DUPLICATES, &[&ids, &hashes]).await?.iter().map(read_duplicate).collect()
    }
}

impl Ledger {
    /// The same outside a transaction, as a hint: what it does not find may be loaded a moment later.
    pub async fn duplicates(&self, objects: &[LoadedCounts]) -> Result<Vec<Duplicate>, StoreError> {
        let (ids, hashes) = with_rows(objects);
        self.query(DUPLICATES, &[&ids, &hashes]).await?.iter().map(read_duplicate).collect()
    }
}

/// Objects without a row are all alike and nobody's duplicates.
fn with_rows(objects: &[LoadedCounts]) -> (Vec<i64>, Vec<&[u8]>) {
    objects.iter().filter(|object| object.read > 0).map(|object| (object.id, object.sha256.as_slice())).unzip()
}

pub(super) fn read_duplicate(row: &Row) -> Result<Duplicate, StoreError> {
    let (bucket, key): (&str, &str) = (row.try_get(2)?, row.try_get(3)?);
    Ok(Duplicate { id: row.try_get(0)?, of: row.try_get(1)?, uri: format!("s3://{bucket}/{}", key.escape_debug()) })
}

/// One number for each content. Two with the same one only wait for each other.
const AWAIT_CONTENTS: &str = "-- copy::await_contents
    SELECT pg_catalog.pg_advisory_xact_lock(k.number)
      FROM (SELECT DISTINCT pg_catalog.hashtextextended(
                   pg_catalog.concat_ws(E'\\n', $1::pg_catalog.text, pg_catalog.encode(n.sha256, 'hex'))
                   COLLATE pg_catalog.\"C\", 2) AS number
              FROM pg_catalog.unnest($2::pg_catalog.bytea[]) AS n (sha256)
             ORDER BY 1 OFFSET 0) k";

/// Ordered by a column without an index: by id, the planner might walk through the whole ledger instead of looking the
/// content up.
const DUPLICATES: &str = "-- copy::duplicates
    SELECT n.id, d.id, d.bucket, d.key
      FROM unnest($1::pg_catalog.int8[], $2::pg_catalog.bytea[]) AS n (id, sha256)
     CROSS JOIN LATERAL (
           SELECT i.feed, i.bucket, i.key, i.approved FROM keyfall.objects i
            WHERE i.id OPERATOR(pg_catalog.=) n.id OFFSET 0) o
     CROSS JOIN LATERAL (
           SELECT i.id, i.bucket, i.key FROM keyfall.objects i
            WHERE i.feed OPERATOR(pg_catalog.=) o.feed AND i.sha256 OPERATOR(pg_catalog.=) n.sha256
              AND i.state OPERATOR(pg_catalog.=) 'loaded' AND i.rows_read OPERATOR(pg_catalog.>) 0
              AND (i.bucket OPERATOR(pg_catalog.<>) o.bucket OR i.key OPERATOR(pg_catalog.<>) o.key)
            ORDER BY i.loaded_at LIMIT 1) d
     WHERE NOT o.approved";
