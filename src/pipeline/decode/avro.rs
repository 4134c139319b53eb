//! Records of Avro object container files.
//!
//! One block is in memory at a time. The library reads the schema; the container and the records are read here
//! (ADR-0020), so that every claim is held against the caps of the feed and the bytes that are there.

mod codec;
mod container;
mod datum;
mod shape;

use std::collections::HashSet;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, Ordering};

use apache_avro::Schema as AvroSchema;
use tokio::io::AsyncRead;

use crate::config::feed::Limits;
use crate::domain::record::{BadRecord, Position};
use crate::pipeline::fetch::FetchError;

use super::allowance::Allowance;
use super::caps::LimitError;
use super::reader::{Field, Next, RecordReader, Schema, Typing, Value};
use super::spell::{Spelt, string};
use super::{DecodeError, Failure, shown};
use container::{Block, Container};
use datum::{Cursor, Fault};
use shape::Column;

/// Deepest nesting of the schema's JSON that the library's parser follows.
const DEEPEST_JSON: usize = 120;

/// Longest text of the library that is passed on.
const LONGEST_TOLD: usize = 200;

/// Reads the records of one file.
pub struct Records<R> {
    container: Container<R>,
    limits: Limits,
    allowance: Allowance,
    columns: Vec<Column>,
    claims: Vec<Claim>,
    block: Block,
    /// Where the next record begins in the block, and how many are left in it.
    next: usize,
    left: u64,
    /// Where the fields of the record at hand begin.
    fields: Vec<usize>,
    /// Values of the claims, and their texts.
    spelt: Vec<Option<Spelt>>,
    text: Vec<u8>,
    number: u64,
    /// A field that is wanted and cannot be read.
    refused: Option<String>,
    /// Whether fields that nobody claimed are longer than a record may be.
    is_too_long: AtomicBool,
}

/// A value that somebody asks for.
struct Claim {
    /// The field at the top, and the way from there.
    field: usize,
    steps: Vec<String>,
}

impl<R: AsyncRead + Send + Unpin> Records<R> {
    /// Reads an object of `size` stored bytes.
    pub fn new(bytes: R, limits: &Limits, size: u64) -> Self {
        Self {
            container: Container::new(bytes, limits),
            limits: limits.clone(),
            allowance: Allowance::new(limits, size),
            columns: Vec::new(),
            claims: Vec::new(),
            block: Block { records: 0, bytes: Vec::new() },
            next: 0,
            left: 0,
            fields: Vec::new(),
            spelt: Vec::new(),
            text: Vec::new(),
            number: 0,
            refused: None,
            is_too_long: AtomicBool::new(false),
        }
    }

    /// The values of a record cost a step each, those of no bytes too.
    fn cursor(&self, at: usize) -> Cursor<'_> {
        let bytes = self.block.bytes.get(at..).unwrap_or_default();
        Cursor::new(bytes, self.limits.max_record_bytes.saturating_mul(4))
    }

    fn most(&self) -> usize {
        usize::try_from(self.limits.max_record_bytes).unwrap_or(usize::MAX)
    }

    /// Goes over the next record of the block: where its fields begin, and where it ends.
    fn walk(&mut self) -> Result<(), Fault> {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        let mut cursor = self.cursor(self.next);
        let begin = cursor.left();
        for column in &self.columns {
            fields.push(self.next + begin - cursor.left());
            datum::skip(&column.shape, &mut cursor)?;
        }
        let length = begin - cursor.left();
        if length > self.most() {
            return Err(Fault::Long);
        }
        self.next += length;
        self.fields = fields;
        Ok(())
    }

    /// Spells what was claimed of the record at hand; answers a field that is finer than PostgreSQL's.
    fn spell(&mut self) -> Result<Option<usize>, Fault> {
        let (mut text, mut spelt) = (std::mem::take(&mut self.text), std::mem::take(&mut self.spelt));
        text.clear();
        spelt.clear();
        let (most, mut finer) = (self.most(), None);
        for claim in &self.claims {
            let (Some(column), Some(at)) = (self.columns.get(claim.field), self.fields.get(claim.field)) else {
                continue;
            };
            let mut cursor = self.cursor(*at);
            let Some(shape) = datum::find(&column.shape, &mut cursor, &claim.steps)? else {
                spelt.push(None);
                continue;
            };
            let (value, is_finer) = datum::spell(shape, &mut cursor, (most, &mut text))?;
            if is_finer {
                finer.get_or_insert(claim.field);
            }
            spelt.push(Some(value));
        }
        (self.text, self.spelt) = (text, spelt);
        Ok(finer)
    }

    fn fault(&self, fault: Fault) -> DecodeError {
        match fault {
            Fault::Long => LimitError::LongRecord { record: self.number, cap: self.limits.max_record_bytes }.into(),
            Fault::Damaged(what) => damaged(format!("record {}: {what}", self.number)),
        }
    }

    fn too_fine(&self, field: usize) -> BadRecord {
        let name = self.columns.get(field).map_or("", |column| &column.name);
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

    /// Appends a whole field of the record at hand as JSON.
    fn json(&self, field: usize, room: (usize, &mut Vec<u8>)) -> Result<(), Fault> {
        let (Some(column), Some(at)) = (self.columns.get(field), self.fields.get(field)) else { return Ok(()) };
        datum::json(&column.shape, &mut self.cursor(*at), room)
    }

    /// Reads blocks until one has records; false at the end.
    async fn fill(&mut self) -> Result<bool, Failure> {
        while self.left == 0 {
            if self.next < self.block.bytes.len() {
                return Err(damaged("a block has bytes behind its last record").into());
            }
            let allowance = &mut self.allowance;
            let block = self.container.block(|records, bytes| allowance.spend(bytes, records)).await?;
            let Some(block) = block else { return Ok(false) };
            (self.left, self.next) = (block.records, 0);
            self.block = block;
        }
        Ok(true)
    }
}

