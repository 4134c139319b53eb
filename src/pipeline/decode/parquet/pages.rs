//! The pages of a column chunk, looked at before the library decodes them.
//!
//! The library takes a page's word for its size and inflates some codecs to whatever comes out, and it panics where a
//! page refers to a dictionary that is not there. So every header is read here first: sizes are held against the caps
//! and against each other, checksums are computed, and what could inflate without bound is inflated once without
//! being kept.

use std::io::{self, Read};

use crc_fast::{CrcAlgorithm, checksum};
use parquet::basic::{Compression, Type};
use parquet::file::metadata::ColumnChunkMetaData;

use super::super::caps::LimitError;
use super::super::{DecodeError, shown};
use super::damaged;
use super::thrift::{Compact, I32, Malformed, STRUCT};

/// Kinds of pages.
const DATA: i32 = 0;
const INDEX: i32 = 1;
const DICTIONARY: i32 = 2;
const DATA_V2: i32 = 3;

/// Encodings that refer to a dictionary.
const BY_DICTIONARY: [i32; 2] = [2, 8];
/// The encoding in which a value may stand for the beginning of the one before.
const DELTA_BYTE_ARRAY: i32 = 7;

/// What an older writer of LZ4 put around its blocks; the library inflates it without bound.
const LZ4_FRAME: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// Bytes that a value of a list takes in memory, at the least.
const LIST_VALUE: u64 = 8;

/// A page's header.
#[derive(Default)]
struct Header {
    kind: Option<i32>,
    uncompressed: Option<i32>,
    compressed: Option<i32>,
    crc: Option<i32>,
    values: i32,
    encoding: i32,
    /// Bytes of the levels, which are not compressed: of a data page of version 2 only.
    levels: Option<(i32, i32)>,
    is_stored: bool,
}

/// What the pages of a chunk come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Walked {
    /// Bytes after decompression.
    pub(super) bytes: u64,
    /// Bytes of the largest page and the dictionary, which are in memory at the same time.
    pub(super) held: u64,
    /// Bytes one value may take.
    pub(super) widest: u64,
}

/// Looks at all pages of a chunk whose row group has so many rows.
pub(super) fn check(chunk: &[u8], column: &ColumnChunkMetaData, rows: u64, most: u64) -> Result<Walked, DecodeError> {
    let name = column.column_path().string();
    let walk = Walk { chunk, column, name: &name, most };
    let mut walked = Walked { widest: fixed_width(column), ..Walked::default() };
    let (mut at, mut dictionary, mut largest, mut values) = (0, None, 0, 0_u64);
    while at < chunk.len() {
        let (header, body) = walk.page(&mut at)?;
        let uncompressed = size(header.uncompressed);
        if uncompressed > most {
            return Err(LimitError::Block { what: "page", bytes: uncompressed, cap: most }.into());
        }
        walked.bytes = walked.bytes.saturating_add(uncompressed);
        match header.kind {
            Some(INDEX) => continue,
            Some(DICTIONARY) if dictionary.is_some() || values > 0 => return Err(walk.wrong("a dictionary too many")),
            Some(DICTIONARY) if size(Some(header.values)) > uncompressed => {
                return Err(walk.wrong("a dictionary that claims more values than it has bytes"));
            }
            Some(DICTIONARY) => dictionary = Some(uncompressed),
            _ if BY_DICTIONARY.contains(&header.encoding) && dictionary.is_none() => {
                return Err(walk.wrong("a page that needs a dictionary, and none"));
            }
            _ => {
                values += size(Some(header.values));
                largest = largest.max(uncompressed);
            }
        }
        if header.encoding == DELTA_BYTE_ARRAY {
            walked.widest = walked.widest.max(uncompressed);
        }
        walk.inflate(&header, body)?;
    }
    if column.column_descr().max_rep_level() == 0 {
        if values != rows {
            return Err(walk.wrong(&format!("{values} values in {rows} rows")));
        }
    } else if values.saturating_mul(LIST_VALUE) > most {
        let bytes = values.saturating_mul(LIST_VALUE);
        return Err(LimitError::Block { what: "row group's list", bytes, cap: most }.into());
    }
    walked.held = largest + dictionary.unwrap_or_default();
    Ok(walked)
}

/// The bytes of a value that takes always the same.
fn fixed_width(column: &ColumnChunkMetaData) -> u64 {
    match column.column_type() {
        Type::FIXED_LEN_BYTE_ARRAY => size(Some(column.column_descr().type_length())),
        _ => 16,
    }
}

fn size(claim: Option<i32>) -> u64 {
    claim.and_then(|claim| u64::try_from(claim).ok()).unwrap_or_default()
}

/// The chunk being walked.
struct Walk<'a> {
    chunk: &'a [u8],
    column: &'a ColumnChunkMetaData,
    name: &'a str,
    most: u64,
}

