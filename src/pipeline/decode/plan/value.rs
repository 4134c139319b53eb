//! A format's values become the texts that a column's encoder reads, or are refused for their kind.
//!
//! What a value says of its own type counts: a JSON text is no number, however much it looks like one, unless the feed
//! coerces. A format with a schema is trusted further, as its types are its writer's choice and often the nearest there
//! were. A text of a format without types can be anything.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::store::encode::{CellError, ColumnType};

use super::super::reader::{Typing, Value};

/// The server's limit; each level is read once more than the one around it.
const MOST_DIMENSIONS: usize = 6;

/// What kinds of values a type takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Number,
    Bool,
    Time,
    Text,
    Bytes,
    Json,
    Array,
    Other,
}

impl Family {
    const fn of(kind: &ColumnType) -> Self {
        match kind {
            ColumnType::Int2
            | ColumnType::Int4
            | ColumnType::Int8
            | ColumnType::Float4
            | ColumnType::Float8
            | ColumnType::Numeric => Self::Number,
            ColumnType::Bool => Self::Bool,
            ColumnType::Date | ColumnType::Time | ColumnType::Timestamp | ColumnType::Timestamptz => Self::Time,
            ColumnType::Text { .. } | ColumnType::Char { .. } | ColumnType::Uuid | ColumnType::Enum { .. } => {
                Self::Text
            }
            ColumnType::Bytea => Self::Bytes,
            ColumnType::Json | ColumnType::Jsonb => Self::Json,
            ColumnType::Array { .. } => Self::Array,
            ColumnType::Other => Self::Other,
        }
    }
}

/// What becomes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Its text is the column's.
    AsIs,
    /// It becomes a JSON string.
    Quoted,
    /// It becomes hexadecimal digits.
    Hex,
    /// It becomes an array's literal.
    Array,
    /// It is not taken.
    Refused,
}

/// What a column takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taking {
    /// What the format's values say of their types.
    pub(super) typing: Typing,
    /// Whether texts, numbers and booleans stand in for each other, where the format is JSON.
    pub(super) coerce: bool,
    /// Whether a date or time may be a number: the feed says how it is written.
    pub(super) timed: bool,
}

impl Taking {
    /// For texts of the configuration, and for what is known of an object.
    pub(super) const fn texts(self) -> Self {
        Self { typing: Typing::Texts, ..self }
    }

    /// Whether a text of a field goes to the encoder as it stands.
    pub(super) fn takes_texts(self, kind: &ColumnType) -> bool {
        self.way(&Value::Text(b""), Family::of(kind)) == Way::AsIs
    }

    fn way(self, value: &Value<'_>, family: Family) -> Way {
        let loose = match self.typing {
            Typing::Texts | Typing::Schema => true,
            Typing::Json => self.coerce,
        };
        let taken = match (value, family) {
            (Value::Text(_), Family::Json) if self.typing == Typing::Json => return Way::Quoted,
            (Value::Bytes(_), Family::Bytes) => return Way::Hex,
            (Value::Nested(_), Family::Array) => return Way::Array,
            (Value::Text(_), Family::Array) => self.typing != Typing::Json,
            (Value::Text(_), Family::Number | Family::Bool)
            | (Value::Number(_), Family::Bool | Family::Text)
            | (Value::Bool(_), Family::Text) => loose,
            (Value::Number(_), Family::Time) => self.timed,
            (Value::Nested(_), Family::Text) => self.typing == Typing::Json && self.coerce,
            (Value::Absent | Value::Null | Value::Text(_), _)
            | (Value::Number(_), Family::Number | Family::Json | Family::Other)
            | (Value::Bool(_), Family::Bool | Family::Json | Family::Other)
            | (Value::Bytes(_), Family::Text | Family::Json)
            | (Value::Nested(_), Family::Json) => true,
            (Value::Number(_) | Value::Bool(_) | Value::Bytes(_) | Value::Nested(_), _) => false,
        };
        if taken { Way::AsIs } else { Way::Refused }
    }

    /// Refuses a value whose kind the column does not take.
    pub(super) fn admit(self, value: &Value<'_>, kind: &ColumnType) -> Result<(), CellError> {
        let family = Family::of(kind);
        if self.way(value, family) != Way::Refused {
            return Ok(());
        }
        let coerced = Self { coerce: true, ..self };
        let hint = match (value, family) {
            (Value::Number(_), Family::Time) => " unless time_format says how it is written",
            _ if coerced.way(value, family) != Way::Refused => " unless json.coerce = true",
            _ => "",
        };
        let found = match value {
            Value::Absent | Value::Null => "nothing",
            Value::Text(_) => "a text",
            Value::Number(_) => "a number",
            Value::Bool(_) => "a boolean",
            Value::Bytes(_) => "bytes that are no text",
            Value::Nested(_) => "an array or object",
        };
        Err(CellError::new("E-CELL-KIND", format!("{found}, which the column's type does not take{hint}")))
    }

