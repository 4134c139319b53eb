//! The bytes of an object as JSON readers need them: as many at once as one record takes, and where they stand.
//!
//! Nothing but the record being read and what was read ahead of it is held. Everything here is told by the bytes alone,
//! never by the pieces in which they came.

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::config::feed::Limits;

use super::super::Failure;
use super::super::caps::{Capped, LimitError};

/// Bytes asked for at once; fewer for objects that do not fill it.
const BUFFER: usize = 128 * 1024;

/// Fewest: a compressed object's size says little about the bytes that come out of it.
const LEAST_BUFFER: usize = 16 * 1024;

/// What a text may begin with and no record holds.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Bytes that were taken, by their place in the buffer; good until more are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Span {
    /// These bytes of a text.
    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start..self.end).unwrap_or_default()
    }
}

/// Byte from 0 and line from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) byte: u64,
    pub(super) line: u64,
}

/// The bytes of one object.
pub(super) struct Input<R> {
    bytes: Capped<R>,
    chunk: usize,
    buffer: Vec<u8>,
    /// Where the first byte that was not taken stands in the buffer.
    start: usize,
    /// Where it stands in the object.
    place: Place,
    most: u64,
    ended: bool,
}

impl<R: AsyncRead + Send + Unpin> Input<R> {
    /// The bytes of an object of `size` stored bytes.
    pub(super) fn new(bytes: R, limits: &Limits, size: u64) -> Self {
        Self {
            bytes: Capped::new(bytes, limits, size),
            chunk: usize::try_from(size).map_or(BUFFER, |size| size.clamp(LEAST_BUFFER, BUFFER)),
            buffer: Vec::new(),
            start: 0,
            place: Place { byte: 0, line: 1 },
            most: limits.max_record_bytes,
            ended: false,
        }
    }

    /// Takes a byte order mark. Comes before everything else.
    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        while self.rest().len() < BYTE_ORDER_MARK.len() && self.more().await? {}
        if self.rest().starts_with(BYTE_ORDER_MARK) {
            self.skip(BYTE_ORDER_MARK.len());
        }
        Ok(())
    }

    /// What was read and not taken.
    pub(super) fn rest(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// Where it begins.
    pub(super) const fn place(&self) -> Place {
        self.place
    }

    /// The bytes of a span.
    pub(super) fn at(&self, span: Span) -> &[u8] {
        span.of(&self.buffer)
    }

    /// Reads on behind the rest; false at the end of the data. What was taken is gone afterwards.
    pub(super) async fn more(&mut self) -> Result<bool, Failure> {
        if self.ended {
            return Ok(false);
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        // Doubles where a record outgrows it, so that each byte is moved few times.
        self.buffer.reserve(self.chunk);
        let read = self.bytes.read_buf(&mut self.buffer).await.map_err(Failure::Io)?;
        self.ended = read == 0;
        Ok(!self.ended)
    }

    /// Passes over bytes of the rest.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.take(bytes);
    }

    /// Takes bytes off the rest.
    pub(super) fn take(&mut self, bytes: usize) -> Span {
        let span = Span { start: self.start, end: self.buffer.len().min(self.start + bytes) };
        let lines = memchr::memchr_iter(b'\n', self.at(span)).count();
        self.place.line += lines as u64;
        self.place.byte += (span.end - span.start) as u64;
        self.start = span.end;
        span
    }

    /// Passes over what stands between values; the byte behind it, or nothing at the end of the data.
    pub(super) async fn next_byte(&mut self) -> Result<Option<u8>, Failure> {
        loop {
            let blanks = blanks(self.rest());
            self.skip(blanks);
            if let Some(byte) = self.rest().first() {
                return Ok(Some(*byte));
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    /// How long the line is with which the rest begins, and whether a line end follows; nothing at the end of the data.
    pub(super) async fn line(&mut self) -> Result<Option<Line>, Failure> {
        let mut seen = 0;
        loop {
            let rest = self.rest();
            let end = rest.get(seen..).and_then(|bytes| memchr::memchr(b'\n', bytes));
            let length = end.map_or(rest.len(), |end| seen + end);
            self.check(length)?;
            if end.is_some() {
                return Ok(Some(Line { length, is_closed: true }));
            }
            seen = length;
            if !self.more().await? {
                return Ok((length > 0).then_some(Line { length, is_closed: false }));
            }
        }
    }

    /// Whether so many bytes of the rest may be one record.
    pub(super) fn check(&self, bytes: usize) -> Result<(), Failure> {
        if self.is_within_cap(bytes) {
            return Ok(());
        }
        let Place { byte, line } = self.place;
        Err(Failure::Decode(LimitError::Record { line, byte, cap: self.most }.into()))
    }

    /// As much of these bytes as shows that they are more than a record may have, if they are.
    pub(super) fn within_cap<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let most = usize::try_from(self.most.saturating_add(1)).unwrap_or(usize::MAX);
        bytes.get(..most).unwrap_or(bytes)
    }

    /// Whether so many bytes may be one record.
    pub(super) const fn is_within_cap(&self, bytes: usize) -> bool {
        bytes as u64 <= self.most
    }
}

/// A line of the rest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    /// Bytes before its end.
    pub(super) length: usize,
    /// Whether it has an end, and is not just where the data ends.
    pub(super) is_closed: bool,
}

/// How many bytes at the beginning are JSON's white space.
pub(super) fn blanks(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count()
}
