//! JSON lines and documents: however the bytes are cut, the same records, and those that the library makes of them.

use std::collections::BTreeSet;
use std::io;

use bytes::Bytes;
use futures::stream;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value as Json;
use serde_json::value::RawValue;
use tokio_util::io::StreamReader;

use super::compression::is_compressed;
use super::{Choices, fixture, pieces, run};
use crate::config::feed::{self, DuplicateKeys, Feed, FieldPath, Format, Limits};
use crate::domain::record::Position;
use crate::pipeline::decode::json::Records;
use crate::pipeline::decode::reader::{Next, RecordReader as _, Value};
use crate::pipeline::decode::{Failure, compression};

/// Longest input whose every byte arrives alone as well.
const BYTEWISE: usize = 2048;

/// Fields that are asked for; the first is also a step to the others.
pub const FIELDS: [&str; 4] = ["a", "a.b", "a.b.c", "d"];

/// A value, kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// Not there.
    Absent,
    /// NULL.
    Null,
    /// Text.
    Text(String),
    /// A number as written.
    Number(String),
    /// A boolean.
    Bool(bool),
    /// An array or object as written.
    Nested(String),
}

impl Kept {
    fn of(value: Value<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| unreachable!("no UTF-8"));
        match value {
            Value::Absent => Self::Absent,
            Value::Null => Self::Null,
            Value::Text(bytes) => Self::Text(text(bytes)),
            Value::Number(bytes) => Self::Number(text(bytes)),
            Value::Bool(value) => Self::Bool(value),
            Value::Nested(bytes) => Self::Nested(text(bytes)),
            Value::Bytes(_) => unreachable!("JSON has no bytes"),
        }
    }

    /// Whether the library means the same.
    fn is(&self, json: Option<&Json>) -> bool {
        let parsed = |text: &str| serde_json::from_str::<Json>(text).ok();
        match (self, json) {
            (Self::Absent, None) | (Self::Null, Some(Json::Null)) => true,
            (Self::Text(text), Some(Json::String(other))) => text == other,
            (Self::Bool(value), Some(Json::Bool(other))) => value == other,
            (Self::Number(text), Some(Json::Number(_)))
            | (Self::Nested(text), Some(Json::Array(_) | Json::Object(_))) => parsed(text).as_ref() == json,
            _ => false,
        }
    }
}

/// What a reader made of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Where it begins.
    pub position: Position,
    /// The values of [`FIELDS`], or code and reason.
    pub values: Result<Vec<Kept>, (&'static str, String)>,
    /// The fields that are none of them.
    pub others: Vec<(String, Kept)>,
    /// As it stood.
    pub raw: String,
}

/// A feed of JSON with the caps of the fixture, but more fields.
pub fn feed(format: Format) -> Feed {
    let limits = Limits { max_fields: 100, ..fixture::feed().limits };
    Feed { format, limits, ..fixture::feed() }
}

/// What becomes of these pieces of an object: its records, and what ended it, as code and message, or its length.
pub fn read(feed: &Feed, pieces: Vec<Vec<u8>>) -> (Vec<Read>, Result<u64, String>) {
    let size = pieces.iter().map(Vec::len).sum::<usize>() as u64;
    let pieces = pieces.into_iter().map(|piece| Ok::<_, io::Error>(Bytes::from(piece)));
    let mut reads = Vec::new();
    let ended = run(async {
        let opened = compression::open(StreamReader::new(stream::iter(pieces))).await.map_err(Failure::Io)?;
        let mut reader = Records::new(opened.reader, feed, size);
        if reader.schema().await?.is_none() {
            return Ok(reader.bytes());
        }
        let claim = |field: &str| reader.claim(field, &FieldPath::new(field).steps).unwrap_or(usize::MAX);
        let slots = FIELDS.map(claim);
        loop {
            let values = match reader.next().await? {
                Next::Record => Ok(slots.iter().map(|slot| Kept::of(reader.value(*slot))).collect()),
                Next::Bad(bad) => {
                    assert_eq!(bad.position, reader.position());
                    Err((bad.code, bad.reason))
                }
                Next::Blank => unreachable!("no blank records in JSON"),
                Next::End => return Ok(reader.bytes()),
            };
            let (mut raw, mut others) = (Vec::new(), Vec::new());
            assert_eq!(reader.raw(usize::MAX, &mut raw), raw.len() as u64);
            if values.is_ok() {
                reader.unclaimed(&mut |name, value| others.push((name.to_owned(), Kept::of(value))));
            }
            let raw = String::from_utf8_lossy(&raw).into_owned();
            reads.push(Read { position: reader.position(), values, others, raw });
        }
    });
    let told = |failure| match failure {
        Failure::Decode(error) => format!("{} {error}", error.code()),
        Failure::Io(error) => match error.downcast::<crate::pipeline::decode::caps::LimitError>() {
            Ok(limit) => format!("{} {limit}", limit.code()),
            Err(error) => format!("{:?} {error}", error.kind()),
        },
    };
    (reads, ended.map_err(told))
}