    /// The text of a value that was admitted; what has to be rewritten is written to `scratch`.
    pub(super) fn convert<'s>(
        self,
        value: Value<'s>,
        kind: &ColumnType,
        scratch: &'s mut Vec<u8>,
    ) -> Result<&'s [u8], CellError> {
        match (self.way(&value, Family::of(kind)), kind) {
            (Way::Quoted, _) => put_quoted(plain(value), scratch)?,
            (Way::Hex, _) => {
                scratch.extend_from_slice(b"\\x");
                let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
                scratch.extend(plain(value).iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
            }
            (Way::Array, ColumnType::Array { element, .. }) => self.put_array(plain(value), element, 1, scratch)?,
            _ => return Ok(plain(value)),
        }
        Ok(scratch)
    }

    /// A JSON array as PostgreSQL's literal, for [`crate::store::encode`] to read.
    fn put_array(self, json: &[u8], element: &ColumnType, depth: usize, out: &mut Vec<u8>) -> Result<(), CellError> {
        if depth > MOST_DIMENSIONS {
            return Err(CellError::new("E-CELL-ARRAY", "more than 6 dimensions"));
        }
        let mut refused = None;
        let list = List { taking: self, element, depth, out, refused: &mut refused };
        let read = list.deserialize(&mut serde_json::Deserializer::from_slice(json));
        match (refused, read) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => Ok(()),
            (None, Err(_quotes)) => Err(CellError::new("E-CELL-KIND", "not an array, which the column's type is")),
        }
    }
}

/// The text of a value as it is written.
pub(super) const fn plain(value: Value<'_>) -> &[u8] {
    match value {
        Value::Absent | Value::Null => b"",
        Value::Bool(true) => b"true",
        Value::Bool(false) => b"false",
        Value::Text(text) | Value::Number(text) | Value::Bytes(text) | Value::Nested(text) => text,
    }
}

/// Appends a text as a JSON string.
pub(super) fn put_quoted(text: &[u8], out: &mut Vec<u8>) -> Result<(), CellError> {
    let text = simdutf8::compat::from_utf8(text).map_err(|error| {
        CellError::new("E-CELL-UTF8", format!("not UTF-8 at byte {} of the text", error.valid_up_to() + 1))
    })?;
    // Writing a text to memory does not fail.
    serde_json::to_writer(out, text).map_err(|_never| CellError::new("E-CELL-JSON", "no JSON string"))
}

/// One list of an array, read and written at once.
struct List<'o> {
    taking: Taking,
    element: &'o ColumnType,
    depth: usize,
    out: &'o mut Vec<u8>,
    /// Why an element was refused: the reader's own errors cannot say.
    refused: &'o mut Option<CellError>,
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        self.out.push(b'{');
        let mut number = 0_u64;
        while let Some(raw) = elements.next_element::<&RawValue>()? {
            number += 1;
            if number > 1 {
                self.out.push(b',');
            }
            if let Err(error) = self.put(raw.get()) {
                let reason = format!("element {number}: {}", error.reason).into();
                *self.refused = Some(CellError { reason, ..error });
                return Err(A::Error::custom("refused"));
            }
        }
        self.out.push(b'}');
        Ok(())
    }
}

impl List<'_> {
    fn put(&mut self, raw: &str) -> Result<(), CellError> {
        let text: Cow<'_, str>;
        let value = match raw.as_bytes() {
            [b'n', ..] => {
                self.out.extend_from_slice(b"NULL");
                return Ok(());
            }
            [b'[', ..] if Family::of(self.element) != Family::Json => {
                return self.taking.put_array(raw.as_bytes(), self.element, self.depth + 1, self.out);
            }
            [b'"', ..] => {
                text = serde_json::from_str(raw)
                    .map_err(|_quotes| CellError::new("E-CELL-JSON", "a string that is no text"))?;
                Value::Text(text.as_bytes())
            }
            [b't', ..] => Value::Bool(true),
            [b'f', ..] => Value::Bool(false),
            [b'{' | b'[', ..] => Value::Nested(raw.as_bytes()),
            _ => Value::Number(raw.as_bytes()),
        };
        self.taking.admit(&value, self.element)?;
        let mut scratch = Vec::new();
        let text = self.taking.convert(value, self.element, &mut scratch)?;
        self.out.push(b'"');
        for byte in text {
            if matches!(byte, b'"' | b'\\') {
                self.out.push(b'\\');
            }
            self.out.push(*byte);
        }
        self.out.push(b'"');
        Ok(())
    }
}
