//! Fields that nobody claimed: looked for where the feed wants to know of them, or kept as one JSON object.

use serde::de::IgnoredAny;

use crate::config::feed::Rules;
use crate::store::encode::CellError;

use super::super::reader::{RecordReader, Value};
use super::rules::is_null;
use super::value::put_quoted;

/// Where the fields are that nobody claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unclaimed {
    /// The reader knows: fields have names.
    Named,
    /// These slots, with their position from 1 for a name.
    Positions(Vec<(usize, String)>),
}

impl Unclaimed {
    /// The slots from `first` on that none of the mapping's positions takes.
    pub(super) fn positions(fields: usize, first: usize, is_mapped: impl Fn(usize) -> bool) -> Self {
        let slots = (first..fields).filter(|slot| !is_mapped(*slot));
        Self::Positions(slots.map(|slot| (slot, (slot + 1).to_string())).collect())
    }

    /// Shows each such field of the record last read that has a value; a blank one of a text has none.
    pub(super) fn visit<R: RecordReader>(&self, reader: &R, rules: &Rules, see: &mut dyn FnMut(&str, Value<'_>)) {
        let mut see = |name: &str, value: Value<'_>| {
            let is_empty = match value {
                Value::Absent | Value::Null => true,
                Value::Text(text) => is_null(rules, text),
                Value::Number(_) | Value::Bool(_) | Value::Bytes(_) | Value::Nested(_) => false,
            };
            if !is_empty {
                see(name, value);
            }
        };
        match self {
            Self::Named => reader.unclaimed(&mut see),
            Self::Positions(slots) => slots.iter().for_each(|(slot, name)| see(name, reader.value(*slot))),
        }
    }

    /// Appends such fields as one JSON object, nothing where there are none. Numbers stay as they are written; of two
    /// fields of one name `jsonb` keeps the last, as the reader that let them through was told to.
    pub(super) fn rescue<R: RecordReader>(
        &self,
        reader: &R,
        rules: &Rules,
        out: &mut Vec<u8>,
    ) -> Result<(), CellError> {
        let mut outcome = Ok(());
        self.visit(reader, rules, &mut |name, value| {
            if outcome.is_ok() {
                out.push(if out.is_empty() { b'{' } else { b',' });
                outcome = put_field(name, value, out);
            }
        });
        if !out.is_empty() {
            out.push(b'}');
        }
        outcome
    }
}

fn put_field(name: &str, value: Value<'_>, out: &mut Vec<u8>) -> Result<(), CellError> {
    put_quoted(name.as_bytes(), out)?;
    out.push(b':');
    match value {
        Value::Absent | Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Text(text) => put_quoted(text, out)?,
        // As PostgreSQL writes bytes: nothing is lost, and it can be cast back.
        Value::Bytes(bytes) => {
            out.extend_from_slice(b"\"\\\\x");
            let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
            out.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
            out.push(b'"');
        }
        // A number that JSON does not know, such as NaN, is kept as a text.
        Value::Number(text) | Value::Nested(text) => match serde_json::from_slice::<IgnoredAny>(text) {
            Ok(_) => out.extend_from_slice(text),
            Err(_no_json) => put_quoted(text, out)?,
        },
    }
    Ok(())
}
