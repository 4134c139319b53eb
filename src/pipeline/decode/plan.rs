//! Which field goes to which column: the mapping of one object, settled once from its header or first record.

use bytes::{BufMut, BytesMut};
use csv_async::ByteRecord;

use crate::config::feed::{Feed, Mapping, Source, Unknown};
use crate::domain::record::{BadRecord, Position};
use crate::store::catalog::{Column, Provenance, Shape};
use crate::store::copy::{CopyFormat, CopyTarget};
use crate::store::encode;

use super::DecodeError;

/// One target column and the field that fills it.
#[derive(Debug)]
struct Cell {
    field: usize,
    column: Column,
}

/// The settled mapping.
#[derive(Debug)]
pub struct Plan<'a> {
    cells: Vec<Cell>,
    mapping: &'a Mapping,
    format: CopyFormat,
    object_id: Option<i64>,
    record_no: bool,
    tuple_width: u16,
    /// Fields every record must have.
    fields: usize,
}

impl<'a> Plan<'a> {
    /// Settles the mapping from a header.
    pub fn from_header(
        feed: &'a Feed,
        shape: &Shape,
        object_id: i64,
        header: &ByteRecord,
    ) -> Result<Self, DecodeError> {
        let names = header_names(header)?;
        let wanted: Vec<(String, Source)> = if feed.mapping.columns.is_empty() {
            let known = |name: &&String| shape.columns.iter().any(|column| column.name == **name);
            names.iter().filter(known).map(|name| (name.clone(), Source::Header(name.clone()))).collect()
        } else {
            feed.mapping.columns.clone()
        };
        if wanted.is_empty() {
            return Err(DecodeError::Header(format!(
                "no field of the header is a column of {}; is the delimiter right, is there a header at all?",
                shape.table
            )));
        }
        let mut cells = Vec::with_capacity(wanted.len());
        for (column, source) in &wanted {
            cells.push(Cell { field: find(&names, column, source)?, column: column_of(shape, column)? });
        }
        let unused = names.iter().enumerate().find(|(n, _)| !cells.iter().any(|cell| cell.field == *n));
        if let (Some((_, name)), Unknown::Quarantine) = (unused, feed.mapping.unknown) {
            return Err(DecodeError::Header(format!(
                "field {} of the header has no column; map it, or set unknown_fields = \"ignore\"",
                shown(name)
            )));
        }
        Self::new(feed, shape, object_id, cells, names.len())
    }

    /// Settles the mapping of a file without header from its first record.
    pub fn from_positions(feed: &'a Feed, shape: &Shape, object_id: i64, fields: usize) -> Result<Self, DecodeError> {
        let mut cells = Vec::new();
        if feed.mapping.columns.is_empty() {
            for (field, column) in in_table_order(shape, fields)?.into_iter().enumerate() {
                cells.push(Cell { field, column });
            }
            return Self::new(feed, shape, object_id, cells, fields);
        }
        for (column, source) in &feed.mapping.columns {
            cells.push(Cell { field: find(&[], column, source)?, column: column_of(shape, column)? });
        }
        let needed = cells.iter().map(|cell| cell.field + 1).max().unwrap_or(0);
        let fits = match feed.mapping.unknown {
            Unknown::Ignore => fields >= needed,
            Unknown::Quarantine => fields == needed,
        };
        if !fits {
            return Err(DecodeError::Header(format!(
                "the first record has {}, the mapping needs {needed}; is the delimiter right?",
                counted(fields)
            )));
        }
        Self::new(feed, shape, object_id, cells, fields)
    }

