//! All values of all records of a reader, as texts: what tests and targets of formats with a schema compare.

use std::io;

use bytes::Bytes;
use futures::stream;
use tokio_util::io::StreamReader;

use super::{fixture, pieces, run};
use crate::config::feed::{Feed, Format, Limits};
use crate::pipeline::decode::reader::{Next, RecordReader, Schema, Value};
use crate::pipeline::decode::{self, DecodeError, Decoding, Failure};

/// A record: a text for each value, with a word for its kind in front.
pub type Record = Vec<String>;

/// The words of the fields' types, and the records; or code and message.
pub type Outcome = Result<(Vec<String>, Vec<Record>), String>;

/// Reads everything, each field and each of these paths.
pub async fn all<R: RecordReader>(mut reader: R, paths: &[&str]) -> Outcome {
    let told = |failure| match failure {
        Failure::Decode(error) => say(&error),
        Failure::Io(error) => format!("io {error}"),
    };
    let Some(Schema::Named(fields)) = reader.schema().await.map_err(told)? else {
        return Err("no schema".to_owned());
    };
    let mut slots = Vec::new();
    for field in &fields {
        slots.push(reader.claim(&field.name, std::slice::from_ref(&field.name)));
    }
    for path in paths {
        let steps: Vec<String> = path.split('.').map(str::to_owned).collect();
        slots.push(reader.claim(path, &steps));
    }
    let mut records = Vec::new();
    loop {
        match reader.next().await.map_err(told)? {
            Next::Record => records.push(
                slots.iter().map(|slot| slot.map_or("none".to_owned(), |slot| text(reader.value(slot)))).collect(),
            ),
            Next::Bad(bad) => records.push(vec![format!("bad {} {}", bad.code, bad.reason)]),
            Next::Blank => records.push(vec!["blank".to_owned()]),
            Next::End => break,
        }
        assert_eq!(reader.number(), records.len() as u64, "records are numbered");
    }
    Ok((fields.into_iter().map(|field| field.kind).collect(), records))
}

/// Code and message.
pub fn say(error: &DecodeError) -> String {
    format!("{} {error}", error.code())
}

fn text(value: Value<'_>) -> String {
    let of = |word: &str, bytes: &[u8]| format!("{word} {}", bytes.escape_ascii());
    match value {
        Value::Absent => "absent".to_owned(),
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Text(bytes) => of("text", bytes),
        Value::Number(bytes) => of("number", bytes),
        Value::Bytes(bytes) => of("bytes", bytes),
        Value::Nested(bytes) => of("json", bytes),
    }
}

/// What every object of a format must hold to, whatever its bytes and however they are cut: the same rows or the same
/// error, never a panic, and no more than the caps allow.
pub fn hold(format: Format, limits: Limits, data: &[u8], seed: u64) {
    let feed = Feed { format, limits, ..fixture::feed() };
    let whole = outcome(&feed, vec![data.to_vec()]);
    let cut = outcome(&feed, pieces(data, seed));
    // Of a damaged compressed stream, how far it was read before the damage shows depends on the pieces.
    let is_damaged = |outcome: &Result<_, String>| matches!(outcome, Err(told) if told.starts_with("E-COMPRESSION "));
    if is_damaged(&whole) || is_damaged(&cut) {
        assert!(whole.is_err() && cut.is_err(), "in pieces: {cut:?}, in one {whole:?}");
    } else {
        assert_eq!(cut, whole, "in pieces");
    }
    if let Ok((rows, read, bytes)) = whole {
        assert!(bytes <= feed.limits.max_bytes, "{bytes} bytes are over the cap");
        assert!(rows == read, "{rows} rows of {read} records");
    }
}

/// Rows, records and bytes of an object.
fn outcome(feed: &Feed, pieces: Vec<Vec<u8>>) -> Result<(u64, u64, u64), String> {
    let size = pieces.iter().map(Vec::len).sum::<usize>() as u64;
    run(async move {
        let (object, targets) = (fixture::object(size), fixture::targets());
        let decoding = Decoding { feed, object: &object, targets: &targets, rejects: feed.rejects };
        let (sender, mut frames) = tokio::sync::mpsc::channel(64);
        let pieces = pieces.into_iter().map(|piece| Ok::<_, io::Error>(Bytes::from(piece)));
        let work = decode::decode(decoding, StreamReader::new(stream::iter(pieces)), sender);
        let take = async { while frames.recv().await.is_some() {} };
        let (decoded, ()) = futures::future::join(Box::pin(work), take).await;
        decoded.map(|decoded| (decoded.loaded, decoded.read, decoded.bytes)).map_err(|error| say(&error))
    })
}

/// Small caps and large ones.
pub fn limits(choices: &mut super::Choices<'_>) -> Limits {
    Limits {
        max_bytes: choices.one(&[1 << 20, 4096, 64]),
        max_ratio: 1000,
        max_record_bytes: choices.one(&[1 << 20, 80, 3]),
        max_fields: choices.one(&[5, 2]),
        max_depth: choices.one(&[64, 3]),
        max_block_bytes: choices.one(&[1 << 20, 512]),
    }
}
