//! The row encoder: text cells become tuples of COPY BINARY or lines of COPY TEXT.
//!
//! Guarantees: a cell that is accepted becomes the value that the server would read from the same text (the one
//! exception is a local time that the clock shows twice, see `moment.rs`). What the server would refuse for its text
//! alone is refused here first, with a reason that never holds the cell's value; precision, scale and constraints are
//! the server's to check. A refused cell leaves the buffer as it was. Except for types that are not known here, the
//! value never depends on a setting of the session.
//!
//! Stricter than the server on purpose: no surrounding blanks (trimming is the caller's rule), no words such as
//! `now`, `infinity` or `NaN`, no date that leaves its field order to `DateStyle`, no silent cut of an overlong
//! `varchar`. Deliberately absent: NULL rules, defaults and mapping; the caller decides which cells get here.

mod array;
mod boolean;
mod bytea;
mod calendar;
mod column;
mod float;
mod frame;
mod integer;
mod json;
mod moment;
mod numeric;
mod string;
mod text;
mod uuid;

use std::borrow::Cow;

use bytes::BytesMut;
use jiff::tz::TimeZone;

pub use column::ColumnType;
pub use frame::{begin_tuple, put_header, put_null, put_trailer};
pub use text::{encode_text_cell, end_text_line, put_text_null, put_text_separator};

/// The server's limit for one value is just below 1 GiB; one cell may not come near it.
const LONGEST_CELL: usize = 0x3fff_0000;

/// What is wrong with a cell. Never holds the cell's value.
///
/// Codes: `E-CELL-` and `INT`, `INT-RANGE`, `FLOAT`, `FLOAT-RANGE`, `NUMERIC`, `NUMERIC-RANGE`, `BOOL`, `DATE`, `TIME`,
/// `TIMESTAMP`, `UUID`, `BYTEA`, `JSON`, `ENUM`, `ARRAY`; for texts `UTF8`, `NUL`, `TOO-LONG`; `TYPE` where a type
/// without binary form was asked for one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct CellError {
    /// Stable code such as `E-CELL-INT`.
    pub code: &'static str,
    /// What is expected and what was found, without the value.
    pub reason: Cow<'static, str>,
}

impl CellError {
    #[cold]
    pub(crate) fn new(code: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code, reason: reason.into() }
    }
}

/// Appends one value of COPY BINARY: its length and its payload. `zone` is the clock of a `timestamptz` that names
/// no offset.
///
/// # Errors
/// The cell is no value of the type. `out` is then as it was.
pub fn encode_cell(kind: &ColumnType, cell: &[u8], zone: &TimeZone, out: &mut BytesMut) -> Result<(), CellError> {
    let start = out.len();
    let outcome = encode_value(kind, cell, zone, out);
    if outcome.is_err() {
        out.truncate(start);
    }
    outcome
}

fn encode_value(kind: &ColumnType, cell: &[u8], zone: &TimeZone, out: &mut BytesMut) -> Result<(), CellError> {
    if cell.len() > LONGEST_CELL {
        return Err(CellError::new("E-CELL-TOO-LONG", "longer than the 1 GiB that PostgreSQL stores in one value"));
    }
    match kind {
        ColumnType::Bool => boolean::encode(cell, out),
        ColumnType::Int2 => integer::encode_int2(cell, out),
        ColumnType::Int4 => integer::encode_int4(cell, out),
        ColumnType::Int8 => integer::encode_int8(cell, out),
        ColumnType::Float4 => float::encode_float4(cell, out),
        ColumnType::Float8 => float::encode_float8(cell, out),
        ColumnType::Numeric => numeric::encode(cell, out),
        ColumnType::Text { max_chars } => string::encode_text(cell, *max_chars, out),
        ColumnType::Char { max_chars } => string::encode_char(cell, *max_chars, out),
        ColumnType::Bytea => bytea::encode(cell, out),
        ColumnType::Date => moment::encode_date(cell, out),
        ColumnType::Time => moment::encode_time(cell, out),
        ColumnType::Timestamp => moment::encode_timestamp(cell, out),
        ColumnType::Timestamptz => moment::encode_timestamptz(cell, zone, out),
        ColumnType::Uuid => uuid::encode(cell, out),
        ColumnType::Json => json::encode_json(cell, out),
        ColumnType::Jsonb => json::encode_jsonb(cell, out),
        ColumnType::Enum { labels } => string::encode_enum(cell, labels, out),
        ColumnType::Array { element, element_oid } => array::encode(element, *element_oid, cell, zone, out),
        ColumnType::Other => {
            Err(CellError::new("E-CELL-TYPE", "the column's type has no binary form here: use COPY TEXT"))
        }
    }
}

#[cfg(test)]
mod tests;
