//! A feed's target tables: there, loadable, with the columns that the mapping names, and ours to write.

use crate::config::feed::{ColumnMap, Feed, Format, Mode, OnChange, Route, Source, Unknown};
use crate::operate::lookup::nearest;
use crate::pipeline::decode::plan::{Misfit, misfits};
use crate::store::catalog::{Column, Shape, read_shape};
use crate::store::encode::ColumnType;
use crate::store::inspect;
use crate::store::pool::Pools;

use super::{Area, Finding, database, path};

pub(super) async fn look(feed: &Feed, pools: &Pools) -> Vec<Finding> {
    let mut findings = Vec::new();
    for route in &feed.routes {
        findings.extend(look_at(feed, route, pools).await);
    }
    findings
}

async fn look_at(feed: &Feed, route: &Route, pools: &Pools) -> Vec<Finding> {
    let shape = match read_shape(pools, &route.table).await {
        Ok(shape) => shape,
        Err(error) => return vec![database::failed(&key(feed, route, "table"), &error)],
    };
    let mut findings = about_columns(feed, route, &shape);
    findings.extend(about_provenance(feed, route, &shape, pools).await);
    findings.extend(about_mode(feed, route, &shape, pools).await);
    let rights = inspect::missing_rights(pools, &shape, &filled(route, &shape), (feed, route)).await;
    match rights {
        Ok(missing) => findings.extend(missing.iter().map(|right| {
            let (detail, advice) = (format!("the role lacks {right}"), format!("GRANT {right} TO the role"));
            Finding::fail(Area::Database, key(feed, route, "table"), detail, advice)
        })),
        Err(error) => findings.push(database::failed(&key(feed, route, "table"), &error)),
    }
    findings
}

/// Where the configuration says it.
fn key(feed: &Feed, route: &Route, key: &str) -> String {
    match &route.name {
        Some(name) => path(feed, &format!("routes.{name}.{key}")),
        None => path(feed, key),
    }
}

/// Whether the provenance columns fit, and what replacing would cost.
async fn about_provenance(feed: &Feed, route: &Route, shape: &Shape, pools: &Pools) -> Option<Finding> {
    if let Err(error) = shape.refuse_provenance(feed, &route.mapping) {
        return Some(database::failed(&key(feed, route, "table"), &error));
    }
    if feed.on_change != OnChange::Replace {
        return None;
    }
    match inspect::has_object_index(pools, shape).await {
        Ok(true) => None,
        Ok(false) => Some(Finding::warn(
            Area::Database,
            path(feed, "on_change"),
            format!("no index on _object_id of {}: replacing an object reads the whole table", route.table),
            "CREATE INDEX ON the table (_object_id)",
        )),
        Err(error) => Some(database::failed(&path(feed, "on_change"), &error)),
    }
}

/// Whether rows can meet the table as the route says.
async fn about_mode(feed: &Feed, route: &Route, shape: &Shape, pools: &Pools) -> Vec<Finding> {
    let place = key(feed, route, if matches!(route.mode, Mode::Upsert { .. }) { "key" } else { "mode" });
    if let Err(error) = shape.refuse_mode(&route.mode) {
        return vec![database::failed(&place, &error)];
    }
    if route.mode != Mode::Replace {
        return Vec::new();
    }
    match inspect::referring(pools, shape).await {
        Ok(tables) => tables.iter().map(|from| refers(route, &place, from)).collect(),
        Err(error) => vec![database::failed(&place, &error)],
    }
}

fn refers(route: &Route, place: &str, from: &str) -> Finding {
    let detail = format!("rows of {from} refer to {}: once there are any, it cannot be replaced", route.table);
    let advice = "make the foreign key DEFERRABLE INITIALLY DEFERRED without ON DELETE, or use mode \"upsert\"";
    Finding::warn(Area::Database, place, detail, advice)
}

/// In place of findings where there is no database to ask.
pub(super) fn not_looked_at(feed: &Feed) -> Finding {
    let advice = "mend the database connection first";
    let tables: Vec<String> = feed.tables().iter().map(ToString::to_string).collect();
    Finding::warn(Area::Database, path(feed, "table"), format!("{}: not looked at", tables.join(", ")), advice)
}

/// Columns that objects fill, as far as the configuration alone says.
fn filled<'a>(route: &'a Route, shape: &'a Shape) -> Vec<&'a str> {
    let rescue = rescue_column(route, shape);
    if !route.mapping.columns.is_empty() {
        return route.mapping.columns.iter().map(|map| map.column.as_str()).chain(rescue).collect();
    }
    // The header or the number of fields decides; what the server fills itself may be left to it.
    let plain = shape.columns.iter().filter(|column| !column.has_default || Some(column.name.as_str()) == rescue);
    plain.map(|column| column.name.as_str()).collect()
}

