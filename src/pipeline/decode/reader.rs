//! What every format is to the rest of the pipeline: a reader of records.
//!
//! A format is one file that implements [`RecordReader`] and one arm in `decode.rs`. Readers know bytes and fields;
//! they know no table, no rule and no budget.

pub use crate::domain::drift::Field;
use crate::domain::record::{BadRecord, Position};

use super::Failure;

/// One value of a record, as the format has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// The record has no such field.
    Absent,
    /// The format's own NULL.
    Null,
    /// A text; of a format without types, anything.
    Text(&'a [u8]),
    /// A number, exactly as it was written or in the shortest form that is exact.
    Number(&'a [u8]),
    /// A boolean.
    Bool(bool),
    /// Bytes that are no text.
    Bytes(&'a [u8]),
    /// An array or object, as JSON.
    Nested(&'a [u8]),
}

/// What a format's values say of their types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typing {
    /// Every value is a text: CSV.
    Texts,
    /// Texts, numbers and booleans differ, and nothing else does: JSON.
    Json,
    /// A schema in the object says what each field is: Parquet, Avro.
    Schema,
}

/// Which fields the records of an object have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schema {
    /// These, in this order; a record's slot is its field's place.
    Named(Vec<Field>),
    /// So many without names; a record's slot is its field's place.
    Positions(usize),
    /// Each record its own.
    Open,
}

/// What a reader came to.
#[derive(Debug)]
pub enum Next {
    /// A record; its values can be asked for.
    Record,
    /// A record of blanks alone that the feed does not want.
    Blank,
    /// A record that cannot be read; reading can go on behind it.
    Bad(BadRecord),
    /// The proper end of the data.
    End,
}

/// Reads the records of one object, one after the other.
pub trait RecordReader: Send {
    /// What its values say of their types.
    const TYPING: Typing;

    /// Reads as far as it takes to know the fields; `None` where there is neither a header nor a record.
    fn schema(&mut self) -> impl Future<Output = Result<Option<Schema>, Failure>> + Send;

    /// The slot under which a field's values can be asked for; `None` where no record of this object can have it.
    /// Steps lead into nested values; a name that holds dots itself is matched first.
    fn claim(&mut self, text: &str, steps: &[String]) -> Option<usize>;

    /// Goes on to the next record.
    fn next(&mut self) -> impl Future<Output = Result<Next, Failure>> + Send;

    /// Number of the record last read, from 1.
    fn number(&self) -> u64;

    /// Where the record last read begins.
    fn position(&self) -> Position;

    /// A value of the record last read.
    fn value(&self, slot: usize) -> Value<'_>;

    /// The fields of the record last read that nobody claimed, each with its value.
    fn unclaimed(&self, visit: &mut dyn FnMut(&str, Value<'_>));

    /// Appends the record last read as it stood in the object, or as JSON where the object is no text, cut at `most`
    /// bytes; answers its whole length. Also of a record that was [`Next::Bad`].
    fn raw(&self, most: usize, out: &mut Vec<u8>) -> u64;

    /// The header as it stood, with its line end: what rejected records need in front of them to be a file again.
    fn header(&self) -> Option<Vec<u8>> {
        None
    }

    /// Adds to a bad record what only the reader can know of its cause.
    fn explain(&self, _bad: &mut BadRecord) {}

    /// Bytes read so far, after decompression.
    fn bytes(&self) -> u64;
}
