//! From the feed's mapping and an object's fields to the cells of a row.

use std::borrow::Cow;

use crate::config::feed::{ColumnMap, Feed, Format, Mapping, Meta, NameMatch, Route, Rules, Source, Unknown};
use crate::domain::record::BadRecord;
use crate::store::catalog::{Column, Provenance, Shape};
use crate::store::copy::CopyFormat;
use crate::store::widen::NewColumn;

use super::super::reader::{Field, RecordReader, Schema, Value};
use super::super::{DecodeError, Decoding, shown};
use super::Plan;
use super::cell::{Cell, Origin};

/// Settles one route.
pub(super) fn route<'a, R: RecordReader>(
    decoding: Decoding<'a>,
    number: usize,
    route: &'a Route,
    schema: &Schema,
    reader: &mut R,
) -> Result<Plan<'a>, DecodeError> {
    let target = decoding.targets.get(number).ok_or_else(|| DecodeError::Target("a route without table".to_owned()))?;
    let shape = &target.shape;
    let scope = Scope { decoding, mapping: &route.mapping, shape, schema };
    let mut cells = if route.mapping.columns.is_empty() { scope.by_name(reader)? } else { scope.by_map(reader)? };
    scope.refuse_unfilled(&cells)?;
    if route.mapping.unknown == Unknown::Rescue {
        let column = scope.column(&route.mapping.rescue_column)?;
        cells.push(scope.cell(Origin::Rescue, column, &route.mapping.rules));
    }
    let mut when = Vec::with_capacity(route.when.len());
    for condition in &route.when {
        let path = &condition.field;
        match scope.claim(reader, &path.text, &path.steps)? {
            Some(slot) => when.push((slot, condition)),
            None => {
                return Err(scope.misfit(format!("route condition {:?} names a field that is not there", path.text)));
            }
        }
    }
    let binary = cells.iter().all(|cell| cell.column.kind.is_binary());
    let (object_id, record_no) =
        (shape.fills(Provenance::ObjectId, &route.mapping), shape.fills(Provenance::RecordNo, &route.mapping));
    let width = cells.len() + usize::from(object_id) + usize::from(record_no) + target.staging.width();
    Ok(Plan {
        number,
        table: route.table.to_string(),
        when,
        cells,
        format: if binary { CopyFormat::Binary } else { CopyFormat::Text },
        object_id: object_id.then_some(decoding.object.id),
        record_no,
        staging: target.staging,
        // PostgreSQL's own limit is 1600 columns.
        tuple_width: u16::try_from(width).unwrap_or(u16::MAX),
    })
}

/// What settling one route needs to know.
struct Scope<'s, 'a> {
    decoding: Decoding<'a>,
    mapping: &'a Mapping,
    shape: &'s Shape,
    schema: &'s Schema,
}

