//! Parquet records.
//!
//! The footer is read first, from the end; then the row groups in the order of the file, from the same verified stream
//! as every other format, one in memory at a time (ADR-0019). The `parquet` library decodes pages; what it would
//! believe unseen is looked at before ([`footer`], [`pages`]), and if it panics nevertheless, the object is damaged and
//! nothing else.

mod cell;
mod footer;
mod group;
mod kind;
mod pages;
mod source;
mod thrift;

use std::fmt;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::reader::ChunkReader as _;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::config::feed::{Format, Limits};
use crate::domain::record::{BadRecord, Position};

use super::allowance::Allowance;
use super::caps::LimitError;
use super::compression::Opened;
use super::reader::{Field, Next, RecordReader, Schema, Typing, Value};
use super::spell::{Spelt, string};
use super::{DecodeError, Failure, shown};
use cell::Fault;
use footer::Group;
use group::{Batch, Chunk, Claim};
use kind::Column;
use source::Source;
pub use source::ending;

/// Records decoded at once.
const BATCH: u64 = 1024;

/// Longest text of the library that is passed on.
const LONGEST_TOLD: usize = 200;

/// Reads the records of one file.
pub struct Records<R> {
    source: Source<R>,
    limits: Limits,
    allowance: Allowance,
    layout: Option<Layout>,
    batch: Batch,
    claims: Vec<Claim>,
    /// Values of the claims, and their texts.
    spelt: Vec<Spelt>,
    text: Vec<u8>,
    number: u64,
    /// Texts handed out so far: a dictionary makes many of few bytes.
    produced: u64,
    /// A field that is wanted and cannot be read.
    refused: Option<String>,
    /// Whether fields that nobody claimed are longer than a record may be.
    is_too_long: AtomicBool,
}

/// Bytes of a file in order.
type InOrder = Box<dyn AsyncRead + Send + Unpin>;

/// A file from its beginning, and its last bytes. Where those were not read first, all bytes are held.
pub(super) async fn ends(
    opened: Opened,
    ending: Option<Bytes>,
    limits: &Limits,
) -> Result<(InOrder, Bytes), DecodeError> {
    if opened.format != "uncompressed" {
        // Its end cannot be had before its beginning was read.
        return Err(DecodeError::Format { found: "a compressed file", expected: Format::Parquet });
    }
    if let Some(ending) = ending {
        return Ok((opened.reader, ending));
    }
    let mut whole = Vec::new();
    let read = opened.reader.take(limits.max_bytes).read_to_end(&mut whole).await;
    read.map_err(|error| DecodeError::from_io(error, opened.format))?;
    let whole = Bytes::from(whole);
    Ok((Box::new(Cursor::new(whole.clone())), whole))
}

/// What the footer says.
struct Layout {
    /// Texts as views, INT96 in microseconds.
    reading: ArrowReaderMetadata,
    /// INT96 in nanoseconds.
    finer: ArrowReaderMetadata,
    columns: Vec<Column>,
    /// Groups still to be read, the next one last.
    groups: Vec<Group>,
}

impl<R: AsyncRead + Send + Unpin> Records<R> {
    /// Reads an object of `size` bytes that ends so.
    pub fn new(bytes: R, ending: Bytes, limits: &Limits, size: u64) -> Self {
        Self {
            source: Source::new(bytes, ending, size),
            limits: limits.clone(),
            allowance: Allowance::new(limits, size),
            layout: None,
            batch: Batch::default(),
            claims: Vec::new(),
            spelt: Vec::new(),
            text: Vec::new(),
            number: 0,
            produced: 0,
            refused: None,
            is_too_long: AtomicBool::new(false),
        }
    }

    /// Looks at both ends of the file.
    async fn open(&mut self) -> Result<Layout, Failure> {
        let head = self.source.take(4).await?;
        match head.as_ref() {
            b"PAR1" => {}
            b"PARE" => return Err(damaged("the file is encrypted").into()),
            _ if self.source.size() == 0 => return Err(damaged("the object is empty").into()),
            _ => return Err(DecodeError::Format { found: "something else", expected: Format::Parquet }.into()),
        }
        let footer = footer::read(&self.source.ending(), self.source.size(), &self.limits)?;
        Ok(self.understand(footer)?)
    }

