//! Where a record stands in its object, and what is wrong with one.

use std::fmt;

/// Position of a record in the decompressed object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Record number from 1, header not counted.
    pub record: u64,
    /// Line on which the record begins, from 1, header counted; 0 where the format has no lines.
    pub line: u64,
    /// Byte offset from 0 at which the record begins; means nothing where the format has no lines.
    pub byte: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "record {}", self.record),
            line => write!(f, "line {line} (record {}, byte {})", self.record, self.byte),
        }
    }
}

/// One bad record. The reason never holds the cell's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// Where.
    pub position: Position,
    /// Target column, where one cell is to blame.
    pub column: Option<String>,
    /// Stable code such as `E-CSV-RAGGED`.
    pub code: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.position)?;
        if let Some(column) = &self.column {
            write!(f, ", column {column:?}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// A record that is kept out of its table, as the ledger remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Where.
    pub position: Position,
    /// The table it was meant for, where that is known.
    pub table: Option<String>,
    /// Target column, where one cell is to blame.
    pub column: Option<String>,
    /// Stable code, or `E-PG-` and a SQLSTATE.
    pub code: String,
    /// What is wrong with it; never holds a value.
    pub reason: String,
    /// The record as it stood in the object, cut at [`RAW_MOST`].
    pub raw: Vec<u8>,
    /// Its whole length.
    pub raw_bytes: u64,
}

/// Bytes of a rejected record that are kept. A longer one can be looked at and not replayed from the ledger.
pub const RAW_MOST: usize = 64 << 10;
