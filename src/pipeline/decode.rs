//! Stage: bytes become tuples, ready for COPY.
//!
//! One bounded stream: body → decompression → caps → records → encoded frames. Nothing of it is collected; a full
//! channel stops the reading. Every record becomes exactly one tuple or fails the object with its position.

pub mod again;
pub mod allowance;
pub mod avro;
pub mod caps;
pub mod comments;
pub mod compression;
pub mod csv;
pub mod encoding;
pub mod guard;
pub mod json;
pub mod look;
pub mod outlet;
pub mod parquet;
pub mod plan;
pub mod quotes;
pub mod reader;
pub mod rows;
pub mod spell;
pub mod splitter;

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use bytesize::ByteSize;
use tokio::io::AsyncBufRead;
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use crate::config::feed::{Encoding, Feed, Format, Rejects};
use crate::domain::object::ObjectRef;
use crate::domain::record::{BadRecord, Position, Rejection};
use crate::domain::verdict::Verdict;
use crate::store::catalog::Shape;
use crate::store::copy::CopyTarget;
use crate::store::stage::Staging;
use crate::store::widen::NewColumn;

use super::fetch::{Body, FetchError};
use caps::LimitError;
use encoding::EncodingError;
use reader::RecordReader;

/// Why an object cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// One record is bad.
    #[error("{0}")]
    Record(BadRecord),
    /// Header or field count do not fit the mapping.
    #[error("{0}")]
    Header(String),
    /// The object's own schema, or what its records have, does not fit the mapping.
    #[error("{0}")]
    Schema(String),
    /// Fields that the feed wants columns for.
    #[error("the object has fields without a column: {}", names(.0))]
    NewFields(Vec<NewColumn>),
    /// More records are bad than the feed tolerates.
    #[error("{found} records are bad, the feed tolerates {most} (rejects.max_rows); the last is {last}")]
    Budget {
        /// Bad records so far.
        found: u64,
        /// `rejects.max_rows`.
        most: u64,
        /// The one too many.
        last: BadRecord,
    },
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
        /// gzip, zstd, bzip2 or xz.
        format: &'static str,
        /// What the decompressor said.
        detail: String,
    },
    /// A compressed stream would have a worker hold more than it may.
    #[error("the {} stream needs a larger window than {}", .0, ByteSize(compression::LARGEST_WINDOW))]
    Window(&'static str),
    /// The bytes are of another format.
    #[error("the object looks like {found}, the feed expects {}", .expected.as_str())]
    Format {
        /// What it looks like.
        found: &'static str,
        /// What the feed says.
        expected: Format,
    },
    /// The text is not in the encoding that the feed names.
    #[error("{0}")]
    Encoding(#[from] EncodingError),
    /// A file of a format with a schema is damaged, or uses what is not supported.
    #[error("{format}: {detail}")]
    Damaged {
        /// The format.
        format: &'static str,
        /// What is wrong.
        detail: String,
        /// Stable code.
        code: &'static str,
    },
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
            | Self::Schema(_)
            | Self::Budget { .. }
            | Self::UnterminatedQuote(_)
            | Self::Limit(_)
            | Self::Compression { .. }
            | Self::Window(_)
            | Self::Format { .. }
            | Self::Encoding(_)
            | Self::Damaged { .. } => Verdict::Quarantine,
            // The operator's to mend: with this mapping every object would fail, however good it is.
            Self::Target(_) => Verdict::Halt,
            Self::Fetch(error) => error.verdict(),
            // Of new fields: the columns are added, then the object is read again.
            Self::Abandoned | Self::NewFields(_) => Verdict::Retry,
        }
    }

    /// Stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Record(bad) => bad.code,
            Self::Header(_) => "E-CSV-HEADER",
            Self::Schema(_) => "E-SCHEMA",
            Self::NewFields(_) => "E-DRIFT",
            Self::Budget { .. } => "E-REJECTS",
            Self::Target(_) => "E-TARGET-COLUMN",
            Self::UnterminatedQuote(_) => "E-CSV-QUOTE",
            Self::Limit(limit) => limit.code(),
            Self::Compression { .. } => "E-COMPRESSION",
            Self::Window(_) => "E-LIMIT-WINDOW",
            Self::Format { .. } => "E-FORMAT",
            Self::Encoding(_) => "E-ENCODING",
            Self::Damaged { code, .. } => code,
            Self::Fetch(error) => error.code(),
            Self::Abandoned => "E-ABANDONED",
        }
    }

    /// One sentence for the operator.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Record(BadRecord { code: "E-CELL-UTF8", .. })
            | Self::Budget { last: BadRecord { code: "E-CELL-UTF8", .. }, .. } => {
                "set csv.encoding if the object is no UTF-8 (latin1, windows-1252, utf-16), or correct it, then \
                 `keyfall retry`"
            }
            Self::Record(_) => "correct the record (or the feed's dialect and columns), then `keyfall retry`",
            Self::Header(_) => {
                "compare [feeds.NAME.columns] and [feeds.NAME.csv] with the object, then `keyfall retry`"
            }
            Self::Schema(_) => "compare [feeds.NAME.columns] with the object's fields, then `keyfall retry`",
            Self::NewFields(_) => "nothing to do: the columns are added and the object is read again",
            Self::Budget { .. } => {
                "correct the records or the feed's rules, or raise [feeds.NAME.rejects], then `keyfall retry`"
            }
            Self::Target(_) => {
                "correct [feeds.NAME.columns], or add the column to the table; loading goes on by itself"
            }
            Self::UnterminatedQuote(_) => {
                "correct the quote, or set csv.quote = \"\" if quotes are data, then `keyfall retry`"
            }
            Self::Limit(_) => "raise the cap in [feeds.NAME.limits] if the object is right, then `keyfall retry`",
            Self::Compression { .. } => "the object was cut or damaged before it was uploaded; upload it again",
            Self::Window(_) => "compress the object again, zstd without --long and --ultra, xz with -6, and upload it",
            Self::Format { found: compression::UTF16, expected: Format::Csv } => {
                "set csv.encoding = \"utf-16\" and csv.delimiter to what the object has, then `keyfall retry`"
            }
            Self::Format { found: compression::UTF16, .. } => "convert the object to UTF-8 and upload it again",
            Self::Format { found: compression::TWICE, .. } => "compress the object once and upload it again",
            Self::Format { found: json::DOCUMENT, .. } => {
                "set format = \"json\" in the feed, or exclude such keys (`exclude`), then `keyfall retry`"
            }
            Self::Damaged { code: "E-JSON-RECORD", .. } => {
                "compare [feeds.NAME.json] with the object, then `keyfall retry`"
            }
            Self::Damaged { .. } => {
                "the object was damaged before it was uploaded, or written in a way that is not supported"
            }
            Self::Format { .. } => "exclude such keys (`exclude`), or feed them under their own format",
            Self::Encoding(_) => {
                "set csv.encoding to what the object is written in, or upload it again if it was cut, then \
                 `keyfall retry`"
            }
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
        let error = match error.downcast::<EncodingError>() {
            Ok(encoding) => return Self::Encoding(encoding),
            Err(other) => other,
        };
        match error.downcast::<LimitError>() {
            Ok(limit) => Self::Limit(limit),
            Err(other) => {
                let detail = other.to_string();
                let is_window = compression::WINDOW_REFUSED.iter().any(|told| detail.contains(told));
                if is_window { Self::Window(format) } else { Self::Compression { format, detail } }
            }
        }
    }
}

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

