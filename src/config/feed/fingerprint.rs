//! The fingerprint of a feed: which settings an object was loaded with, as sixteen hexadecimal digits in the ledger.
//!
//! It covers what decides which objects are loaded and what rows they become, and leaves out what only decides when and
//! how fast (intervals, workers) and what happens afterwards (disposal). Defaults are filled in first, so that writing a
//! default out does not change it, and neither does the order of columns; that of routes does.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;

use super::columns::{InOrder, RawColumn};
use super::routes::{RawRejects, RawRoute};
use super::{
    DuplicateContent, Feed, Format, ModeWord, NameMatch, OnChange, RawCsv, RawFeed, RawJson, RawLimits, Unknown,
    Unmatched,
};
use crate::config::value::Texts;

/// Bytes of the digest that are kept: 64 bits tell the configurations of one installation apart.
const KEPT: usize = 8;

/// Everything that changes what is loaded. The order of fields is part of the fingerprint: add at the end.
#[derive(Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "the fields are named like the keys of the file")]
struct Canonical<'a> {
    bucket: &'a str,
    prefix: &'a str,
    pattern: Option<&'a str>,
    timezone: &'a str,
    include: &'a Texts,
    exclude: &'a Texts,
    start_from: Option<&'a str>,
    table: Option<&'a str>,
    mode: ModeWord,
    format: Format,
    csv: &'a RawCsv,
    columns: BTreeMap<&'a str, &'a RawColumn>,
    null: &'a Texts,
    value_timezone: &'a str,
    unknown_fields: Unknown,
    limits: &'a RawLimits,
    on_change: OnChange,
    duplicate_content: DuplicateContent,
    key: &'a Texts,
    newer_by: Option<&'a str>,
    routes: &'a InOrder<RawRoute>,
    unmatched: Unmatched,
    json: &'a RawJson,
    header_match: NameMatch,
    rescue_column: &'a str,
    trim: bool,
    required: bool,
    integral_floats: bool,
    rejects: &'a RawRejects,
}

/// First sixteen hexadecimal digits of SHA-256 over the settings as JSON.
pub(super) fn of(raw: &RawFeed, feed: &Feed) -> String {
    let canonical = Canonical {
        bucket: &feed.bucket,
        prefix: &feed.prefix,
        pattern: raw.pattern.as_deref(),
        timezone: &raw.timezone,
        include: &raw.include,
        exclude: &raw.exclude,
        // As written: `now` must not give every start another fingerprint.
        start_from: raw.start_from.as_deref(),
        table: raw.table.as_deref(),
        mode: raw.mode,
        format: raw.format,
        csv: &raw.csv,
        columns: raw.columns.0.iter().map(|(column, source)| (column.as_str(), source)).collect(),
        null: &raw.null,
        value_timezone: &raw.value_timezone,
        unknown_fields: raw.unknown_fields,
        limits: &raw.limits,
        on_change: raw.on_change,
        duplicate_content: raw.duplicate_content,
        key: &raw.key,
        newer_by: raw.newer_by.as_deref(),
        routes: &raw.routes,
        unmatched: raw.unmatched,
        json: &raw.json,
        header_match: raw.header_match,
        rescue_column: &raw.rescue_column,
        trim: raw.trim,
        required: raw.required,
        integral_floats: raw.integral_floats,
        rejects: &raw.rejects,
    };
    // Serialising plain values to memory cannot fail; were it to, the fingerprint would be that of nothing.
    let text = serde_json::to_vec(&canonical).unwrap_or_default();
    digest(&SHA256, &text).as_ref().iter().take(KEPT).fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _infallible = write!(hex, "{byte:02x}");
        hex
    })
}