impl<'a> Scope<'_, 'a> {
    /// Without a mapping: fields are called like columns, or stand in their order.
    fn by_name<R: RecordReader>(&self, reader: &mut R) -> Result<Vec<Cell<'a>>, DecodeError> {
        let rules = &self.mapping.rules;
        let mut cells = Vec::new();
        match self.schema {
            Schema::Positions(fields) => {
                for (slot, column) in in_table_order(self.shape, *fields)?.into_iter().enumerate() {
                    cells.push(self.cell(Origin::Slot(slot), column, rules));
                }
                return Ok(cells);
            }
            Schema::Named(_) | Schema::Open => {}
        }
        for column in &self.shape.columns {
            if let Some(slot) = self.claim(reader, &column.name, std::slice::from_ref(&column.name))? {
                let is_taken = |cell: &&Cell<'_>| matches!(cell.origin, Origin::Slot(taken) if taken == slot);
                if let Some(other) = cells.iter().find(is_taken) {
                    let (one, other) = (&column.name, &other.column.name);
                    return Err(self.misfit(format!("one field may be meant for {other:?} and for {one:?}: map it")));
                }
                cells.push(self.cell(Origin::Slot(slot), column.clone(), rules));
            }
        }
        if cells.is_empty() {
            let table = &self.shape.table;
            return Err(self.misfit(match self.decoding.feed.format {
                Format::Csv => format!(
                    "no field of the header is a column of {table}; is the delimiter right, is there a header at all?"
                ),
                _ => format!("no field is a column of {table}; map them in [feeds.NAME.columns]"),
            }));
        }
        Ok(cells)
    }

    fn by_map<R: RecordReader>(&self, reader: &mut R) -> Result<Vec<Cell<'a>>, DecodeError> {
        let mut cells = Vec::with_capacity(self.mapping.columns.len());
        for map in &self.mapping.columns {
            let column = self.column(&map.column)?;
            let origin = self.origin(map, reader)?;
            cells.push(self.cell(origin, column, &map.rules));
        }
        if let Schema::Positions(fields) = self.schema {
            let last = |map: &ColumnMap| match map.source {
                Source::Position(position) => position,
                Source::Field(_) | Source::Constant(_) | Source::Meta(_) => 0,
            };
            let needed = self.mapping.columns.iter().map(last).max().unwrap_or(0);
            let fits = match self.mapping.unknown {
                Unknown::Quarantine => *fields == needed,
                Unknown::Ignore | Unknown::Reject | Unknown::Add | Unknown::Rescue => *fields >= needed,
            };
            if !fits {
                return Err(DecodeError::Header(format!(
                    "the first record has {}, the mapping needs {needed}; is the delimiter right?",
                    counted(*fields)
                )));
            }
        }
        Ok(cells)
    }

    fn origin<R: RecordReader>(&self, map: &ColumnMap, reader: &mut R) -> Result<Origin, DecodeError> {
        Ok(match &map.source {
            Source::Position(position) => Origin::Slot(position.saturating_sub(1)),
            Source::Constant(text) => Origin::Fixed(Some(text.clone().into_bytes())),
            Source::Meta(Meta::RecordNumber) => Origin::Number,
            Source::Meta(Meta::RecordLine) => Origin::Line,
            Source::Meta(meta) => Origin::Fixed(known_of_object(self.decoding, meta)),
            Source::Field(paths) => {
                let mut found = None;
                for path in paths {
                    found = self.claim(reader, &path.text, &path.steps)?;
                    if found.is_some() {
                        break;
                    }
                }
                match found {
                    Some(slot) => Origin::Slot(slot),
                    // Its default is what every record gets.
                    None if map.rules.default.is_some() => Origin::Fixed(None),
                    None => {
                        let name = paths.first().map_or("", |path| path.text.as_str());
                        return Err(self.misfit(format!(
                            "column {:?} takes field {name:?}, which {}",
                            map.column,
                            self.what_there_is()
                        )));
                    }
                }
            }
        })
    }

    /// A field by its name, or by one that means the same where the feed says so. Two that mean the same are an
    /// error: which of them is meant cannot be guessed.
    fn claim<R: RecordReader>(
        &self,
        reader: &mut R,
        text: &str,
        steps: &[String],
    ) -> Result<Option<usize>, DecodeError> {
        if let Some(slot) = reader.claim(text, steps) {
            return Ok(Some(slot));
        }
        let Schema::Named(fields) = self.schema else { return Ok(None) };
        if self.mapping.names == NameMatch::Exact {
            return Ok(None);
        }
        let wanted = normalized(text);
        let mut alike = fields.iter().map(|field| &field.name).filter(|name| normalized(name) == wanted);
        match (alike.next(), alike.next()) {
            (Some(one), Some(other)) => Err(self.misfit(format!(
                "{text:?} may be {} or {}: take one of them out, or set header_match = \"exact\"",
                shown(one),
                shown(other)
            ))),
            (Some(name), None) => Ok(reader.claim(name, std::slice::from_ref(name))),
            (None, _) => Ok(None),
        }
    }

    fn cell(&self, origin: Origin, column: Column, rules: &'a Rules) -> Cell<'a> {
        Cell { origin, column, rules, zone: &self.mapping.timezone }
    }

    fn column(&self, name: &str) -> Result<Column, DecodeError> {
        self.shape.column(name).cloned().ok_or_else(|| {
            let table = &self.shape.table;
            DecodeError::Target(format!("the feed maps a column {name:?}, which table {table} does not have"))
        })
    }

    fn refuse_unfilled(&self, cells: &[Cell<'_>]) -> Result<(), DecodeError> {
        let filled = |column: &Column| cells.iter().any(|cell| cell.column.name == column.name);
        let is_missing = |column: &&Column| !column.nullable && !column.has_default && !filled(column);
        let Some(column) = self.shape.columns.iter().find(is_missing) else { return Ok(()) };
        let told = format!("column {:?} is NOT NULL without a default and no field fills it", column.name);
        // A header may forget a column; a mapping that does so never fits.
        if !self.mapping.columns.is_empty() {
            return Err(DecodeError::Target(told));
        }
        Err(self.misfit(match self.schema {
            Schema::Named(fields) => format!("{told}; the fields are {}", listed(fields)),
            Schema::Positions(_) | Schema::Open => told,
        }))
    }

    /// The object's fields do not fit the mapping.
    fn misfit(&self, told: String) -> DecodeError {
        match self.decoding.feed.format {
            Format::Csv => DecodeError::Header(told),
            _ => DecodeError::Schema(told),
        }
    }

    fn what_there_is(&self) -> String {
        match self.schema {
            Schema::Named(fields) => format!("the header does not have; it has {}", listed(fields)),
            Schema::Positions(fields) => format!("a file without header does not have; it has {}", counted(*fields)),
            Schema::Open => "no record can have".to_owned(),
        }
    }
}

/// What the feed knows of an object before it is read.
fn known_of_object(decoding: Decoding<'_>, meta: &Meta) -> Option<Vec<u8>> {
    let object = decoding.object;
    let text = match meta {
        Meta::Bucket => object.bucket.clone(),
        Meta::Key => object.key.clone(),
        Meta::Time => object.key_time?.to_string(),
        Meta::Etag => object.etag.clone(),
        Meta::Size => object.size.to_string(),
        Meta::VisibleAt => object.visible_at.to_string(),
        Meta::KeyPart(name) => {
            let parts = decoding.feed.pattern.as_ref()?.matches(&object.key)?;
            parts.captures.into_iter().find(|(part, _)| part == name).map(|(_, text)| text)?
        }
        Meta::RecordNumber | Meta::RecordLine => return None,
    };
    Some(text.into_bytes())
}

/// Fields that nobody claimed, where the object says which it has; answers whether each record must be looked at.
pub(super) fn unknown<R: RecordReader>(feed: &Feed, schema: &Schema, reader: &R) -> Result<bool, DecodeError> {
    let policy = policy(feed);
    match schema {
        // Their number was looked at when the mapping was settled.
        Schema::Positions(_) => Ok(false),
        Schema::Open => Ok(!matches!(policy, Unknown::Ignore | Unknown::Rescue)),
        Schema::Named(_) => {
            let mut names = Vec::new();
            reader.unclaimed(&mut |name, _| names.push(name.to_owned()));
            match (policy, names.first()) {
                (_, None) | (Unknown::Ignore | Unknown::Rescue, _) => Ok(false),
                // A column is added once there is a value, which says its type.
                (Unknown::Reject | Unknown::Add, Some(_)) => Ok(true),
                (Unknown::Quarantine, Some(name)) => Err(refused(feed, name)),
            }
        }
    }
}

/// Fields of one record that nobody claimed.
pub(super) fn unknown_in_record<R: RecordReader>(feed: &Feed, reader: &R) -> Result<Option<BadRecord>, DecodeError> {
    let mut columns = Vec::new();
    reader.unclaimed(&mut |name, value| {
        let kind = match value {
            Value::Absent | Value::Null | Value::Text(b"") => return,
            Value::Text(_) => "text",
            Value::Number(_) => "numeric",
            Value::Bool(_) => "boolean",
            Value::Bytes(_) => "bytea",
            Value::Nested(_) => "jsonb",
        };
        columns.push(NewColumn { name: name.to_owned(), kind });
    });
    let Some(NewColumn { name, .. }) = columns.first() else { return Ok(None) };
    match policy(feed) {
        Unknown::Ignore | Unknown::Rescue => Ok(None),
        Unknown::Quarantine => Err(refused(feed, name)),
        Unknown::Add => Err(unless_unusable(columns)),
        Unknown::Reject => Ok(Some(BadRecord {
            position: reader.position(),
            column: None,
            code: "E-ROW-UNKNOWN",
            reason: format!("field {} has no column", shown(name)),
        })),
    }
}

/// No identifier of the server may be cut: two fields would become one column.
fn unless_unusable(columns: Vec<NewColumn>) -> DecodeError {
    const LONGEST: usize = 63;
    let is_usable = |name: &str| !name.is_empty() && name.len() <= LONGEST && !name.contains('\0');
    match columns.iter().find(|column| !is_usable(&column.name)) {
        None => DecodeError::NewFields(columns),
        Some(column) => {
            let name = shown(&column.name);
            DecodeError::Schema(format!("field {name} cannot be a column: names have 1 to {LONGEST} bytes; map it"))
        }
    }
}

/// The policy is the feed's: every route has the same.
fn policy(feed: &Feed) -> Unknown {
    feed.routes.first().map_or(Unknown::Quarantine, |route| route.mapping.unknown)
}

fn refused(feed: &Feed, name: &str) -> DecodeError {
    let place = if feed.format == Format::Csv { " of the header" } else { "" };
    let told = format!("field {}{place} has no column; map it, or set unknown_fields = \"ignore\"", shown(name));
    if place.is_empty() { DecodeError::Schema(told) } else { DecodeError::Header(told) }
}

/// Without regard to case, and with one mark for all that separates words.
fn normalized(name: &str) -> String {
    let plain = |c: char| if matches!(c, ' ' | '-' | '.' | '_') { '_' } else { c };
    name.trim().chars().flat_map(char::to_lowercase).map(plain).collect()
}

/// At most ten names: a header may have thousands.
fn listed(fields: &[Field]) -> String {
    let mut names: Vec<Cow<'_, str>> = fields.iter().take(10).map(|field| shown(&field.name).into()).collect();
    if fields.len() > names.len() {
        names.push(format!("… ({} in all)", fields.len()).into());
    }
    names.join(", ")
}

/// `1 field`, `2 fields`.
fn counted(fields: usize) -> String {
    format!("{fields} field{}", if fields == 1 { "" } else { "s" })
}

/// Columns for a file with neither header nor mapping: all of them, or all that the server does not fill itself.
fn in_table_order(shape: &Shape, fields: usize) -> Result<Vec<Column>, DecodeError> {
    let plain: Vec<Column> = shape.columns.iter().filter(|column| !column.has_default).cloned().collect();
    if shape.columns.len() == fields {
        Ok(shape.columns.clone())
    } else if plain.len() == fields {
        Ok(plain)
    } else {
        Err(DecodeError::Header(format!(
            "the first record has {}, table {} has {} columns; write [feeds.NAME.columns], or is the \
             delimiter wrong?",
            counted(fields),
            shape.table,
            shape.columns.len()
        )))
    }
}
