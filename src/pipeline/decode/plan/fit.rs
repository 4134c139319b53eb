//! Whether a mapping fits a table, as far as that can be told before an object is read: every load asks here for its
//! columns, and `keyfall check` for what is wrong with any of them, so that the two cannot disagree.

use crate::config::feed::{ColumnMap, Feed, Mapping, Meta, Route, Source, Unknown};
use crate::store::catalog::{Column, Shape};
use crate::store::encode::ColumnType;

use super::super::reader::Typing;
use super::cell::{Cell, Origin};
use super::value::Taking;

/// What of a mapping can never hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The key of the route's or feed's section that says it, such as `columns.id`.
    pub key: String,
    /// What is wrong.
    pub detail: String,
}

/// Everything in a route's mapping that can never hold with this table. Columns that the table lacks are left to the
/// caller, who can say which one was meant.
pub fn misfits(feed: &Feed, route: &Route, shape: &Shape) -> Vec<Misfit> {
    let Mapping { columns, unknown, rescue_column, .. } = &route.mapping;
    let mut found = Vec::new();
    for (index, map) in columns.iter().enumerate() {
        let key = format!("columns.{}", map.column);
        if let Some(detail) = named_twice(columns.get(..index).unwrap_or_default(), map) {
            found.push(Misfit { key: key.clone(), detail });
        }
        if let Some(column) = shape.column(&map.column)
            && let Err(detail) = cell(feed, &route.mapping, map, (column.clone(), Origin::Fixed(None)), Typing::Texts)
        {
            found.push(Misfit { key, detail });
        }
    }
    if *unknown == Unknown::Rescue
        && let Err(detail) = rescue(&route.mapping, shape)
    {
        found.push(Misfit { key: "rescue_column".to_owned(), detail: format!("column {rescue_column:?}: {detail}") });
    }
    found
}

/// The column of a mapping with what fills it.
pub(super) fn cell<'a>(
    feed: &Feed,
    mapping: &'a Mapping,
    map: &'a ColumnMap,
    (column, origin): (Column, Origin),
    typing: Typing,
) -> Result<Cell<'a>, String> {
    if let Source::Meta(meta) = &map.source {
        fits_meta(meta, &column)?;
        if map.rules.time_format.is_some() && !matches!(meta, Meta::KeyPart(_)) {
            return Err("time_format is for values of fields and parts of keys".to_owned());
        }
    }
    let cell = Cell::new(origin, column, (&map.rules, taking(feed, typing)), &mapping.timezone)?;
    if let Source::Constant(text) = &map.source {
        cell.try_constant(text).map_err(|error| format!("the constant is no value of it: {}", error.reason))?;
    }
    Ok(cell)
}

/// What columns take of a format's values.
pub(super) const fn taking(feed: &Feed, typing: Typing) -> Taking {
    Taking { typing, coerce: feed.json.coerce, timed: false }
}

/// A column that was mapped before.
pub(super) fn named_twice(before: &[ColumnMap], map: &ColumnMap) -> Option<String> {
    before.iter().any(|other| other.column == map.column).then(|| "two fields go to it".to_owned())
}

/// The column for fields that nobody claimed.
pub(super) fn rescue<'s>(mapping: &Mapping, shape: &'s Shape) -> Result<&'s Column, String> {
    let name = &mapping.rescue_column;
    let column = shape.column(name).ok_or_else(|| {
        format!("table {} does not have it, and unknown_fields = \"rescue\" needs it (jsonb)", shape.table)
    })?;
    if column.kind != ColumnType::Jsonb {
        return Err(format!("unknown_fields = \"rescue\" needs it to be jsonb, and it is {}", column.type_name));
    }
    if mapping.columns.iter().any(|map| map.column == *name) {
        return Err("unknown fields go to it, and a field is mapped to it".to_owned());
    }
    Ok(column)
}

/// Whether metadata is of a kind that the column takes.
fn fits_meta(meta: &Meta, column: &Column) -> Result<(), String> {
    let is_text = matches!(column.kind, ColumnType::Text { .. } | ColumnType::Char { .. } | ColumnType::Other);
    let (fits, what) = match meta {
        Meta::Time | Meta::VisibleAt => {
            (matches!(column.kind, ColumnType::Timestamp | ColumnType::Timestamptz), "a moment, for timestamptz")
        }
        Meta::Size | Meta::RecordNumber | Meta::RecordLine => {
            let is_number = matches!(
                column.kind,
                ColumnType::Int2
                    | ColumnType::Int4
                    | ColumnType::Int8
                    | ColumnType::Numeric
                    | ColumnType::Float4
                    | ColumnType::Float8
                    | ColumnType::Json
                    | ColumnType::Jsonb
            );
            (is_number, "a number")
        }
        Meta::Bucket | Meta::Key | Meta::Etag => (false, "a text"),
        // Whatever the writer of the keys put there.
        Meta::KeyPart(_) => (true, "a text"),
    };
    if fits || is_text { Ok(()) } else { Err(format!("it takes {what}, and the column is {}", column.type_name)) }
}
