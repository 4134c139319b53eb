//! The envelope of COPY BINARY: header, tuples, trailer, lengths.

use bytes::{BufMut, BytesMut};

use super::CellError;

/// Signature, no flags, no header extension.
const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Begins a COPY BINARY stream.
pub fn put_header(out: &mut BytesMut) {
    out.put_slice(HEADER);
}

/// Ends a COPY BINARY stream.
pub fn put_trailer(out: &mut BytesMut) {
    out.put_i16(-1);
}

/// Begins a tuple of so many values. PostgreSQL's tables have at most 1600 columns.
pub fn begin_tuple(columns: u16, out: &mut BytesMut) {
    out.put_u16(columns);
}

/// Appends a NULL.
pub fn put_null(out: &mut BytesMut) {
    out.put_i32(-1);
}

/// Appends a value whose payload is at hand.
#[inline]
pub(super) fn put_value(payload: &[u8], out: &mut BytesMut) {
    out.put_u32(low32(payload.len() as u64));
    out.put_slice(payload);
}

/// Appends a value of two bytes, length and payload in one go.
#[inline]
pub(super) fn put_value2(value: u16, out: &mut BytesMut) {
    let [_, _, framed @ ..] = (2_u64 << 16 | u64::from(value)).to_be_bytes();
    out.put_slice(&framed);
}

/// Appends a value of four bytes.
#[inline]
pub(super) fn put_value4(value: u32, out: &mut BytesMut) {
    out.put_u64(4_u64 << 32 | u64::from(value));
}

/// Appends a value of eight bytes.
#[inline]
pub(super) fn put_value8(value: u64, out: &mut BytesMut) {
    let [_, _, _, _, framed @ ..] = (8_u128 << 64 | u128::from(value)).to_be_bytes();
    out.put_slice(&framed);
}

/// Appends a value whose length is known only when `body` has written it.
pub(super) fn put_measured(
    out: &mut BytesMut,
    body: impl FnOnce(&mut BytesMut) -> Result<(), CellError>,
) -> Result<(), CellError> {
    let start = out.len();
    out.put_u32(0);
    body(out)?;
    let length = out.len().saturating_sub(start).saturating_sub(4);
    patch(out, start, &low32(length as u64).to_be_bytes());
    Ok(())
}

/// Overwrites bytes written before.
pub(super) fn patch(out: &mut BytesMut, position: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(position..position.saturating_add(bytes.len())) {
        place.copy_from_slice(bytes);
    }
}

/// The low half; lengths here are bounded by the longest cell, so nothing is lost.
#[inline]
pub(super) fn low32(value: u64) -> u32 {
    let [_, _, _, _, a, b, c, d] = value.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// The low 16 bits of what the caller knows to be small.
#[inline]
pub(super) fn low16(value: u64) -> u16 {
    let [.., a, b] = value.to_be_bytes();
    u16::from_be_bytes([a, b])
}
