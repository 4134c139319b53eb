//! JSON: one object per line, or documents of any layout.
//!
//! Where a record begins and ends is found first ([`lines`], [`documents`]); then the library parses exactly these
//! bytes ([`walk`]). Numbers stay as they were written. Deliberately absent: repairing what is no JSON, such as
//! comments, trailing commas, single quotes or NaN.

mod documents;
mod envelope;
mod fault;
mod frame;
mod input;
mod lines;
mod paths;
mod tape;
mod walk;

use std::borrow::Cow;
use std::collections::HashMap;

use tokio::io::AsyncRead;

use crate::config::feed::{Feed, Format};
use crate::domain::record::{BadRecord, Position};

use super::reader::{Next, RecordReader, Schema, Typing, Value};
use super::{DecodeError, Failure};
use documents::Documents;
use fault::Fault;
use input::{Input, Place, Span};
use paths::Paths;
use walk::{Cell, Found, Rules};

/// What text is called that cannot be JSON from its first byte on.
pub const NO_JSON: &str = "text that is no JSON";

/// What has its records on more lines, or fewer, than one each.
pub const DOCUMENT: &str = "one JSON document";

/// The reader of both layouts.
pub struct Records<R> {
    input: Input<R>,
    layout: Layout,
    rules: Rules,
    paths: Paths,
    found: Found,
    /// The record at hand.
    span: Span,
    position: Position,
    /// Where the next record lies, which was looked for to know whether there is one.
    held: Option<Extent>,
}

enum Layout {
    Lines,
    Documents(Documents),
}

/// Where a record lies in what was read and not taken yet.
#[derive(Debug, Clone, Copy)]
struct Extent {
    /// Blanks in front of it.
    lead: usize,
    length: usize,
    /// What is taken with it behind it.
    tail: usize,
    /// Whether the data may have been cut off inside it.
    is_last: bool,
}

impl<R: AsyncRead + Send + Unpin> Records<R> {
    /// Reads an object of `size` stored bytes.
    pub fn new(bytes: R, feed: &Feed, size: u64) -> Self {
        let layout = match feed.format {
            Format::Json => Layout::Documents(Documents::new(feed.json.records.clone())),
            Format::Jsonl | Format::Csv | Format::Parquet | Format::Avro => Layout::Lines,
        };
        Self {
            input: Input::new(bytes, &feed.limits, size),
            layout,
            rules: Rules::new(feed.json.duplicate_keys, &feed.limits),
            paths: Paths::default(),
            found: Found::default(),
            span: Span::default(),
            position: Position::default(),
            held: None,
        }
    }

    /// Looks for the next record.
    async fn find(&mut self) -> Result<Option<Extent>, Failure> {
        match &mut self.layout {
            Layout::Lines => lines::find(&mut self.input).await,
            Layout::Documents(documents) => documents.find(&mut self.input, self.rules).await,
        }
    }

    /// Takes a record off the input; it becomes the one at hand.
    fn take(&mut self, extent: Extent) {
        self.input.skip(extent.lead);
        let Place { byte, line } = self.input.place();
        self.span = self.input.take(extent.length);
        self.input.skip(extent.tail);
        self.position = Position { record: self.position.record + 1, line, byte };
    }

    /// What follows from a fault: the record is bad, or the object is.
    async fn judge(&mut self, extent: Extent, fault: &Fault) -> Result<(), Failure> {
        let is_first = self.position.record == 0;
        match &self.layout {
            Layout::Lines if is_first => lines::refuse_foreign(&mut self.input, extent, fault).await,
            Layout::Lines => Ok(()),
            Layout::Documents(documents) => documents.refuse_broken(&self.input, fault, is_first),
        }
    }

    fn text(&self) -> &[u8] {
        self.input.at(self.span)
    }

    fn show<'a>(&'a self, cell: Cell, text: &'a [u8]) -> Value<'a> {
        match cell {
            Cell::Absent => Value::Absent,
            Cell::Null => Value::Null,
            Cell::Bool(value) => Value::Bool(value),
            Cell::Text(span) => Value::Text(span.of(text)),
            Cell::Decoded(span) => Value::Text(span.of(&self.found.decoded)),
            Cell::Number(span) => Value::Number(span.of(text)),
            Cell::Nested(span) => Value::Nested(span.of(text)),
        }
    }
}

impl<R: AsyncRead + Send + Unpin> RecordReader for Records<R> {
    const TYPING: Typing = Typing::Json;

