//! One column of one record: its value found, put to its rules and encoded.

use std::cell::Cell as Slot;

use bytes::BytesMut;
use jiff::tz::TimeZone;

use crate::config::feed::Rules;
use crate::domain::record::BadRecord;
use crate::store::catalog::Column;
use crate::store::encode::{self, CellError};

use super::super::reader::{RecordReader, Value};
use super::rescue::Unclaimed;
use super::rules::{Checks, Form, has_blank_nulls, is_null};
use super::value::{Taking, plain};

/// Bytes of scratch that a column keeps from record to record; more goes back after each.
const KEPT: usize = 16 * 1024;

/// Where a column's value comes from.
#[derive(Debug)]
pub(super) enum Origin {
    /// A field of the record.
    Slot(usize),
    /// The first of several fields that the record has.
    First(Vec<usize>),
    /// The same in every record of the object: a constant, or something known of the object.
    Fixed(Option<Vec<u8>>),
    /// The record's number.
    Number,
    /// The record's line.
    Line,
    /// All fields that nobody claimed, as JSON.
    Rescue(Unclaimed),
}

/// One target column and what fills it.
pub(super) struct Cell<'a> {
    pub(super) origin: Origin,
    pub(super) column: Column,
    rules: &'a Rules,
    zone: &'a TimeZone,
    checks: Checks<'a>,
    taking: Taking,
    /// Whether a text that does not begin with a blank goes to the encoder as it stands.
    is_plain: bool,
    /// Where values are rewritten: kept, so that this costs no allocation for each record.
    scratch: Slot<Vec<u8>>,
}