impl<'a> Walk<'a> {
    /// The next page's header and bytes.
    fn page(&self, at: &mut usize) -> Result<(Header, &'a [u8]), DecodeError> {
        let rest = self.chunk.get(*at..).unwrap_or_default();
        let mut input = Compact::new(rest);
        let header = header(&mut input).map_err(|Malformed| self.wrong("a page header that is none"))?;
        let length = match (header.kind, header.compressed, header.uncompressed) {
            (Some(DATA..=DATA_V2), Some(compressed @ 0..), Some(0..)) if header.values >= 0 => size(Some(compressed)),
            _ => return Err(self.wrong("a page header that is none")),
        };
        let begin = rest.len() - input.left();
        let body = usize::try_from(length).ok().and_then(|length| rest.get(begin..begin.checked_add(length)?));
        let body = body.ok_or_else(|| self.wrong("a page that is longer than its column"))?;
        *at += begin + body.len();
        self.check_levels(&header, body)?;
        if let Some(crc) = header.crc
            && checksum(CrcAlgorithm::Crc32IsoHdlc, body) != u64::from(crc.cast_unsigned())
        {
            return Err(self.wrong("a page whose checksum is wrong"));
        }
        Ok((header, body))
    }

    /// The levels of a data page of version 2 stand in front of its values and are part of both sizes.
    fn check_levels(&self, header: &Header, body: &[u8]) -> Result<(), DecodeError> {
        let Some((repetition, definition)) = header.levels else { return Ok(()) };
        let levels = size(Some(repetition)) + size(Some(definition));
        if repetition < 0 || definition < 0 || levels > size(header.uncompressed) || levels > body.len() as u64 {
            return Err(self.wrong("a page whose levels are longer than itself"));
        }
        Ok(())
    }

    /// Inflates, without keeping it, what the library would inflate without bound.
    fn inflate(&self, header: &Header, body: &[u8]) -> Result<(), DecodeError> {
        if header.is_stored {
            return Ok(());
        }
        let levels = header.levels.map_or(0, |(repetition, definition)| {
            usize::try_from(size(Some(repetition)) + size(Some(definition))).unwrap_or(usize::MAX)
        });
        let body = body.get(levels..).unwrap_or_default();
        let expected = size(header.uncompressed) - levels as u64;
        let inflated = match self.column.compression() {
            _ if expected == 0 => return Ok(()),
            Compression::GZIP(_) => count(flate2::read::MultiGzDecoder::new(body), self.most),
            Compression::BROTLI(_) => count(brotli::Decompressor::new(body, 4096), self.most),
            Compression::LZ4 if body.starts_with(&LZ4_FRAME) => {
                return Err(self.wrong("an LZ4 frame, which is not read"));
            }
            _ => return Ok(()),
        };
        match inflated {
            Ok(inflated) if inflated == expected => Ok(()),
            Ok(_) => Err(self.wrong("a page that inflates to another size than it claims")),
            Err(error) => Err(self.wrong(&format!("a page that cannot be inflated: {error}"))),
        }
    }

    fn wrong(&self, what: &str) -> DecodeError {
        damaged(format!("column {} has {what}", shown(self.name)))
    }
}

/// Bytes that come out, up to one more than the cap.
fn count(inflating: impl Read, most: u64) -> io::Result<u64> {
    io::copy(&mut inflating.take(most.saturating_add(1)), &mut io::sink())
}

/// Reads one header.
fn header(input: &mut Compact<'_>) -> Result<Header, Malformed> {
    let mut header = Header::default();
    let mut last = 0;
    while let Some(tag) = input.field(last)? {
        last = tag.id;
        match (tag.id, tag.kind) {
            (1, I32) => header.kind = Some(input.i32()?),
            (2, I32) => header.uncompressed = Some(input.i32()?),
            (3, I32) => header.compressed = Some(input.i32()?),
            (4, I32) => header.crc = Some(input.i32()?),
            (5 | 7, STRUCT) => inner(input, &mut header, 2)?,
            (8, STRUCT) => {
                header.levels = Some((0, 0));
                inner(input, &mut header, 4)?;
            }
            (1..=5 | 7 | 8, _) => return Err(Malformed),
            (_, kind) => input.skip(kind)?,
        }
    }
    Ok(header)
}

/// Reads what is peculiar to a kind of page; the number of its encoding's field tells the kinds apart.
fn inner(input: &mut Compact<'_>, header: &mut Header, encoding: i16) -> Result<(), Malformed> {
    let mut last = 0;
    while let Some(tag) = input.field(last)? {
        last = tag.id;
        match (tag.id, tag.kind) {
            (1, I32) => header.values = input.i32()?,
            (id, I32) if id == encoding => header.encoding = input.i32()?,
            (5, I32) if encoding == 4 => header.levels = Some((0, input.i32()?)),
            (6, I32) if encoding == 4 => {
                let (_, definition) = header.levels.unwrap_or_default();
                header.levels = Some((input.i32()?, definition));
            }
            // The only boolean: whether the values are compressed. 2 is false, and the value of the tag itself.
            (7, kind @ 1..=2) if encoding == 4 => header.is_stored = kind == 2,
            // Of another type than it has to be.
            (id, _) if id == 1 || id == encoding || (encoding == 4 && (5..=7).contains(&id)) => return Err(Malformed),
            (_, kind) => input.skip(kind)?,
        }
    }
    Ok(())
}
