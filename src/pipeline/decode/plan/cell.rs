//! One column of one record: its value found, put to its rules and encoded.

use std::borrow::Cow;

use bytes::BytesMut;
use jiff::tz::TimeZone;

use crate::config::feed::Rules;
use crate::domain::record::BadRecord;
use crate::store::catalog::Column;
use crate::store::encode::{self, CellError};

use super::super::reader::{RecordReader, Value};

/// Where a column's value comes from.
#[derive(Debug)]
pub(super) enum Origin {
    /// A field of the record.
    Slot(usize),
    /// The same in every record of the object: a constant, or something known of the object.
    Fixed(Option<Vec<u8>>),
    /// The record's number.
    Number,
    /// The record's line.
    Line,
    /// All fields that nobody claimed, as JSON.
    Rescue,
}

/// One target column and what fills it.
pub(super) struct Cell<'a> {
    pub(super) origin: Origin,
    pub(super) column: Column,
    pub(super) rules: &'a Rules,
    pub(super) zone: &'a TimeZone,
}

impl Cell<'_> {
    #[inline]
    pub(super) fn encode_binary<R: RecordReader>(&self, reader: &R, out: &mut BytesMut) -> Result<(), BadRecord> {
        if let Origin::Slot(slot) = self.origin
            && let Value::Text(text) = reader.value(slot)
        {
            // The common case, without a copy.
            return match self.settled(text, reader)? {
                None => {
                    encode::put_null(out);
                    Ok(())
                }
                Some(value) => self.put_binary(value, reader, out),
            };
        }
        match self.other(reader)? {
            None => {
                encode::put_null(out);
                Ok(())
            }
            Some(value) => self.put_binary(&value, reader, out),
        }
    }

    #[inline]
    fn put_binary<R: RecordReader>(&self, value: &[u8], reader: &R, out: &mut BytesMut) -> Result<(), BadRecord> {
        encode::encode_cell(&self.column.kind, value, self.zone, out).map_err(|error| self.blame(reader, error))
    }

    pub(super) fn encode_text<R: RecordReader>(&self, reader: &R, out: &mut BytesMut) -> Result<(), BadRecord> {
        let value = match &self.origin {
            Origin::Slot(slot) => match reader.value(*slot) {
                Value::Text(text) => self.settled(text, reader)?.map(Cow::Borrowed),
                _ => self.other(reader)?,
            },
            _ => self.other(reader)?,
        };
        match value {
            None => {
                encode::put_text_null(out);
                Ok(())
            }
            Some(value) => encode::encode_text_cell(&self.column.kind, &value, self.zone, out)
                .map_err(|error| self.blame(reader, error)),
        }
    }

    /// A text after the rules; `None` for NULL. Runs for every cell, so whatever is rare stands elsewhere.
    #[inline]
    fn settled<'r, R: RecordReader>(&'r self, text: &'r [u8], reader: &R) -> Result<Option<&'r [u8]>, BadRecord> {
        let text = if self.rules.trim { text.trim_ascii() } else { text };
        if self.rules.null.iter().any(|spelling| spelling.as_bytes() == text) {
            return self.null(reader);
        }
        Ok(Some(text))
    }

    /// What NULL becomes in this column.
    #[cold]
    fn null<R: RecordReader>(&self, reader: &R) -> Result<Option<&[u8]>, BadRecord> {
        if let Some(default) = &self.rules.default {
            return Ok(Some(default.as_bytes()));
        }
        let reason = match (self.rules.required, self.column.nullable) {
            (false, true) => return Ok(None),
            (true, _) => "the value is blank (NULL) and the feed requires one",
            (false, false) => "the value is blank (NULL) but the column is NOT NULL",
        };
        Err(self.bad(reader, "E-ROW-NULL", reason))
    }

    /// A value that is no text of a field.
    fn other<'r, R: RecordReader>(&'r self, reader: &'r R) -> Result<Option<Cow<'r, [u8]>>, BadRecord> {
        let value = match &self.origin {
            Origin::Fixed(Some(text)) => Value::Text(text),
            Origin::Fixed(None) => Value::Null,
            Origin::Number => return Ok(Some(reader.number().to_string().into_bytes().into())),
            Origin::Line => match reader.position().line {
                0 => Value::Null,
                line => return Ok(Some(line.to_string().into_bytes().into())),
            },
            Origin::Rescue => return Ok(rescued(reader).map(Cow::Owned)),
            Origin::Slot(slot) => reader.value(*slot),
        };
        let text = match value {
            Value::Absent | Value::Null => return Ok(self.null(reader)?.map(Cow::Borrowed)),
            Value::Bool(true) => b"true".as_slice(),
            Value::Bool(false) => b"false".as_slice(),
            Value::Text(text) | Value::Number(text) | Value::Bytes(text) | Value::Nested(text) => text,
        };
        Ok(self.settled(text, reader)?.map(Cow::Borrowed))
    }

    fn blame<R: RecordReader>(&self, reader: &R, error: CellError) -> BadRecord {
        // Some reasons name the type already.
        let reason = if error.reason.ends_with(&self.column.type_name) {
            error.reason.into_owned()
        } else {
            format!("{} ({})", error.reason, self.column.type_name)
        };
        self.bad(reader, error.code, reason)
    }

    fn bad<R: RecordReader>(&self, reader: &R, code: &'static str, reason: impl Into<String>) -> BadRecord {
        let column = Some(self.column.name.clone());
        BadRecord { position: reader.position(), column, code, reason: reason.into() }
    }
}

/// The fields nobody claimed, as one JSON object; `None` where there are none.
fn rescued<R: RecordReader>(reader: &R) -> Option<Vec<u8>> {
    let mut fields = serde_json::Map::new();
    reader.unclaimed(&mut |name, value| {
        let text = |bytes: &[u8]| serde_json::Value::String(String::from_utf8_lossy(bytes).into_owned());
        let value = match value {
            Value::Absent => return,
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => value.into(),
            Value::Text(bytes) | Value::Bytes(bytes) => text(bytes),
            Value::Number(bytes) | Value::Nested(bytes) => {
                serde_json::from_slice(bytes).unwrap_or_else(|_no_json| text(bytes))
            }
        };
        fields.insert(name.to_owned(), value);
    });
    (!fields.is_empty()).then(|| serde_json::Value::Object(fields).to_string().into_bytes())
}