impl<'a> Cell<'a> {
    /// A column with its rules compiled; an error where a rule, the default or the constant does not fit its type.
    pub(super) fn new(
        origin: Origin,
        column: Column,
        (rules, taking): (&'a Rules, Taking),
        zone: &'a TimeZone,
    ) -> Result<Self, String> {
        let checks = Checks::compile(rules, &column.kind, zone)?;
        let taking = Taking { timed: checks.clock.is_some(), ..taking };
        let is_plain = checks.is_trivial() && has_blank_nulls(rules) && taking.takes_texts(&column.kind);
        let cell = Self { origin, column, rules, zone, checks, taking, is_plain, scratch: Slot::default() };
        if let Some(default) = &rules.default {
            cell.try_default(default).map_err(|error| format!("the default is no value of it: {}", error.reason))?;
        }
        Ok(cell)
    }

    /// Whether the same text can stand in every row.
    pub(super) fn try_constant(&self, text: &str) -> Result<(), CellError> {
        self.settle(Value::Text(text.as_bytes()), self.taking.texts(), (self.form(), &mut BytesMut::new()))
    }

    /// Whether a default is a value, NULL aside.
    fn try_default(&self, text: &str) -> Result<(), CellError> {
        let value = Value::Text(text.as_bytes());
        self.put(value, self.taking.texts(), &mut Vec::new(), (self.form(), &mut BytesMut::new()))
    }

    /// The form in which this column alone would go.
    fn form(&self) -> Form {
        if self.column.kind.is_binary() { Form::Binary } else { Form::Text }
    }

    #[inline]
    pub(super) fn encode_binary<R: RecordReader>(&self, reader: &R, out: &mut BytesMut) -> Result<(), BadRecord> {
        // The common case, for every cell of a large file: no rule, no copy. Blanks alone may mean NULL.
        if self.is_plain
            && let Origin::Slot(slot) = self.origin
            && let Value::Text(text) = reader.value(slot)
            && text.first().is_some_and(|byte| *byte > b' ')
        {
            return encode::encode_cell(&self.column.kind, text, self.zone, out)
                .map_err(|error| self.blame(reader, error));
        }
        self.encode(reader, Form::Binary, out).map_err(|error| self.blame(reader, error))
    }

    pub(super) fn encode_text<R: RecordReader>(&self, reader: &R, out: &mut BytesMut) -> Result<(), BadRecord> {
        self.encode(reader, Form::Text, out).map_err(|error| self.blame(reader, error))
    }

    fn encode<R: RecordReader>(&self, reader: &R, form: Form, out: &mut BytesMut) -> Result<(), CellError> {
        let texts = self.taking.texts();
        let of_record = |number: u64| number.to_string();
        match &self.origin {
            Origin::Slot(slot) => self.settle(reader.value(*slot), self.taking, (form, out)),
            Origin::First(slots) => {
                let values = slots.iter().map(|slot| reader.value(*slot));
                let there = values.into_iter().find(|value| !matches!(value, Value::Absent));
                self.settle(there.unwrap_or(Value::Absent), self.taking, (form, out))
            }
            Origin::Fixed(Some(text)) => self.settle(Value::Text(text), texts, (form, out)),
            Origin::Fixed(None) => self.settle(Value::Null, texts, (form, out)),
            Origin::Number => self.settle(Value::Text(of_record(reader.number()).as_bytes()), texts, (form, out)),
            Origin::Line => match reader.position().line {
                0 => self.settle(Value::Null, texts, (form, out)),
                line => self.settle(Value::Text(of_record(line).as_bytes()), texts, (form, out)),
            },
            Origin::Rescue(unclaimed) => self.with_scratch(|scratch| {
                unclaimed.rescue(reader, self.rules, scratch)?;
                match (scratch.is_empty(), self.column.nullable) {
                    (true, true) => {
                        put_null(form, out);
                        Ok(())
                    }
                    (true, false) => self.checks.encode(&self.column.kind, b"{}", self.zone, (form, out)),
                    (false, _) => self.checks.encode(&self.column.kind, scratch, self.zone, (form, out)),
                }
            }),
        }
    }

    /// A value after trim, NULL, default and required.
    fn settle(&self, value: Value<'_>, taking: Taking, (form, out): (Form, &mut BytesMut)) -> Result<(), CellError> {
        let value = match value {
            Value::Text(text) if self.rules.trim => Value::Text(text.trim_ascii()),
            other => other,
        };
        let is_null = match value {
            Value::Absent | Value::Null => true,
            Value::Text(_) | Value::Number(_) | Value::Bool(_) => is_null(self.rules, plain(value)),
            Value::Bytes(_) | Value::Nested(_) => false,
        };
        if !is_null {
            return self.with_scratch(|scratch| self.put(value, taking, scratch, (form, out)));
        }
        if let Some(default) = &self.rules.default {
            let default = Value::Text(default.as_bytes());
            return self.with_scratch(|scratch| self.put(default, taking.texts(), scratch, (form, out)));
        }
        if !self.rules.required && self.column.nullable {
            put_null(form, out);
            return Ok(());
        }
        Err(self.missing())
    }

    #[cold]
    fn missing(&self) -> CellError {
        let reason = match (self.rules.required, self.column.has_default) {
            (true, _) => "the value is blank (NULL) and the feed requires one",
            (false, false) => "the value is blank (NULL) but the column is NOT NULL",
            (false, true) => {
                "the value is blank (NULL) but the column is NOT NULL; its default fills it only if no field is mapped to it"
            }
        };
        CellError { code: "E-ROW-NULL", reason: reason.into() }
    }

    /// A value through all other rules to the encoder.
    fn put(
        &self,
        value: Value<'_>,
        taking: Taking,
        scratch: &mut Vec<u8>,
        (form, out): (Form, &mut BytesMut),
    ) -> Result<(), CellError> {
        let kind = &self.column.kind;
        taking.admit(&value, kind)?;
        self.checks.look(plain(value))?;
        let text = if let Some(clock) = &self.checks.clock {
            clock.to_iso(plain(value), scratch)?;
            scratch.as_slice()
        } else {
            taking.convert(value, kind, scratch)?
        };
        self.checks.encode(kind, self.checks.whole(text), self.zone, (form, out))
    }

    /// Lends the scratch, empty; one that grew large is not kept.
    fn with_scratch(&self, work: impl FnOnce(&mut Vec<u8>) -> Result<(), CellError>) -> Result<(), CellError> {
        let mut scratch = self.scratch.take();
        scratch.clear();
        let outcome = work(&mut scratch);
        if scratch.capacity() <= KEPT {
            self.scratch.set(scratch);
        }
        outcome
    }

    #[cold]
    fn blame<R: RecordReader>(&self, reader: &R, error: CellError) -> BadRecord {
        // Rules speak for themselves, and some reasons name the type already.
        let is_whole = !error.code.starts_with("E-CELL-") || error.reason.ends_with(&self.column.type_name);
        let reason =
            if is_whole { error.reason.into_owned() } else { format!("{} ({})", error.reason, self.column.type_name) };
        let column = Some(self.column.name.clone());
        BadRecord { position: reader.position(), column, code: error.code, reason }
    }
}

fn put_null(form: Form, out: &mut BytesMut) {
    match form {
        Form::Binary => encode::put_null(out),
        Form::Text => encode::put_text_null(out),
    }
}
