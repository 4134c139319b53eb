//! The longest record of CSV, and the mark by which an open quote is told from an end.
//!
//! The CSV reader has no longest record, and it takes the end of the file for the end of an open quote. So the bytes
//! pass through here on their way to it: they are counted against the cap, and after the last one a mark is
//! appended, a line of its own that no data contains. If the reader hands the mark back as a record, every quote was
//! closed; if it ends without it, the mark was swallowed by a quoted field (ADR-0007). Quotes in wrong places are
//! looked for on the same way ([`Quotes`]).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use uuid::Uuid;

use crate::config::feed::{Csv, Limits};
use crate::domain::record::RAW_MOST;

use super::caps::{Capped, LimitError};
use super::quotes::{Malformed, Quotes};

/// Where the record being read begins; written by the record reader, read by the guard.
#[derive(Debug, Default)]
pub struct RecordStart {
    byte: AtomicU64,
    line: AtomicU64,
}

impl RecordStart {
    /// Notes that everything before this position has been handed out.
    pub fn set(&self, byte: u64, line: u64) {
        // Both sides run in one task: no ordering is needed.
        self.byte.store(byte, Ordering::Relaxed);
        self.line.store(line, Ordering::Relaxed);
    }

    /// Byte and line.
    pub fn get(&self) -> (u64, u64) {
        (self.byte.load(Ordering::Relaxed), self.line.load(Ordering::Relaxed))
    }
}

/// The guard.
pub struct Guard<R> {
    inner: Capped<R>,
    delivered: u64,
    max_record: u64,
    start: Arc<RecordStart>,
    seen: Seen,
    quotes: Quotes,
    /// Bytes of the mark still to deliver; `None` before the end of the data.
    tail: Option<io::Cursor<Vec<u8>>>,
    mark: Mark,
}

/// The mark of one stream: random, so that no data can hold it by design or by chance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(String);

impl Mark {
    fn new() -> Self {
        Self(Uuid::new_v4().simple().to_string())
    }

    /// Whether a record is the mark.
    pub fn is(&self, record: &csv_async::ByteRecord) -> bool {
        record.len() == 1 && record.get(0) == Some(self.0.as_bytes())
    }

    /// Whether the mark ended up inside a record's last field: its quote is open.
    pub fn is_swallowed_by(&self, record: &csv_async::ByteRecord) -> bool {
        let last = record.len().checked_sub(1).and_then(|last| record.get(last));
        last.and_then(|field| field.strip_suffix(b"\n")).is_some_and(|field| field.ends_with(self.0.as_bytes()))
    }
}

impl<R: AsyncRead> Guard<R> {
    /// Puts the caps on a stream of an object of `size` stored bytes.
    pub fn new(inner: R, csv: &Csv, limits: &Limits, size: u64) -> Self {
        let start = Arc::new(RecordStart::default());
        start.set(0, 1);
        let max_record = limits.max_record_bytes;
        Self {
            inner: Capped::new(inner, limits, size),
            delivered: 0,
            max_record,
            start,
            seen: Seen::default(),
            quotes: Quotes::new(csv),
            tail: None,
            mark: Mark::new(),
        }
    }

    /// Where the record reader reports its position.
    pub fn record_start(&self) -> Arc<RecordStart> {
        Arc::clone(&self.start)
    }

    /// The mark this guard will append.
    pub fn mark(&self) -> Mark {
        self.mark.clone()
    }

    /// The first quote in a wrong place among the bytes delivered so far, which are more than were parsed.
    #[inline]
    pub fn malformed(&self) -> Option<Malformed> {
        self.quotes.found()
    }

    /// The first byte of the object, a byte order mark left out.
    pub fn first_byte(&self) -> Option<u8> {
        self.quotes.first_byte()
    }

    /// Where the record really begins whose predecessor ended at this byte and line: the reader counts line ends and
    /// blank lines in front of a record, also the second half of a CRLF, as part of it.
    pub fn skip_line_ends(&self, byte: u64, line: u64) -> (u64, u64) {
        match self.seen.pending {
            Some(pending) if pending.from == byte => pending.at,
            _ => self.seen.skip((byte, line)),
        }
    }

    /// Goes on looking for quotes behind a record with one in a wrong place, which ended at this byte.
    pub fn resume_quotes(&mut self, byte: u64) {
        self.quotes.resume(byte, self.seen.from(byte));
    }

