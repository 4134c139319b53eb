//! What a CSV file holds: its delimiter, whether it has a header, the types of its columns.
//!
//! A type is guessed only where every value of the column is one, by the judgement of the encoder that will load it,
//! so a guess never makes a value unloadable. What a type would change (leading zeros, a plus sign) makes it text.

use bytes::BytesMut;
use csv_async::{AsyncReader, AsyncReaderBuilder, ByteRecord};
use jiff::tz::TimeZone;

use crate::store::encode::{ColumnType, encode_cell};

const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// So much of a file tells its delimiter.
const SAMPLE: usize = 64 * 1024;
/// So many records: a lone semicolon in a text further down does not count.
const SAMPLE_RECORDS: usize = 50;
/// A signal gets its turn after so many records.
const YIELD_EVERY: u64 = 4096;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Types in the order of preference; text takes what remains.
const KINDS: [(Kind, ColumnType); 5] = [
    (Kind::Bigint, ColumnType::Int8),
    (Kind::Numeric, ColumnType::Numeric),
    (Kind::Date, ColumnType::Date),
    (Kind::Timestamp, ColumnType::Timestamp),
    (Kind::Timestamptz, ColumnType::Timestamptz),
];

/// Type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bigint,
    Numeric,
    Date,
    Timestamp,
    Timestamptz,
    Text,
}

impl Kind {
    pub(super) const fn as_sql(self) -> &'static str {
        match self {
            Self::Bigint => "bigint",
            Self::Numeric => "numeric",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
            Self::Timestamptz => "timestamptz",
            Self::Text => "text",
        }
    }
}

/// The types all values of a column have had so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidates {
    possible: [bool; KINDS.len()],
    /// Whether there was any value at all.
    seen: bool,
}

impl Default for Candidates {
    fn default() -> Self {
        Self { possible: [true; KINDS.len()], seen: false }
    }
}

impl Candidates {
    fn add(&mut self, cell: &[u8], scratch: &mut BytesMut) {
        if cell.is_empty() {
            return;
        }
        self.seen = true;
        for (possible, (kind, column)) in self.possible.iter_mut().zip(&KINDS) {
            *possible = *possible && fits(*kind, column, cell, scratch);
        }
    }

    /// Of two files with the same columns.
    pub(super) fn merge(&mut self, other: Self) {
        for (mine, theirs) in self.possible.iter_mut().zip(other.possible) {
            *mine = *mine && theirs;
        }
        self.seen |= other.seen;
    }

    pub(super) fn kind(self) -> Kind {
        let first = self.possible.iter().zip(&KINDS).find(|(possible, _)| **possible).map(|(_, (kind, _))| *kind);
        first.filter(|_| self.seen).unwrap_or(Kind::Text)
    }

    fn takes(self, cell: &[u8], scratch: &mut BytesMut) -> bool {
        let mut with = self;
        with.add(cell, scratch);
        with.kind() == self.kind()
    }
}

fn fits(kind: Kind, column: &ColumnType, cell: &[u8], scratch: &mut BytesMut) -> bool {
    let unchanged = match kind {
        Kind::Bigint => !has_leading_zero(cell),
        // 12E5 is rather an article number than a million.
        Kind::Numeric => {
            !has_leading_zero(cell) && (cell.contains(&b'.') || !cell.iter().any(|byte| matches!(byte, b'e' | b'E')))
        }
        Kind::Timestamp => !cell.iter().skip(10).any(|byte| matches!(byte, b'Z' | b'z' | b'+' | b'-')),
        Kind::Date | Kind::Timestamptz | Kind::Text => true,
    };
    scratch.clear();
    unchanged && encode_cell(column, cell, &TimeZone::UTC, scratch).is_ok()
}

/// `007` and `+49…` are names made of digits.
fn has_leading_zero(cell: &[u8]) -> bool {
    let digits = cell.strip_prefix(b"-").unwrap_or(cell);
    matches!(digits, [b'+', ..] | [b'0', b'0'..=b'9', ..])
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Guess {
    pub(super) delimiter: u8,
    /// Names of the header, where there is one.
    pub(super) header: Option<Vec<String>>,
    pub(super) columns: Vec<Candidates>,
}

/// Reads a whole file. None where it holds no record.
pub(super) async fn guess(file: &[u8]) -> Option<Guess> {
    let text = file.strip_prefix(BOM).unwrap_or(file);
    let delimiter = delimiter(text).await;
    let mut reader = reader(text, delimiter);
    let (mut first, mut record, mut scratch) = (ByteRecord::new(), ByteRecord::new(), BytesMut::new());
    if !reader.read_byte_record(&mut first).await.ok()? {
        return None;
    }
    let mut columns = vec![Candidates::default(); first.len()];
    let mut records = 0_u64;
    // What cannot be read here is the daemon's to judge: it says where and why.
    while let Ok(true) = reader.read_byte_record(&mut record).await {
        for (column, cell) in columns.iter_mut().zip(&record) {
            column.add(cell, &mut scratch);
        }
        records += 1;
        if records.is_multiple_of(YIELD_EVERY) {
            tokio::task::yield_now().await;
        }
    }
    let header = is_header(&first, &columns, &mut scratch);
    if !header {
        for (column, cell) in columns.iter_mut().zip(&first) {
            column.add(cell, &mut scratch);
        }
    }
    let names = || first.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    Some(Guess { delimiter, header: header.then(names), columns })
}

/// A header's fields have none of the types that the columns below them have.
fn is_header(first: &ByteRecord, columns: &[Candidates], scratch: &mut BytesMut) -> bool {
    let mut typed = columns.iter().zip(first).filter(|(column, _)| column.kind() != Kind::Text).peekable();
    typed.peek().is_some() && typed.all(|(column, cell)| !cell.is_empty() && !column.takes(cell, scratch))
}

fn reader(text: &[u8], delimiter: u8) -> AsyncReader<&[u8]> {
    AsyncReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).create_reader(text)
}

