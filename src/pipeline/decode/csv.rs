//! CSV records.
//!
//! `csv-async` splits the bytes; this file checks what it lets pass: ragged rows, an open or misplaced quote, giant
//! records.

use std::io;

use csv_async::{AsyncReader, AsyncReaderBuilder, ByteRecord, ErrorKind};
use tokio::io::AsyncRead;

use crate::config::feed::{Csv, Format, Limits};
use crate::domain::record::{BadRecord, Position};

use super::caps::LimitError;
use super::guard::{Guard, Mark, RecordStart};
use super::quotes::Malformed;
use super::reader::{Field, Next, RecordReader, Schema, Typing, Value};
use super::{DecodeError, Failure};

/// Buffer in front of the record splitter; smaller for objects that do not fill it.
const BUFFER: usize = 128 * 1024;

/// Smallest buffer: a compressed object's size says little about the bytes that come out of it.
const LEAST_BUFFER: usize = 16 * 1024;

/// The record splitter with its checks.
pub struct Records<R> {
    reader: AsyncReader<Guard<R>>,
    csv: Csv,
    start: std::sync::Arc<RecordStart>,
    mark: Mark,
    limits: Limits,
    record: ByteRecord,
    position: Position,
    count: u64,
    end: u64,
    /// Names of the header, or as many empty ones as the first record has fields.
    names: Vec<String>,
    claimed: Vec<bool>,
    /// Whether the record at hand was read to count its fields and is still to be handed out.
    held: bool,
    header: Option<Vec<u8>>,
}

impl<R: AsyncRead + Send + Unpin> Records<R> {
    /// Reads an object of `size` stored bytes.
    pub fn new(bytes: R, csv: &Csv, limits: &Limits, size: u64) -> Self {
        let guard = Guard::new(bytes, csv, limits, size);
        let (start, mark) = (guard.record_start(), guard.mark());
        let mut builder = AsyncReaderBuilder::new();
        builder
            .has_headers(false)
            .flexible(true)
            .delimiter(csv.delimiter)
            .quoting(csv.quote.is_some())
            .quote(csv.quote.unwrap_or(b'"'))
            .escape(csv.escape)
            .double_quote(csv.escape.is_none())
            .buffer_capacity(usize::try_from(size).map_or(BUFFER, |size| size.clamp(LEAST_BUFFER, BUFFER)));
        Self {
            reader: builder.create_reader(guard),
            csv: csv.clone(),
            start,
            mark,
            limits: limits.clone(),
            record: ByteRecord::new(),
            position: Position::default(),
            count: 0,
            end: 0,
            names: Vec::new(),
            claimed: Vec::new(),
            held: false,
            header: None,
        }
    }

    /// Reads the next record; false at the proper end of the data.
    async fn read(&mut self) -> Result<bool, Failure> {
        let found = match self.reader.read_byte_record(&mut self.record).await {
            Ok(found) => found,
            Err(error) => return Err(self.cause(split(error))),
        };
        let (byte, line) = self.record.position().map_or((self.end, 1), |at| (at.byte(), at.line()));
        self.position = Position { record: self.count + 1, line, byte };
        self.check_quotes()?;
        if !found || self.mark.is_swallowed_by(&self.record) {
            // The mark did not come back as a record of its own: a quoted field took it in.
            return Err(DecodeError::UnterminatedQuote(self.exact(self.position)).into());
        }
        if self.mark.is(&self.record) {
            return Ok(false);
        }
        let at = self.reader.position();
        self.end = at.byte();
        self.check()?;
        self.start.set(self.end, at.line());
        self.count += 1;
        Ok(true)
    }

    /// Refuses a record with a quote in a wrong place. Comes before every other check: what the splitter made of such
    /// a record, and whether it ever ended, says nothing.
    #[inline]
    fn check_quotes(&self) -> Result<(), DecodeError> {
        match self.reader.get_ref().malformed() {
            Some(malformed) if malformed.byte < self.reader.position().byte() && self.is_within_cap(malformed) => {
                Err(self.misplaced(malformed, self.position))
            }
            _ => Ok(()),
        }
    }

    /// A record that is too long because of a misplaced quote is blamed for the quote. Which of the two comes first in
    /// the object decides, so that what is said does not depend on how the bytes arrived.
    fn cause(&self, failure: Failure) -> Failure {
        let is_too_long = matches!(&failure, Failure::Io(error) if matches!(
            error.get_ref().and_then(|inner| inner.downcast_ref()),
            Some(LimitError::Record { .. })
        ));
        match self.reader.get_ref().malformed() {
            Some(malformed) if is_too_long && self.is_within_cap(malformed) => {
                let (byte, line) = self.start.get();
                self.misplaced(malformed, Position { record: self.count + 1, line, byte }).into()
            }
            _ => failure,
        }
    }

    fn is_within_cap(&self, malformed: Malformed) -> bool {
        malformed.byte.saturating_sub(self.end) <= self.limits.max_record_bytes
    }

    fn misplaced(&self, malformed: Malformed, position: Position) -> DecodeError {
        // Where the first field is no CSV, it is JSON: an object, or an array of them.
        if position.byte == 0 && matches!(self.reader.get_ref().first_byte(), Some(b'{' | b'[')) {
            return DecodeError::Format { found: "JSON", expected: Format::Csv };
        }
        super::bad(self.exact(position), None, "E-CSV-QUOTE", malformed.offence.reason())
    }

    /// Where the record begins, line ends before it left out. Only errors need to know.
    fn exact(&self, position: Position) -> Position {
        let (byte, line) = self.reader.get_ref().skip_line_ends(position.byte, position.line);
        Position { line, byte, ..position }
    }

