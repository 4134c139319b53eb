//! COPY TEXT, for tables with a column whose type has no binary form here.
//!
//! Columns of the other types keep all their rules: the cell is checked as if it went in binary, and a `timestamptz`
//! without offset gets one. The server's parser then has nothing left to guess. The end-of-data mark (`\.` alone on a
//! line) cannot arise, because every backslash of a cell is doubled.

use bytes::{BufMut, BytesMut};
use jiff::tz::{Offset, TimeZone};

use super::string::check_chars;
use super::{CellError, ColumnType, encode_cell, moment};

/// Appends one value of COPY TEXT, escaped, without separator.
///
/// # Errors
/// The cell is no value of the type, as far as it is known here. `out` is then as it was.
pub fn encode_text_cell(kind: &ColumnType, cell: &[u8], zone: &TimeZone, out: &mut BytesMut) -> Result<(), CellError> {
    let suffix = match kind {
        ColumnType::Other => {
            check_chars(cell)?;
            None
        }
        kind => {
            // Written for its checks alone, and taken back.
            let start = out.len();
            encode_cell(kind, cell, zone, out)?;
            out.truncate(start);
            missing_offset(kind, cell, zone, out)?
        }
    };
    put_escaped(cell, out);
    if let Some(suffix) = suffix {
        out.put_slice(suffix.as_bytes());
    }
    Ok(())
}

/// Appends a NULL.
pub fn put_text_null(out: &mut BytesMut) {
    out.put_slice(b"\\N");
}

/// Goes on to the next value of the line.
pub fn put_text_separator(out: &mut BytesMut) {
    out.put_u8(b'\t');
}

/// Ends the line.
pub fn end_text_line(out: &mut BytesMut) {
    out.put_u8(b'\n');
}

/// What a checked cell needs behind it so that the session's time zone has no say.
fn missing_offset(
    kind: &ColumnType,
    cell: &[u8],
    zone: &TimeZone,
    out: &mut BytesMut,
) -> Result<Option<String>, CellError> {
    match kind {
        ColumnType::Timestamptz => moment::missing_offset(cell, zone),
        ColumnType::Array { element, .. } if **element == ColumnType::Timestamptz => {
            // The literal is not rewritten; it is enough to know that no element depends on a zone, that is, that
            // two zones make no difference.
            let start = out.len();
            encode_cell(kind, cell, &TimeZone::UTC, out)?;
            let middle = out.len();
            encode_cell(kind, cell, &TimeZone::fixed(Offset::constant(1)), out)?;
            let same = out.get(start..middle) == out.get(middle..);
            out.truncate(start);
            if same {
                Ok(None)
            } else {
                Err(CellError::new(
                    "E-CELL-TIMESTAMP",
                    "a timestamp without offset in an array of a table that is loaded as text",
                ))
            }
        }
        _ => Ok(None),
    }
}

/// Escapes what has a meaning in COPY TEXT.
fn put_escaped(cell: &[u8], out: &mut BytesMut) {
    out.reserve(cell.len());
    let mut rest = cell;
    while let Some(position) = rest.iter().position(|byte| escape(*byte).is_some()) {
        let (plain, special) = rest.split_at_checked(position).unwrap_or_default();
        out.put_slice(plain);
        let [byte, tail @ ..] = special else { break };
        if let Some(letter) = escape(*byte) {
            out.put_slice(&[b'\\', letter]);
        }
        rest = tail;
    }
    out.put_slice(rest);
}

fn escape(byte: u8) -> Option<u8> {
    match byte {
        b'\\' => Some(b'\\'),
        b'\t' => Some(b't'),
        b'\n' => Some(b'n'),
        b'\r' => Some(b'r'),
        0x08 => Some(b'b'),
        0x0c => Some(b'f'),
        0x0b => Some(b'v'),
        _ => None,
    }
}
