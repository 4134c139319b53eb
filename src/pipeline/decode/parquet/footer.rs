//! The footer: read from the end, believed only after every claim in it was held against the object and the caps.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};

use crate::config::feed::Limits;

use super::super::allowance::Allowance;
use super::super::caps::LimitError;
use super::super::{DecodeError, shown};
use super::thrift::{Compact, I32, LIST, Malformed, STRUCT};
use super::{caught, damaged};

/// Read from the end at first: the footer of most files, in one request.
pub(super) const FIRST: u64 = 64 * 1024;

/// Length of the footer and the mark behind it.
pub(super) const TRAILER: u64 = 8;
const TRAILER_BYTES: usize = 8;

/// The shortest file: a mark, a footer of one byte, its length, a mark.
const SHORTEST: u64 = 13;

/// A row group that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// Its place in the metadata.
    pub(super) index: usize,
    /// Its bytes in the file.
    pub(super) span: Range<u64>,
    /// Its rows.
    pub(super) rows: u64,
}

/// A footer that was looked at.
pub(super) struct Footer {
    pub(super) metadata: Arc<ParquetMetaData>,
    pub(super) groups: Vec<Group>,
}

/// Looks at the footer among the last bytes of a file of `size` bytes.
pub(super) fn read(ending: &Bytes, size: u64, limits: &Limits) -> Result<Footer, DecodeError> {
    let bytes = locate(ending, size, limits)?;
    let end = size - TRAILER - bytes.len() as u64;
    check_shape(&bytes, limits)?;
    let metadata = caught(|| ParquetMetaDataReader::decode_metadata(&bytes))?;
    let groups = groups(&metadata, end, limits)?;
    let mut allowance = Allowance::new(limits, size);
    for group in &groups {
        // Claims only, but who claims too much need not be read.
        allowance.spend(0, group.rows)?;
    }
    Ok(Footer { metadata: Arc::new(metadata), groups })
}

/// What the end of a file says of the footer's length; `None` where it is no end.
pub(super) fn length(ending: &[u8]) -> Option<u64> {
    match ending.split_last_chunk::<8>()? {
        (_, [l0, l1, l2, l3, b'P', b'A', b'R', b'1']) => Some(u32::from_le_bytes([*l0, *l1, *l2, *l3]).into()),
        _ => None,
    }
}

/// The footer's bytes.
fn locate(ending: &Bytes, size: u64, limits: &Limits) -> Result<Bytes, DecodeError> {
    if size < SHORTEST {
        return Err(damaged(format!("{size} bytes are no Parquet file")));
    }
    let Some(length) = length(ending) else {
        return Err(if ending.ends_with(b"PARE") {
            damaged("the footer is encrypted")
        } else {
            damaged("the object does not end as Parquet does: it was cut off, or something was added")
        });
    };
    if length == 0 || length + TRAILER + 4 > size {
        return Err(damaged(format!("the footer claims {length} bytes of an object of {size}")));
    }
    if length > limits.max_block_bytes {
        return Err(LimitError::Block { what: "footer", bytes: length, cap: limits.max_block_bytes }.into());
    }
    let end = ending.len().saturating_sub(TRAILER_BYTES);
    let begin = usize::try_from(length).ok().and_then(|length| end.checked_sub(length));
    begin.map(|begin| ending.slice(begin..end)).ok_or_else(|| damaged("the footer is not whole"))
}

/// Looks at the nesting before the library follows it, one call deeper for each level.
fn check_shape(footer: &[u8], limits: &Limits) -> Result<(), DecodeError> {
    let broken = |Malformed| damaged("the footer is none");
    let mut input = Compact::new(footer);
    let mut last = 0;
    while let Some(tag) = input.field(last).map_err(broken)? {
        last = tag.id;
        if (tag.id, tag.kind) == (2, LIST) {
            check_schema(&mut input, limits)?;
        } else {
            input.skip(tag.kind).map_err(broken)?;
        }
    }
    Ok(())
}

