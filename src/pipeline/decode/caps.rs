//! Caps on what an object may claim, whatever its format.
//!
//! A few compressed bytes may stand for any number: the bytes pass through here on their way to a record reader, and
//! one more than the caps allow is an error of the object, never an end of it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytesize::ByteSize;
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf, Take};

use crate::config::feed::Limits;

/// Small objects may compress well for good reasons: the ratio counts above these bytes.
pub const RATIO_COUNTS_FROM: u64 = 1 << 20;

/// A cap that was exceeded.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LimitError {
    /// `limits.max_bytes`.
    #[error("the decompressed object is larger than limits.max_bytes ({})", ByteSize(*.0))]
    Bytes(u64),
    /// `limits.max_ratio`.
    #[error("the object decompresses to more than limits.max_ratio ({0}) times its size")]
    Ratio(u64),
    /// `limits.max_record_bytes`.
    #[error("the record at line {line} (byte {byte}) is longer than limits.max_record_bytes ({})", ByteSize(*.cap))]
    Record {
        /// Line on which it begins.
        line: u64,
        /// Byte at which it begins.
        byte: u64,
        /// The cap.
        cap: u64,
    },
    /// `limits.max_fields`.
    #[error("the record at line {line} has {fields} fields, more than limits.max_fields ({cap})")]
    Fields {
        /// Line.
        line: u64,
        /// Fields.
        fields: usize,
        /// The cap.
        cap: usize,
    },
    /// `limits.max_record_bytes`, where records have no lines.
    #[error("record {record} is longer than limits.max_record_bytes ({})", ByteSize(*.cap))]
    LongRecord {
        /// Its number.
        record: u64,
        /// The cap.
        cap: u64,
    },
    /// `limits.max_fields`, of an object that says what fields it has.
    #[error("the object has {fields} fields, more than limits.max_fields ({cap})")]
    Columns {
        /// Fields.
        fields: usize,
        /// The cap.
        cap: usize,
    },
    /// `limits.max_depth`, of an object that says how its values are nested.
    #[error("the object's schema is nested deeper than limits.max_depth ({0})")]
    SchemaDepth(usize),
    /// `limits.max_block_bytes`.
    #[error("a {what} takes {bytes} bytes, more than limits.max_block_bytes ({})", ByteSize(*.cap))]
    Block {
        /// What has to be held whole.
        what: &'static str,
        /// Its bytes.
        bytes: u64,
        /// The cap.
        cap: u64,
    },
}

impl LimitError {
    /// Stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Bytes(_) => "E-LIMIT-BYTES",
            Self::Ratio(_) => "E-LIMIT-RATIO",
            Self::Record { .. } | Self::LongRecord { .. } => "E-LIMIT-RECORD",
            Self::Fields { .. } | Self::Columns { .. } => "E-LIMIT-FIELDS",
            Self::SchemaDepth(_) => "E-LIMIT-DEPTH",
            Self::Block { .. } => "E-LIMIT-BLOCK",
        }
    }
}

/// A stream that ends in an error where it is longer than its object may be.
pub struct Capped<R> {
    inner: Take<R>,
    cap: Cap,
}

/// Which cap the byte limit stands for.
#[derive(Clone, Copy)]
enum Cap {
    Bytes(u64),
    Ratio(u64),
}

impl<R: AsyncRead> Capped<R> {
    /// Puts the caps on the decompressed stream of an object of `size` stored bytes.
    pub fn new(inner: R, limits: &Limits, size: u64) -> Self {
        let by_ratio = size.saturating_mul(limits.max_ratio).max(RATIO_COUNTS_FROM);
        let (most, cap) = if by_ratio < limits.max_bytes {
            (by_ratio, Cap::Ratio(limits.max_ratio))
        } else {
            (limits.max_bytes, Cap::Bytes(limits.max_bytes))
        };
        Self { inner: inner.take(most), cap }
    }
}

impl<R: AsyncRead + Unpin> Capped<R> {
    /// At the cap: one byte more is an error. Only here, when all before it has been handed out, so that what is said
    /// of an object does not depend on how its bytes arrived.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.inner.limit() > 0 {
            return Poll::Ready(Ok(()));
        }
        let mut byte = [0];
        let mut beyond = ReadBuf::new(&mut byte);
        ready!(Pin::new(self.inner.get_mut()).poll_read(cx, &mut beyond))?;
        let cap = match self.cap {
            _ if beyond.filled().is_empty() => return Poll::Ready(Ok(())),
            Cap::Bytes(cap) => LimitError::Bytes(cap),
            Cap::Ratio(cap) => LimitError::Ratio(cap),
        };
        Poll::Ready(Err(io::Error::other(cap)))
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Capped<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        if buf.filled().len() > before { Poll::Ready(Ok(())) } else { self.poll_end(cx) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::fuzzing::fixture;
    use crate::fuzzing::run;

    /// What a stream of so many bytes of an object of `size` comes to under the limits.
    fn read(bytes: usize, limits: &Limits, size: u64) -> Result<usize, String> {
        let mut out = Vec::new();
        let mut capped = Capped::new(Cursor::new(vec![b'x'; bytes]), limits, size);
        run(async { capped.read_to_end(&mut out).await }).map_err(|error| error.to_string())
    }

    #[test]
    fn each_cap_holds_to_the_byte() {
        let bytes = Limits { max_bytes: 100, ..fixture::feed().limits };
        assert_eq!((read(99, &bytes, 1), read(100, &bytes, 1)), (Ok(99), Ok(100)));
        assert!(read(101, &bytes, 1).unwrap_err().contains("limits.max_bytes"));
        let ratio = Limits { max_ratio: 2, max_bytes: u64::MAX, ..fixture::feed().limits };
        let most = 2 << 20;
        assert_eq!((read(most - 1, &ratio, 1 << 20), read(most, &ratio, 1 << 20)), (Ok(most - 1), Ok(most)));
        assert!(read(most + 1, &ratio, 1 << 20).unwrap_err().contains("limits.max_ratio (2)"));
        // Below a mebibyte no ratio is too much.
        assert_eq!(read(1 << 20, &ratio, 1), Ok(1 << 20));
        assert!(read((1 << 20) + 1, &ratio, 1).is_err());
    }
}