/// Any bytes under both layouts, all ways to the records and small caps.
pub fn target(data: &[u8]) {
    let mut choices = Choices::new(data);
    let format = choices.one(&[Format::Jsonl, Format::Json]);
    let json = feed::Json {
        records: choices.one(&[None, None, Some("a"), Some("a.b")]).map(FieldPath::new),
        duplicate_keys: choices.one(&[DuplicateKeys::Reject, DuplicateKeys::Last]),
        coerce: false,
    };
    let limits = Limits {
        max_bytes: choices.one(&[1 << 20, 1 << 20, 300, 64]),
        max_record_bytes: choices.one(&[1 << 20, 1 << 20, 80, 16]),
        max_fields: choices.one(&[100, 20, 2]),
        max_depth: choices.one(&[127, 1000, 8, 1]),
        ..fixture::feed().limits
    };
    let seed = u64::from(choices.byte());
    let feed = Feed { format, json, limits, ..fixture::feed() };
    let text = choices.rest();

    let whole = read(&feed, vec![text.to_vec()]);
    if is_compressed(text) {
        // Of a damaged stream, how far it was read before the damage shows depends on the pieces.
        return;
    }
    assert_eq!(read(&feed, pieces(text, seed)), whole, "in pieces");
    if text.len() <= BYTEWISE {
        assert_eq!(read(&feed, text.iter().map(|byte| vec![*byte]).collect()), whole, "byte by byte");
    }
    let (reads, ended) = whole;
    for read in &reads {
        compare(read, &feed);
    }
    if let Ok(bytes) = ended {
        // A byte order mark and nothing else is an empty object.
        let expected = if text == b"\xef\xbb\xbf" { 0 } else { text.len() as u64 };
        assert_eq!(bytes, expected);
        compare_all(&reads, &feed, text);
    }
}

/// Holds one record against what the library makes of its text.
fn compare(read: &Read, feed: &Feed) {
    let text = read.raw.trim_end();
    let json = serde_json::from_str::<Json>(text);
    // The library's own value has no room for every number, and none of its own for a text that is no UTF-8.
    let unsure = matches!(&json, Err(error) if error.to_string().contains("out of range"));
    let is_strict = feed.json.duplicate_keys == DuplicateKeys::Reject;
    match (&read.values, &json) {
        (Ok(values), Ok(json)) => {
            assert!(!is_strict || !twice(text), "a key stands twice in an object of {text:?}");
            for (field, value) in FIELDS.iter().zip(values) {
                let steps = || field.split('.').try_fold(json, |json, step| json.get(step));
                assert!(value.is(json.get(field).or_else(steps)), "{field} of {text:?}: {value:?}");
            }
            let claimed = ["a", "a.b", "a.b.c", "d"];
            let others = json.as_object().map(|fields| fields.keys().filter(|key| !claimed.contains(&key.as_str())));
            assert_eq!(others.map(Iterator::count), Some(read.others.len()), "{text:?}");
            for (name, value) in &read.others {
                assert!(value.is(json.get(name)), "{name:?} of {text:?}: {value:?}");
            }
        }
        (Err(("E-JSON-SYNTAX", _)), Ok(_)) => panic_of(text.contains('\u{fffd}'), text),
        (Err(("E-JSON-RECORD", _)), Ok(json)) => panic_of(!json.is_object(), text),
        (Err(("E-JSON-DUPLICATE", _)), Ok(_)) => panic_of(is_strict && twice(text), text),
        (Ok(_) | Err(("E-JSON-RECORD", _)), Err(error)) => panic_of(unsure, &format!("{text:?} {error}")),
        _ => {}
    }
}

fn panic_of(holds: bool, text: &str) {
    assert!(holds, "the library thinks otherwise of {text:?}");
}

/// Holds all records of a document against those that the library finds.
fn compare_all(reads: &[Read], feed: &Feed, text: &[u8]) {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let expected: Option<Vec<Json>> = match feed.format {
        Format::Json => {
            let documents: Result<Vec<Json>, _> = serde_json::Deserializer::from_slice(text).into_iter().collect();
            documents.ok().and_then(|documents| records(documents, feed.json.records.as_ref()))
        }
        _ => text.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).map(lines).collect(),
    };
    let Some(expected) = expected else { return };
    let found: Vec<Option<Json>> = reads.iter().map(|read| serde_json::from_str(&read.raw).ok()).collect();
    assert_eq!(found, expected.into_iter().map(Some).collect::<Vec<_>>());
}

fn lines(line: &[u8]) -> Option<Json> {
    serde_json::from_slice(line).ok()
}

/// The records of whole documents.
fn records(documents: Vec<Json>, path: Option<&FieldPath>) -> Option<Vec<Json>> {
    let mut records = Vec::new();
    for document in documents {
        let found = match path {
            None => Some(&document),
            Some(path) => {
                document.get(&path.text).or_else(|| path.steps.iter().try_fold(&document, |json, step| json.get(step)))
            }
        };
        match found {
            Some(Json::Array(items)) => records.extend(items.iter().cloned()),
            Some(other) => records.push(other.clone()),
            None => return None,
        }
    }
    Some(records)
}

/// Whether any object of a text has a key twice, found without what the reader does.
fn twice(text: &str) -> bool {
    match text.trim_start().chars().next() {
        Some('{') => serde_json::from_str::<Members>(text).is_ok_and(|Members(keys, values)| {
            let distinct: BTreeSet<&String> = keys.iter().collect();
            distinct.len() < keys.len() || values.iter().any(|value| twice(value.get()))
        }),
        Some('[') => serde_json::from_str::<Vec<Box<RawValue>>>(text)
            .is_ok_and(|values| values.iter().any(|value| twice(value.get()))),
        _ => false,
    }
}

/// Keys and values of one object, all of them.
struct Members(Vec<String>, Vec<Box<RawValue>>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Members(Vec::new(), Vec::new());
                while let Some((key, value)) = map.next_entry()? {
                    members.0.push(key);
                    members.1.push(value);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(All)
    }
}
