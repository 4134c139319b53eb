//! `[feeds.NAME]`: what is loaded from where into which table.
//!
//! The final types first, then what stands in the file. The checks lie beside: `feed/check.rs` for one feed,
//! `feed/overlap.rs` for what feeds do to each other.

mod check;
mod columns;
mod fingerprint;
mod format;
mod mapping;
mod overlap;
mod parents;
mod policy;
mod route;
mod routes;
mod rows;
mod table_name;

use std::time::Duration;

use globset::GlobSet;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::value::{Count, GIB, MIB, Size, Span, Texts, choose};
use crate::domain::feed::FeedName;
use crate::domain::pattern::KeyPattern;

pub(super) use check::{Checked, Known, validate};
use columns::{Columns, InOrder};
pub use format::{BlankRecords, Csv, DuplicateKeys, Encoding, Format, Json, Ragged};
pub use mapping::{ColumnMap, EpochUnit, FieldPath, Mapping, Meta, NameMatch, Rules, Source, TimeFormat, Unknown};
pub(super) use overlap::check_all as check_overlaps;
pub(super) use parents::check_all as check_parents;
pub use policy::{Cadence, DuplicateContent, OnChange, Slots};
pub(crate) use route::ModeWord;
pub use route::{Condition, Mode, Rejects, Route, TableName, Unmatched};
use routes::{RawRejects, RawRoute};

/// The clock key names and cells follow where none is named.
pub const DEFAULT_TIMEZONE: &str = "UTC";
/// Objects may be loaded as soon as they are seen: S3 shows only whole objects.
pub const DEFAULT_MIN_AGE: Duration = Duration::ZERO;
/// Tip poll interval: one LIST call each.
pub const DEFAULT_POLL_INTERVAL: Duration = Duration::from_secs(10);
/// Longest tip poll interval, reached after a long time without new objects.
pub const DEFAULT_POLL_INTERVAL_MAX: Duration = Duration::from_mins(1);
/// Interval of the look-back poll.
pub const DEFAULT_LOOKBACK_INTERVAL: Duration = Duration::from_mins(1);
/// How far behind the frontier the look-back poll begins.
pub const DEFAULT_LOOKBACK: Duration = Duration::from_hours(1);
/// The look-back never grows longer than this by itself.
pub const DEFAULT_LOOKBACK_MAX: Duration = Duration::from_hours(24);
/// Interval of the full sweep.
pub const DEFAULT_SWEEP_INTERVAL: Duration = Duration::from_hours(24);
/// CSV field delimiter.
pub const DEFAULT_DELIMITER: &str = ",";
/// CSV quote.
pub const DEFAULT_QUOTE: &str = "\"";
/// Whether the first record names the fields.
pub const DEFAULT_HEADER: bool = true;
/// The text that means NULL: an empty field.
pub const DEFAULT_NULL: &str = "";
/// Bytes of an object after decompression.
pub const DEFAULT_MAX_BYTES: u64 = 100 * GIB;
/// Decompressed bytes per compressed byte: above what gzip reaches on anything but a bomb.
pub const DEFAULT_MAX_RATIO: u64 = 1000;
/// Bytes of one record.
pub const DEFAULT_MAX_RECORD_BYTES: u64 = 16 * MIB;
/// Fields of one record: as many columns as a table can have.
pub const DEFAULT_MAX_FIELDS: u64 = 1600;
/// Levels of nesting in one record.
pub const DEFAULT_MAX_DEPTH: u64 = 64;
/// Bytes of a row group or block.
pub const DEFAULT_MAX_BLOCK_BYTES: u64 = 256 * MIB;
/// Column of fields the mapping does not mention.
pub const DEFAULT_RESCUE_COLUMN: &str = "_rescued";
/// How long a row may wait for the row its foreign key names.
pub const DEFAULT_PARENT_WAIT: Duration = Duration::from_mins(10);

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
    /// Queue that carries the bucket's notifications, by its name in the configuration.
    pub queue: Option<String>,
    /// Shortest tip poll interval.
    pub poll_interval: Duration,
    /// Longest tip poll interval: reached while nothing new is found.
    pub poll_interval_max: Duration,
    /// Interval of the look-back poll.
    pub lookback_interval: Duration,
    /// How far behind the frontier the look-back poll begins at least.
    pub lookback: Duration,
    /// How far at most, however late objects were observed to be.
    pub lookback_max: Duration,
    /// Interval of the full sweep.
    pub sweep_interval: Duration,
    /// Other content under a known key.
    pub on_change: OnChange,
    /// The same content under another key.
    pub duplicate_content: DuplicateContent,
    /// When objects are expected, where the feed says so.
    pub slots: Option<Slots>,
    /// Loads of this feed at once.
    pub max_workers: usize,
    /// How bytes become records.
    pub format: Format,
    /// Dialect, where the format is CSV.
    pub csv: Csv,
    /// How JSON is read, where the format is JSON.
    pub json: Json,
    /// Target tables, at least one; a record goes to the first that takes it.
    pub routes: Vec<Route>,
    /// Records that no route takes.
    pub unmatched: Unmatched,
    /// How many rejected records an object may have.
    pub rejects: Rejects,
    /// Feeds whose earlier objects are loaded first.
    pub depends_on: Vec<FeedName>,
    /// How long a row may wait for the row its foreign key names.
    pub parent_wait: Duration,
    /// Caps on what an object may claim.
    pub limits: Limits,
    /// What happens to a loaded object.
    pub disposal: Disposal,
    /// Hash over everything above that changes what is loaded; recorded with each object.
    pub fingerprint: String,
}

