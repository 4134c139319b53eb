//! `text`, `varchar(n)`, `character(n)` and enumerations.

use bytes::BytesMut;

use super::CellError;
use super::frame::put_value;

/// Encodes `text` and `varchar`. The server cuts blanks that make a `varchar` too long; here that is an error.
pub(super) fn encode_text(cell: &[u8], max_chars: Option<u32>, out: &mut BytesMut) -> Result<(), CellError> {
    let chars = check_chars(cell)?;
    check_limit(chars, cell, max_chars)?;
    put_value(cell, out);
    Ok(())
}

/// Encodes `character(n)`: trailing blanks do not count, the server pads or cuts them.
pub(super) fn encode_char(cell: &[u8], max_chars: Option<u32>, out: &mut BytesMut) -> Result<(), CellError> {
    let chars = check_chars(cell)?;
    let blanks = cell.iter().rev().take_while(|&&byte| byte == b' ').count();
    let significant = cell.get(..cell.len().saturating_sub(blanks)).unwrap_or(cell);
    check_limit(chars, significant, max_chars)?;
    put_value(cell, out);
    Ok(())
}

pub(super) fn encode_enum(cell: &[u8], labels: &[String], out: &mut BytesMut) -> Result<(), CellError> {
    if !labels.iter().any(|label| label.as_bytes() == cell) {
        return Err(CellError::new(
            "E-CELL-ENUM",
            format!("not one of the {} labels of the column's enum type", labels.len()),
        ));
    }
    put_value(cell, out);
    Ok(())
}

/// What the bytes of a text are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chars {
    /// As many characters as bytes.
    Ascii,
    /// Valid UTF-8.
    Utf8,
}

/// Text is UTF-8 without the NUL character, which PostgreSQL cannot store.
#[inline]
pub(super) fn check_chars(cell: &[u8]) -> Result<Chars, CellError> {
    if is_plain_ascii(cell) { Ok(Chars::Ascii) } else { check_other_chars(cell) }
}

fn check_other_chars(cell: &[u8]) -> Result<Chars, CellError> {
    if memchr::memchr(0, cell).is_some() {
        return Err(CellError::new("E-CELL-NUL", "holds a NUL character, which PostgreSQL cannot store in text"));
    }
    match simdutf8::compat::from_utf8(cell) {
        Ok(_) => Ok(Chars::Utf8),
        Err(error) => {
            Err(CellError::new("E-CELL-UTF8", format!("not UTF-8 at byte {} of the cell", error.valid_up_to() + 1)))
        }
    }
}

/// Whether all bytes are 1 to 127, eight at a time: subtracting one from each byte of a word carries into a top bit
/// exactly where a byte is zero, as long as no top bit was set before.
#[inline]
fn is_plain_ascii(cell: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let (words, rest) = cell.as_chunks::<8>();
    let mut tops = 0;
    for word in words {
        let word = u64::from_ne_bytes(*word);
        tops |= word | word.wrapping_sub(ONES);
    }
    tops & TOPS == 0 && rest.iter().all(|byte| matches!(byte, 1..=127))
}

#[inline]
fn check_limit(chars: Chars, text: &[u8], max_chars: Option<u32>) -> Result<(), CellError> {
    let Some(limit) = max_chars else { return Ok(()) };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    // No text has more characters than bytes.
    if text.len() <= limit || (chars == Chars::Utf8 && count_chars(text) <= limit) {
        return Ok(());
    }
    Err(CellError::new("E-CELL-TOO-LONG", format!("longer than the {limit} characters of the column")))
}

/// Characters of valid UTF-8: every byte that does not continue one.
fn count_chars(text: &[u8]) -> usize {
    text.iter().filter(|&&byte| byte & 0xc0 != 0x80).count()
}
