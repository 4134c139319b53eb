//! `json` and `jsonb`: validated here, so that a broken document is the fault of its record and not of the COPY.
//!
//! Nesting is limited below what the server's stack allows. `jsonb` stores values rather than text and therefore
//! also refuses what has no value there: `\u0000`, halves of surrogate pairs, numbers beyond `numeric`.

use bytes::{BufMut, BytesMut};
use serde::de::IgnoredAny;

use super::CellError;
use super::bytea::hex;
use super::frame::{put_measured, put_value};
use super::numeric;
use super::string::check_chars;

/// The server's default `max_stack_depth` of 2 MB takes some thousands of levels.
const DEEPEST: usize = 1000;

/// The version of the binary form of `jsonb`: the document's text follows.
const JSONB_VERSION: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Values {
    /// The text is kept as it is.
    Kept,
    /// Strings and numbers are converted and must have a value.
    Converted,
}

pub(super) fn encode_json(cell: &[u8], out: &mut BytesMut) -> Result<(), CellError> {
    check(cell, Values::Kept)?;
    put_value(cell, out);
    Ok(())
}

pub(super) fn encode_jsonb(cell: &[u8], out: &mut BytesMut) -> Result<(), CellError> {
    check(cell, Values::Converted)?;
    put_measured(out, |out| {
        out.put_u8(JSONB_VERSION);
        out.put_slice(cell);
        Ok(())
    })
}

fn check(cell: &[u8], values: Values) -> Result<(), CellError> {
    check_chars(cell)?;
    // Its errors name a place and what was expected there, never the text. It does not recurse.
    serde_json::from_slice::<IgnoredAny>(cell).map_err(|error| refused(format!("not valid JSON: {error}")))?;
    scan(cell, values)
}

/// Walks over a document known to be valid.
fn scan(document: &[u8], values: Values) -> Result<(), CellError> {
    let mut depth = 0_usize;
    let mut rest = document;
    while let [byte, tail @ ..] = rest {
        rest = match byte {
            b'"' => skip_string(tail, values)?,
            b'{' | b'[' => {
                depth += 1;
                tail
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                tail
            }
            b'-' | b'0'..=b'9' if values == Values::Converted => skip_number(rest)?,
            _ => tail,
        };
        if depth > DEEPEST {
            return Err(refused(format!("nested more than {DEEPEST} levels deep")));
        }
    }
    Ok(())
}

/// Skips a string behind its opening quote.
fn skip_string(mut rest: &[u8], values: Values) -> Result<&[u8], CellError> {
    while let Some(position) = memchr::memchr2(b'"', b'\\', rest) {
        rest = match rest.get(position..).unwrap_or_default() {
            [b'\\', b'u', a, b, c, d, tail @ ..] if values == Values::Converted => match code_unit([*a, *b, *c, *d]) {
                0 => return Err(refused("\\u0000 cannot be stored in jsonb")),
                0xd800..=0xdbff => low_surrogate(tail)?,
                0xdc00..=0xdfff => return Err(half_pair()),
                _ => tail,
            },
            [b'\\', _, tail @ ..] => tail,
            [_, tail @ ..] => return Ok(tail),
            [] => break,
        };
    }
    // Not reached: the document is known to be valid.
    Ok(&[])
}

fn low_surrogate(rest: &[u8]) -> Result<&[u8], CellError> {
    match rest {
        [b'\\', b'u', a, b, c, d, tail @ ..] if (0xdc00..=0xdfff).contains(&code_unit([*a, *b, *c, *d])) => Ok(tail),
        _ => Err(half_pair()),
    }
}

fn code_unit(digits: [u8; 4]) -> u16 {
    digits.iter().fold(0, |unit, &digit| unit << 4 | u16::from(hex(digit).unwrap_or_default()))
}

fn skip_number(rest: &[u8]) -> Result<&[u8], CellError> {
    let end = rest.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    let (number, tail) = rest.split_at_checked(end.unwrap_or(rest.len())).unwrap_or_default();
    numeric::check(number).map_err(|error| refused(format!("holds a number with {}", error.reason)))?;
    Ok(tail)
}

#[cold]
fn half_pair() -> CellError {
    refused("half of a surrogate pair cannot be stored in jsonb")
}

#[cold]
fn refused(reason: impl Into<std::borrow::Cow<'static, str>>) -> CellError {
    CellError::new("E-CELL-JSON", reason)
}