    fn understand(&self, footer: footer::Footer) -> Result<Layout, DecodeError> {
        let plain = || ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = footer.metadata;
        let inferred = caught(|| ArrowReaderMetadata::try_new(Arc::clone(&metadata), plain()))?;
        let descriptor = metadata.file_metadata().schema_descr();
        let (columns, hinted) = kind::columns(inferred.schema(), descriptor, self.limits.max_depth)?;
        let reading =
            caught(|| ArrowReaderMetadata::try_new(Arc::clone(&metadata), plain().with_schema(Arc::clone(&hinted))))?;
        let mut groups = footer.groups;
        groups.reverse();
        Ok(Layout { reading, finer: inferred, columns, groups })
    }

    /// Goes on to the next record; false behind the last.
    async fn advance(&mut self) -> Result<bool, Failure> {
        while !self.batch.next()? {
            if !self.next_group().await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads the next row group into memory; false behind the last.
    async fn next_group(&mut self) -> Result<bool, Failure> {
        // Before the next one is there, the last one's memory is free.
        self.batch = Batch::default();
        let Some(group) = self.layout.as_mut().and_then(|layout| layout.groups.pop()) else {
            self.source.finish().await?;
            return Ok(false);
        };
        self.source.go_to(group.span.start).await?;
        let bytes = self.source.take(group.span.end - group.span.start).await?;
        let bytes = Chunk::new(bytes, group.span.start, self.source.size());
        let widest = self.check(&group, &bytes)?;
        // What is widest must fit into memory as often as there are rows in a batch.
        let rows = (self.limits.max_block_bytes / widest.max(1)).clamp(1, BATCH);
        if let Some(layout) = &self.layout {
            self.batch = Batch::begin(layout, &bytes, &group, rows)?;
        }
        Ok(true)
    }

    /// Looks at the pages of a row group; answers how many bytes one of its rows may take.
    fn check(&mut self, group: &Group, bytes: &Chunk) -> Result<u64, DecodeError> {
        let Some(layout) = &self.layout else { return Ok(0) };
        let most = self.limits.max_block_bytes;
        let (mut held, mut total, mut widest) = (0_u64, 0_u64, 0_u64);
        for column in layout.reading.metadata().row_group(group.index).columns() {
            let (start, length) = column.byte_range();
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let chunk = bytes.get_bytes(start, length).map_err(|error| damaged(error.to_string()))?;
            let walked = pages::check(&chunk, column, group.rows, most)?;
            held = held.saturating_add(walked.held);
            total = total.saturating_add(walked.bytes);
            widest = widest.saturating_add(walked.widest);
        }
        if held > most {
            return Err(LimitError::Block { what: "row group's pages", bytes: held, cap: most }.into());
        }
        self.allowance.spend(total, group.rows)?;
        Ok(widest)
    }

    /// Spells what was claimed of the record at hand.
    fn spell(&mut self) -> Result<Option<BadRecord>, DecodeError> {
        self.text.clear();
        self.spelt.clear();
        let most = usize::try_from(self.limits.max_record_bytes).unwrap_or(usize::MAX);
        let mut finer_than_micros = None;
        let Some(layout) = &self.layout else { return Ok(None) };
        for claim in &self.claims {
            match self.batch.value(layout, claim, (most, &mut self.text)) {
                Ok(_) if self.text.len() > most => return Err(self.fault(Fault::Long)),
                Ok((spelt, is_finer)) => {
                    if is_finer {
                        finer_than_micros.get_or_insert(claim.field);
                    }
                    self.spelt.push(spelt);
                }
                Err(fault) => return Err(self.fault(fault)),
            }
        }
        self.produced = self.produced.saturating_add(self.text.len() as u64);
        if self.produced > self.limits.max_bytes {
            return Err(LimitError::Bytes(self.limits.max_bytes).into());
        }
        Ok(finer_than_micros.map(|field| self.too_fine(field)))
    }

    fn fault(&self, fault: Fault) -> DecodeError {
        match fault {
            Fault::Long => LimitError::LongRecord { record: self.number, cap: self.limits.max_record_bytes }.into(),
            Fault::Mismatch => damaged("a column is not of the type that the schema says"),
        }
    }

    fn too_fine(&self, field: usize) -> BadRecord {
        let name = self.columns().get(field).map_or("", |column| &column.name);
        BadRecord {
            position: self.place(),
            column: None,
            code: "E-ROW-PRECISION",
            reason: format!("field {} has nanoseconds, which PostgreSQL cannot keep", shown(name)),
        }
    }

    const fn place(&self) -> Position {
        Position { record: self.number, line: 0, byte: 0 }
    }

    fn columns(&self) -> &[Column] {
        self.layout.as_ref().map_or(&[], |layout| &layout.columns)
    }

    /// Appends a whole field of the record at hand as JSON.
    fn json(&self, field: usize, room: (usize, &mut Vec<u8>)) -> Result<(), Fault> {
        self.layout.as_ref().map_or(Ok(()), |layout| self.batch.json(layout, field, room))
    }
}

impl<R: AsyncRead + Send + Unpin> RecordReader for Records<R> {
    const TYPING: Typing = Typing::Schema;

    async fn schema(&mut self) -> Result<Option<Schema>, Failure> {
        let layout = self.open().await?;
        let field = |column: &Column| Field { name: column.name.clone(), kind: column.words.clone() };
        let fields = layout.columns.iter().map(field).collect();
        self.layout = Some(layout);
        Ok(Some(Schema::Named(fields)))
    }

    fn claim(&mut self, text: &str, steps: &[String]) -> Option<usize> {
        let columns = self.columns();
        let place = |name: &str| columns.iter().position(|column| column.name == name);
        let (field, rest) = if let Some(field) = place(text) {
            (field, &[][..])
        } else {
            let (first, rest) = steps.split_first()?;
            (place(first)?, rest)
        };
        let column = columns.get(field)?;
        let (path, kind) = column.kind.find(rest)?;
        let claim = Claim { field, path, kind: kind.clone() };
        if kind.is_refused() && self.refused.is_none() {
            self.refused = Some(format!("field {} is of type {}, which is not read", shown(text), column.words));
        }
        self.claims.push(claim);
        Some(self.claims.len() - 1)
    }

    async fn next(&mut self) -> Result<Next, Failure> {
        if let Some(refused) = self.refused.take() {
            return Err(damaged(refused).into());
        }
        if self.is_too_long.load(Ordering::Relaxed) {
            return Err(self.fault(Fault::Long).into());
        }
        if !self.advance().await? {
            return Ok(Next::End);
        }
        self.number += 1;
        Ok(self.spell()?.map_or(Next::Record, Next::Bad))
    }

    fn number(&self) -> u64 {
        self.number
    }

    fn position(&self) -> Position {
        self.place()
    }

    #[inline]
    fn value(&self, slot: usize) -> Value<'_> {
        self.spelt.get(slot).map_or(Value::Absent, |spelt| spelt.value(&self.text))
    }

    fn unclaimed(&self, visit: &mut dyn FnMut(&str, Value<'_>)) {
        let most = usize::try_from(self.limits.max_record_bytes).unwrap_or(usize::MAX);
        for (field, column) in self.columns().iter().enumerate() {
            if self.claims.iter().any(|claim| claim.field == field) {
                continue;
            }
            let mut text = Vec::new();
            if let Err(_fault) = self.json(field, (most, &mut text)) {
                // The next step fails the object: nothing of this stays.
                self.is_too_long.store(true, Ordering::Relaxed);
            }
            let value = match text.as_slice() {
                b"" => Value::Absent,
                b"null" => Value::Null,
                json => Value::Nested(json),
            };
            visit(&column.name, value);
        }
    }

    fn raw(&self, most: usize, out: &mut Vec<u8>) -> u64 {
        let longest = usize::try_from(self.limits.max_record_bytes).unwrap_or(usize::MAX);
        let mut line = vec![b'{'];
        for (field, column) in self.columns().iter().enumerate() {
            if field > 0 {
                line.push(b',');
            }
            string(&column.name, &mut line);
            line.push(b':');
            if self.json(field, (longest, &mut line)).is_err() {
                // No more of it is ever kept.
                break;
            }
        }
        line.extend_from_slice(b"}\n");
        out.extend_from_slice(line.get(..most.min(line.len())).unwrap_or_default());
        line.len() as u64
    }

    fn bytes(&self) -> u64 {
        self.allowance.spent()
    }
}

/// What is wrong with the file.
fn damaged(detail: impl Into<String>) -> DecodeError {
    DecodeError::Damaged { format: "Parquet", detail: detail.into(), code: "E-PARQUET" }
}

/// Has the library do something: what it refuses, or panics over, is wrong with the file.
fn caught<T, E: fmt::Display>(work: impl FnOnce() -> Result<T, E>) -> Result<T, DecodeError> {
    // What the work had in its hands is not used again after a panic: the object has failed.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            let mut told: String = error.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            if let Some((end, _)) = told.char_indices().nth(LONGEST_TOLD) {
                told.truncate(end);
            }
            Err(damaged(told))
        }
        Err(_panic) => Err(damaged("its structure is contradictory")),
    }
}

#[cfg(test)]
mod tests;
