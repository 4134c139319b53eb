//! CSV records, one tuple each.
//!
//! `csv-async` splits the bytes; this file checks what it lets pass (ragged rows, an open or misplaced quote, giant
//! records) and cuts the output into frames.

use std::io;

use bytes::BytesMut;
use csv_async::{AsyncReader, AsyncReaderBuilder, ByteRecord, ErrorKind};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;

use crate::config::feed::{Csv, Limits};
use crate::domain::record::Position;

use super::guard::{Guard, LimitError, Mark, RecordStart};
use super::plan::Plan;
use super::quotes::Malformed;
use super::{DecodeError, Decoded, Decoding, Piece};

/// Frames of this size were fastest: at 64 KiB the backend waits for us too often, at 1 MiB we wait for it.
const FRAME: usize = 256 * 1024;

/// Buffer in front of the record splitter; smaller for objects that do not fill it.
const BUFFER: usize = 128 * 1024;

/// Smallest buffer: a compressed object's size says little about the bytes that come out of it.
const LEAST_BUFFER: usize = 16 * 1024;

/// What ended the decoding early.
pub enum Failure {
    /// The content.
    Decode(DecodeError),
    /// The bytes below; the caller knows which reader's words these are.
    Io(io::Error),
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

/// Decodes a whole CSV stream into the channel.
pub async fn decode<R>(decoding: Decoding<'_>, bytes: R, pieces: mpsc::Sender<Piece>) -> Result<Decoded, Failure>
where
    R: AsyncRead + Send + Unpin,
{
    let Decoding { feed, shape, object_id, size } = decoding;
    let mut records = Records::new(bytes, &feed.csv, &feed.limits, size);
    let mut frames = Frames::new(pieces);

    let mut more = records.next().await?;
    let plan = if feed.csv.header {
        if !more {
            return Ok(records.decoded());
        }
        let plan = Plan::from_header(feed, shape, object_id, &records.record)?;
        records.count = 0;
        more = records.next().await?;
        plan
    } else {
        if !more {
            return Ok(records.decoded());
        }
        Plan::from_positions(feed, shape, object_id, records.record.len())?
    };
    frames.begin(&plan);
    while more {
        plan.encode(&records.record, records.position, &mut frames.buffer)
            .map_err(|error| perhaps_a_header(records.blamed(error), &feed.csv))?;
        if frames.buffer.len() >= FRAME {
            // Room for one record beyond the mark, so that filling the next frame rarely grows it.
            frames.flush(BytesMut::with_capacity(FRAME + FRAME / 16)).await?;
        }
        more = records.next().await?;
    }
    frames.flush(BytesMut::new()).await?;
    Ok(records.decoded())
}

/// A bad cell in the first record of a file without header is most often one: a header that nobody told us about.
fn perhaps_a_header(mut error: DecodeError, csv: &Csv) -> DecodeError {
    if let DecodeError::Record(bad) = &mut error
        && !csv.header
        && bad.position.record == 1
        && bad.code.starts_with("E-CELL-")
    {
        bad.reason.push_str("; if this line is a header, set csv.header = true");
    }
    error
}

/// The record splitter with its checks.
struct Records<R> {
    reader: AsyncReader<Guard<R>>,
    start: std::sync::Arc<RecordStart>,
    mark: Mark,
    limits: Limits,
    record: ByteRecord,
    position: Position,
    count: u64,
    end: u64,
}

impl<R: AsyncRead + Send + Unpin> Records<R> {
    fn new(bytes: R, csv: &Csv, limits: &Limits, size: u64) -> Self {
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
            start,
            mark,
            limits: limits.clone(),
            record: ByteRecord::new(),
            position: Position::default(),
            count: 0,
            end: 0,
        }
    }

    /// Reads the next record; false at the proper end of the data.
    async fn next(&mut self) -> Result<bool, Failure> {
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
            return DecodeError::Format("JSON");
        }
        super::bad(self.exact(position), None, "E-CSV-QUOTE", malformed.offence.reason())
    }

    /// Where the record begins, line ends before it left out. Only errors need to know.
    fn exact(&self, position: Position) -> Position {
        let (byte, line) = self.reader.get_ref().skip_line_ends(position.byte, position.line);
        Position { line, byte, ..position }
    }

    fn blamed(&self, mut error: DecodeError) -> DecodeError {
        if let DecodeError::Record(bad) = &mut error {
            bad.position = self.exact(bad.position);
        }
        error
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

    fn decoded(&self) -> Decoded {
        Decoded { rows: self.count, bytes: self.end }
    }
}

fn split(error: csv_async::Error) -> Failure {
    match error.into_kind() {
        ErrorKind::Io(error) => Failure::Io(error),
        other => Failure::Io(io::Error::other(format!("{other:?}"))),
    }
}

/// Output, cut into frames.
struct Frames {
    buffer: BytesMut,
    pieces: mpsc::Sender<Piece>,
    target: Option<Piece>,
}

impl Frames {
    fn new(pieces: mpsc::Sender<Piece>) -> Self {
        Self { buffer: BytesMut::new(), pieces, target: None }
    }

    fn begin(&mut self, plan: &Plan<'_>) {
        self.target = Some(Piece::Target(plan.target()));
    }

    /// Hands the frame over and goes on with `next`. The target goes with the first one, so that an object whose first frame is bad never
    /// reaches PostgreSQL.
    async fn flush(&mut self, next: BytesMut) -> Result<(), DecodeError> {
        if let Some(target) = self.target.take() {
            self.send(target).await?;
        }
        let frame = std::mem::replace(&mut self.buffer, next);
        self.send(Piece::Frame(frame.freeze())).await
    }

    async fn send(&self, piece: Piece) -> Result<(), DecodeError> {
        self.pieces.send(piece).await.map_err(|_closed| DecodeError::Abandoned)
    }
}