    async fn schema(&mut self) -> Result<Option<Schema>, Failure> {
        self.input.begin().await?;
        self.held = self.find().await?;
        Ok(self.held.map(|_extent| Schema::Open))
    }

    fn claim(&mut self, text: &str, steps: &[String]) -> Option<usize> {
        Some(self.paths.claim(text, steps))
    }

    async fn next(&mut self) -> Result<Next, Failure> {
        let extent = match self.held.take() {
            Some(extent) => extent,
            None => match self.find().await? {
                Some(extent) => extent,
                None => return Ok(Next::End),
            },
        };
        let text = extent.of(self.input.rest());
        let Err(fault) = parse(text, &self.paths, self.rules, &mut self.found) else {
            self.take(extent);
            return Ok(Next::Record);
        };
        if extent.is_last && (fault == Fault::Ends || walk::is_cut(text)) {
            // Never one record less: what is missing may be more than this one.
            return Err(self.cut(extent).into());
        }
        self.judge(extent, &fault).await?;
        self.take(extent);
        let (position, column) = (self.position, None);
        Ok(Next::Bad(BadRecord { position, column, code: fault.code(), reason: fault.reason() }))
    }

    #[inline]
    fn number(&self) -> u64 {
        self.position.record
    }

    fn position(&self) -> Position {
        self.position
    }

    #[inline]
    fn value(&self, slot: usize) -> Value<'_> {
        self.show(self.paths.value(slot, &self.found.cells), self.text())
    }

    fn unclaimed(&self, visit: &mut dyn FnMut(&str, Value<'_>)) {
        let text = self.text();
        let key = |span: Span| meaning(span.of(text));
        // Where the last of several equal keys counts, the others are not there.
        let last: Option<HashMap<_, _>> = self.rules.last_counts().then(|| {
            let members = self.found.members.iter();
            members.map(|member| (key(member.key), member.key)).collect()
        });
        for member in &self.found.members {
            let name = key(member.key);
            if last.as_ref().is_some_and(|last| last.get(&name) != Some(&member.key)) {
                continue;
            }
            let raw = member.value.of(text);
            match raw.first() {
                Some(b'"') => visit(&name, Value::Text(meaning(raw).as_bytes())),
                Some(b'{' | b'[') => visit(&name, Value::Nested(raw)),
                _ => visit(&name, self.show(walk::plain(raw, member.value.start), text)),
            }
        }
    }

    fn raw(&self, most: usize, out: &mut Vec<u8>) -> u64 {
        let text = self.text();
        out.extend(text.iter().chain(b"\n").take(most));
        text.len() as u64 + 1
    }

    fn bytes(&self) -> u64 {
        self.input.place().byte
    }
}

impl<R: AsyncRead + Send + Unpin> Records<R> {
    /// The data ends inside the last record.
    fn cut(&mut self, extent: Extent) -> DecodeError {
        self.take(extent);
        let reason = Fault::Ends.reason();
        DecodeError::Damaged {
            format: "JSON lines",
            detail: format!("{}: {reason}", self.position),
            code: Fault::Ends.code(),
        }
    }
}

impl Extent {
    /// The record's own bytes.
    fn of(self, rest: &[u8]) -> &[u8] {
        rest.get(self.lead..self.lead + self.length).unwrap_or_default()
    }
}

/// Parses the bytes of one record.
fn parse(bytes: &[u8], paths: &Paths, rules: Rules, found: &mut Found) -> Result<(), Fault> {
    walk::record(as_text(bytes)?, paths, rules, found)
}

/// The bytes as text.
fn as_text(bytes: &[u8]) -> Result<&str, Fault> {
    simdutf8::basic::from_utf8(bytes).map_err(|_no_utf8| match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_some() => {
            Fault::Syntax { told: "not UTF-8".into(), at: error.valid_up_to() }
        }
        _ => Fault::Ends,
    })
}

/// What a text of a record that was parsed means.
fn meaning(text: &[u8]) -> Cow<'_, str> {
    let text = std::str::from_utf8(text).unwrap_or_default();
    // Not reached: the walk took its meaning before.
    walk::unescaped(text).unwrap_or_default()
}

/// A document that cannot be read any further.
fn damaged(Place { byte, line }: Place, reason: &str, code: &'static str) -> DecodeError {
    DecodeError::Damaged { format: "JSON", detail: format!("line {line} (byte {byte}): {reason}"), code }
}

/// The same because of what is wrong with the value at this place.
fn fault_of(place: Place, fault: &Fault) -> DecodeError {
    damaged(place, &fault.reason(), fault.code())
}

#[cfg(test)]
mod tests;