/// The schema's elements, each followed by those it holds.
fn check_schema(input: &mut Compact<'_>, limits: &Limits) -> Result<(), DecodeError> {
    let broken = |Malformed| damaged("the schema is none");
    let (kind, count) = input.list().map_err(broken)?;
    if kind != STRUCT || count == 0 {
        return Err(damaged("the schema is none"));
    }
    // The root and two levels for each list or map are no levels of a value.
    let deepest = limits.max_depth.saturating_mul(3).saturating_add(2);
    let (mut open, mut leaves): (Vec<i32>, usize) = (Vec::new(), 0);
    for _ in 0..count {
        while open.last() == Some(&0) {
            open.pop();
        }
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        match children(input).map_err(broken)? {
            0 => leaves += 1,
            children @ 1.. => open.push(children),
            _ => return Err(damaged("the schema is none")),
        }
        if open.len() > deepest {
            return Err(LimitError::SchemaDepth(limits.max_depth).into());
        }
    }
    if leaves > limits.max_fields {
        return Err(LimitError::Columns { fields: leaves, cap: limits.max_fields }.into());
    }
    Ok(())
}

/// How many elements one element holds.
fn children(input: &mut Compact<'_>) -> Result<i32, Malformed> {
    let (mut last, mut children) = (0, 0);
    while let Some(tag) = input.field(last)? {
        last = tag.id;
        match (tag.id, tag.kind) {
            (5, I32) => children = input.i32()?,
            (5, _) => return Err(Malformed),
            (_, kind) => input.skip(kind)?,
        }
    }
    Ok(children)
}

/// The row groups, in the order of the file; it must be that of the footer, as each byte is read once.
fn groups(metadata: &ParquetMetaData, end: u64, limits: &Limits) -> Result<Vec<Group>, DecodeError> {
    if metadata.file_metadata().schema_descr().num_columns() == 0 {
        return Err(damaged("the schema has no columns"));
    }
    let (mut groups, mut before, mut rows) = (Vec::with_capacity(metadata.num_row_groups()), 4, 0_u64);
    for (index, group) in metadata.row_groups().iter().enumerate() {
        let group = Group { index, span: span(group, end)?, rows: unsigned(group.num_rows())? };
        rows = rows.saturating_add(group.rows);
        if group.rows == 0 {
            continue;
        }
        if group.span.start < before {
            return Err(damaged("the row groups overlap or are not in the order of the file"));
        }
        before = group.span.end;
        let bytes = group.span.end - group.span.start;
        if bytes > limits.max_block_bytes {
            return Err(LimitError::Block { what: "row group", bytes, cap: limits.max_block_bytes }.into());
        }
        groups.push(group);
    }
    if unsigned(metadata.file_metadata().num_rows())? != rows {
        return Err(damaged("the file claims another number of rows than its row groups"));
    }
    Ok(groups)
}

/// From the first byte of the first column to the last of the last.
fn span(group: &RowGroupMetaData, end: u64) -> Result<Range<u64>, DecodeError> {
    let (mut first, mut last) = (u64::MAX, 0);
    for column in group.columns() {
        check_column(column)?;
        let begin = unsigned(column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset()))?;
        let length = unsigned(column.compressed_size())?;
        let own = begin..begin.saturating_add(length);
        if own.start < 4 || own.end > end {
            let name = shown(&column.column_path().string());
            return Err(damaged(format!("column {name} claims bytes that the object does not have for it")));
        }
        (first, last) = (first.min(own.start), last.max(own.end));
    }
    Ok(first..last)
}

fn check_column(column: &ColumnChunkMetaData) -> Result<(), DecodeError> {
    let name = || shown(&column.column_path().string());
    if column.file_path().is_some_and(|path| !path.is_empty()) {
        return Err(damaged(format!("column {} lies in another file", name())));
    }
    if let Compression::LZO = column.compression() {
        return Err(damaged(format!("column {} is compressed with LZO, which is not read", name())));
    }
    Ok(())
}

fn unsigned(claim: i64) -> Result<u64, DecodeError> {
    u64::try_from(claim).map_err(|_negative| damaged("the footer claims a negative size, place or number"))
}