/// What goes from decode to load.
#[derive(Debug)]
pub enum Piece {
    /// Columns and encoding of a route; comes before its first frame.
    Target {
        /// The route's place among the feed's.
        route: usize,
        /// Columns and encoding.
        target: CopyTarget,
    },
    /// Encoded tuples of a route.
    Frame {
        /// The route's place among the feed's.
        route: usize,
        /// Tuples.
        rows: u64,
        /// Their bytes.
        bytes: Bytes,
    },
    /// Records that are kept out.
    Rejections(Vec<Rejection>),
}

/// What decoding an object to its end established.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Records, header not counted.
    pub read: u64,
    /// Records that became a tuple.
    pub loaded: u64,
    /// Records that were rejected.
    pub rejected: u64,
    /// Records that were left out deliberately.
    pub filtered: u64,
    /// Bytes after decompression.
    pub bytes: u64,
    /// The header, where there is one: records that are rejected, here or by the server, need it beside them.
    pub header: Option<Vec<u8>>,
    /// The fields, where the object names them.
    pub fields: Option<Vec<reader::Field>>,
}

/// The table of one route.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its shape.
    pub shape: Arc<Shape>,
    /// Whether rows go straight into it.
    pub staging: Staging,
}

/// What decoding needs to know of the object and its destination.
#[derive(Clone, Copy)]
pub struct Decoding<'a> {
    /// Feed: dialect, mapping, caps.
    pub feed: &'a Feed,
    /// The object: its ledger id for the provenance column, its size for the ratio cap, the rest for metadata columns.
    pub object: &'a ObjectRef,
    /// Target tables, route by route.
    pub targets: &'a [Target],
    /// How many records may be rejected: the feed's word, or an operator's.
    pub rejects: Rejects,
}

