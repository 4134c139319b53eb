//! Records without bytes, for tests of what becomes of them; and what came out of the channel, taken apart.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use super::super::super::reader::{Field, Next, RecordReader, Schema, Typing, Value};
use super::super::super::{DecodeError, Decoded, Decoding, Failure, Piece, Target, rows};
use crate::config::feed::Feed;
use crate::domain::object::ObjectRef;
use crate::domain::record::{Position, Rejection};
use crate::fuzzing::{fixture, run};
use crate::store::catalog::{Column, Shape};
use crate::store::encode::ColumnType;
use crate::store::stage::Staging;

/// A value that owns itself.
#[derive(Debug, Clone)]
pub(super) enum Owned {
    Null,
    Bool(bool),
    Text(String),
    Number(String),
    Bytes(Vec<u8>),
    Nested(String),
}

/// One record: its fields by name.
pub(super) type Record = Vec<(String, Owned)>;

/// Records of a format like JSON, or of one with a schema; each has its own fields, or those that are named.
pub(super) struct Given<const SCHEMA: bool> {
    pub(super) records: Vec<Record>,
    pub(super) named: Option<Vec<&'static str>>,
    claims: Vec<String>,
    number: usize,
}

/// One record for each JSON object.
pub(super) fn json<const SCHEMA: bool>(objects: &[&str]) -> Given<SCHEMA> {
    let owned = |raw: &RawValue| match raw.get().as_bytes() {
        [b'n', ..] => Owned::Null,
        [b't', ..] => Owned::Bool(true),
        [b'f', ..] => Owned::Bool(false),
        [b'"', ..] => Owned::Text(serde_json::from_str(raw.get()).unwrap()),
        [b'{' | b'[', ..] => Owned::Nested(raw.get().to_owned()),
        _ => Owned::Number(raw.get().to_owned()),
    };
    let record = |object: &&str| {
        let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(object).unwrap();
        fields.into_iter().map(|(name, raw)| (name, owned(&raw))).collect()
    };
    given(objects.iter().map(record).collect())
}

pub(super) fn given<const SCHEMA: bool>(records: Vec<Record>) -> Given<SCHEMA> {
    Given { records, named: None, claims: Vec::new(), number: 0 }
}

impl<const SCHEMA: bool> Given<SCHEMA> {
    fn at(&self, name: &str) -> Value<'_> {
        let record = self.number.checked_sub(1).and_then(|index| self.records.get(index));
        match record.and_then(|fields| fields.iter().find(|(field, _)| field == name)).map(|(_, value)| value) {
            None => Value::Absent,
            Some(Owned::Null) => Value::Null,
            Some(Owned::Bool(value)) => Value::Bool(*value),
            Some(Owned::Text(text)) => Value::Text(text.as_bytes()),
            Some(Owned::Number(text)) => Value::Number(text.as_bytes()),
            Some(Owned::Bytes(bytes)) => Value::Bytes(bytes),
            Some(Owned::Nested(text)) => Value::Nested(text.as_bytes()),
        }
    }
}

impl<const SCHEMA: bool> RecordReader for Given<SCHEMA> {
    const TYPING: Typing = if SCHEMA { Typing::Schema } else { Typing::Json };

    async fn schema(&mut self) -> Result<Option<Schema>, Failure> {
        let field = |name: &&str| Field { name: (*name).to_owned(), kind: String::new() };
        Ok(Some(match &self.named {
            Some(names) => Schema::Named(names.iter().map(field).collect()),
            None => Schema::Open,
        }))
    }

    fn claim(&mut self, text: &str, _steps: &[String]) -> Option<usize> {
        if self.named.as_ref().is_some_and(|names| !names.contains(&text)) {
            return None;
        }
        self.claims.push(text.to_owned());
        Some(self.claims.len() - 1)
    }

    async fn next(&mut self) -> Result<Next, Failure> {
        self.number += 1;
        Ok(if self.number <= self.records.len() { Next::Record } else { Next::End })
    }

    fn number(&self) -> u64 {
        self.number as u64
    }

    fn position(&self) -> Position {
        Position { record: self.number as u64, line: 0, byte: 0 }
    }

    fn value(&self, slot: usize) -> Value<'_> {
        self.at(&self.claims[slot])
    }

    fn unclaimed(&self, visit: &mut dyn FnMut(&str, Value<'_>)) {
        if self.number == 0 {
            let names = self.named.iter().flatten().filter(|name| !self.claims.iter().any(|claim| claim == *name));
            names.for_each(|name| visit(name, Value::Absent));
            return;
        }
        for (name, _) in &self.records[self.number - 1] {
            if !self.claims.contains(name) {
                visit(name, self.at(name));
            }
        }
    }

    fn raw(&self, _most: usize, _out: &mut Vec<u8>) -> u64 {
        0
    }

    fn bytes(&self) -> u64 {
        0
    }
}

