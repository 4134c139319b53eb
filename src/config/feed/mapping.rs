//! How the fields of a record become the columns of a table, and what a value must be.

use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::value::choose;

/// How fields become columns.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// Target columns in the order of the file; empty: field names are column names, or fields stand in the table's
    /// column order.
    pub columns: Vec<ColumnMap>,
    /// Rules of columns that `columns` does not mention.
    pub rules: Rules,
    /// How field names are compared.
    pub names: NameMatch,
    /// Fields the mapping does not mention.
    pub unknown: Unknown,
    /// Column of type `jsonb` that takes such fields, where `unknown` is [`Unknown::Rescue`].
    pub rescue_column: String,
    /// Time zone of timestamps without an offset.
    pub timezone: TimeZone,
}

/// One target column: where its value comes from and what it must be.
#[derive(Debug, Clone)]
pub struct ColumnMap {
    /// The column.
    pub column: String,
    /// Where its value comes from.
    pub source: Source,
    /// What the value must be.
    pub rules: Rules,
}

/// Where a column's value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Source {
    /// The first of these fields that a record, or its header, has.
    Field(Vec<FieldPath>),
    /// The field at this position, from 1.
    Position(usize),
    /// The same text in every row.
    Constant(String),
    /// Something known of the object or the record.
    Meta(Meta),
}

impl Source {
    /// The field of this name.
    pub fn field(name: &str) -> Self {
        Self::Field(vec![FieldPath::new(name)])
    }
}

/// The name of a field: of a CSV header as it stands, of a nested format as the way to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct FieldPath {
    /// As written: `data.location.lat`.
    pub text: String,
    /// Split at its dots.
    #[serde(skip)]
    pub steps: Vec<String>,
}

impl FieldPath {
    /// A path as it is written.
    pub fn new(text: &str) -> Self {
        Self { text: text.to_owned(), steps: text.split('.').map(str::to_owned).collect() }
    }
}

/// Something known of the object or the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Meta {
    /// `object.bucket`.
    Bucket,
    /// `object.key`.
    Key,
    /// `object.time`: the time in the key.
    Time,
    /// `object.etag`.
    Etag,
    /// `object.size`, in bytes.
    Size,
    /// `object.visible_at`: when S3 says the object was written.
    VisibleAt,
    /// `record.number`, from 1.
    RecordNumber,
    /// `record.line`, from 1; NULL where the format has no lines.
    RecordLine,
    /// `key.NAME`: a named part of the pattern.
    KeyPart(String),
}

/// How the names of fields are compared with those of columns and of the mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NameMatch {
    /// Letter by letter.
    Exact,
    /// Without regard to case; blanks, `-`, `.` and `_` are the same.
    Normalized,
}

impl<'de> Deserialize<'de> for NameMatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        choose(deserializer, &[("exact", Self::Exact), ("normalized", Self::Normalized)])
    }
}

/// What a value must be. Applied in this order: trim, null, default, required, then everything else.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "the fields are named like the keys of the file")]
pub struct Rules {
    /// Texts that mean NULL. The empty text also stands for one of blanks alone.
    pub null: Vec<String>,
    /// Whether blanks around the value are taken away.
    pub trim: bool,
    /// Whether NULL is refused even where the column allows it.
    pub required: bool,
    /// What stands in for NULL and for a field that is not there.
    pub default: Option<String>,
    /// Smallest value, compared as the column's type.
    pub min: Option<String>,
    /// Largest value, compared as the column's type.
    pub max: Option<String>,
    /// The only values, where there are any.
    pub one_of: Vec<String>,
    /// What the whole text must match.
    pub matches: Option<regex::bytes::Regex>,
    /// Fewest characters.
    pub min_length: Option<usize>,
    /// Most characters.
    pub max_length: Option<usize>,
    /// Whether an integer may be written with a fraction of zeros, as `8.0`.
    pub integral_floats: bool,
    /// How a date or time is written, where it is not ISO 8601.
    pub time_format: Option<TimeFormat>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            null: vec![super::DEFAULT_NULL.to_owned()],
            trim: false,
            required: false,
            default: None,
            min: None,
            max: None,
            one_of: Vec::new(),
            matches: None,
            min_length: None,
            max_length: None,
            integral_floats: false,
            time_format: None,
        }
    }
}

/// How a date or time is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimeFormat {
    /// So many units since 1970-01-01T00:00:00Z, perhaps with a fraction.
    Epoch(EpochUnit),
    /// A pattern of `strptime`.
    Pattern(String),
}

/// Unit of a time since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpochUnit {
    /// `epoch_s`.
    Seconds,
    /// `epoch_ms`.
    Millis,
    /// `epoch_us`.
    Micros,
    /// `epoch_ns`.
    Nanos,
}

/// What to do with fields the mapping does not mention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unknown {
    /// Leave them out.
    Ignore,
    /// Reject each record that has a value in one.
    Reject,
    /// Set the object aside.
    Quarantine,
    /// Add a column to the table.
    Add,
    /// Put them into a column of type `jsonb`.
    Rescue,
}

impl<'de> Deserialize<'de> for Unknown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = [
            ("ignore", Self::Ignore),
            ("reject", Self::Reject),
            ("quarantine", Self::Quarantine),
            ("add", Self::Add),
            ("rescue", Self::Rescue),
        ];
        choose(deserializer, &words)
    }
}
