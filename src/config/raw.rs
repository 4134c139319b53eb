//! The configuration as it stands in the layers: texts, numbers and lists, nothing checked.
//!
//! Each section and each feed is deserialized by itself, and a value that does not fit is reported, taken out and the
//! rest tried again, so that one wrong type hides no other.

use std::collections::BTreeMap;

use config::{ConfigError, Map, Value, ValueKind};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_path_to_error::Segment;

use super::database::RawDatabase;
use super::feed::RawFeed;
use super::http::RawHttp;
use super::lifecycle::RawLifecycle;
use super::queue::RawQueue;
use super::report::Report;
use super::s3::RawS3;
use super::shape::{Shape, join};
use super::telemetry::RawTelemetry;
use super::workers::RawWorkers;

/// keyfall.toml: what is loaded from which buckets into which database.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawConfig {
    /// Name of this instance in leases and in `status`; default: host name and process id. Two instances of the same
    /// name cannot be told apart in the ledger, which harms nothing but the reader.
    pub(super) instance: Option<String>,
    /// Where rows and ledger live.
    pub(super) database: RawDatabase,
    /// How the object store is reached.
    pub(super) s3: RawS3,
    /// How much is done at once, and how failures are spaced.
    pub(super) workers: RawWorkers,
    /// The health and metrics listener.
    pub(super) http: RawHttp,
    /// Logs.
    pub(super) telemetry: RawTelemetry,
    /// How the daemon stops.
    pub(super) lifecycle: RawLifecycle,
    /// SQS queues that carry notifications, by name.
    pub(super) queues: BTreeMap<String, RawQueue>,
    /// What is loaded, by name. Names are lower-case letters, digits and `_`.
    pub(super) feeds: BTreeMap<String, RawFeed>,
}

/// Deserializes the merged layers section by section.
pub(super) fn read(mut merged: Map<String, Value>, shape: &Shape, report: &mut Report) -> RawConfig {
    let mut reader = Reader { shape, report };
    let mut take = |key: &str| merged.shift_remove(key);
    RawConfig {
        instance: reader.section("instance", take("instance")),
        database: reader.section("database", take("database")),
        s3: reader.section("s3", take("s3")),
        workers: reader.section("workers", take("workers")),
        http: reader.section("http", take("http")),
        telemetry: reader.section("telemetry", take("telemetry")),
        lifecycle: reader.section("lifecycle", take("lifecycle")),
        queues: reader.named("queues", take("queues")),
        feeds: reader.named("feeds", take("feeds")),
    }
}

struct Reader<'a> {
    shape: &'a Shape,
    report: &'a mut Report,
}

impl Reader<'_> {
    fn named<T: DeserializeOwned + Default>(&mut self, key: &str, value: Option<Value>) -> BTreeMap<String, T> {
        match value.map(|value| value.kind) {
            Some(ValueKind::Table(tables)) => tables
                .into_iter()
                .map(|(name, table)| (name.clone(), self.section(&join(key, &name), Some(table))))
                .collect(),
            // Anything but a table was refused when the layers were read.
            _ => BTreeMap::new(),
        }
    }

    fn section<T: DeserializeOwned + Default>(&mut self, key: &str, value: Option<Value>) -> T {
        let Some(mut value) = value else { return T::default() };
        // Each round removes a value, so this ends.
        loop {
            let error = match serde_path_to_error::deserialize(value.clone()) {
                Ok(section) => return section,
                Err(error) => error,
            };
            let path: Vec<&str> = error
                .path()
                .iter()
                .map_while(|segment| match segment {
                    Segment::Map { key } => Some(key.as_str()),
                    Segment::Seq { .. } | Segment::Enum { .. } | Segment::Unknown => None,
                })
                .collect();
            let full = path.iter().fold(key.to_owned(), |path, key| join(&path, key));
            self.refuse(&full, error.inner());
            if !remove(&mut value, &path) {
                return T::default();
            }
        }
    }

    fn refuse(&mut self, key: &str, error: &ConfigError) {
        let advice = "write the value as the configuration reference shows it (`keyfall config schema`)";
        if self.shape.at(key.split('.')).is_some_and(Shape::is_secret) {
            self.report.problem(key, "must be a text", advice);
        } else {
            self.report.problem(key, describe(error), advice);
        }
    }
}

/// The error without the place, which the report knows better.
fn describe(error: &ConfigError) -> String {
    match error {
        ConfigError::At { error, .. } => describe(error),
        ConfigError::Type { unexpected, expected, .. } => format!("is {unexpected}, expected {expected}"),
        other => other.to_string(),
    }
}

/// Removes the value at a path; false where there is none.
fn remove(value: &mut Value, path: &[&str]) -> bool {
    let Some((last, parents)) = path.split_last() else { return false };
    let mut value = value;
    for key in parents {
        let ValueKind::Table(table) = &mut value.kind else { return false };
        let Some(child) = table.get_mut(*key) else { return false };
        value = child;
    }
    match &mut value.kind {
        ValueKind::Table(table) => table.shift_remove(*last).is_some(),
        _ => false,
    }
}
