//! Rejected records as an operator looks at them, takes them out, and has them loaded after all.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::domain::object::{ObjectRef, split_uri};
use crate::domain::record::Position;

use super::super::error::StoreError;
use super::{Ledger, from_bigint, read_object, to_bigint};

/// Which rejections. Every part narrows the choice.
#[derive(Debug, Clone, Default)]
pub struct RejectionFilter {
    /// Only of this feed.
    pub feed: Option<String>,
    /// Only of these objects.
    pub objects: Vec<i64>,
    /// Only of keys that contain this, or of the one object that `s3://bucket/key` names.
    pub key: Option<String>,
    /// Only rejected from the first instant up to, and without, the second.
    pub rejected_at: (Option<Timestamp>, Option<Timestamp>),
    /// Only with these codes.
    pub codes: Vec<String>,
    /// Only these.
    pub ids: Vec<i64>,
    /// Also those that were loaded since, and those of objects that are not loaded.
    pub all: bool,
}

/// One rejection as `keyfall rejections list` shows it: all but the record itself.
#[derive(Debug, Clone, Serialize)]
pub struct RejectionRow {
    /// Id.
    pub id: i64,
    /// Feed.
    pub feed: String,
    /// The object's ledger id.
    pub object_id: i64,
    /// `s3://bucket/key`.
    pub uri: String,
    /// State of the object.
    pub object_state: String,
    /// Number of the record, from 1.
    pub record_no: i64,
    /// Line, from 1, where the format has lines.
    pub line: Option<i64>,
    /// Byte in the decompressed object, where the format has lines.
    pub byte_offset: Option<i64>,
    /// The table it was meant for.
    pub table: Option<String>,
    /// The column to blame.
    pub column: Option<String>,
    /// Code.
    pub code: String,
    /// What is wrong.
    pub reason: String,
    /// Length of the record.
    pub raw_bytes: u64,
    /// How much of it is kept.
    pub kept_bytes: u64,
    /// When it was rejected, or looked at again in vain.
    pub rejected_at: Timestamp,
    /// When it was loaded after all.
    pub replayed_at: Option<Timestamp>,
    /// Whether it is still to be looked at.
    pub open: bool,
}

/// A page of rejections.
#[derive(Debug, Clone, Default)]
pub struct RejectionPage {
    /// By id.
    pub rows: Vec<RejectionRow>,
    /// How many there are from the first one on.
    pub total: u64,
}

/// An object with rejections that were asked for.
#[derive(Debug, Clone)]
pub struct RejectedObject {
    /// Its coordinates.
    pub object: ObjectRef,
    /// Feed.
    pub feed: String,
    /// State.
    pub state: String,
    /// Its header, where it has one.
    pub header: Option<Vec<u8>>,
    /// How many of its rejections were asked for.
    pub rejections: u64,
}

/// A rejected record with its bytes.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Id.
    pub id: i64,
    /// Where it stood.
    pub position: Position,
    /// Column, code and reason.
    pub column: Option<String>,
    /// Code.
    pub code: String,
    /// Reason.
    pub reason: String,
    /// As much of it as is kept.
    pub raw: Vec<u8>,
    /// Its whole length.
    pub raw_bytes: u64,
}

impl Kept {
    /// Whether only its beginning is kept.
    pub fn is_cut(&self) -> bool {
        self.raw_bytes > self.raw.len() as u64
    }
}

impl Ledger {
    /// Rejections with a greater id than `after`, by id.
    pub async fn rejections(
        &self,
        filter: &RejectionFilter,
        after: i64,
        limit: u32,
    ) -> Result<RejectionPage, StoreError> {
        let (bucket, key, part) = filter.key();
        let limit = i64::from(limit);
        let rows = self
            .query(
                REJECTIONS,
                &[
                    &filter.all,
                    &filter.feed,
                    &filter.objects,
                    &bucket,
                    &key,
                    &part,
                    &filter.rejected_at.0,
                    &filter.rejected_at.1,
                    &filter.codes,
                    &filter.ids,
                    &after,
                    &limit,
                ],
            )
            .await?;
        let total = rows.first().map(|row| row.try_get("total")).transpose()?.map_or(0, from_bigint);
        Ok(RejectionPage { rows: rows.iter().map(read_row).collect::<Result<_, _>>()?, total })
    }