/// The column of fields that the mapping does not mention, where it is wanted and there.
fn rescue_column<'a>(route: &'a Route, shape: &'a Shape) -> Option<&'a str> {
    let name = (route.mapping.unknown == Unknown::Rescue).then_some(route.mapping.rescue_column.as_str());
    name.filter(|name| shape.column(name).is_some())
}

fn about_columns(feed: &Feed, route: &Route, shape: &Shape) -> Vec<Finding> {
    let columns = shape.columns.len();
    let mut findings = Vec::new();
    if columns == 0 {
        let detail = format!("{} has no column that can be written", route.table);
        return vec![Finding::fail(
            Area::Database,
            key(feed, route, "table"),
            detail,
            "add columns, or name another table",
        )];
    }
    let mapped = match (route.mapping.columns.len(), feed.format) {
        (0, Format::Csv) if feed.csv.header => "filled by header names".to_owned(),
        (0, Format::Csv) => "filled in table order".to_owned(),
        (0, _) => "filled by field names".to_owned(),
        (count, _) => format!("{count} of them mapped"),
    };
    let mut detail = format!("{}: {columns} writable columns, {mapped}", route.table);
    if let Some(text) = text_columns(route, shape) {
        detail.push_str(&text);
    }
    findings.push(Finding::ok(Area::Database, key(feed, route, "table"), detail));
    findings.extend(route.mapping.columns.iter().filter_map(|map| missing_column(feed, route, shape, map)));
    findings.extend(misfits(feed, route, shape).into_iter().map(|misfit| misfitting(feed, route, misfit)));
    findings.extend(unfilled(route, shape).map(|column| {
        let detail = format!("column {:?} is NOT NULL without a default, and no field fills it", column.name);
        let advice = format!("map a field to {:?}, or give the column a default", column.name);
        Finding::fail(Area::Database, key(feed, route, "columns"), detail, advice)
    }));
    findings
}

/// Columns of types we do not encode make the server parse text, which is slower and not wrong.
fn text_columns(route: &Route, shape: &Shape) -> Option<String> {
    let explicit = !route.mapping.columns.is_empty();
    let is_used = |column: &&Column| !explicit || route.mapping.columns.iter().any(|map| map.column == column.name);
    let other: Vec<String> = shape
        .columns
        .iter()
        .filter(is_used)
        .filter(|column| column.kind == ColumnType::Other)
        .map(|column| format!("{} {}", column.name, column.type_name))
        .collect();
    (!other.is_empty()).then(|| format!("; COPY as text because of {}", other.join(", ")))
}

/// What no object could change: the same words that would halt the feed.
fn misfitting(feed: &Feed, route: &Route, misfit: Misfit) -> Finding {
    let Misfit { key: column, detail } = misfit;
    if column == "rescue_column" {
        let advice = "ALTER TABLE … ADD COLUMN … jsonb, or name another column";
        return Finding::fail(Area::Database, path(feed, &column), detail, advice);
    }
    let advice = "correct the column's rules, or its type in the table";
    Finding::fail(Area::Database, key(feed, route, &column), format!("{}: {detail}", route.table), advice)
}

fn missing_column(feed: &Feed, route: &Route, shape: &Shape, map: &ColumnMap) -> Option<Finding> {
    let name = &map.column;
    if shape.column(name).is_some() {
        return None;
    }
    let field = match &map.source {
        Source::Field(paths) => format!("field {:?}", paths.first().map_or("", |path| path.text.as_str())),
        Source::Position(position) => format!("field {position}"),
        Source::Constant(_) => "a constant".to_owned(),
        Source::Meta(_) => "metadata".to_owned(),
    };
    let known = || shape.columns.iter().map(|column| column.name.as_str());
    let advice = match nearest(name, known()) {
        Some(meant) => format!("did you mean {meant:?}?"),
        None => format!("the writable columns are {}", known().collect::<Vec<_>>().join(", ")),
    };
    let detail = format!("{field} goes to column {name:?}, which {} does not have, or which is generated", route.table);
    Some(Finding::fail(Area::Database, key(feed, route, &format!("columns.{name}")), detail, advice))
}

/// Columns that must have a value and get none; only an explicit mapping says so before an object is read.
fn unfilled<'a>(route: &'a Route, shape: &'a Shape) -> impl Iterator<Item = &'a Column> {
    let explicit = !route.mapping.columns.is_empty();
    let rescue = rescue_column(route, shape);
    shape.columns.iter().filter(move |column| {
        let mapped = route.mapping.columns.iter().any(|map| map.column == column.name);
        let filled = mapped || Some(column.name.as_str()) == rescue;
        explicit && !column.nullable && !column.has_default && !filled
    })
}
