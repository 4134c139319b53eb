//! Where a record stands in its object, and what is wrong with one.

use std::fmt;

/// Position of a record: all three are counted from 1 over the decompressed object, except `byte`, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Record number, header not counted.
    pub record: u64,
    /// Line on which the record begins, header counted.
    pub line: u64,
    /// Byte offset at which the record begins.
    pub byte: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} (record {}, byte {})", self.line, self.record, self.byte)
    }
}

/// One bad record. The reason never holds the cell's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// Where.
    pub position: Position,
    /// Target column, where one cell is to blame.
    pub column: Option<String>,
    /// Stable code such as `E-ROW-RAGGED`.
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