    /// Objects that have such rejections, by id.
    pub async fn rejected_objects(&self, filter: &RejectionFilter) -> Result<Vec<RejectedObject>, StoreError> {
        let (bucket, key, part) = filter.key();
        let parameters: [&(dyn ToSql + Sync); 10] = [
            &filter.all,
            &filter.feed,
            &filter.objects,
            &bucket,
            &key,
            &part,
            &filter.rejected_at.0,
            &filter.rejected_at.1,
            &filter.codes,
            &filter.ids,
        ];
        let rows = self.query(REJECTED_OBJECTS, &parameters).await?;
        rows.iter()
            .map(|row| {
                Ok(RejectedObject {
                    object: read_object(row)?,
                    feed: row.try_get("feed")?,
                    state: row.try_get("state")?,
                    header: row.try_get("header")?,
                    rejections: from_bigint(row.try_get("rejections")?),
                })
            })
            .collect()
    }

    /// Rejected records of one object behind a record, in the object's order; whole, so only few at a time.
    pub async fn kept(
        &self,
        object: i64,
        filter: &RejectionFilter,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Kept>, StoreError> {
        let (from, to) = filter.rejected_at;
        let parameters: [&(dyn ToSql + Sync); 8] =
            [&object, &to_bigint(after), &i64::from(limit), &filter.all, &from, &to, &filter.codes, &filter.ids];
        let rows = self.query(KEPT, &parameters).await?;
        rows.iter().map(read_kept).collect()
    }

    /// One rejected record with its bytes.
    pub async fn kept_one(&self, id: i64) -> Result<Option<Kept>, StoreError> {
        let rows = self.query(KEPT_ONE, &[&id]).await?;
        rows.first().map(read_kept).transpose()
    }
}

impl RejectionFilter {
    /// Bucket and key where one object is named, else the part that keys must contain.
    fn key(&self) -> (Option<String>, Option<String>, Option<&String>) {
        let (bucket, key) = self.key.as_deref().and_then(split_uri).unzip();
        let part = self.key.as_ref().filter(|_| key.is_none());
        (bucket, key, part)
    }
}

fn read_row(row: &Row) -> Result<RejectionRow, StoreError> {
    let (bucket, key): (&str, &str) = (row.try_get("bucket")?, row.try_get("key")?);
    Ok(RejectionRow {
        id: row.try_get("id")?,
        feed: row.try_get("feed")?,
        object_id: row.try_get("object_id")?,
        uri: format!("s3://{bucket}/{key}"),
        object_state: row.try_get("state")?,
        record_no: row.try_get("record_no")?,
        line: row.try_get("line")?,
        byte_offset: row.try_get("byte_offset")?,
        table: row.try_get("table_name")?,
        column: row.try_get("column_name")?,
        code: row.try_get("code")?,
        reason: row.try_get("reason")?,
        raw_bytes: from_bigint(row.try_get("raw_bytes")?),
        kept_bytes: from_bigint(row.try_get("kept_bytes")?),
        rejected_at: row.try_get("rejected_at")?,
        replayed_at: row.try_get("replayed_at")?,
        open: row.try_get("open")?,
    })
}

fn read_kept(row: &Row) -> Result<Kept, StoreError> {
    let number = |name| -> Result<u64, StoreError> { Ok(row.try_get::<_, Option<i64>>(name)?.map_or(0, from_bigint)) };
    Ok(Kept {
        id: row.try_get("id")?,
        position: Position { record: number("record_no")?, line: number("line")?, byte: number("byte_offset")? },
        column: row.try_get("column_name")?,
        code: row.try_get("code")?,
        reason: row.try_get("reason")?,
        raw: row.try_get("raw")?,
        raw_bytes: number("raw_bytes")?,
    })
}

/// Counted over the whole choice before the page is cut from it.
const REJECTIONS: &str = "-- ledger::rejections
    SELECT r.id, o.feed, o.bucket, o.key, o.state, r.object_id, r.record_no, r.line, r.byte_offset, r.table_name,
           r.column_name, r.code, r.reason, r.raw_bytes, length(r.raw)::bigint AS kept_bytes, r.rejected_at,
           r.replayed_at, o.state = 'loaded' AND r.replayed_at IS NULL AS open, count(*) OVER () AS total
      FROM keyfall.rejections r JOIN keyfall.objects o ON o.id = r.object_id
     WHERE ($1::bool OR r.replayed_at IS NULL AND o.state = 'loaded')
       AND ($2::text IS NULL OR o.feed = $2)
       AND (cardinality($3::bigint[]) = 0 OR r.object_id = ANY($3))
       AND ($4::text IS NULL OR o.bucket = $4 AND o.key = $5::text)
       AND ($6::text IS NULL OR position($6 IN o.key) > 0)
       AND ($7::timestamptz IS NULL OR r.rejected_at >= $7) AND ($8::timestamptz IS NULL OR r.rejected_at < $8)
       AND (cardinality($9::text[]) = 0 OR r.code = ANY($9))
       AND (cardinality($10::bigint[]) = 0 OR r.id = ANY($10))
       AND r.id > $11
     ORDER BY r.id LIMIT $12";

const REJECTED_OBJECTS: &str = "-- ledger::rejected_objects
    SELECT o.id, o.feed, o.bucket, o.key, o.etag, o.version_id, o.size, o.key_time, o.visible_at, o.state, o.header,
           c.rejections
      FROM (SELECT r.object_id, count(*) AS rejections
              FROM keyfall.rejections r JOIN keyfall.objects o ON o.id = r.object_id
             WHERE ($1::bool OR r.replayed_at IS NULL AND o.state = 'loaded')
               AND ($2::text IS NULL OR o.feed = $2)
               AND (cardinality($3::bigint[]) = 0 OR r.object_id = ANY($3))
               AND ($4::text IS NULL OR o.bucket = $4 AND o.key = $5::text)
               AND ($6::text IS NULL OR position($6 IN o.key) > 0)
               AND ($7::timestamptz IS NULL OR r.rejected_at >= $7) AND ($8::timestamptz IS NULL OR r.rejected_at < $8)
               AND (cardinality($9::text[]) = 0 OR r.code = ANY($9))
               AND (cardinality($10::bigint[]) = 0 OR r.id = ANY($10))
             GROUP BY r.object_id) c
      JOIN keyfall.objects o ON o.id = c.object_id
     ORDER BY o.id";

const KEPT: &str = "-- ledger::kept
    SELECT r.id, r.record_no, r.line, r.byte_offset, r.column_name, r.code, r.reason, r.raw, r.raw_bytes
      FROM keyfall.rejections r
     WHERE r.object_id = $1 AND r.record_no > $2
       AND ($4::bool OR r.replayed_at IS NULL)
       AND ($5::timestamptz IS NULL OR r.rejected_at >= $5) AND ($6::timestamptz IS NULL OR r.rejected_at < $6)
       AND (cardinality($7::text[]) = 0 OR r.code = ANY($7))
       AND (cardinality($8::bigint[]) = 0 OR r.id = ANY($8))
     ORDER BY r.record_no LIMIT $3";

const KEPT_ONE: &str = "-- ledger::kept_one
    SELECT r.id, r.record_no, r.line, r.byte_offset, r.column_name, r.code, r.reason, r.raw, r.raw_bytes
      FROM keyfall.rejections r WHERE r.id = $1";
