//! How bytes become records.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::value::choose;

/// How bytes become records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Delimited text.
    Csv,
    /// One JSON object per line.
    Jsonl,
    /// JSON documents of any layout: an array of objects, or objects one after the other.
    Json,
    /// Apache Parquet.
    Parquet,
    /// Avro object container files.
    Avro,
}

impl Format {
    /// The word of the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Json => "json",
            Self::Parquet => "parquet",
            Self::Avro => "avro",
        }
    }
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = [
            ("csv", Self::Csv),
            ("jsonl", Self::Jsonl),
            ("json", Self::Json),
            ("parquet", Self::Parquet),
            ("avro", Self::Avro),
        ];
        choose(deserializer, &words)
    }
}

/// CSV dialect.
#[derive(Debug, Clone)]
pub struct Csv {
    /// Field delimiter, one ASCII byte.
    pub delimiter: u8,
    /// Quote, one ASCII byte; none means quotes are data.
    pub quote: Option<u8>,
    /// Escape inside quotes, where it is not the doubled quote.
    pub escape: Option<u8>,
    /// Whether the first record names the fields.
    pub header: bool,
    /// Encoding of the text.
    pub encoding: Encoding,
    /// First byte of lines that are no records.
    pub comment: Option<u8>,
    /// Records with another number of fields than the others.
    pub ragged: Ragged,
    /// Records whose fields are all blank.
    pub blank_records: BlankRecords,
}

/// Encoding of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub enum Encoding {
    /// UTF-8, with a byte order mark or without.
    #[serde(rename = "utf-8")]
    Utf8,
    /// ISO 8859-1.
    #[serde(rename = "latin1")]
    Latin1,
    /// Windows-1252.
    #[serde(rename = "windows-1252")]
    Windows1252,
    /// UTF-16; a byte order mark tells its order, little-endian without one.
    #[serde(rename = "utf-16")]
    Utf16,
}

impl Encoding {
    /// The word of the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Utf8 => "utf-8",
            Self::Latin1 => "latin1",
            Self::Windows1252 => "windows-1252",
            Self::Utf16 => "utf-16",
        }
    }
}

impl<'de> Deserialize<'de> for Encoding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = [
            ("utf-8", Self::Utf8),
            ("latin1", Self::Latin1),
            ("windows-1252", Self::Windows1252),
            ("utf-16", Self::Utf16),
        ];
        choose(deserializer, &words)
    }
}

/// What becomes of records with another number of fields than the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ragged {
    /// They are rejected.
    Reject,
    /// Fields that are missing at the end are NULL; more than the others have is still wrong.
    Pad,
}

impl<'de> Deserialize<'de> for Ragged {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        choose(deserializer, &[("reject", Self::Reject), ("pad", Self::Pad)])
    }
}

/// What becomes of records whose fields are all blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BlankRecords {
    /// They are records like others.
    Keep,
    /// They are counted as filtered.
    Filter,
}

impl<'de> Deserialize<'de> for BlankRecords {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        choose(deserializer, &[("keep", Self::Keep), ("filter", Self::Filter)])
    }
}

/// How JSON is read.
#[derive(Debug, Clone)]
pub struct Json {
    /// In a document, the way to the array of records; none: the document is the array, or the record.
    pub records: Option<super::FieldPath>,
    /// The same key twice in one object.
    pub duplicate_keys: DuplicateKeys,
    /// Whether a text is taken for a number or boolean, and a number or boolean for a text.
    pub coerce: bool,
}

/// What becomes of a record in which an object has the same key twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DuplicateKeys {
    /// It is rejected.
    Reject,
    /// The last one counts.
    Last,
}

impl<'de> Deserialize<'de> for DuplicateKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        choose(deserializer, &[("reject", Self::Reject), ("last", Self::Last)])
    }
}
