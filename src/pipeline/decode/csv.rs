//! CSV records.
//!
//! `csv-async` splits the bytes; this file checks what it lets pass: ragged rows, an open or misplaced quote, giant
//! records. Encodings and comments are dealt with before the bytes come here.

use std::io;

use csv_async::{AsyncReader, AsyncReaderBuilder, ByteRecord, ErrorKind};
use tokio::io::AsyncRead;

use crate::config::feed::{BlankRecords, Csv, Encoding, Format, Limits, Ragged};
use crate::domain::record::{BadRecord, Position, RAW_MOST};

use super::caps::LimitError;
use super::comments::Comments;
use super::encoding::Transcoder;
use super::guard::{Guard, Mark, RecordStart};
use super::quotes::{Malformed, is_whole};
use super::reader::{Field, Next, RecordReader, Schema, Typing, Value};
use super::{DecodeError, Failure};

/// Buffer in front of the record splitter; smaller for objects that do not fill it.
const BUFFER: usize = 128 * 1024;

/// Smallest buffer: a compressed object's size says little about the bytes that come out of it.
const LEAST_BUFFER: usize = 16 * 1024;

/// A quote in a wrong place.
const QUOTE: &str = "E-CSV-QUOTE";

/// The bytes of an object as the splitter takes them: UTF-8 without comments. Most are that, and nothing is put in
/// their way.
pub fn text(bytes: Box<dyn AsyncRead + Send + Unpin>, csv: &Csv) -> Box<dyn AsyncRead + Send + Unpin> {
    let text = match csv.encoding {
        Encoding::Utf8 => bytes,
        encoding => Box::new(Transcoder::new(bytes, encoding)),
    };
    match csv.comment {
        None => text,
        Some(comment) => Box::new(Comments::new(text, csv, comment)),
    }
}

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
    /// What was read to count the fields and is still to be handed out.
    ahead: Option<Ahead>,
    header: Option<Vec<u8>>,
}

/// Read ahead to learn the number of fields, where no header tells it.
struct Ahead {
    /// Blank records before the first with fields.
    blanks: u64,
    /// Whether that one is at hand; otherwise there is none.
    held: bool,
}

