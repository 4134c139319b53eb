//! Which field goes to which column: the mapping of one object, settled once from its header, schema or first record.

mod cell;
mod clock;
mod fit;
mod order;
mod rescue;
mod rules;
mod settle;
mod value;

use bytes::{BufMut, BytesMut};

use crate::config::feed::{Condition, Feed, Rules, Unmatched};
use crate::domain::record::BadRecord;
use crate::store::copy::{CopyFormat, CopyTarget};
use crate::store::encode;
use crate::store::stage::{self, Staging};

use super::reader::{Field, RecordReader, Schema, Value};
use super::{DecodeError, Decoding};
use cell::Cell;
use rescue::Unclaimed;
use rules::is_null;

pub use fit::{Misfit, misfits};

/// The settled mappings of all routes.
pub struct Plans<'a> {
    feed: &'a Feed,
    routes: Vec<Plan<'a>>,
    /// The fields of an object that names them, for the comparison with earlier objects.
    fields: Option<Vec<Field>>,
    /// Where fields may be that nobody claimed, if each record must be looked at for them.
    watched: Option<Unclaimed>,
}

/// The settled mapping of one route.
pub struct Plan<'a> {
    number: usize,
    table: String,
    when: Vec<(usize, &'a Condition)>,
    rules: &'a Rules,
    cells: Vec<Cell<'a>>,
    format: CopyFormat,
    object_id: Option<i64>,
    record_no: bool,
    staging: Staging,
    tuple_width: u16,
}

impl<'a> Plans<'a> {
    /// Settles every route's mapping; an error where one cannot fit.
    pub fn settle<R: RecordReader>(
        decoding: Decoding<'a>,
        schema: Schema,
        reader: &mut R,
    ) -> Result<Self, DecodeError> {
        let mut routes = Vec::with_capacity(decoding.feed.routes.len());
        for (number, route) in decoding.feed.routes.iter().enumerate() {
            routes.push(settle::route(decoding, number, route, &schema, reader)?);
        }
        let watched = settle::unknown(decoding.feed, &schema, reader)?;
        let fields = match schema {
            Schema::Named(fields) => Some(fields),
            Schema::Positions(_) | Schema::Open => None,
        };
        Ok(Self { feed: decoding.feed, routes, fields, watched })
    }

    /// Columns and encoding for COPY, route by route.
    pub fn targets(&self) -> Vec<CopyTarget> {
        self.routes.iter().map(Plan::target).collect()
    }

    /// The fields the object names.
    pub fn into_fields(self) -> Option<Vec<Field>> {
        self.fields
    }

    /// The route of a record; `None` where the feed leaves it out.
    #[inline]
    pub fn choose<R: RecordReader>(&self, reader: &R) -> Result<Option<&Plan<'a>>, BadRecord> {
        // The common case: one route that takes everything.
        match self.routes.first() {
            Some(first) if first.when.is_empty() => Ok(Some(first)),
            _ => self.search(reader),
        }
    }

    fn search<R: RecordReader>(&self, reader: &R) -> Result<Option<&Plan<'a>>, BadRecord> {
        let found = self.routes.iter().find(|plan| plan.takes(reader));
        match (found, self.feed.unmatched) {
            (None, Unmatched::Reject) => Err(BadRecord {
                position: reader.position(),
                column: None,
                code: "E-ROW-UNMATCHED",
                reason: "no route takes this record".to_owned(),
            }),
            (found, _) => Ok(found),
        }
    }

    /// Looks for fields that nobody claimed; the record is bad, or the whole object, or all is well.
    pub fn check_unknown<R: RecordReader>(&self, reader: &R) -> Result<Option<BadRecord>, DecodeError> {
        match &self.watched {
            None => Ok(None),
            Some(watched) => settle::unknown_in_record(self.feed, watched, reader),
        }
    }
}

impl Plan<'_> {
    /// The route's place among the feed's.
    pub const fn route(&self) -> usize {
        self.number
    }

    /// The route's table, for messages and rejections.
    pub fn table(&self) -> String {
        self.table.clone()
    }

    /// Whether all conditions hold of a record.
    fn takes<R: RecordReader>(&self, reader: &R) -> bool {
        self.when.iter().all(|(slot, condition)| self.holds(condition, reader.value(*slot)))
    }

    fn holds(&self, condition: &Condition, value: Value<'_>) -> bool {
        let text = match value {
            Value::Absent | Value::Null => return false,
            Value::Text(text) if self.rules.trim => text.trim_ascii(),
            other => value::plain(other),
        };
        if condition.values.is_empty() {
            // Any value will do; a blank is none.
            return !matches!(value, Value::Text(_)) || !is_null(self.rules, text);
        }
        condition.values.iter().any(|wanted| wanted.as_bytes() == text)
    }

    /// Columns and encoding for COPY.
    fn target(&self) -> CopyTarget {
        let mut columns: Vec<String> = self.cells.iter().map(|cell| cell.column.name.clone()).collect();
        columns.extend(self.object_id.map(|_| "_object_id".to_owned()));
        columns.extend(self.record_no.then(|| "_record_no".to_owned()));
        CopyTarget { columns, format: self.format, staging: self.staging }
    }

    /// Appends the record as one tuple. What it leaves behind after an error is the caller's to take back.
    #[inline]
    pub fn encode<R: RecordReader>(&self, reader: &R, out: &mut BytesMut) -> Result<(), BadRecord> {
        match self.format {
            CopyFormat::Binary => self.encode_binary(reader, out),
            CopyFormat::Text => self.encode_text(reader, out),
        }
    }

    fn encode_binary<R: RecordReader>(&self, reader: &R, out: &mut BytesMut) -> Result<(), BadRecord> {
        encode::begin_tuple(self.tuple_width, out);
        for cell in &self.cells {
            cell.encode_binary(reader, out)?;
        }
        if let Some(id) = self.object_id {
            put_int8(id, out);
        }
        if self.record_no {
            put_int8(signed(reader.number()), out);
        }
        match self.staging {
            Staging::None => {}
            Staging::Numbered => put_int8(signed(reader.number()), out),
            Staging::Traced => stage::put_trace_binary(&trace(reader), out),
        }
        Ok(())
    }

    fn encode_text<R: RecordReader>(&self, reader: &R, out: &mut BytesMut) -> Result<(), BadRecord> {
        for (index, cell) in self.cells.iter().enumerate() {
            if index > 0 {
                encode::put_text_separator(out);
            }
            cell.encode_text(reader, out)?;
        }
        if let Some(id) = self.object_id {
            out.extend_from_slice(format!("\t{id}").as_bytes());
        }
        if self.record_no {
            out.extend_from_slice(format!("\t{}", reader.number()).as_bytes());
        }
        match self.staging {
            Staging::None => {}
            Staging::Numbered => out.extend_from_slice(format!("\t{}", reader.number()).as_bytes()),
            Staging::Traced => stage::put_trace_text(&trace(reader), out),
        }
        encode::end_text_line(out);
        Ok(())
    }
}

/// Where a staged row comes from, in case the server refuses it.
fn trace<R: RecordReader>(reader: &R) -> stage::Trace {
    let mut raw = Vec::new();
    let raw_bytes = reader.raw(crate::domain::record::RAW_MOST, &mut raw);
    stage::Trace { position: reader.position(), raw, raw_bytes }
}

/// A `bigint` of our own: the provenance columns.
fn put_int8(value: i64, out: &mut BytesMut) {
    out.put_i32(8);
    out.put_i64(value);
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