    fn new(
        feed: &'a Feed,
        shape: &Shape,
        object_id: i64,
        cells: Vec<Cell>,
        fields: usize,
    ) -> Result<Self, DecodeError> {
        let filled = |column: &Column| cells.iter().any(|cell| cell.column.name == column.name);
        let missing = shape.columns.iter().find(|column| !column.nullable && !column.has_default && !filled(column));
        if let Some(column) = missing {
            let told = format!("column {:?} is NOT NULL without a default and no field fills it", column.name);
            // A header may forget a column; a mapping that does so never fits.
            let by_header = feed.mapping.columns.is_empty();
            return Err(if by_header { DecodeError::Header(told) } else { DecodeError::Target(told) });
        }
        let binary = cells.iter().all(|cell| cell.column.kind.is_binary());
        let (has_object_id, has_record_no) =
            (shape.fills(Provenance::ObjectId, &feed.mapping), shape.fills(Provenance::RecordNo, &feed.mapping));
        let width = cells.len() + usize::from(has_object_id) + usize::from(has_record_no);
        Ok(Self {
            // PostgreSQL's own limit is 1600 columns.
            tuple_width: u16::try_from(width).unwrap_or(u16::MAX),
            cells,
            mapping: &feed.mapping,
            format: if binary { CopyFormat::Binary } else { CopyFormat::Text },
            object_id: has_object_id.then_some(object_id),
            record_no: has_record_no,
            fields,
        })
    }

    /// Columns and encoding for COPY.
    pub fn target(&self) -> CopyTarget {
        let mut columns: Vec<String> = self.cells.iter().map(|cell| cell.column.name.clone()).collect();
        columns.extend(self.object_id.map(|_| Provenance::ObjectId.column().to_owned()));
        columns.extend(self.record_no.then(|| Provenance::RecordNo.column().to_owned()));
        CopyTarget { columns, format: self.format }
    }

    /// Appends one record as one tuple.
    pub fn encode(&self, record: &ByteRecord, position: Position, out: &mut BytesMut) -> Result<(), DecodeError> {
        if record.len() != self.fields {
            let reason = format!("the record has {} instead of {}", counted(record.len()), self.fields);
            return Err(super::bad(position, None, "E-CSV-RAGGED", reason));
        }
        match self.format {
            CopyFormat::Binary => self.encode_binary(record, position, out),
            CopyFormat::Text => self.encode_text(record, position, out),
        }
    }

    fn encode_binary(&self, record: &ByteRecord, position: Position, out: &mut BytesMut) -> Result<(), DecodeError> {
        encode::begin_tuple(self.tuple_width, out);
        for cell in &self.cells {
            match self.value(cell, record, position)? {
                None => encode::put_null(out),
                Some(value) => encode::encode_cell(&cell.column.kind, value, &self.mapping.timezone, out)
                    .map_err(|error| blame(&cell.column, position, error))?,
            }
        }
        if let Some(id) = self.object_id {
            put_int8(id, out);
        }
        if self.record_no {
            put_int8(i64::try_from(position.record).unwrap_or(i64::MAX), out);
        }
        Ok(())
    }

    fn encode_text(&self, record: &ByteRecord, position: Position, out: &mut BytesMut) -> Result<(), DecodeError> {
        for (index, cell) in self.cells.iter().enumerate() {
            if index > 0 {
                encode::put_text_separator(out);
            }
            match self.value(cell, record, position)? {
                None => encode::put_text_null(out),
                Some(value) => encode::encode_text_cell(&cell.column.kind, value, &self.mapping.timezone, out)
                    .map_err(|error| blame(&cell.column, position, error))?,
            }
        }
        if let Some(id) = self.object_id {
            out.extend_from_slice(format!("\t{id}").as_bytes());
        }
        if self.record_no {
            out.extend_from_slice(format!("\t{}", position.record).as_bytes());
        }
        encode::end_text_line(out);
        Ok(())
    }