/// What reading on came to.
enum Read {
    /// A record is at hand.
    Record,
    /// A record that surely is one, with a quote in a wrong place.
    Bad(BadRecord),
    /// The proper end of the data.
    End,
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
            ahead: None,
            header: None,
        }
    }

    /// Reads the next record.
    #[inline]
    async fn read(&mut self) -> Result<Read, Failure> {
        let found = match self.reader.read_byte_record(&mut self.record).await {
            Ok(found) => found,
            Err(error) => return Err(self.cause(split(error))),
        };
        let (byte, line) = self.record.position().map_or((self.end, 1), |at| (at.byte(), at.line()));
        self.position = Position { record: self.count + 1, line, byte };
        let is_open = !found || self.mark.is_swallowed_by(&self.record);
        // Before every other check: what the splitter made of such a record, and whether it ever ended, says nothing.
        if let Some(malformed) = self.blamed() {
            return Ok(Read::Bad(self.pass_over(malformed, is_open)?));
        }
        if is_open {
            // The mark did not come back as a record of its own: a quoted field took it in.
            return Err(DecodeError::UnterminatedQuote(self.exact(self.position)).into());
        }
        if self.mark.is(&self.record) {
            return Ok(Read::End);
        }
        let at = self.reader.position();
        self.end = at.byte();
        self.check()?;
        self.start.set(self.end, at.line());
        self.count += 1;
        Ok(Read::Record)
    }

    /// The quote in a wrong place that the record at hand is to blame for.
    #[inline]
    fn blamed(&self) -> Option<Malformed> {
        let malformed = self.reader.get_ref().malformed()?;
        let is_its_own = malformed.byte < self.reader.position().byte() && self.is_within_cap(malformed);
        is_its_own.then_some(malformed)
    }

    /// Leaves a record with a quote in a wrong place behind, if it surely ends where the splitter says.
    ///
    /// No row is lost by that or merged with another: the record is one line, kept as it stands, and the splitter is
    /// before a record again, as it would be without this line. So is the scan for quotes, which finds the next one.
    /// In every other case nothing behind it can be trusted, and it fails the object.
    fn pass_over(&mut self, malformed: Malformed, is_open: bool) -> Result<BadRecord, DecodeError> {
        let at = self.reader.position();
        let (end, line) = (at.byte(), at.line());
        let is_too_long = end.saturating_sub(self.position.byte) > self.limits.max_record_bytes;
        let position = self.exact(self.position);
        if is_open || is_too_long || !self.is_whole(position.byte, end) {
            return Err(self.misplaced(malformed, self.position));
        }
        if self.is_json(position) {
            return Err(DecodeError::Format { found: "JSON", expected: Format::Csv });
        }
        self.end = end;
        self.start.set(end, line);
        self.count += 1;
        self.reader.get_mut().resume_quotes(end);
        Ok(BadRecord { position, column: None, code: QUOTE, reason: malformed.offence.reason().to_owned() })
    }

    /// Whether the bytes from here to there are all of a record, whatever their quotes mean.
    fn is_whole(&self, from: u64, to: u64) -> bool {
        let mut line = Vec::new();
        let whole = self.reader.get_ref().raw(from, to, RAW_MOST, &mut line);
        // A line feed was put behind what is not cut.
        line.len() as u64 == whole && line.pop().is_some() && is_whole(&self.csv, &line)
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
        if self.is_json(position) {
            return DecodeError::Format { found: "JSON", expected: Format::Csv };
        }
        let reason = format!("{}; where this record ends is not certain", malformed.offence.reason());
        super::bad(self.exact(position), None, QUOTE, reason)
    }

    /// Where the first field is no CSV, it is JSON: an object, or an array of them.
    fn is_json(&self, position: Position) -> bool {
        position.byte == 0 && matches!(self.reader.get_ref().first_byte(), Some(b'{' | b'['))
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
                .map_err(|error| DecodeError::Header(format!("the header is not UTF-8 (see csv.encoding): {error}")))?
                .trim()
                .to_owned();
            if self.names.contains(&name) {
                return Err(DecodeError::Header(format!("the header names {} twice", super::shown(&name))));
            }
            self.names.push(name);
        }
        self.header = Some(self.written());
        Ok(())
    }

    /// The record at hand by the rules of the dialect, with a line end. A record's own bytes may be gone in part.
    fn written(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (index, field) in self.record.iter().enumerate() {
            if index > 0 {
                out.push(self.csv.delimiter);
            }
            let special = |byte: &u8| {
                matches!(byte, b'\n' | b'\r') || *byte == self.csv.delimiter || Some(*byte) == self.csv.quote
            };
            // Without quotes it would be a comment, or no record at all.
            let is_alone = self.record.len() == 1 && field.trim_ascii().is_empty();
            let is_comment = index == 0 && self.csv.comment.is_some_and(|comment| field.starts_with(&[comment]));
            match self.csv.quote {
                Some(quote) if field.iter().any(special) || is_alone || is_comment => {
                    let before = self.csv.escape.unwrap_or(quote);
                    out.push(quote);
                    for byte in field {
                        if *byte == quote || Some(*byte) == self.csv.escape {
                            out.push(before);
                        }
                        out.push(*byte);
                    }
                    out.push(quote);
                }
                _ => out.extend_from_slice(field),
            }
        }
        out.push(b'\n');
        out
    }

    /// Whether the feed leaves out the record at hand, for it has nothing but blanks.
    #[inline]
    fn is_left_out(&self) -> bool {
        self.csv.blank_records == BlankRecords::Filter && self.record.iter().all(|field| field.trim_ascii().is_empty())
    }

    /// Reads on to the first record with fields; answers how many blank ones came before it.
    async fn first(&mut self) -> Result<Ahead, Failure> {
        let mut blanks = 0;
        loop {
            match self.read().await? {
                Read::Record if self.is_left_out() => blanks += 1,
                Read::Record => return Ok(Ahead { blanks, held: true }),
                Read::End => return Ok(Ahead { blanks, held: false }),
                Read::Bad(mut bad) => {
                    // It would tell how many fields the others have.
                    bad.reason.push_str("; the object cannot be read without its first record");
                    return Err(DecodeError::Record(bad).into());
                }
            }
        }
    }

    /// What is still to be handed out of what was read ahead; `None` where there is nothing left of it.
    #[cold]
    fn take_ahead(&mut self) -> Option<Next> {
        let ahead = self.ahead.as_mut()?;
        if ahead.blanks > 0 {
            ahead.blanks -= 1;
            return Some(Next::Blank);
        }
        if !ahead.held {
            return Some(Next::End);
        }
        self.ahead = None;
        Some(Next::Record)
    }

    /// A record with another number of fields than the others.
    #[cold]
    fn uneven(&self) -> Next {
        // Fields that are missing are absent, as they are in a record of any other format.
        match self.csv.ragged {
            Ragged::Pad if self.record.len() < self.names.len() => Next::Record,
            Ragged::Pad | Ragged::Reject => Next::Bad(self.ragged()),
        }
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
        let ahead = self.first().await?;
        let is_empty = !ahead.held;
        if self.csv.header {
            // Blank lines above a header are no records.
            if is_empty {
                self.ahead = Some(Ahead { blanks: 0, ..ahead });
                return Ok(None);
            }
            self.claimed = vec![false; self.record.len()];
            self.take_names()?;
            self.count = 0;
            let field = |name: &String| Field { name: name.clone(), kind: String::new() };
            return Ok(Some(Schema::Named(self.names.iter().map(field).collect())));
        }
        self.ahead = Some(ahead);
        if is_empty {
            return Ok(None);
        }
        let fields = self.record.len();
        self.claimed = vec![false; fields];
        self.names = vec![String::new(); fields];
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
        if self.ahead.is_some()
            && let Some(next) = self.take_ahead()
        {
            return Ok(next);
        }
        match self.read().await? {
            Read::Record => {}
            Read::Bad(bad) => return Ok(Next::Bad(bad)),
            Read::End => return Ok(Next::End),
        }
        if self.is_left_out() {
            return Ok(Next::Blank);
        }
        if self.record.len() != self.names.len() {
            return Ok(self.uneven());
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
        self.reader.get_ref().raw(self.exact(self.position).byte, self.end, most, out)
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
