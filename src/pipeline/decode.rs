//! Stage: bytes become tuples, ready for COPY.
//!
//! One bounded stream: body → decompression → caps → records → encoded frames. Nothing of it is collected; a full
//! channel stops the reading. Every record becomes exactly one tuple or fails the object with its position.

pub mod compression;
pub mod csv;
pub mod guard;
pub mod plan;
pub mod quotes;

use std::borrow::Cow;
use std::io;

use bytes::Bytes;
use bytesize::ByteSize;
use tokio::io::AsyncBufRead;
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use crate::config::feed::Feed;
use crate::domain::record::{BadRecord, Position};
use crate::domain::verdict::Verdict;
use crate::store::catalog::Shape;
use crate::store::copy::CopyTarget;

use super::fetch::{Body, FetchError};
use guard::LimitError;

/// Why an object cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// One record is bad.
    #[error("{0}")]
    Record(BadRecord),
    /// Header or field count do not fit the mapping.
    #[error("{0}")]
    Header(String),
    /// The feed's mapping does not fit the table: no object could be loaded.
    #[error("{0}")]
    Target(String),
    /// The last quote is never closed.
    #[error("{0}: a quoted field that begins here or later is never closed")]
    UnterminatedQuote(Position),
    /// The object claims more than a cap allows.
    #[error("{0}")]
    Limit(#[from] LimitError),
    /// The compressed stream is damaged.
    #[error("the {format} stream is damaged: {detail}")]
    Compression {
        /// gzip or zstd.
        format: &'static str,
        /// What the decompressor said.
        detail: String,
    },
    /// A zstd frame would have a worker hold more than it may.
    #[error("a zstd frame needs a larger window than {}", ByteSize(compression::LARGEST_WINDOW))]
    Window,
    /// The bytes are of another format.
    #[error("the object looks like {0}, the feed expects CSV")]
    Format(&'static str),
    /// The body could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Nobody wants the rows any more: the load on the other end of the channel has ended.
    #[error("the load ended before the object did")]
    Abandoned,
}

impl DecodeError {
    /// What follows for the object.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Record(_)
            | Self::Header(_)
            | Self::UnterminatedQuote(_)
            | Self::Limit(_)
            | Self::Compression { .. }
            | Self::Window
            | Self::Format(_) => Verdict::Quarantine,
            // The operator's to mend: with this mapping every object would fail, however good it is.
            Self::Target(_) => Verdict::Halt,
            Self::Fetch(error) => error.verdict(),
            Self::Abandoned => Verdict::Retry,
        }
    }

    /// Stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Record(bad) => bad.code,
            Self::Header(_) => "E-CSV-HEADER",
            Self::Target(_) => "E-TARGET-COLUMN",
            Self::UnterminatedQuote(_) => "E-CSV-QUOTE",
            Self::Limit(limit) => limit.code(),
            Self::Compression { .. } => "E-COMPRESSION",
            Self::Window => "E-LIMIT-WINDOW",
            Self::Format(_) => "E-FORMAT",
            Self::Fetch(error) => error.code(),
            Self::Abandoned => "E-ABANDONED",
        }
    }

    /// One sentence for the operator.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Record(_) => "correct the record (or the feed's dialect and columns), then `keyfall retry`",
            Self::Header(_) => {
                "compare [feeds.NAME.columns] and [feeds.NAME.csv] with the object, then `keyfall retry`"
            }
            Self::Target(_) => {
                "correct [feeds.NAME.columns], or add the column to the table; loading goes on by itself"
            }
            Self::UnterminatedQuote(_) => {
                "correct the quote, or set csv.quote = \"\" if quotes are data, then `keyfall retry`"
            }
            Self::Limit(_) => "raise the cap in [feeds.NAME.limits] if the object is right, then `keyfall retry`",
            Self::Compression { .. } => "the object was cut or damaged before it was uploaded; upload it again",
            Self::Window => "compress the object without --long and --ultra, and upload it again",
            Self::Format("UTF-16 text") => "convert the object to UTF-8 and upload it again",
            Self::Format(compression::TWICE) => "compress the object once and upload it again",
            Self::Format(_) => "exclude such keys (`exclude`), or feed them under their own format",
            Self::Fetch(error) => error.advice(),
            Self::Abandoned => "nothing to do: the object is tried again",
        }
    }

    /// Sorts an I/O error back into what it was before it passed through the readers.
    fn from_io(error: io::Error, format: &'static str) -> Self {
        let error = match error.downcast::<FetchError>() {
            Ok(fetch) => return Self::Fetch(fetch),
            Err(other) => other,
        };
        match error.downcast::<LimitError>() {
            Ok(limit) => Self::Limit(limit),
            Err(other) if other.to_string().contains(compression::WINDOW_REFUSED) => Self::Window,
            Err(other) => Self::Compression { format, detail: other.to_string() },
        }
    }
}

/// What goes from decode to load.
#[derive(Debug)]
pub enum Piece {
    /// Columns and encoding; comes first, together with the first frame.
    Target(CopyTarget),
    /// Encoded tuples.
    Frame(Bytes),
}

/// What decoding an object to its end established.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// Records, header not counted; each became one tuple.
    pub rows: u64,
    /// Bytes after decompression.
    pub bytes: u64,
}

/// What decoding needs to know of the object and its destination.
#[derive(Clone, Copy)]
pub struct Decoding<'a> {
    /// Feed: dialect, mapping, caps.
    pub feed: &'a Feed,
    /// Target table.
    pub shape: &'a Shape,
    /// Ledger id, for the provenance column.
    pub object_id: i64,
    /// Size in the ledger, for the ratio cap.
    pub size: u64,
}

/// Decodes a whole object into the channel.
pub async fn pump(decoding: Decoding<'_>, body: &Body, pieces: mpsc::Sender<Piece>) -> Result<Decoded, DecodeError> {
    decode(decoding, StreamReader::new(body.stream()), pieces).await
}

/// The same from any bytes.
pub(crate) async fn decode<R>(
    decoding: Decoding<'_>,
    raw: R,
    pieces: mpsc::Sender<Piece>,
) -> Result<Decoded, DecodeError>
where
    R: AsyncBufRead + Send + Unpin + 'static,
{
    let opened = compression::open(raw).await.map_err(|error| DecodeError::from_io(error, "compressed"))?;
    let format = opened.format;
    if let Some(other) = opened.foreign {
        return Err(DecodeError::Format(other));
    }
    let decoded = csv::decode(decoding, opened.reader, pieces).await;
    decoded.map_err(|error| match error {
        csv::Failure::Decode(error) => error,
        csv::Failure::Io(error) => DecodeError::from_io(error, format),
    })
}

/// A bad record at a position.
fn bad(
    position: Position,
    column: Option<&str>,
    code: &'static str,
    reason: impl Into<Cow<'static, str>>,
) -> DecodeError {
    let (column, reason) = (column.map(str::to_owned), reason.into().into_owned());
    DecodeError::Record(BadRecord { position, column, code, reason })
}

#[cfg(test)]
mod tests;