    /// The cell's bytes; `None` for NULL. Runs for every cell, so whatever is rare stands in [`Self::null`].
    #[inline]
    fn value<'r>(
        &self,
        cell: &Cell,
        record: &'r ByteRecord,
        position: Position,
    ) -> Result<Option<&'r [u8]>, DecodeError> {
        // The record's length was checked against the plan's.
        let value = record.get(cell.field).unwrap_or_default();
        if self.mapping.null.iter().any(|spelling| spelling.as_bytes() == value) {
            return Self::null(cell, position);
        }
        Ok(Some(value))
    }

    /// What a spelling of NULL becomes in this column.
    #[cold]
    fn null(cell: &Cell, position: Position) -> Result<Option<&'static [u8]>, DecodeError> {
        if cell.column.nullable {
            return Ok(None);
        }
        let reason = "the value is blank (NULL) but the column is NOT NULL";
        Err(super::bad(position, Some(&cell.column.name), "E-ROW-NULL", reason))
    }
}

/// A `bigint` of our own: the provenance columns.
fn put_int8(value: i64, out: &mut BytesMut) {
    out.put_i32(8);
    out.put_i64(value);
}

fn blame(column: &Column, position: Position, error: encode::CellError) -> DecodeError {
    // Some reasons name the type already.
    let reason = if error.reason.ends_with(&column.type_name) {
        error.reason.into_owned()
    } else {
        format!("{} ({})", error.reason, column.type_name)
    };
    DecodeError::Record(BadRecord { position, column: Some(column.name.clone()), code: error.code, reason })
}

fn header_names(header: &ByteRecord) -> Result<Vec<String>, DecodeError> {
    let mut names: Vec<String> = Vec::with_capacity(header.len());
    for field in header {
        let name = std::str::from_utf8(field)
            .map_err(|error| DecodeError::Header(format!("the header is not UTF-8: {error}")))?
            .trim()
            .to_owned();
        if names.contains(&name) {
            return Err(DecodeError::Header(format!("the header names {} twice", shown(&name))));
        }
        names.push(name);
    }
    Ok(names)
}

/// Index of the field that a column's source names.
fn find(names: &[String], column: &str, source: &Source) -> Result<usize, DecodeError> {
    match source {
        Source::Position(position) => Ok(position.saturating_sub(1)),
        Source::Header(name) => names.iter().position(|have| have == name).ok_or_else(|| {
            DecodeError::Header(format!(
                "column {column:?} takes field {name:?}, which the header does not have; it has {}",
                listed(names)
            ))
        }),
    }
}

/// A name of the header, quoted and cut: it may be as long as a record.
fn shown(name: &str) -> String {
    const LONGEST: usize = 63;
    let mut text: String = name.chars().take(LONGEST).collect();
    if text.len() < name.len() {
        text.push('…');
    }
    format!("{text:?}")
}

/// At most ten names: a header may have thousands.
fn listed(names: &[String]) -> String {
    let mut shown: Vec<String> = names.iter().take(10).map(|name| shown(name)).collect();
    if names.len() > shown.len() {
        shown.push(format!("… ({} in all)", names.len()));
    }
    shown.join(", ")
}

fn column_of(shape: &Shape, name: &str) -> Result<Column, DecodeError> {
    shape.column(name).cloned().ok_or_else(|| {
        DecodeError::Target(format!("the feed maps a column {name:?}, which table {} does not have", shape.table))
    })
}

/// `1 field`, `2 fields`.
fn counted(fields: usize) -> String {
    format!("{fields} field{}", if fields == 1 { "" } else { "s" })
}

/// Columns for a file with neither header nor mapping: all of them, or all that the server does not fill itself.
fn in_table_order(shape: &Shape, fields: usize) -> Result<Vec<Column>, DecodeError> {
    let plain: Vec<Column> = shape.columns.iter().filter(|column| !column.has_default).cloned().collect();
    if shape.columns.len() == fields {
        Ok(shape.columns.clone())
    } else if plain.len() == fields {
        Ok(plain)
    } else {
        Err(DecodeError::Header(format!(
            "the first record has {}, table {} has {} columns; write [feeds.NAME.columns], or is the \
             delimiter wrong?",
            counted(fields),
            shape.table,
            shape.columns.len()
        )))
    }
}
