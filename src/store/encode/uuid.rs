//! `uuid` in every spelling the server takes: 32 hexadecimal digits, an optional hyphen behind any group of four, and
//! optional braces around it all.

use bytes::BytesMut;

use super::CellError;
use super::bytea::hex;
use super::frame::put_value;

pub(super) fn encode(cell: &[u8], out: &mut BytesMut) -> Result<(), CellError> {
    let bytes = parse(cell).ok_or_else(|| {
        CellError::new("E-CELL-UUID", "not a UUID: expected 32 hexadecimal digits, with or without hyphens")
    })?;
    put_value(&bytes, out);
    Ok(())
}

fn parse(cell: &[u8]) -> Option<[u8; 16]> {
    let mut rest = match cell {
        [b'{', inner @ .., b'}'] => inner,
        _ => cell,
    };
    let mut bytes = [0; 16];
    for (index, byte) in bytes.iter_mut().enumerate() {
        rest = match rest {
            [b'-', tail @ ..] if index > 0 && index % 2 == 0 => tail,
            _ => rest,
        };
        let [high, low, tail @ ..] = rest else { return None };
        *byte = hex(*high)? << 4 | hex(*low)?;
        rest = tail;
    }
    rest.is_empty().then_some(bytes)
}
