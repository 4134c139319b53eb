//! The states of the record splitter, byte by byte, also where it is lenient: for those who must know what it will
//! make of bytes before or after it does.
//!
//! Not for every object's every byte: the splitter itself is faster, and most feeds need no second opinion.

use crate::config::feed::Csv;

/// Where the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Before a record.
    Line,
    /// Before a field that is not its record's first.
    Field,
    /// In a field without quotes, or behind the closing quote of one with.
    Plain,
    /// In a quoted field.
    Quoted,
    /// Behind an escape character in one.
    Escaped,
    /// Behind a quote in one: it closed the field, or is the first of two.
    Closed,
}

impl State {
    /// The state behind a byte.
    #[must_use]
    pub fn next(self, csv: &Csv, byte: u8) -> Self {
        let is_quote = csv.quote == Some(byte);
        let plain = match byte {
            b'\n' | b'\r' => Self::Line,
            byte if byte == csv.delimiter => Self::Field,
            _ => Self::Plain,
        };
        match self {
            Self::Line | Self::Field if is_quote => Self::Quoted,
            Self::Quoted if is_quote => Self::Closed,
            Self::Quoted if csv.escape == Some(byte) => Self::Escaped,
            Self::Quoted | Self::Escaped => Self::Quoted,
            Self::Closed if is_quote && csv.escape.is_none() => Self::Quoted,
            Self::Line | Self::Field | Self::Plain | Self::Closed => plain,
        }
    }
}
