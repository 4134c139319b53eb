//! Arrays from PostgreSQL's literals: `{1,2,NULL,"a\"b"}`, of up to six dimensions.
//!
//! Elements go through [`super::encode_cell`] and come under its rules. Explicit bounds (`[0:2]=…`) and nested empty
//! arrays (`{{}}`) are refused: they are hardly ever meant.

use bytes::{BufMut, BytesMut};
use jiff::tz::TimeZone;

use super::frame::{low32, patch, put_measured, put_null};
use super::{CellError, ColumnType, encode_cell};

/// The server's limit.
const MOST_DIMENSIONS: usize = 6;

/// Number of dimensions, whether there are NULLs, element type.
const HEAD_BYTES: usize = 12;

/// Length and lower bound.
const DIMENSION_BYTES: usize = 8;

pub(super) fn encode(
    element: &ColumnType,
    element_oid: u32,
    cell: &[u8],
    zone: &TimeZone,
    out: &mut BytesMut,
) -> Result<(), CellError> {
    put_measured(out, |out| {
        let rest = skip_blanks(cell);
        if let [b'[', ..] = rest {
            return Err(refused("explicit array bounds are not accepted"));
        }
        if let [b'{', inner @ ..] = rest
            && let [b'}', end @ ..] = skip_blanks(inner)
        {
            put_head(0, element_oid, out);
            return if skip_blanks(end).is_empty() { Ok(()) } else { Err(trailing()) };
        }
        let dimensions = count_dimensions(rest)?;
        let head = out.len();
        put_head(dimensions, element_oid, out);
        out.put_bytes(0, dimensions * DIMENSION_BYTES);
        let mut parser = Parser {
            element,
            zone,
            rest,
            lengths: vec![None; dimensions],
            nulls: false,
            elements: 0,
            scratch: Vec::new(),
        };
        parser.list(0, out)?;
        if !parser.rest.is_empty() {
            return Err(trailing());
        }
        patch(out, head + 4, &u32::from(parser.nulls).to_be_bytes());
        for (index, length) in parser.lengths.iter().enumerate() {
            let length = low32(length.unwrap_or_default() as u64).to_be_bytes();
            let place = head + HEAD_BYTES + index * DIMENSION_BYTES;
            patch(out, place, &length);
            patch(out, place + 4, &1_u32.to_be_bytes());
        }
        Ok(())
    })
}

fn put_head(dimensions: usize, element_oid: u32, out: &mut BytesMut) {
    out.put_u32(low32(dimensions as u64));
    out.put_u32(0);
    out.put_u32(element_oid);
}

/// As many as there are opening braces before the first element.
fn count_dimensions(mut rest: &[u8]) -> Result<usize, CellError> {
    let mut dimensions = 0;
    while let [b'{', tail @ ..] = rest {
        dimensions += 1;
        rest = skip_blanks(tail);
    }
    match dimensions {
        0 => Err(refused("not an array: it must begin with an opening brace")),
        1..=MOST_DIMENSIONS => Ok(dimensions),
        _ => Err(refused("more than 6 dimensions")),
    }
}

struct Parser<'a> {
    element: &'a ColumnType,
    zone: &'a TimeZone,
    rest: &'a [u8],
    /// Length of each dimension, known from the first list that ended there.
    lengths: Vec<Option<usize>>,
    nulls: bool,
    elements: usize,
    scratch: Vec<u8>,
}

impl Parser<'_> {
    /// One list in braces, blanks around it included; recursion ends at [`MOST_DIMENSIONS`].
    fn list(&mut self, depth: usize, out: &mut BytesMut) -> Result<(), CellError> {
        let [b'{', tail @ ..] = skip_blanks(self.rest) else {
            return Err(refused("its lists are not nested equally deep"));
        };
        self.rest = tail;
        let mut length = 0;
        loop {
            if depth + 1 < self.lengths.len() {
                self.list(depth + 1, out)?;
            } else {
                self.item(out)?;
            }
            length += 1;
            self.rest = match skip_blanks(self.rest) {
                [b',', tail @ ..] => tail,
                [b'}', tail @ ..] => {
                    self.rest = tail;
                    break;
                }
                [] => return Err(refused("a closing brace is missing")),
                _ => return Err(refused("a comma or a closing brace is missing behind an element")),
            };
        }
        self.rest = skip_blanks(self.rest);
        match self.lengths.get_mut(depth) {
            Some(known) if known.is_none_or(|known| known == length) => *known = Some(length),
            _ => return Err(refused("its lists have different lengths")),
        }
        Ok(())
    }

    fn item(&mut self, out: &mut BytesMut) -> Result<(), CellError> {
        self.elements += 1;
        self.scratch.clear();
        let null = match skip_blanks(self.rest) {
            [b'"', tail @ ..] => {
                self.rest = tail;
                self.quoted()?;
                false
            }
            tail => {
                self.rest = tail;
                self.unquoted()?
            }
        };
        if null {
            self.nulls = true;
            put_null(out);
            return Ok(());
        }
        encode_cell(self.element, &self.scratch, self.zone, out).map_err(|error| CellError {
            reason: format!("element {}: {}", self.elements, error.reason).into(),
            ..error
        })
    }

    /// Takes an element behind its opening quote.
    fn quoted(&mut self) -> Result<(), CellError> {
        loop {
            match self.rest {
                [b'"', tail @ ..] => {
                    self.rest = tail;
                    return Ok(());
                }
                [b'\\'] | [] => return Err(refused("a closing quote is missing")),
                // A backslash takes the meaning from whatever follows it.
                [b'\\', byte, tail @ ..] | [byte, tail @ ..] => {
                    self.scratch.push(*byte);
                    self.rest = tail;
                }
            }
        }
    }

    /// Takes an element without quotes, blanks at its end left out; answers whether it is NULL.
    fn unquoted(&mut self) -> Result<bool, CellError> {
        let mut escaped = false;
        // Blanks that were escaped stay.
        let mut kept = 0;
        loop {
            match self.rest {
                [b'\\', byte, tail @ ..] => {
                    self.scratch.push(*byte);
                    kept = self.scratch.len();
                    escaped = true;
                    self.rest = tail;
                }
                [b',' | b'}', ..] => break,
                [b'{' | b'"' | b'\\', ..] => {
                    return Err(refused("a brace, quote or backslash inside an unquoted element"));
                }
                [byte, tail @ ..] => {
                    self.scratch.push(*byte);
                    if !is_blank(*byte) {
                        kept = self.scratch.len();
                    }
                    self.rest = tail;
                }
                [] => return Err(refused("a closing brace is missing")),
            }
        }
        self.scratch.truncate(kept);
        if self.scratch.is_empty() {
            return Err(refused("an empty element: write \"\" for an empty text, NULL for none"));
        }
        Ok(!escaped && self.scratch.eq_ignore_ascii_case(b"null"))
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn skip_blanks(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| !is_blank(*byte)).unwrap_or(bytes.len());
    bytes.get(end..).unwrap_or_default()
}

#[cold]
fn trailing() -> CellError {
    refused("something follows the closing brace")
}

#[cold]
fn refused(reason: &'static str) -> CellError {
    CellError::new("E-CELL-ARRAY", reason)
}