impl Feed {
    /// Target tables, each once.
    pub fn tables(&self) -> Vec<&TableName> {
        let mut tables: Vec<&TableName> = Vec::new();
        for route in &self.routes {
            if !tables.contains(&&route.table) {
                tables.push(&route.table);
            }
        }
        tables
    }
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
    /// Levels of nesting in one record.
    pub max_depth: usize,
    /// Bytes of a block that must be held whole: a row group of Parquet, a block of Avro.
    pub max_block_bytes: u64,
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

/// What is loaded from where into which table.
// `bucket` and `table` are required of all layers together; the schema describes one file, which may lack them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "the fields are named like the keys of the file")]
pub(crate) struct RawFeed {
    /// Bucket to watch: its name alone, without `s3://`. Required.
    bucket: Option<String>,
    /// Shape of the keys and of the time in them, such as `events/{time:%Y-%m-%d-%H-%M-%S}.csv`; default: none, then
    /// every key under the prefix is loaded and found by sweeps alone. Keys of another shape are skipped.
    pattern: Option<String>,
    /// Only keys that begin with this are listed; default: the literal beginning of the pattern. A prefix that is too
    /// wide makes every sweep long.
    prefix: Option<String>,
    /// The clock key names follow: an IANA name such as `Europe/Madrid` or an offset such as `-03:00`; default `UTC`.
    /// A wrong one shifts freshness and `start_from`.
    timezone: String,
    /// Globs over the whole key, of which one must match; default: none, every key. `*` stays within a folder, `**` does
    /// not.
    include: Texts,
    /// Globs over the whole key, of which none may match; default: none.
    exclude: Texts,
    /// Keys with an earlier time are not loaded: a time such as `2024-01-01T00:00:00Z`, a date, which begins at midnight
    /// by `timezone`; default: every key. Needs a time in the pattern.
    start_from: Option<String>,
    /// An object is left alone until it is this old; default 0 s. For writers that replace an object shortly after
    /// they made it.
    min_age: Span,
    /// Queue that carries the bucket's notifications: a name under `[queues]`; default: none, polls alone find objects.
    /// Polls and sweeps go on beside it and find what a notification did not tell.
    queue: Option<String>,
    /// Shortest interval of the tip poll, at least 100 ms; default 10 s. Each is a LIST call, so short intervals cost
    /// money and long ones cost freshness.
    poll_interval: Span,
    /// Longest interval of the tip poll; default 1 m. While nothing new is found, the interval grows to a tenth of the
    /// time since then; the same as `poll_interval` keeps it fixed.
    poll_interval_max: Span,
    /// Interval of the look-back poll, at least 100 ms; default 1 m. It finds keys that arrive late.
    lookback_interval: Span,
    /// How far behind the frontier the look-back poll begins at least; default 1 h. It grows to twice the lateness that
    /// 99 of 100 late objects stayed below. Keys later than this wait for the sweep; a long look-back lists many keys
    /// each time.
    lookback: Span,
    /// How far the look-back may grow; default 1 d. The same as `lookback` keeps it fixed.
    lookback_max: Span,
    /// Interval of the full sweep, which lists every key under the prefix, at least 1 s; default 1 d. It finds what
    /// everything else missed.
    sweep_interval: Span,
    /// Other content under a key that was loaded before: `load` it as well, `replace` the older rows, `ignore` it or
    /// `quarantine` it; default `load`. `replace` needs a column `_object_id` of type `bigint` in the table.
    on_change: OnChange,
    /// The same bytes as an object of this feed that was loaded under another key: `warn` and load, `skip`, `quarantine`,
    /// or `load` without looking; default `warn`.
    duplicate_content: DuplicateContent,
    /// How often an object is expected, such as `5m` or `1d`, or `learn` to take it from the latest objects; default:
    /// none. Spans in which none came are missing slots. Needs a time in the pattern; slots follow `timezone`.
    cadence: Option<String>,
    /// How long after the end of its slot an object may still come before the slot is missing; default: the cadence.
    cadence_grace: Option<Span>,
    /// Loads of this feed at once, from 1 to 1024; default: `workers.max`. Fewer leave workers to other feeds.
    max_workers: Option<Count>,
    /// Target table as `schema.table`; the schema is `public` where none is named. Parts with capitals or other
    /// characters stand in double quotes, as in SQL. Required.
    table: Option<String>,
    /// How rows meet the table: `append` adds them, `upsert` puts them in place of those with the same key, `replace` takes
    /// the object for the whole table; default `append`.
    mode: ModeWord,
    /// Columns of a unique key of the table. Required by `upsert`. Of several records with one key in an object the last
    /// one counts.
    key: Texts,
    /// Column whose smaller value never takes the place of a larger one, such as `updated_at`; default: none, then the
    /// object loaded last wins. Only with `upsert`.
    newer_by: Option<String>,
    /// Several tables in place of `table`, by name: each record goes to the first route that takes it.
    routes: InOrder<RawRoute>,
    /// What becomes of records that no route takes: `filter` leaves them out, `reject` counts them as bad; default
    /// `reject`.
    unmatched: Unmatched,
    /// Feeds whose earlier objects are loaded first; default: none. A feed that others depend on and that is paused holds
    /// them back.
    depends_on: Texts,
    /// How long a row may wait for the row its foreign key names, from the object's discovery; default 10 m. Then it counts
    /// as bad.
    parent_wait: Span,
    /// How bytes become records: `csv`, `jsonl` (an object per line), `json` (documents), `parquet` or `avro`; default
    /// `csv`. Compression is recognised by itself.
    format: Format,
    /// Texts that mean NULL; default: the empty text. An empty list makes every field a value.
    null: Texts,
    /// Time zone of timestamps without an offset in cells: an IANA name or an offset; default `UTC`.
    value_timezone: String,
    /// Whether blanks around values are taken away; default false.
    trim: bool,
    /// Whether NULL is refused in every column, also where the table allows it; default false.
    required: bool,
    /// Whether integers may be written with a fraction of zeros, as `8.0`; default false.
    integral_floats: bool,
    /// How names of fields are compared: `exact`, or `normalized`, where case and the marks between words do not count;
    /// default `exact`.
    header_match: NameMatch,
    /// What to do with fields the mapping does not mention: `quarantine` the object, `reject` records that have a value
    /// there, `ignore` the fields, `add` a column to the table, or `rescue` them into a column of type `jsonb`; default
    /// `quarantine`. Ignoring loses what a writer adds; adding needs a role that owns the table.
    unknown_fields: Unknown,
    /// Column for `unknown_fields = "rescue"`; default `_rescued`.
    rescue_column: String,
    /// How many bad records an object may have.
    rejects: RawRejects,
    /// How JSON is read.
    json: RawJson,
    /// CSV dialect.
    csv: RawCsv,
    /// Target columns, each with the name or the position (from 1) of its field, or with a table of rules; default: names
    /// of fields are column names, or without header the fields stand in the order of the table's columns.
    columns: Columns,
    /// Caps on what an object may claim; an object that exceeds one is quarantined.
    limits: RawLimits,
    /// What happens to a loaded object.
    disposal: RawDisposal,
}

impl Default for RawFeed {
    fn default() -> Self {
        Self {
            bucket: None,
            pattern: None,
            prefix: None,
            timezone: DEFAULT_TIMEZONE.to_owned(),
            include: Texts::default(),
            exclude: Texts::default(),
            start_from: None,
            min_age: Span(DEFAULT_MIN_AGE),
            queue: None,
            poll_interval: Span(DEFAULT_POLL_INTERVAL),
            poll_interval_max: Span(DEFAULT_POLL_INTERVAL_MAX),
            lookback_interval: Span(DEFAULT_LOOKBACK_INTERVAL),
            lookback: Span(DEFAULT_LOOKBACK),
            lookback_max: Span(DEFAULT_LOOKBACK_MAX),
            sweep_interval: Span(DEFAULT_SWEEP_INTERVAL),
            on_change: OnChange::Load,
            duplicate_content: DuplicateContent::Warn,
            cadence: None,
            cadence_grace: None,
            max_workers: None,
            table: None,
            mode: ModeWord::Append,
            key: Texts::default(),
            newer_by: None,
            routes: InOrder::default(),
            unmatched: Unmatched::Reject,
            depends_on: Texts::default(),
            parent_wait: Span(DEFAULT_PARENT_WAIT),
            format: Format::Csv,
            null: Texts(vec![DEFAULT_NULL.to_owned()]),
            value_timezone: DEFAULT_TIMEZONE.to_owned(),
            trim: false,
            required: false,
            integral_floats: false,
            header_match: NameMatch::Exact,
            unknown_fields: Unknown::Quarantine,
            rescue_column: DEFAULT_RESCUE_COLUMN.to_owned(),
            rejects: RawRejects::default(),
            json: RawJson::default(),
            csv: RawCsv::default(),
            columns: Columns::default(),
            limits: RawLimits::default(),
            disposal: RawDisposal::default(),
        }
    }
}

/// CSV dialect.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawCsv {
    /// Whether the first record names the fields; default true. Wrongly true swallows the first record of every object.
    header: bool,
    /// Field delimiter, one ASCII character that is no letter or digit; default `,`. A tab is written `\t`.
    delimiter: String,
    /// Quote, one ASCII character that is no letter or digit; default `"`. An empty text makes quotes data.
    quote: String,
    /// Escape inside quotes, one ASCII character that is no letter or digit, where it is not the doubled quote; default: none.
    escape: Option<String>,
    /// Encoding of the text: `utf-8`, `latin1`, `windows-1252` or `utf-16`; default `utf-8`. Byte order marks are
    /// recognised by themselves.
    encoding: Encoding,
    /// One ASCII character that begins lines which are no records; default: none.
    comment: Option<String>,
    /// What becomes of records with too few fields: `reject` counts them as bad, `pad` fills them up with NULL; default
    /// `reject`. Too many are always bad.
    ragged: Ragged,
    /// What becomes of records whose fields are all blank: `keep` them, or `filter` them out; default `keep`.
    blank_records: BlankRecords,
}

