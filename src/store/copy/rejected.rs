//! Rejected records, written down in the transaction that loads the others.

use tokio_postgres::types::ToSql;

use crate::domain::record::Rejection;
use crate::failpoint::{self, Point};

use super::super::error::StoreError;
use super::Load;
use super::repair::expect_one;

impl Load {
    /// Writes rejected records of an object down. They are durable if and only if its rows are.
    pub async fn reject(&self, object_id: i64, rejections: &[Rejection]) -> Result<(), StoreError> {
        if self.is_repair {
            return self.reject_again(object_id, rejections).await;
        }
        let of = |number: fn(&Rejection) -> i64| -> Vec<i64> { rejections.iter().map(number).collect() };
        let text =
            |text: fn(&Rejection) -> Option<&str>| -> Vec<Option<&str>> { rejections.iter().map(text).collect() };
        let (records, raw_bytes) = (of(|of| signed(of.position.record)), of(|of| signed(of.raw_bytes)));
        // Formats without lines have no byte either.
        let (lines, bytes) = (of(|of| signed(of.position.line)), of(|of| signed(of.position.byte)));
        let (tables, columns) = (text(|of| of.table.as_deref()), text(|of| of.column.as_deref()));
        let (codes, reasons) = (text(|of| Some(&of.code)), text(|of| Some(&of.reason)));
        let raws: Vec<&[u8]> = rejections.iter().map(|of| of.raw.as_slice()).collect();
        let rows = self
            .ask(
                "rejections",
                REJECT,
                &[&object_id, &records, &lines, &bytes, &tables, &columns, &codes, &reasons, &raws, &raw_bytes],
            )
            .await?;
        let (changed, expected) = (rows.len() as u64, rejections.len() as u64);
        if changed != expected {
            return Err(StoreError::Transition { transition: "copy::reject", expected, changed });
        }
        Ok(())
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Runs with the role's search path, hence the qualified names.
const REJECT: &str = "-- copy::reject
    INSERT INTO keyfall.rejections
           (object_id, record_no, line, byte_offset, table_name, column_name, code, reason, raw, raw_bytes)
    SELECT $1, r.record, CASE WHEN r.line OPERATOR(pg_catalog.>) 0 THEN r.line END,
           CASE WHEN r.line OPERATOR(pg_catalog.>) 0 THEN r.byte END, r.table_name, r.column_name, r.code, r.reason,
           r.raw, r.raw_bytes
      FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[],
                  $9::pg_catalog.bytea[], $10::bigint[])
           AS r (record, line, byte, table_name, column_name, code, reason, raw, raw_bytes)
    RETURNING id";

impl Load {
    /// Writes down why rejected records of a locked object are still bad; their bytes stay as they are.
    async fn reject_again(&self, object_id: i64, rejections: &[Rejection]) -> Result<(), StoreError> {
        let text =
            |text: fn(&Rejection) -> Option<&str>| -> Vec<Option<&str>> { rejections.iter().map(text).collect() };
        let records: Vec<i64> = rejections.iter().map(|of| signed(of.position.record)).collect();
        let (tables, columns) = (text(|of| of.table.as_deref()), text(|of| of.column.as_deref()));
        let (codes, reasons) = (text(|of| Some(&of.code)), text(|of| Some(&of.reason)));
        let parameters: [&(dyn ToSql + Sync); 6] = [&object_id, &records, &tables, &columns, &codes, &reasons];
        let (changed, expected) =
            (self.ask("rejections", REJECT_AGAIN, &parameters).await?.len() as u64, rejections.len() as u64);
        if changed != expected {
            return Err(StoreError::Transition { transition: "copy::reject_again", expected, changed });
        }
        Ok(())
    }

    /// Moves rejected records of a locked object to the loaded or filtered ones; `ids` are those decoded without fault.
    ///
    /// What the server kept out since has been written down anew by [`Load::reject`] in this very transaction, whose
    /// time it bears, and stays. Exactly as many must be left as rows were copied and records filtered, or everything is
    /// rolled back: so no record counts as loaded without its row, and none is loaded twice.
    pub async fn mark_replayed(&self, id: i64, ids: &[i64], counts: Replayed) -> Result<(), StoreError> {
        let (loaded, filtered) = (signed(counts.loaded), signed(counts.filtered));
        let changed = self.ask("ledger update", MARK_REPLAYED, &[&id, &ids, &loaded, &filtered]).await?;
        expect_one("copy::mark_replayed", changed.len())?;
        failpoint::reach(Point::RepairMarked).await?;
        Ok(())
    }
}

/// What became of rejected records that were decoded anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Their rows are in their tables now.
    pub loaded: u64,
    /// They are left out now.
    pub filtered: u64,
}

/// The transaction's time marks them: see [`Load::mark_replayed`].
const REJECT_AGAIN: &str = "-- copy::reject_again
    UPDATE keyfall.rejections o
       SET table_name = r.table_name, column_name = r.column_name, code = r.code, reason = r.reason,
           rejected_at = pg_catalog.now()
      FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[])
           AS r (record, table_name, column_name, code, reason)
     WHERE o.object_id OPERATOR(pg_catalog.=) $1 AND o.record_no OPERATOR(pg_catalog.=) r.record
       AND o.replayed_at IS NULL
    RETURNING o.id";

const MARK_REPLAYED: &str = "-- copy::mark_replayed
    WITH moved AS (
        UPDATE keyfall.rejections r SET replayed_at = pg_catalog.now()
         WHERE r.object_id OPERATOR(pg_catalog.=) $1 AND r.id OPERATOR(pg_catalog.=) ANY ($2::pg_catalog.int8[])
           AND r.replayed_at IS NULL AND r.rejected_at OPERATOR(pg_catalog.<>) pg_catalog.now()
        RETURNING r.id
    )
    UPDATE keyfall.objects o
       SET rows_loaded = o.rows_loaded OPERATOR(pg_catalog.+) $3::pg_catalog.int8,
           rows_filtered = o.rows_filtered OPERATOR(pg_catalog.+) $4::pg_catalog.int8,
           rows_rejected = o.rows_rejected OPERATOR(pg_catalog.-) ($3::pg_catalog.int8 OPERATOR(pg_catalog.+) $4::pg_catalog.int8)
     WHERE o.id OPERATOR(pg_catalog.=) $1 AND o.state OPERATOR(pg_catalog.=) 'loaded'
       AND (SELECT pg_catalog.count(*) FROM moved) OPERATOR(pg_catalog.=) ($3::pg_catalog.int8 OPERATOR(pg_catalog.+) $4::pg_catalog.int8)
    RETURNING o.id";
