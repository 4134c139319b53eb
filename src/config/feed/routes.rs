//! `[feeds.NAME.routes.ROUTE]` and `[feeds.NAME.rejects]` as they stand in the file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ModeWord;
use super::columns::{Columns, InOrder, Wanted};
use crate::config::value::{Count, Share, Texts};

/// One of several tables of a feed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawRoute {
    /// Fields, each with the value or values of which it must have one; an empty list: any value. All must hold; default:
    /// none, then the route takes every record that no route before it took. A way with dots stands in quotes.
    pub(super) when: InOrder<Wanted>,
    /// Target table as `schema.table`. Required.
    pub(super) table: Option<String>,
    /// How rows meet the table: `append`, `upsert` or `replace`; default `append`.
    pub(super) mode: ModeWord,
    /// Columns of a unique key of the table. Required by `upsert`.
    pub(super) key: Texts,
    /// Column whose smaller value never takes the place of a larger one; default: none. Only with `upsert`.
    pub(super) newer_by: Option<String>,
    /// Target columns, as in `[feeds.NAME.columns]`.
    pub(super) columns: Columns,
}

impl Default for RawRoute {
    fn default() -> Self {
        Self {
            when: InOrder::default(),
            table: None,
            mode: ModeWord::Append,
            key: Texts::default(),
            newer_by: None,
            columns: Columns::default(),
        }
    }
}

/// How many bad records an object may have; one more, and it is quarantined whole.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawRejects {
    /// So many, at most 10,000,000; default 0, and 10,000 where `max_ratio` is given. Each is kept in the ledger.
    pub(super) max_rows: Option<Count>,
    /// And at most this share of the records read, from 0 to 1; default: any.
    pub(super) max_ratio: Option<Share>,
}
