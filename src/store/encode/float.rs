//! `real` and `double precision`: decimal notation, with or without exponent.
//!
//! Words (`NaN`, `inf`) and hexadecimal notation are refused, and so is what overflows to infinity or, from digits
//! that are not all zero, to zero: as the server does.

use std::str::FromStr;

use bytes::BytesMut;

use super::CellError;
use super::frame::{put_value4, put_value8};

pub(super) fn encode_float4(cell: &[u8], out: &mut BytesMut) -> Result<(), CellError> {
    let value: f32 = parse(cell)?;
    check_range(value.is_finite(), value == 0.0, cell, "real")?;
    put_value4(value.to_bits(), out);
    Ok(())
}

pub(super) fn encode_float8(cell: &[u8], out: &mut BytesMut) -> Result<(), CellError> {
    let value: f64 = parse(cell)?;
    check_range(value.is_finite(), value == 0.0, cell, "double precision")?;
    put_value8(value.to_bits(), out);
    Ok(())
}

fn parse<F: FromStr>(cell: &[u8]) -> Result<F, CellError> {
    // Leaves no letter that a word could be made of, and nothing that is not ASCII.
    let plain = cell.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    let text = if plain { std::str::from_utf8(cell).ok() } else { None };
    text.and_then(|text| text.parse().ok()).ok_or_else(|| {
        CellError::new("E-CELL-FLOAT", "not a number: expected digits with an optional sign, point and exponent")
    })
}

fn check_range(finite: bool, zero: bool, cell: &[u8], type_name: &str) -> Result<(), CellError> {
    let vanished =
        || cell.iter().take_while(|byte| !matches!(byte, b'e' | b'E')).any(|byte| matches!(byte, b'1'..=b'9'));
    if !finite || (zero && vanished()) {
        return Err(CellError::new("E-CELL-FLOAT-RANGE", format!("out of range for {type_name}")));
    }
    Ok(())
}
