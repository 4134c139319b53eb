//! One row group being decoded, batch by batch.

use arrow_array::cast::AsArray as _;
use arrow_array::{Array, RecordBatch};
use bytes::{Buf, Bytes};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::super::DecodeError;
use super::super::spell::{Scalar, Spelt};
use super::cell::{self, Fault};
use super::footer::Group;
use super::kind::{Kind, Leaf};
use super::{Layout, caught, damaged};

/// Rows of a group, a batch of them decoded.
#[derive(Default)]
pub(super) struct Batch {
    reader: Option<ParquetRecordBatchReader>,
    /// Reads INT96 once more, where there is any.
    finer: Option<ParquetRecordBatchReader>,
    rows: Option<RecordBatch>,
    finer_rows: Option<RecordBatch>,
    /// The record at hand; the batch begins before its first.
    row: Option<usize>,
    /// Rows of the group that were not decoded yet.
    left: u64,
}

/// A value that somebody asks for.
pub(super) struct Claim {
    /// The field at the top, and the way from there.
    pub(super) field: usize,
    pub(super) path: Vec<usize>,
    pub(super) kind: Kind,
}

/// Opens one row group.
fn open(
    metadata: &ArrowReaderMetadata,
    bytes: &Chunk,
    (group, rows): (usize, u64),
    only: Option<&[usize]>,
) -> Result<ParquetRecordBatchReader, ParquetError> {
    let rows = usize::try_from(rows).unwrap_or(1);
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes.clone(), metadata.clone());
    let builder = match only {
        Some(leaves) => {
            let mask = ProjectionMask::leaves(builder.parquet_schema(), leaves.iter().copied());
            builder.with_projection(mask)
        }
        None => builder,
    };
    builder.with_row_groups(vec![group]).with_batch_size(rows).build()
}

impl Batch {
    /// Begins with a row group, so many rows at a time.
    pub(super) fn begin(layout: &Layout, bytes: &Chunk, group: &Group, rows: u64) -> Result<Self, DecodeError> {
        let reader = caught(|| open(&layout.reading, bytes, (group.index, rows), None))?;
        let int96: Vec<usize> = layout.columns.iter().filter_map(|column| column.int96).collect();
        let finer = match int96.as_slice() {
            [] => None,
            leaves => Some(caught(|| open(&layout.finer, bytes, (group.index, rows), Some(leaves)))?),
        };
        Ok(Self { reader: Some(reader), finer, left: group.rows, ..Self::default() })
    }

    /// Goes on to the next record; false where the group has no more.
    pub(super) fn next(&mut self) -> Result<bool, DecodeError> {
        let next = self.row.map_or(0, |row| row + 1);
        if self.rows.as_ref().is_some_and(|rows| next < rows.num_rows()) || self.decode()? {
            self.row = Some(if self.row.is_some() { next } else { 0 });
            return Ok(true);
        }
        Ok(false)
    }

    /// Decodes the next rows; false where the group has no more.
    fn decode(&mut self) -> Result<bool, DecodeError> {
        let Some(reader) = &mut self.reader else { return Ok(false) };
        let rows = caught(|| reader.next().transpose())?;
        let finer = &mut self.finer;
        self.finer_rows = caught(|| finer.as_mut().and_then(Iterator::next).transpose())?;
        self.row = None;
        let decoded = rows.as_ref().map_or(0, RecordBatch::num_rows);
        let fits = self.finer_rows.as_ref().is_none_or(|finer| finer.num_rows() == decoded);
        self.left = match (decoded, self.left.checked_sub(decoded as u64)) {
            (0, Some(0)) => 0,
            (1.., Some(left)) if fits => left,
            _ => return Err(damaged("a row group has another number of rows than it claims")),
        };
        self.rows = rows;
        Ok(self.rows.is_some())
    }

    /// Spells a claimed value of the record at hand, and says whether it is finer than PostgreSQL's.
    pub(super) fn value(
        &self,
        layout: &Layout,
        claim: &Claim,
        room: (usize, &mut Vec<u8>),
    ) -> Result<(Spelt, bool), Fault> {
        let (Some(rows), Some(row)) = (&self.rows, self.row) else { return Ok((Spelt::Null, false)) };
        let mut array = rows.columns().get(claim.field).ok_or(Fault::Mismatch)?;
        for step in &claim.path {
            if array.is_null(row) {
                return Ok((Spelt::Null, false));
            }
            let parts = array.as_struct_opt().ok_or(Fault::Mismatch)?;
            array = parts.columns().get(*step).ok_or(Fault::Mismatch)?;
        }
        if array.is_null(row) {
            return Ok((Spelt::Null, false));
        }
        let scalar = match claim.kind {
            Kind::Scalar(Leaf::Int96) => self.int96(layout, claim.field, row)?,
            Kind::Scalar(leaf) => cell::scalar(array.as_ref(), leaf, row)?,
            _ => return Ok((cell::nested(array.as_ref(), &claim.kind, row, room)?, false)),
        };
        Ok((scalar.spell(room.1), scalar.is_finer_than_micros()))
    }

    /// Appends a whole field of the record at hand as JSON; nothing before the first record.
    pub(super) fn json(&self, layout: &Layout, field: usize, room: (usize, &mut Vec<u8>)) -> Result<(), Fault> {
        let (Some(column), Some(rows), Some(row)) = (layout.columns.get(field), &self.rows, self.row) else {
            return Ok(());
        };
        let array = rows.columns().get(field).ok_or(Fault::Mismatch)?;
        if column.int96.is_some() && !array.is_null(row) {
            self.int96(layout, field, row)?.json(room.1);
            return Ok(());
        }
        cell::json(array.as_ref(), &column.kind, row, room)
    }

    /// A moment of INT96 at the top, from both readers.
    fn int96(&self, layout: &Layout, field: usize, row: usize) -> Result<Scalar<'static>, Fault> {
        let place = layout.columns.iter().take(field).filter(|column| column.int96.is_some()).count();
        let micros = self.rows.as_ref().and_then(|rows| rows.columns().get(field)).ok_or(Fault::Mismatch)?;
        let nanos = self.finer_rows.as_ref().and_then(|rows| rows.columns().get(place)).ok_or(Fault::Mismatch)?;
        cell::int96(micros.as_ref(), nanos.as_ref(), row)
    }
}

/// The bytes of one row group, by their places in the file.
#[derive(Clone)]
pub(super) struct Chunk {
    bytes: Bytes,
    at: u64,
    size: u64,
}

impl Length for Chunk {
    fn len(&self) -> u64 {
        self.size
    }
}

impl Chunk {
    /// The bytes from a place on, of a file of so many.
    pub(super) const fn new(bytes: Bytes, at: u64, size: u64) -> Self {
        Self { bytes, at, size }
    }

    /// From a place of the file to the end of the row group.
    fn from(&self, start: u64) -> Result<Bytes, ParquetError> {
        let skip = start.checked_sub(self.at).and_then(|skip| usize::try_from(skip).ok());
        let skip = skip.filter(|skip| *skip <= self.bytes.len());
        skip.map(|skip| self.bytes.slice(skip..)).ok_or_else(|| ParquetError::EOF("outside the row group".to_owned()))
    }
}

impl ChunkReader for Chunk {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let rest = self.from(start)?;
        if length > rest.len() {
            return Err(ParquetError::EOF("outside the row group".to_owned()));
        }
        Ok(rest.slice(..length))
    }
}
