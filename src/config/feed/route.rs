//! Which records go to which table, and how rows meet it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::{FieldPath, Mapping};
use crate::config::value::choose;

/// One target of a feed.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its name under `[feeds.NAME.routes]`; none where the feed has a single table of its own.
    pub name: Option<String>,
    /// All must hold of a record; none: every record.
    pub when: Vec<Condition>,
    /// Target table.
    pub table: TableName,
    /// How rows meet the table.
    pub mode: Mode,
    /// How fields become columns.
    pub mapping: Mapping,
}

/// What must hold of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The field.
    pub field: FieldPath,
    /// Its text is one of these; an empty list: it has a value.
    pub values: Vec<String>,
}

/// A table name, already split; quoting happens in `store`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableName {
    /// Schema; `public` by default.
    pub schema: String,
    /// Table.
    pub table: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// How rows meet the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Rows are added.
    Append,
    /// Rows take the place of those with the same key. Within an object the last record of a key wins.
    Upsert {
        /// Columns of a unique key of the table.
        key: Vec<String>,
        /// Column whose smaller value never takes the place of a larger one.
        newer_by: Option<String>,
    },
    /// The object is the whole table.
    Replace,
}

/// The word of a [`Mode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ModeWord {
    /// Rows are added.
    Append,
    /// Rows take the place of those with the same key.
    Upsert,
    /// The object is the whole table.
    Replace,
}

impl<'de> Deserialize<'de> for ModeWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        choose(deserializer, &[("append", Self::Append), ("upsert", Self::Upsert), ("replace", Self::Replace)])
    }
}

/// What becomes of records that no route takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unmatched {
    /// They are counted as filtered.
    Filter,
    /// They are rejected.
    Reject,
}

impl<'de> Deserialize<'de> for Unmatched {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        choose(deserializer, &[("filter", Self::Filter), ("reject", Self::Reject)])
    }
}

/// How many rejected records an object may have before it is quarantined whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rejects {
    /// So many.
    pub max_rows: u64,
    /// And at most this share of the records read, from 0 to 1.
    pub max_ratio: Option<f64>,
}

impl Rejects {
    /// Whether a record may be rejected at all.
    pub const fn is_any(self) -> bool {
        self.max_rows > 0
    }
}
