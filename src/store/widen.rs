//! Columns for fields that a table has none for.

use crate::config::feed::TableName;

use super::error::StoreError;
use super::identifier::{quoted, quoted_table};
use super::pool::Pools;

/// A column to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewColumn {
    /// Its name.
    pub name: String,
    /// Its type, one of ours: `text`, `numeric`, `boolean`, `jsonb` or `bytea`.
    pub kind: &'static str,
}

/// Adds columns that can be NULL. A statement of its own, outside of every load: whoever adds the same column at the same
/// time waits and then finds it there. Killed before or after, the next load sees what the table has.
pub async fn add_columns(pools: &Pools, table: &TableName, columns: &[NewColumn]) -> Result<(), StoreError> {
    let added: Vec<String> = columns
        .iter()
        .map(|column| format!("ADD COLUMN IF NOT EXISTS {} {}", quoted(&column.name), column.kind))
        .collect();
    let sql = format!("ALTER TABLE {} {}", quoted_table(table), added.join(", "));
    pools.query(&sql, &[]).await.map(drop)
}
