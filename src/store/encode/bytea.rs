//! `bytea` from its two text forms: `\x` and hexadecimal digits, or text with `\\` and `\ooo` escapes.
//!
//! Bytes that are no text have to be escaped: what is written plainly must be UTF-8, as for the server.

use bytes::{BufMut, BytesMut};

use super::CellError;
use super::frame::put_measured;
use super::string::check_chars;

pub(super) fn encode(cell: &[u8], out: &mut BytesMut) -> Result<(), CellError> {
    check_chars(cell)?;
    put_measured(out, |out| match cell {
        [b'\\', b'x', digits @ ..] => put_hex(digits, out),
        _ => put_escaped(cell, out),
    })
}

fn put_hex(mut rest: &[u8], out: &mut BytesMut) -> Result<(), CellError> {
    loop {
        rest = match rest {
            [] => return Ok(()),
            // The server takes blanks between bytes.
            [b' ' | b'\t' | b'\n' | b'\r', tail @ ..] => tail,
            [high, low, tail @ ..] => {
                let byte = hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low);
                out.put_u8(byte.ok_or_else(|| refused("not an even number of hexadecimal digits behind \\x"))?);
                tail
            }
            [_] => return Err(refused("not an even number of hexadecimal digits behind \\x")),
        };
    }
}

fn put_escaped(mut rest: &[u8], out: &mut BytesMut) -> Result<(), CellError> {
    loop {
        rest = match rest {
            [] => return Ok(()),
            [b'\\', b'\\', tail @ ..] => {
                out.put_u8(b'\\');
                tail
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                out.put_u8((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                tail
            }
            [b'\\', ..] => return Err(refused("a backslash that begins neither \\\\ nor three octal digits")),
            [byte, tail @ ..] => {
                out.put_u8(*byte);
                tail
            }
        };
    }
}

/// The value of a hexadecimal digit.
pub(super) fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cold]
fn refused(reason: &'static str) -> CellError {
    CellError::new("E-CELL-BYTEA", reason)
}