    fn check(&self) -> Result<(), DecodeError> {
        let cap = self.limits.max_record_bytes;
        if self.end.saturating_sub(self.position.byte) > cap {
            let Position { line, byte, .. } = self.exact(self.position);
            return Err(LimitError::Record { line, byte, cap }.into());
        }
        let (fields, cap) = (self.record.len(), self.limits.max_fields);
        if fields > cap {
            return Err(LimitError::Fields { line: self.exact(self.position).line, fields, cap }.into());
        }
        Ok(())
    }

    /// Takes the record at hand for the header.
    fn take_names(&mut self) -> Result<(), DecodeError> {
        for field in &self.record {
            let name = std::str::from_utf8(field)
                .map_err(|error| DecodeError::Header(format!("the header is not UTF-8: {error}")))?
                .trim()
                .to_owned();
            if self.names.contains(&name) {
                return Err(DecodeError::Header(format!("the header names {} twice", super::shown(&name))));
            }
            self.names.push(name);
        }
        let mut header = Vec::new();
        self.write(usize::MAX, &mut header);
        self.header = Some(header);
        Ok(())
    }

    /// Writes the record at hand by the rules of the dialect, with a line end.
    fn write(&self, most: usize, out: &mut Vec<u8>) -> u64 {
        let (start, mut whole) = (out.len(), 0_u64);
        let mut put = |bytes: &[u8], out: &mut Vec<u8>| {
            whole += bytes.len() as u64;
            let room = most.saturating_sub(out.len() - start).min(bytes.len());
            out.extend_from_slice(bytes.get(..room).unwrap_or_default());
        };
        for (index, field) in self.record.iter().enumerate() {
            if index > 0 {
                put(&[self.csv.delimiter], out);
            }
            let special = |byte: &u8| {
                matches!(byte, b'\n' | b'\r') || *byte == self.csv.delimiter || Some(*byte) == self.csv.quote
            };
            match self.csv.quote {
                Some(quote) if field.iter().any(special) => {
                    let before = self.csv.escape.unwrap_or(quote);
                    let mut quoted = vec![quote];
                    for byte in field {
                        if *byte == quote || Some(*byte) == self.csv.escape {
                            quoted.push(before);
                        }
                        quoted.push(*byte);
                    }
                    quoted.push(quote);
                    put(&quoted, out);
                }
                _ => put(field, out),
            }
        }
        put(b"\n", out);
        whole
    }

    fn ragged(&self) -> BadRecord {
        let fields = self.record.len();
        let counted = format!("{fields} field{}", if fields == 1 { "" } else { "s" });
        BadRecord {
            position: self.exact(self.position),
            column: None,
            code: "E-CSV-RAGGED",
            reason: format!("the record has {counted} instead of {}", self.names.len()),
        }
    }
}

impl<R: AsyncRead + Send + Unpin> RecordReader for Records<R> {
    const TYPING: Typing = Typing::Texts;

    async fn schema(&mut self) -> Result<Option<Schema>, Failure> {
        if !self.read().await? {
            return Ok(None);
        }
        let fields = self.record.len();
        self.claimed = vec![false; fields];
        if self.csv.header {
            self.take_names()?;
            self.count = 0;
            let field = |name: &String| Field { name: name.clone(), kind: String::new() };
            return Ok(Some(Schema::Named(self.names.iter().map(field).collect())));
        }
        self.names = vec![String::new(); fields];
        self.held = true;
        Ok(Some(Schema::Positions(fields)))
    }

    fn claim(&mut self, text: &str, _steps: &[String]) -> Option<usize> {
        if !self.csv.header {
            return None;
        }
        let slot = self.names.iter().position(|name| name == text)?;
        if let Some(claimed) = self.claimed.get_mut(slot) {
            *claimed = true;
        }
        Some(slot)
    }

    #[inline]
    async fn next(&mut self) -> Result<Next, Failure> {
        if !std::mem::take(&mut self.held) && !self.read().await? {
            return Ok(Next::End);
        }
        if self.record.len() != self.names.len() {
            return Ok(Next::Bad(self.ragged()));
        }
        Ok(Next::Record)
    }

    #[inline]
    fn number(&self) -> u64 {
        self.position.record
    }

    fn position(&self) -> Position {
        self.exact(self.position)
    }

    #[inline]
    fn value(&self, slot: usize) -> Value<'_> {
        self.record.get(slot).map_or(Value::Absent, Value::Text)
    }

    fn unclaimed(&self, visit: &mut dyn FnMut(&str, Value<'_>)) {
        for (slot, name) in self.names.iter().enumerate() {
            if self.claimed.get(slot) == Some(&false) {
                visit(name, self.value(slot));
            }
        }
    }

    fn raw(&self, most: usize, out: &mut Vec<u8>) -> u64 {
        self.write(most, out)
    }

    fn header(&self) -> Option<Vec<u8>> {
        self.header.clone()
    }

    /// A bad cell in the first record of a file without header is most often one: a header that nobody told us about.
    fn explain(&self, bad: &mut BadRecord) {
        if !self.csv.header && bad.position.record == 1 && bad.code.starts_with("E-CELL-") {
            bad.reason.push_str("; if this line is a header, set csv.header = true");
        }
    }

    fn bytes(&self) -> u64 {
        self.end
    }
}

fn split(error: csv_async::Error) -> Failure {
    match error.into_kind() {
        ErrorKind::Io(error) => Failure::Io(error),
        other => Failure::Io(io::Error::other(format!("{other:?}"))),
    }
}
