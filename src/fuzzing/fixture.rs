//! A feed and a table as tests and fuzz targets need them: no service, every default plain.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::config::feed::{Csv, Disposal, DuplicateContent, Feed, Limits, Mapping, Mode, OnChange, TableName, Unknown};
use crate::domain::feed::FeedName;
use crate::store::catalog::{Column, Provenance, Shape};
use crate::store::encode::ColumnType;

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
        table: table(),
        mode: Mode::Append,
        csv: Csv { delimiter: b',', quote: Some(b'"'), escape: None, header: false },
        mapping: Mapping {
            columns: Vec::new(),
            null: vec![String::new()],
            unknown: Unknown::Quarantine,
            timezone: TimeZone::UTC,
        },
        limits: Limits { max_bytes: 1 << 30, max_ratio: 1000, max_record_bytes: 1 << 20, max_fields: 5 },
        disposal: Disposal::Keep,
        fingerprint: String::new(),
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
    }
}