impl<R: AsyncRead + Send + Unpin> RecordReader for Records<R> {
    const TYPING: Typing = Typing::Schema;

    async fn schema(&mut self) -> Result<Option<Schema>, Failure> {
        let schema = self.container.header().await?;
        let schema = parse(&schema, self.limits.max_depth)?;
        self.columns = shape::columns(&schema, self.limits.max_fields, self.limits.max_depth)?;
        let field = |column: &Column| Field { name: column.name.clone(), kind: column.words.clone() };
        Ok(Some(Schema::Named(self.columns.iter().map(field).collect())))
    }

    fn claim(&mut self, text: &str, steps: &[String]) -> Option<usize> {
        let place = |name: &str| self.columns.iter().position(|column| column.name == name);
        let (field, rest) = if let Some(field) = place(text) {
            (field, &[][..])
        } else {
            let (first, rest) = steps.split_first()?;
            (place(first)?, rest)
        };
        let column = self.columns.get(field)?;
        if column.shape.leads(rest)?.is_refused(&mut HashSet::new()) && self.refused.is_none() {
            self.refused = Some(format!("field {} is of type {}, which is not read", shown(text), column.words));
        }
        self.claims.push(Claim { field, steps: rest.to_vec() });
        Some(self.claims.len() - 1)
    }

    async fn next(&mut self) -> Result<Next, Failure> {
        if let Some(refused) = self.refused.take() {
            return Err(damaged(refused).into());
        }
        if self.is_too_long.load(Ordering::Relaxed) {
            return Err(self.fault(Fault::Long).into());
        }
        if !self.fill().await? {
            return Ok(Next::End);
        }
        self.number += 1;
        self.left -= 1;
        self.walk().map_err(|fault| self.fault(fault))?;
        let finer = self.spell().map_err(|fault| self.fault(fault))?;
        Ok(finer.map_or(Next::Record, |field| Next::Bad(self.too_fine(field))))
    }

    fn number(&self) -> u64 {
        self.number
    }

    fn position(&self) -> Position {
        self.place()
    }

    #[inline]
    fn value(&self, slot: usize) -> Value<'_> {
        match self.spelt.get(slot) {
            Some(Some(spelt)) => spelt.value(&self.text),
            _ => Value::Absent,
        }
    }

    fn unclaimed(&self, visit: &mut dyn FnMut(&str, Value<'_>)) {
        for (field, column) in self.columns.iter().enumerate() {
            if self.claims.iter().any(|claim| claim.field == field) {
                continue;
            }
            let mut text = Vec::new();
            if self.json(field, (self.most(), &mut text)).is_err() {
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
        let mut line = vec![b'{'];
        for (field, column) in self.columns.iter().enumerate() {
            if field > 0 {
                line.push(b',');
            }
            string(&column.name, &mut line);
            line.push(b':');
            if self.json(field, (self.most(), &mut line)).is_err() {
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

/// Has the library read the schema, if that is not nested deeper than both of us go.
fn parse(schema: &[u8], max_depth: usize) -> Result<AvroSchema, DecodeError> {
    let text = std::str::from_utf8(schema).map_err(|error| damaged(format!("the schema is no UTF-8: {error}")))?;
    if nesting(text) > DEEPEST_JSON {
        return Err(LimitError::SchemaDepth(max_depth).into());
    }
    match catch_unwind(|| AvroSchema::parse_str(text)) {
        Ok(Ok(schema)) => Ok(schema),
        Ok(Err(error)) => {
            let mut told: String = error.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            if let Some((end, _)) = told.char_indices().nth(LONGEST_TOLD) {
                told.truncate(end);
            }
            Err(damaged(format!("the schema is none: {told}")))
        }
        Err(_panic) => Err(damaged("the schema is contradictory")),
    }
}

/// The deepest nesting of brackets outside of texts.
fn nesting(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_text, mut is_escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            b'"' if !is_escaped => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        is_escaped = in_text && byte == b'\\' && !is_escaped;
        deepest = deepest.max(depth);
    }
    deepest
}

/// What is wrong with the file.
fn damaged(detail: impl Into<String>) -> DecodeError {
    DecodeError::Damaged { format: "Avro", detail: detail.into(), code: "E-AVRO" }
}

#[cfg(test)]
mod tests;
