//! Provenance: columns of the target table that say where a row comes from.
//!
//! keyfall fills them where the table has them as `bigint` and no field is mapped to them; they are never counted among
//! the fields of an object. A mapped one is a column like any other.

use crate::config::feed::{Feed, Mapping, OnChange};

use super::super::encode::ColumnType;
use super::super::error::StoreError;
use super::super::identifier::quoted_table;
use super::{Shape, target};

/// One of the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provenance {
    /// The object's id in the ledger.
    ObjectId,
    /// The record's number in its object.
    RecordNo,
}

impl Provenance {
    /// Every column.
    pub const ALL: [Self; 2] = [Self::ObjectId, Self::RecordNo];

    /// Its name.
    pub const fn column(self) -> &'static str {
        match self {
            Self::ObjectId => "_object_id",
            Self::RecordNo => "_record_no",
        }
    }
}

impl Shape {
    /// Whether keyfall fills this column in loads with this mapping.
    pub fn fills(&self, which: Provenance, mapping: &Mapping) -> bool {
        let column = self.provenance.iter().find(|(there, _)| *there == which).map(|(_, column)| column);
        column.is_some_and(|column| column.kind == ColumnType::Int8) && !is_mapped(which, mapping)
    }

    /// Refuses a table whose provenance columns do not fit the feed.
    pub fn refuse_provenance(&self, feed: &Feed, mapping: &Mapping) -> Result<(), StoreError> {
        for (which, column) in &self.provenance {
            if column.kind != ColumnType::Int8 && !is_mapped(*which, mapping) {
                let (name, kind) = (which.column(), &column.type_name);
                return Err(target(
                    format!("column {name} of {} is {kind}; keyfall fills it with numbers", quoted_table(&self.table)),
                    "ALTER TABLE … ALTER COLUMN … TYPE bigint, or map a field to the column",
                ));
            }
        }
        if feed.on_change == OnChange::Replace && !self.fills(Provenance::ObjectId, mapping) {
            return Err(target(
                format!("on_change = \"replace\" needs a column _object_id in {}, unmapped", quoted_table(&self.table)),
                "ALTER TABLE … ADD COLUMN _object_id bigint, and an index on it; loading goes on by itself",
            ));
        }
        Ok(())
    }
}

fn is_mapped(which: Provenance, mapping: &Mapping) -> bool {
    mapping.columns.iter().any(|map| map.column == which.column())
}
