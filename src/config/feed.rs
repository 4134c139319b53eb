//! `[feeds.NAME]`: what is loaded from where into which table.

use std::time::Duration;

use globset::GlobSet;
use jiff::Timestamp;

use crate::domain::feed::FeedName;
use crate::domain::pattern::KeyPattern;

/// One feed.
#[derive(Debug, Clone)]
pub struct Feed {
    /// Its name.
    pub name: FeedName,
    /// Bucket.
    pub bucket: String,
    /// Only keys that begin with this are listed; defaults to the pattern's literal beginning.
    pub prefix: String,
    /// Shape of the keys and of the time in them.
    pub pattern: Option<KeyPattern>,
    /// Keys must match one of these, where there are any.
    pub include: Option<GlobSet>,
    /// Keys must match none of these.
    pub exclude: Option<GlobSet>,
    /// Keys with an earlier time are not loaded.
    pub start_from: Option<Timestamp>,
    /// An object is left alone until it is this old.
    pub min_age: Duration,
    /// Tip poll interval.
    pub poll_interval: Duration,
    /// Interval of the look-back poll.
    pub lookback_interval: Duration,
    /// How far behind the frontier the look-back poll begins.
    pub lookback: Duration,
    /// Interval of the full sweep.
    pub sweep_interval: Duration,
    /// Loads of this feed at once.
    pub max_workers: usize,
    /// Target table.
    pub table: TableName,
    /// How rows meet the table.
    pub mode: Mode,
    /// How bytes become records.
    pub csv: Csv,
    /// How fields become columns.
    pub mapping: Mapping,
    /// Caps on what an object may claim.
    pub limits: Limits,
    /// What happens to a loaded object.
    pub disposal: Disposal,
    /// Hash over everything above that changes what is loaded; recorded with each object.
    pub fingerprint: String,
}

/// A table name, already split; quoting happens in `store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// Schema; `public` by default.
    pub schema: String,
    /// Table.
    pub table: String,
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// How rows meet the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Rows are added.
    Append,
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
}

/// How fields become columns.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// Target column and where its value comes from, in the order of the file; empty: header names are column
    /// names, or fields stand in the table's column order.
    pub columns: Vec<(String, Source)>,
    /// Texts that mean NULL, unless a column has its own.
    pub null: Vec<String>,
    /// Fields the mapping does not mention.
    pub unknown: Unknown,
    /// Time zone of timestamps without an offset.
    pub timezone: jiff::tz::TimeZone,
}

/// Where a column's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The field of this header name.
    Header(String),
    /// The field at this position, from 1.
    Position(usize),
}

/// What to do with fields the mapping does not mention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// Leave them out.
    Ignore,
    /// Set the object aside.
    Quarantine,
}

/// Caps on what an object may claim.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of an object after decompression.
    pub max_bytes: u64,
    /// Decompressed bytes per compressed byte, above the first 1 MiB.
    pub max_ratio: u64,
    /// Bytes of one record.
    pub max_record_bytes: u64,
    /// Fields of one record.
    pub max_fields: usize,
}

/// What happens to a loaded object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposal {
    /// It stays.
    Keep,
    /// It is deleted.
    Delete,
    /// It is copied under `prefix` + whole key, verified, then deleted.
    Archive {
        /// Destination bucket, the feed's own where the configuration names none.
        bucket: String,
        /// Destination prefix.
        prefix: String,
    },
}