/// What became of an object.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// Rows of each route, values as they go over the wire.
    pub(super) rows: Vec<Vec<Vec<Option<Vec<u8>>>>>,
    pub(super) rejections: Vec<Rejection>,
    pub(super) decoded: Decoded,
}

impl Loaded {
    /// Rows of a route whose values are texts, or NULL as `∅`.
    pub(super) fn texts(&self, route: usize) -> Vec<String> {
        let text = |value: &Option<Vec<u8>>| match value {
            Some(bytes) => String::from_utf8(bytes.clone()).unwrap(),
            None => "∅".to_owned(),
        };
        self.rows[route].iter().map(|row| row.iter().map(text).collect::<Vec<_>>().join("|")).collect()
    }

    /// Codes of the rejections, each with record and column.
    pub(super) fn rejected(&self) -> Vec<String> {
        let told = |rejection: &Rejection| {
            let column = rejection.column.as_deref().unwrap_or("-");
            format!("{} {column} {}", rejection.position.record, rejection.code)
        };
        self.rejections.iter().map(told).collect()
    }
}

/// A column that may be NULL.
pub(super) fn column(name: &str, kind: ColumnType) -> Column {
    let type_name = format!("{kind:?}").to_lowercase();
    Column { name: name.to_owned(), kind, type_name, nullable: true, has_default: false }
}

pub(super) const fn text() -> ColumnType {
    ColumnType::Text { max_chars: None }
}

pub(super) fn shape(columns: Vec<Column>) -> Shape {
    Shape { columns, provenance: Vec::new(), ..fixture::shape() }
}

fn targets(shapes: Vec<Shape>) -> Vec<Target> {
    shapes.into_iter().map(|shape| Target { shape: Arc::new(shape), staging: Staging::None }).collect()
}

/// What becomes of these records, a table for each route.
pub(super) fn load<const SCHEMA: bool>(
    feed: &Feed,
    shapes: Vec<Shape>,
    reader: Given<SCHEMA>,
) -> Result<Loaded, DecodeError> {
    let (object, targets) = (fixture::object(0), targets(shapes));
    let decoding = Decoding { feed, object: &object, targets: &targets, rejects: feed.rejects };
    collect(|sender| async move {
        rows::run(decoding, reader, sender).await.map_err(|failure| match failure {
            Failure::Decode(error) => error,
            Failure::Io(error) => panic!("{error}"),
        })
    })
}

/// The same of a CSV object.
pub(super) fn load_csv(feed: &Feed, shapes: Vec<Shape>, csv: &str) -> Result<Loaded, DecodeError> {
    load_object(feed, shapes, &fixture::object(csv.len() as u64), csv)
}

/// The same of a CSV object of which more is known.
pub(super) fn load_object(
    feed: &Feed,
    shapes: Vec<Shape>,
    object: &ObjectRef,
    csv: &str,
) -> Result<Loaded, DecodeError> {
    let targets = targets(shapes);
    let decoding = Decoding { feed, object, targets: &targets, rejects: feed.rejects };
    let bytes = stream::iter([Ok::<_, io::Error>(Bytes::copy_from_slice(csv.as_bytes()))]);
    collect(|sender| super::super::super::decode(decoding, StreamReader::new(bytes), sender))
}

fn collect<F: Future<Output = Result<Decoded, DecodeError>>>(
    work: impl FnOnce(mpsc::Sender<Piece>) -> F,
) -> Result<Loaded, DecodeError> {
    run(async {
        let (sender, mut pieces) = mpsc::channel(64);
        let take = async {
            let mut loaded = Loaded { rows: vec![Vec::new(); 4], ..Loaded::default() };
            while let Some(piece) = pieces.recv().await {
                match piece {
                    Piece::Frame { route, bytes, .. } => loaded.rows[route].extend(tuples(&bytes)),
                    Piece::Rejections(rejections) => loaded.rejections.extend(rejections),
                    Piece::Target { .. } => {}
                }
            }
            loaded
        };
        let (decoded, loaded) = futures::future::join(work(sender), take).await;
        Ok(Loaded { decoded: decoded?, ..loaded })
    })
}

fn tuples(mut rest: &[u8]) -> Vec<Vec<Option<Vec<u8>>>> {
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let (width, tail) = rest.split_first_chunk::<2>().unwrap();
        rest = tail;
        let mut row = Vec::new();
        for _ in 0..u16::from_be_bytes(*width) {
            let (length, tail) = rest.split_first_chunk::<4>().unwrap();
            let length = i32::from_be_bytes(*length);
            let (value, tail) = tail.split_at(usize::try_from(length).unwrap_or(0));
            rest = tail;
            row.push((length >= 0).then(|| value.to_vec()));
        }
        rows.push(row);
    }
    rows
}
