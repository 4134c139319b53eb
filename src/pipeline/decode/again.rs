//! Rejected records decoded anew, each by itself, as if it stood where it stood in its object.
//!
//! The ledger keeps a record as text: CSV with its object's header, JSON of every other format. Each is read alone, so
//! that none can change what its neighbour is: one that reads as nothing, or as several records, stays rejected.

use std::io::Cursor;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::config::feed::{Encoding, Feed, Format, Rejects};
use crate::domain::record::{BadRecord, Position, Rejection};
use crate::store::copy::CopyTarget;

use super::reader::{Next, RecordReader, Schema, Typing, Value};
use super::{DecodeError, Decoded, Decoding, Failure, Piece, csv, json, rows};

/// Pieces of one record: a target and a frame, or its rejection.
const PIECES: usize = 4;

/// What a rejected record has become.
#[derive(Debug)]
pub enum Anew {
    /// A row.
    Row {
        /// The route's place among the feed's.
        route: usize,
        /// Its columns and their encoding.
        target: CopyTarget,
        /// The tuple.
        bytes: Bytes,
    },
    /// Left out deliberately.
    Filtered,
    /// Still bad.
    Bad(Rejection),
}

/// The feed as kept records have to be read: they are text in UTF-8, whatever their object was, and no budget ends them.
pub fn feed_of_kept(feed: &Feed) -> Feed {
    let mut feed = feed.clone();
    feed.csv.encoding = Encoding::Utf8;
    feed.json.records = None;
    feed.rejects = Rejects { max_rows: u64::MAX, max_ratio: None };
    match feed.format {
        // A record of a document may stand on several lines.
        Format::Csv | Format::Jsonl | Format::Json => {}
        Format::Parquet | Format::Avro => {
            feed.format = Format::Json;
            // Their values were printed as JSON, which has fewer types than they had.
            feed.json.coerce = true;
        }
    }
    feed
}

/// Decodes one record. An error is the mapping's, and every record's alike.
pub async fn one(
    decoding: Decoding<'_>,
    header: Option<&[u8]>,
    raw: &[u8],
    position: Position,
) -> Result<Anew, DecodeError> {
    let (sender, mut pieces) = mpsc::channel(PIECES);
    let decoded = match read(decoding, header, raw, (position, sender)).await {
        Ok(decoded) => decoded,
        Err(error) => return still_bad(error, position),
    };
    let (mut target, mut frame, mut rejection) = (None, None, None);
    while let Some(piece) = pieces.recv().await {
        match piece {
            Piece::Target { target: columns, .. } => target = Some(columns),
            Piece::Frame { route, bytes, .. } => frame = Some((route, bytes)),
            Piece::Rejections(mut rejections) => rejection = rejections.pop(),
        }
    }
    Ok(match (decoded.read, target, frame, rejection) {
        (1, Some(target), Some((route, bytes)), None) => Anew::Row { route, target, bytes },
        (1, _, None, Some(rejection)) => Anew::Bad(Rejection { raw: Vec::new(), ..rejection }),
        (1, _, None, None) => Anew::Filtered,
        (read, ..) => {
            let reason = format!("the kept record reads as {read} records; replay the whole object");
            Anew::Bad(rejected(position, None, "E-REPLAY-RECORD", reason))
        }
    })
}

async fn read(
    decoding: Decoding<'_>,
    header: Option<&[u8]>,
    raw: &[u8],
    (position, pieces): (Position, mpsc::Sender<Piece>),
) -> Result<Decoded, DecodeError> {
    let mut bytes = Vec::with_capacity(header.map_or(0, <[u8]>::len) + raw.len() + 1);
    bytes.extend_from_slice(header.unwrap_or_default());
    bytes.extend_from_slice(raw);
    if !bytes.ends_with(b"\n") {
        bytes.push(b'\n');
    }
    let (size, bytes) = (bytes.len() as u64, Cursor::new(bytes));
    let Feed { csv, limits, .. } = decoding.feed;
    let decoded = match decoding.feed.format {
        Format::Csv => {
            let inner = csv::Records::new(bytes, csv, limits, size);
            rows::run(decoding, Placed { inner, position }, pieces).await
        }
        // The feed of kept records has no other format: see `feed_of_kept`.
        Format::Jsonl | Format::Json | Format::Parquet | Format::Avro => {
            let inner = json::Records::new(bytes, decoding.feed, size);
            rows::run(decoding, Placed { inner, position }, pieces).await
        }
    };
    decoded.map_err(|failure| match failure {
        Failure::Decode(error) => error,
        Failure::Io(error) => DecodeError::from_io(error, "kept"),
    })
}

/// An error that ends an object is here the one record's, unless it is about the mapping.
fn still_bad(error: DecodeError, position: Position) -> Result<Anew, DecodeError> {
    match &error {
        DecodeError::Header(_)
        | DecodeError::Schema(_)
        | DecodeError::NewFields(_)
        | DecodeError::Target(_)
        | DecodeError::Fetch(_)
        | DecodeError::Abandoned => Err(error),
        DecodeError::Record(bad) | DecodeError::Budget { last: bad, .. } => {
            Ok(Anew::Bad(rejected(position, bad.column.clone(), bad.code, bad.reason.clone())))
        }
        DecodeError::UnterminatedQuote(_)
        | DecodeError::Encoding(_)
        | DecodeError::Limit(_)
        | DecodeError::Compression { .. }
        | DecodeError::Window(_)
        | DecodeError::Format { .. }
        | DecodeError::Damaged { .. } => Ok(Anew::Bad(rejected(position, None, error.code(), error.to_string()))),
    }
}

fn rejected(position: Position, column: Option<String>, code: &str, reason: String) -> Rejection {
    Rejection { position, table: None, column, code: code.to_owned(), reason, raw: Vec::new(), raw_bytes: 0 }
}

/// A reader whose only record stands where the object had it.
struct Placed<R> {
    inner: R,
    position: Position,
}

impl<R: RecordReader> RecordReader for Placed<R> {
    const TYPING: Typing = R::TYPING;

    async fn schema(&mut self) -> Result<Option<Schema>, Failure> {
        self.inner.schema().await
    }

    fn claim(&mut self, text: &str, steps: &[String]) -> Option<usize> {
        self.inner.claim(text, steps)
    }

    async fn next(&mut self) -> Result<Next, Failure> {
        Ok(match self.inner.next().await? {
            Next::Bad(bad) => Next::Bad(BadRecord { position: self.position, ..bad }),
            next => next,
        })
    }

    fn number(&self) -> u64 {
        self.position.record
    }

    fn position(&self) -> Position {
        self.position
    }

    fn value(&self, slot: usize) -> Value<'_> {
        self.inner.value(slot)
    }

    fn unclaimed(&self, visit: &mut dyn FnMut(&str, Value<'_>)) {
        self.inner.unclaimed(visit);
    }

    fn raw(&self, most: usize, out: &mut Vec<u8>) -> u64 {
        self.inner.raw(most, out)
    }

    fn explain(&self, bad: &mut BadRecord) {
        self.inner.explain(bad);
    }

    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }
}
