//! Rows that do not go straight into their table: what is added to each so that it can be told apart later.

use bytes::{BufMut, BytesMut};

use crate::domain::record::Position;

/// Whether rows go straight into their table, and what is added to them where they do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Staging {
    /// Straight into the table.
    #[default]
    None,
    /// Into a temporary table, each with its record's number: the last one of a key wins.
    Numbered,
    /// The same, with position and raw record as well: the server may refuse any of them.
    Traced,
}

impl Staging {
    /// Columns that are added.
    pub const fn columns(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Numbered => &["_keyfall_record"],
            Self::Traced => {
                &["_keyfall_record", "_keyfall_line", "_keyfall_byte", "_keyfall_raw", "_keyfall_raw_bytes"]
            }
        }
    }

    /// How many.
    pub const fn width(self) -> usize {
        self.columns().len()
    }
}

/// Where a staged row comes from.
#[derive(Debug)]
pub struct Trace {
    /// Its record.
    pub position: Position,
    /// The record as it stood, cut.
    pub raw: Vec<u8>,
    /// Its whole length.
    pub raw_bytes: u64,
}

impl Trace {
    fn numbers(&self) -> [i64; 3] {
        let Position { record, line, byte } = self.position;
        [record, line, byte].map(signed)
    }
}

/// Appends the columns of [`Staging::Traced`] in binary.
pub fn put_trace_binary(trace: &Trace, out: &mut BytesMut) {
    for number in trace.numbers() {
        out.put_i32(8);
        out.put_i64(number);
    }
    out.put_i32(i32::try_from(trace.raw.len()).unwrap_or(i32::MAX));
    out.put_slice(&trace.raw);
    out.put_i32(8);
    out.put_i64(signed(trace.raw_bytes));
}

/// The same as text, each with its separator in front.
pub fn put_trace_text(trace: &Trace, out: &mut BytesMut) {
    for number in trace.numbers() {
        out.put_slice(format!("\t{number}").as_bytes());
    }
    out.put_slice(b"\t\\\\x");
    for byte in &trace.raw {
        out.put_slice(format!("{byte:02x}").as_bytes());
    }
    out.put_slice(format!("\t{}", signed(trace.raw_bytes)).as_bytes());
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
