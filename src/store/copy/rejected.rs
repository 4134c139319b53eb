//! Rejected records, written down in the transaction that loads the others.

use crate::domain::record::Rejection;

use super::super::error::StoreError;
use super::Load;

impl Load {
    /// Writes rejected records of an object down. They are durable if and only if its rows are.
    pub async fn reject(&self, object_id: i64, rejections: &[Rejection]) -> Result<(), StoreError> {
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