/// How JSON is read.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawJson {
    /// In a document, the way to the array of records, such as `data.items`; default: the document is the array, or the
    /// record. Only with `format = "json"`.
    records: Option<String>,
    /// What becomes of a record in which an object has the same key twice: `reject` it, or take the `last` value; default
    /// `reject`.
    duplicate_keys: DuplicateKeys,
    /// Whether a text is taken for a number and a number for a text; default false.
    coerce: bool,
}

impl Default for RawJson {
    fn default() -> Self {
        Self { records: None, duplicate_keys: DuplicateKeys::Reject, coerce: false }
    }
}

impl Default for RawCsv {
    fn default() -> Self {
        Self {
            header: DEFAULT_HEADER,
            delimiter: DEFAULT_DELIMITER.to_owned(),
            quote: DEFAULT_QUOTE.to_owned(),
            escape: None,
            encoding: Encoding::Utf8,
            comment: None,
            ragged: Ragged::Reject,
            blank_records: BlankRecords::Keep,
        }
    }
}

/// Caps on what an object may claim; an object that exceeds one is quarantined.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_field_names, reason = "the fields are named like the keys of the file")]
pub(crate) struct RawLimits {
    /// Bytes of an object after decompression; default 100 GiB. Without a cap a small object could fill the database.
    max_bytes: Size,
    /// Decompressed bytes per compressed byte, above the first 1 MiB; default 1000. Low caps refuse repetitive files.
    max_ratio: Count,
    /// Bytes of one record, at most 1 GiB; default 16 MiB. A record is held in memory whole, once per worker.
    max_record_bytes: Size,
    /// Fields of one record, from 1 to 1600, which is as many columns as a table can have; default 1600.
    max_fields: Count,
    /// Levels of nesting in one record of JSON, Parquet or Avro, from 1 to 127; default 64.
    max_depth: Count,
    /// Bytes of a block that is held in memory whole, a row group of Parquet or a block of Avro, at most 4 GiB; default 256
    /// MiB.
    max_block_bytes: Size,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            max_bytes: Size(DEFAULT_MAX_BYTES),
            max_ratio: Count(DEFAULT_MAX_RATIO),
            max_record_bytes: Size(DEFAULT_MAX_RECORD_BYTES),
            max_fields: Count(DEFAULT_MAX_FIELDS),
            max_depth: Count(DEFAULT_MAX_DEPTH),
            max_block_bytes: Size(DEFAULT_MAX_BLOCK_BYTES),
        }
    }
}

/// What happens to a loaded object.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawDisposal {
    /// `keep` it, `delete` it, or `archive` it (copy, verify, then delete); default `keep`.
    action: Action,
    /// Bucket of the archive; default: the feed's own. Only with `archive`.
    bucket: Option<String>,
    /// Prefix of the archive, put before the whole key, such as `archive/`. Required by `archive` within one bucket; must
    /// not lie where a feed looks.
    prefix: Option<String>,
}

impl Default for RawDisposal {
    fn default() -> Self {
        Self { action: Action::Keep, bucket: None, prefix: None }
    }
}

/// What happens to a loaded object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    /// It stays.
    Keep,
    /// It is deleted.
    Delete,
    /// It is copied, verified, then deleted.
    Archive,
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        choose(deserializer, &[("keep", Self::Keep), ("delete", Self::Delete), ("archive", Self::Archive)])
    }
}
