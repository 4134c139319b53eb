//! `boolean`: the server's words in full or by their first letter, in any case.

use bytes::BytesMut;

use super::CellError;
use super::frame::put_value;

/// Longest word, `false`.
const LONGEST: usize = 5;

pub(super) fn encode(cell: &[u8], out: &mut BytesMut) -> Result<(), CellError> {
    let mut lower = [0; LONGEST];
    let word = lower.get_mut(..cell.len()).ok_or_else(unknown)?;
    word.copy_from_slice(cell);
    word.make_ascii_lowercase();
    let value = match &*word {
        b"t" | b"true" | b"y" | b"yes" | b"on" | b"1" => 1,
        b"f" | b"false" | b"n" | b"no" | b"off" | b"0" => 0,
        _ => return Err(unknown()),
    };
    put_value(&[value], out);
    Ok(())
}

#[cold]
fn unknown() -> CellError {
    CellError::new("E-CELL-BOOL", "not a boolean: expected true, false, t, f, yes, no, y, n, on, off, 1 or 0")
}
