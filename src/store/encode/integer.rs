//! `smallint`, `integer`, `bigint`: an optional sign and decimal digits, nothing else.

use bytes::BytesMut;

use super::CellError;
use super::frame::{put_value2, put_value4, put_value8};

/// So many decimal digits always fit into 64 bits.
const SAFE_DIGITS: usize = 19;

pub(super) fn encode_int2(cell: &[u8], out: &mut BytesMut) -> Result<(), CellError> {
    let value = i16::try_from(parse(cell)?).map_err(|_wide| out_of_range("smallint"))?;
    put_value2(value.cast_unsigned(), out);
    Ok(())
}

pub(super) fn encode_int4(cell: &[u8], out: &mut BytesMut) -> Result<(), CellError> {
    let value = i32::try_from(parse(cell)?).map_err(|_wide| out_of_range("integer"))?;
    put_value4(value.cast_unsigned(), out);
    Ok(())
}

pub(super) fn encode_int8(cell: &[u8], out: &mut BytesMut) -> Result<(), CellError> {
    let value = i64::try_from(parse(cell)?).map_err(|_wide| out_of_range("bigint"))?;
    put_value8(value.cast_unsigned(), out);
    Ok(())
}

/// A whole number; one beyond 64 bits comes back as a value that is out of every range.
#[inline]
fn parse(cell: &[u8]) -> Result<i128, CellError> {
    let (negative, digits) = split_sign(cell);
    let magnitude = if digits.len() <= SAFE_DIGITS { decimal(digits)? } else { long_decimal(digits)? };
    let magnitude = i128::from(magnitude);
    Ok(if negative { -magnitude } else { magnitude })
}

/// Splits an optional sign off; true means negative.
#[inline]
pub(super) fn split_sign(cell: &[u8]) -> (bool, &[u8]) {
    match cell {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, cell),
    }
}

/// At most [`SAFE_DIGITS`] digits.
#[inline]
fn decimal(digits: &[u8]) -> Result<u64, CellError> {
    let mut value: u64 = 0;
    let mut all_digits = !digits.is_empty();
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        all_digits &= digit < 10;
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    if all_digits { Ok(value) } else { Err(no_integer()) }
}

/// More digits than fit: leading zeros are dropped, what is still too long is beyond every range.
#[cold]
fn long_decimal(digits: &[u8]) -> Result<u64, CellError> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(no_integer());
    }
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    match digits.get(zeros..) {
        None | Some([]) => Ok(0),
        Some(significant) if significant.len() <= SAFE_DIGITS => decimal(significant),
        Some(_) => Ok(u64::MAX),
    }
}

#[cold]
fn no_integer() -> CellError {
    CellError::new("E-CELL-INT", "not a whole number: expected an optional sign and digits 0-9")
}

#[cold]
fn out_of_range(type_name: &str) -> CellError {
    CellError::new("E-CELL-INT-RANGE", format!("out of range for {type_name}"))
}