/// The delimiter that cuts most of the first records into as many fields as the first one, which must be several.
async fn delimiter(text: &[u8]) -> u8 {
    let sample = text.get(..SAMPLE).unwrap_or(text);
    let mut best = (0, 1, b',');
    for candidate in DELIMITERS {
        let mut reader = reader(sample, candidate);
        let (mut record, mut fields, mut agreeing) = (ByteRecord::new(), 0, 0);
        for _ in 0..SAMPLE_RECORDS {
            let Ok(true) = reader.read_byte_record(&mut record).await else { break };
            fields = if fields == 0 { record.len() } else { fields };
            agreeing += usize::from(record.len() == fields);
        }
        if fields > 1 && (agreeing, fields) > (best.0, best.1) {
            best = (agreeing, fields, candidate);
        }
    }
    best.2
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(file: &str, delimiter: u8, header: Option<&[&str]>, kinds: &[Kind]) {
        let found = guess(file.as_bytes()).await.unwrap();
        let names = header.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!((found.delimiter, &found.header), (delimiter, &names), "{file:?}");
        let found: Vec<Kind> = found.columns.iter().map(|column| column.kind()).collect();
        assert_eq!(found, kinds, "{file:?}");
    }

    #[tokio::test]
    async fn types_are_what_every_value_is() {
        check("1,a\n2,b\n", b',', None, &[Kind::Bigint, Kind::Text]).await;
        check("1,1.5\n2,2\n,\n", b',', None, &[Kind::Bigint, Kind::Numeric]).await;
        check("1,2024-01-31\n2,2024-02-30\n", b',', None, &[Kind::Bigint, Kind::Text]).await;
        check("2024-01-31,x\n2024-02-01 10:00:00,y\n", b',', None, &[Kind::Timestamp, Kind::Text]).await;
        check("2024-01-31T10:00:00Z,2024-01-31\n", b',', None, &[Kind::Timestamptz, Kind::Date]).await;
        check("1,\n2,\n", b',', None, &[Kind::Bigint, Kind::Text]).await;
        check("99999999999999999999,1\n", b',', None, &[Kind::Numeric, Kind::Bigint]).await;
    }

    #[tokio::test]
    async fn what_a_number_would_change_stays_text() {
        for cell in ["007", "+4930", "12E5", " 1", "1,5", "NaN", "infinity"] {
            check(&format!("\"{cell}\",x\n"), b',', None, &[Kind::Text, Kind::Text]).await;
        }
        check("0,0.5\n-1,-0.25\n", b',', None, &[Kind::Bigint, Kind::Numeric]).await;
    }

    #[tokio::test]
    async fn a_header_has_none_of_the_types_below_it() {
        check("id,name\n1,a\n", b',', Some(&["id", "name"]), &[Kind::Bigint, Kind::Text]).await;
        check("id,2\n1,3\n", b',', None, &[Kind::Text, Kind::Bigint]).await;
        check("id,name\na,b\n", b',', None, &[Kind::Text, Kind::Text]).await;
        check("id,name\n", b',', None, &[Kind::Text, Kind::Text]).await;
        check("\u{feff}id;when\r\n1;2024-01-01\r\n", b';', Some(&["id", "when"]), &[Kind::Bigint, Kind::Date]).await;
        // A blank may well be a value.
        check(",a\n1,b\n", b',', None, &[Kind::Bigint, Kind::Text]).await;
    }

    #[tokio::test]
    async fn the_delimiter_is_the_one_that_cuts_evenly() {
        check("1;a, b\n2;c, d, e\n3;f\n", b';', None, &[Kind::Bigint, Kind::Text]).await;
        check("1\tx\n", b'\t', None, &[Kind::Bigint, Kind::Text]).await;
        check("alone\n", b',', None, &[Kind::Text]).await;
    }

    #[tokio::test]
    async fn a_file_without_a_record_is_no_guess() {
        for file in ["", "\n\n", "\u{feff}"] {
            assert_eq!(guess(file.as_bytes()).await, None, "{file:?}");
        }
    }
}