/// What is done with the records of an object, whatever their format.
trait Task: Send {
    /// What it comes to.
    type Outcome;

    /// Does it.
    fn run<R: RecordReader>(self, reader: R) -> impl Future<Output = Result<Self::Outcome, Failure>> + Send;
}

/// Has them loaded.
struct Loading<'a> {
    decoding: Decoding<'a>,
    pieces: mpsc::Sender<Piece>,
}

impl Task for Loading<'_> {
    type Outcome = Decoded;

    async fn run<R: RecordReader>(self, reader: R) -> Result<Decoded, Failure> {
        rows::run(self.decoding, reader, self.pieces).await
    }
}

/// Decodes a whole object into the channel.
pub async fn pump(decoding: Decoding<'_>, body: &Body, pieces: mpsc::Sender<Piece>) -> Result<Decoded, DecodeError> {
    let (feed, size, raw) = (decoding.feed, decoding.object.size, StreamReader::new(body.stream()));
    read(feed, size, raw, Some(body), Loading { decoding, pieces }).await
}

/// The same from any bytes. Of a format that is read from its end, all of them are held.
#[cfg(any(test, fuzzing))]
pub(crate) async fn decode<R>(
    decoding: Decoding<'_>,
    raw: R,
    pieces: mpsc::Sender<Piece>,
) -> Result<Decoded, DecodeError>
where
    R: AsyncBufRead + Send + Unpin + 'static,
{
    read(decoding.feed, decoding.object.size, raw, None, Loading { decoding, pieces }).await
}

/// Has something done with the records of an object of `size` stored bytes.
async fn read<R, T>(feed: &Feed, size: u64, raw: R, body: Option<&Body>, task: T) -> Result<T::Outcome, DecodeError>
where
    R: AsyncBufRead + Send + Unpin + 'static,
    T: Task,
{
    let expected = feed.format;
    // First of all, so that everything the body brings is compared with it.
    let ending = match (expected, body) {
        (Format::Parquet, Some(body)) => Some(parquet::ending(body, &feed.limits).await?),
        _ => None,
    };
    let opened = compression::open(raw).await.map_err(|error| DecodeError::from_io(error, "compressed"))?;
    let format = opened.format;
    let Feed { csv, limits, .. } = feed;
    let is_meant = expected == Format::Csv && csv.encoding == Encoding::Utf16;
    match (opened.foreign, expected) {
        (None, _) | (Some("Parquet"), Format::Parquet) | (Some("Avro"), Format::Avro) => {}
        (Some(compression::UTF16), _) if is_meant => {}
        (Some(found), _) => return Err(DecodeError::Format { found, expected }),
    }
    let done = match expected {
        Format::Csv => {
            let reader = csv::Records::new(csv::text(opened.reader, csv), csv, limits, size);
            Box::pin(task.run(reader)).await
        }
        Format::Jsonl | Format::Json => Box::pin(task.run(json::Records::new(opened.reader, feed, size))).await,
        Format::Parquet => {
            let (bytes, ending) = parquet::ends(opened, ending, limits).await?;
            Box::pin(task.run(parquet::Records::new(bytes, ending, limits, size))).await
        }
        Format::Avro => Box::pin(task.run(avro::Records::new(opened.reader, limits, size))).await,
    };
    done.map_err(|error| match error {
        Failure::Decode(error) => error,
        Failure::Io(error) => DecodeError::from_io(error, format),
    })
}

/// Names of columns, quoted and cut.
fn names(columns: &[NewColumn]) -> String {
    columns.iter().map(|column| shown(&column.name)).collect::<Vec<_>>().join(", ")
}

/// A name of the object's, quoted and cut: it may be as long as a record.
fn shown(name: &str) -> String {
    const LONGEST: usize = 63;
    let mut text: String = name.chars().take(LONGEST).collect();
    if text.len() < name.len() {
        text.push('…');
    }
    format!("{text:?}")
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
