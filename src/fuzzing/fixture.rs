//! A feed and a table as tests and fuzz targets need them: no service, every default plain.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config::feed::{
    BlankRecords, Csv, DEFAULT_PARENT_WAIT, DEFAULT_RESCUE_COLUMN, Disposal, DuplicateContent, DuplicateKeys, Encoding,
    Feed, Format, Json, Limits, Mapping, Mode, NameMatch, OnChange, Ragged, Rejects, Route, Rules, TableName, Unknown,
    Unmatched,
};
use crate::domain::feed::FeedName;
use crate::domain::object::ObjectRef;
use crate::pipeline::decode::Target;
use crate::store::catalog::{Column, Provenance, Shape, Stored};
use crate::store::encode::ColumnType;
use crate::store::stage::Staging;

/// A feed of plain CSV without header; callers replace what they are about.
pub fn feed() -> Feed {
    Feed {
        name: name(),
        bucket: "drop".to_owned(),
        prefix: String::new(),
        pattern: None,
        include: None,
        exclude: None,
        start_from: None,
        min_age: Duration::ZERO,
        queue: None,
        poll_interval: Duration::ZERO,
        poll_interval_max: Duration::ZERO,
        lookback_interval: Duration::ZERO,
        lookback: Duration::ZERO,
        lookback_max: Duration::ZERO,
        sweep_interval: Duration::ZERO,
        on_change: OnChange::Load,
        duplicate_content: DuplicateContent::Load,
        slots: None,
        max_workers: 1,
        format: Format::Csv,
        csv: Csv {
            delimiter: b',',
            quote: Some(b'"'),
            escape: None,
            header: false,
            encoding: Encoding::Utf8,
            comment: None,
            ragged: Ragged::Reject,
            blank_records: BlankRecords::Keep,
        },
        json: Json { records: None, duplicate_keys: DuplicateKeys::Reject, coerce: false },
        routes: vec![Route { name: None, when: Vec::new(), table: table(), mode: Mode::Append, mapping: mapping() }],
        unmatched: Unmatched::Reject,
        rejects: Rejects { max_rows: 0, max_ratio: None },
        depends_on: Vec::new(),
        parent_wait: DEFAULT_PARENT_WAIT,
        limits: Limits {
            max_bytes: 1 << 30,
            max_ratio: 1000,
            max_record_bytes: 1 << 20,
            max_fields: 5,
            max_depth: 64,
            max_block_bytes: 1 << 24,
        },
        disposal: Disposal::Keep,
        fingerprint: String::new(),
    }
}

/// A mapping by name or position.
pub fn mapping() -> Mapping {
    Mapping {
        columns: Vec::new(),
        rules: Rules::default(),
        names: NameMatch::Exact,
        unknown: Unknown::Quarantine,
        rescue_column: DEFAULT_RESCUE_COLUMN.to_owned(),
        timezone: TimeZone::UTC,
    }
}

/// An object of the feed.
pub fn object(size: u64) -> ObjectRef {
    ObjectRef {
        id: 1,
        bucket: "drop".to_owned(),
        key: "test.csv".to_owned(),
        etag: "etag".to_owned(),
        version_id: None,
        size,
        key_time: None,
        visible_at: Timestamp::UNIX_EPOCH,
        archived: None,
    }
}

#[expect(clippy::unwrap_used, reason = "a constant that is a name")]
fn name() -> FeedName {
    "test".parse().unwrap()
}

fn table() -> TableName {
    TableName { schema: "public".to_owned(), table: "t".to_owned() }
}

/// A table of two columns, `a varchar(3)` and `b text`, and the record's number.
pub fn shape() -> Shape {
    let column = |name: &str, kind, type_name: &str| Column {
        name: name.to_owned(),
        kind,
        type_name: type_name.to_owned(),
        nullable: true,
        has_default: false,
    };
    Shape {
        table: table(),
        oid: 1,
        fingerprint: String::new(),
        columns: vec![
            column("a", ColumnType::Text { max_chars: Some(3) }, "character varying(3)"),
            column("b", ColumnType::Text { max_chars: None }, "text"),
        ],
        provenance: vec![(Provenance::RecordNo, column("_record_no", ColumnType::Int8, "bigint"))],
        stored: Stored::default(),
    }
}

/// The same as the only target.
pub fn targets() -> [Target; 1] {
    [Target { shape: Arc::new(shape()), staging: Staging::None }]
}