    /// Appends the bytes of the record last read, cut at `most` of them and at [`RAW_MOST`], its line end as a line
    /// feed; answers its whole length.
    pub fn raw(&self, from: u64, to: u64, most: usize, out: &mut Vec<u8>) -> u64 {
        // The last line may have no line end but the mark's.
        let to = to.min(self.delivered);
        let is_ended = matches!(self.seen.from(to.saturating_sub(1)), [b'\n' | b'\r', ..]);
        let length = to.saturating_sub(from).saturating_sub(u64::from(is_ended));
        let head: &[u8] = if from < self.seen.at { &self.seen.head } else { &[] };
        // Where the beginning was cut, the rest does not belong behind it.
        let is_cut = head.len() >= RAW_MOST;
        let rest = if is_cut { &[] } else { self.seen.from(from.max(self.seen.at)) };
        let mut left = usize::try_from(length).unwrap_or(most).min(most).min(RAW_MOST);
        let start = out.len();
        for part in [head, rest] {
            let part = part.get(..left).unwrap_or(part);
            out.extend_from_slice(part);
            left -= part.len();
        }
        let written = out.len() - start;
        if written as u64 == length && written < most {
            out.push(b'\n');
        }
        length + 1
    }

    /// The reader asks for more only when it has parsed all it had: what was delivered since the last record's
    /// end is one unfinished record.
    fn check_record(&self) -> Result<(), LimitError> {
        let (byte, line) = self.start.get();
        if self.delivered.saturating_sub(byte) > self.max_record {
            let (byte, line) = self.skip_line_ends(byte, line);
            return Err(LimitError::Record { line, byte, cap: self.max_record });
        }
        Ok(())
    }
}

/// The bytes delivered last. A copy of what is in the cache anyway, so that a position can be told exactly.
#[derive(Default)]
struct Seen {
    bytes: Vec<u8>,
    /// Offset of the first of them.
    at: u64,
    /// The unfinished record, whose beginning may be gone with the bytes before.
    pending: Option<Pending>,
    /// What came before `bytes` of that record, as far as rejections show it.
    head: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Pending {
    /// Where its predecessor ended.
    from: u64,
    /// Byte and line at which it begins, as far as line ends were seen.
    at: (u64, u64),
}

impl Seen {
    /// Takes the next bytes, after noting where the record that is still open begins.
    fn replace(&mut self, (byte, line): (u64, u64), at: u64, bytes: &[u8]) {
        let begun = match self.pending {
            Some(pending) if pending.from == byte => pending.at,
            _ => (byte, line),
        };
        let begins = self.skip(begun);
        self.pending = Some(Pending { from: byte, at: begins });
        if begins.0 >= self.at {
            self.head.clear();
        }
        let offset = usize::try_from(begins.0.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let rest = self.bytes.get(offset..).unwrap_or_default();
        let room = RAW_MOST.saturating_sub(self.head.len());
        self.head.extend_from_slice(rest.get(..room).unwrap_or(rest));
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.at = at;
        self.pending = self.pending.map(|pending| Pending { at: self.skip(pending.at), ..pending });
    }

    /// The bytes seen from this one on.
    fn from(&self, byte: u64) -> &[u8] {
        let offset = byte.checked_sub(self.at).and_then(|offset| usize::try_from(offset).ok());
        offset.and_then(|offset| self.bytes.get(offset..)).unwrap_or_default()
    }

    /// Goes over line ends from this byte on, where it is among the bytes seen.
    fn skip(&self, (mut byte, mut line): (u64, u64)) -> (u64, u64) {
        for end in self.from(byte) {
            match end {
                b'\n' => line += 1,
                b'\r' => {}
                _ => break,
            }
            byte += 1;
        }
        (byte, line)
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Guard<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(tail) = &mut self.tail {
            return Pin::new(tail).poll_read(cx, buf);
        }
        self.check_record().map_err(io::Error::other)?;
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        if read > 0 {
            let start = self.start.get();
            let at = self.delivered;
            let piece = buf.filled().get(before..).unwrap_or_default();
            self.seen.replace(start, at, piece);
            self.quotes.scan(at, piece);
            self.delivered += read as u64;
            return Poll::Ready(Ok(()));
        }
        // A leading line end closes a last line that has none; if it has one, this is a blank line, which the
        // reader passes over.
        let mut tail = io::Cursor::new(format!("\n{}\n", self.mark.0).into_bytes());
        let answer = Pin::new(&mut tail).poll_read(cx, buf);
        self.tail = Some(tail);
        answer
    }
}
