//! A feed's target table: there, loadable, with the columns that the mapping names, and ours to write.

use crate::config::feed::{Feed, OnChange, Source};
use crate::operate::lookup::nearest;
use crate::store::catalog::{Column, Shape, read_shape};
use crate::store::encode::ColumnType;
use crate::store::inspect;
use crate::store::pool::Pools;

use super::{Area, Finding, database, path};

pub(super) async fn look(feed: &Feed, pools: &Pools) -> Vec<Finding> {
    let shape = match read_shape(pools, &feed.table).await {
        Ok(shape) => shape,
        Err(error) => return vec![database::failed(&path(feed, "table"), &error)],
    };
    let mut findings = about_columns(feed, &shape);
    findings.extend(about_provenance(feed, &shape, pools).await);
    let rights = inspect::missing_rights(pools, &shape, &filled(feed, &shape), feed.on_change).await;
    match rights {
        Ok(missing) => findings.extend(missing.iter().map(|right| {
            let (detail, advice) = (format!("the role lacks {right}"), format!("GRANT {right} TO the role"));
            Finding::fail(Area::Database, path(feed, "table"), detail, advice)
        })),
        Err(error) => findings.push(database::failed(&path(feed, "table"), &error)),
    }
    findings
}

/// Whether the provenance columns fit, and what replacing would cost.
async fn about_provenance(feed: &Feed, shape: &Shape, pools: &Pools) -> Option<Finding> {
    if let Err(error) = shape.refuse_provenance(feed) {
        return Some(database::failed(&path(feed, "table"), &error));
    }
    if feed.on_change != OnChange::Replace {
        return None;
    }
    match inspect::has_object_index(pools, shape).await {
        Ok(true) => None,
        Ok(false) => Some(Finding::warn(
            Area::Database,
            path(feed, "on_change"),
            format!("no index on _object_id of {}: replacing an object reads the whole table", feed.table),
            "CREATE INDEX ON the table (_object_id)",
        )),
        Err(error) => Some(database::failed(&path(feed, "on_change"), &error)),
    }
}

/// In place of findings where there is no database to ask.
pub(super) fn not_looked_at(feed: &Feed) -> Finding {
    let advice = "mend the database connection first";
    Finding::warn(Area::Database, path(feed, "table"), format!("{}: not looked at", feed.table), advice)
}

/// Columns that objects fill, as far as the configuration alone says.
fn filled<'a>(feed: &'a Feed, shape: &'a Shape) -> Vec<&'a str> {
    if !feed.mapping.columns.is_empty() {
        return feed.mapping.columns.iter().map(|(column, _)| column.as_str()).collect();
    }
    // The header or the number of fields decides; what the server fills itself may be left to it.
    shape.columns.iter().filter(|column| !column.has_default).map(|column| column.name.as_str()).collect()
}

fn about_columns(feed: &Feed, shape: &Shape) -> Vec<Finding> {
    let columns = shape.columns.len();
    let mut findings = Vec::new();
    if columns == 0 {
        let detail = format!("{} has no column that can be written", feed.table);
        return vec![Finding::fail(Area::Database, path(feed, "table"), detail, "add columns, or name another table")];
    }
    let mapped = match (feed.mapping.columns.len(), feed.csv.header) {
        (0, true) => "filled by header names".to_owned(),
        (0, false) => "filled in table order".to_owned(),
        (count, _) => format!("{count} of them mapped"),
    };
    let mut detail = format!("{}: {columns} writable columns, {mapped}", feed.table);
    if let Some(text) = text_columns(feed, shape) {
        detail.push_str(&text);
    }
    findings.push(Finding::ok(Area::Database, path(feed, "table"), detail));
    findings.extend(feed.mapping.columns.iter().filter_map(|mapping| missing_column(feed, shape, mapping)));
    findings.extend(unfilled(feed, shape).map(|column| {
        let detail = format!("column {:?} is NOT NULL without a default, and no field fills it", column.name);
        let advice = format!("map a field to {:?}, or give the column a default", column.name);
        Finding::fail(Area::Database, path(feed, "columns"), detail, advice)
    }));
    findings
}

/// Columns of types we do not encode make the server parse text, which is slower and not wrong.
fn text_columns(feed: &Feed, shape: &Shape) -> Option<String> {
    let explicit = !feed.mapping.columns.is_empty();
    let is_used = |column: &&Column| !explicit || feed.mapping.columns.iter().any(|(name, _)| *name == column.name);
    let other: Vec<String> = shape
        .columns
        .iter()
        .filter(is_used)
        .filter(|column| column.kind == ColumnType::Other)
        .map(|column| format!("{} {}", column.name, column.type_name))
        .collect();
    (!other.is_empty()).then(|| format!("; COPY as text because of {}", other.join(", ")))
}

fn missing_column(feed: &Feed, shape: &Shape, (name, source): &(String, Source)) -> Option<Finding> {
    if shape.column(name).is_some() {
        return None;
    }
    let field = match source {
        Source::Header(header) => format!("field {header:?}"),
        Source::Position(position) => format!("field {position}"),
    };
    let known = || shape.columns.iter().map(|column| column.name.as_str());
    let advice = match nearest(name, known()) {
        Some(meant) => format!("did you mean {meant:?}?"),
        None => format!("the writable columns are {}", known().collect::<Vec<_>>().join(", ")),
    };
    let detail = format!("{field} goes to column {name:?}, which {} does not have, or which is generated", feed.table);
    Some(Finding::fail(Area::Database, path(feed, &format!("columns.{name}")), detail, advice))
}

/// Columns that must have a value and get none; only an explicit mapping says so before an object is read.
fn unfilled<'a>(feed: &'a Feed, shape: &'a Shape) -> impl Iterator<Item = &'a Column> {
    let explicit = !feed.mapping.columns.is_empty();
    shape.columns.iter().filter(move |column| {
        let mapped = feed.mapping.columns.iter().any(|(name, _)| *name == column.name);
        explicit && !column.nullable && !column.has_default && !mapped
    })
}
