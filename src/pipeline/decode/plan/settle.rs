//! From the feed's mapping and an object's fields to the cells of a row.

use std::borrow::Cow;

use crate::config::feed::{ColumnMap, Feed, FieldPath, Format, Mapping, Meta, NameMatch, Route, Source, Unknown};
use crate::domain::record::BadRecord;
use crate::store::catalog::{Column, Provenance, Shape};
use crate::store::copy::CopyFormat;
use crate::store::widen::NewColumn;

use super::super::reader::{Field, RecordReader, Schema, Value};
use super::super::{DecodeError, Decoding, shown};
use super::Plan;
use super::cell::{Cell, Origin};
use super::fit;
use super::rescue::Unclaimed;

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
    if route.mapping.unknown == Unknown::Rescue {
        cells.push(scope.rescue::<R>(&cells)?);
    }
    scope.refuse_unfilled(&cells)?;
    let mut when = Vec::with_capacity(route.when.len());
    for condition in &route.when {
        let path = &condition.field;
        let slot = scope.claim(reader, path)?.ok_or_else(|| {
            scope.misfit(format!("a route's condition names field {:?}, which {}", path.text, scope.what_there_is()))
        })?;
        when.push((slot, condition));
    }
    let binary = cells.iter().all(|cell| cell.column.kind.is_binary());
    let (object_id, record_no) =
        (shape.fills(Provenance::ObjectId, &route.mapping), shape.fills(Provenance::RecordNo, &route.mapping));
    let width = cells.len() + usize::from(object_id) + usize::from(record_no) + target.staging.width();
    Ok(Plan {
        number,
        table: route.table.to_string(),
        when,
        rules: &route.mapping.rules,
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
        let mut cells: Vec<Cell<'a>> = Vec::new();
        if let Schema::Positions(fields) = self.schema {
            for (slot, column) in in_table_order(self.shape, *fields, self.rescue_column())?.into_iter().enumerate() {
                cells.push(self.plain_cell::<R>(Origin::Slot(slot), column)?);
            }
            return Ok(cells);
        }
        let rescue = self.rescue_column();
        for column in self.shape.columns.iter().filter(|column| Some(column.name.as_str()) != rescue) {
            let path = FieldPath { text: column.name.clone(), steps: vec![column.name.clone()] };
            let Some(slot) = self.claim(reader, &path)? else { continue };
            let taken = cells.iter().find(|cell| matches!(cell.origin, Origin::Slot(other) if other == slot));
            if let Some(other) = taken {
                let (one, two) = (&other.column.name, &column.name);
                return Err(self.misfit(format!("columns {one:?} and {two:?} take the same field; map them")));
            }
            cells.push(self.plain_cell::<R>(Origin::Slot(slot), column.clone())?);
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
        let maps = &self.mapping.columns;
        let mut cells = Vec::with_capacity(maps.len());
        for (index, map) in maps.iter().enumerate() {
            let told = |detail: String| self.unfit(&map.column, &detail);
            if let Some(detail) = fit::named_twice(maps.get(..index).unwrap_or_default(), map) {
                return Err(told(detail));
            }
            let column = self.column(&map.column)?;
            let origin = self.origin(map, reader)?;
            cells.push(fit::cell(self.decoding.feed, self.mapping, map, (column, origin), R::TYPING).map_err(told)?);
        }
        if let Schema::Positions(fields) = self.schema {
            let needed = last_position(self.mapping);
            let fits = match self.mapping.unknown {
                // A field without name can get no column.
                Unknown::Quarantine | Unknown::Add => *fields == needed,
                Unknown::Ignore | Unknown::Reject | Unknown::Rescue => *fields >= needed,
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

    /// A field by its place. Where fields have names it is claimed by its own, so that it counts as known.
    fn at_position<R: RecordReader>(&self, position: usize, reader: &mut R) -> Result<Origin, DecodeError> {
        let slot = position.saturating_sub(1);
        let Schema::Named(fields) = self.schema else { return Ok(Origin::Slot(slot)) };
        let claimed = fields.get(slot).and_then(|field| reader.claim(&field.name, std::slice::from_ref(&field.name)));
        claimed.map(Origin::Slot).ok_or_else(|| {
            self.misfit(format!("the mapping takes field {position}; there are {}", counted(fields.len())))
        })
    }

    fn origin<R: RecordReader>(&self, map: &ColumnMap, reader: &mut R) -> Result<Origin, DecodeError> {
        let paths = match &map.source {
            Source::Position(position) => return self.at_position(*position, reader),
            Source::Constant(text) => return Ok(Origin::Fixed(Some(text.clone().into_bytes()))),
            Source::Meta(Meta::RecordNumber) => return Ok(Origin::Number),
            Source::Meta(Meta::RecordLine) => return Ok(Origin::Line),
            Source::Meta(meta) => return Ok(Origin::Fixed(known_of_object(self.decoding, meta))),
            Source::Field(paths) => paths,
        };
        // Where each record has its own fields, each says which of them it has.
        let every = matches!(self.schema, Schema::Open);
        let mut slots = Vec::new();
        for path in paths {
            slots.extend(self.claim(reader, path)?);
            if !every && !slots.is_empty() {
                break;
            }
        }
        match slots.as_slice() {
            [] => {}
            [slot] => return Ok(Origin::Slot(*slot)),
            _ => return Ok(Origin::First(slots)),
        }
        if map.rules.default.is_some() {
            // Its default is what every record gets.
            return Ok(Origin::Fixed(None));
        }
        let names: Vec<String> = paths.iter().map(|path| format!("{:?}", path.text)).collect();
        Err(self.misfit(format!(
            "column {:?} takes field {}, which {}",
            map.column,
            names.join(" or "),
            self.what_there_is()
        )))
    }

    /// A field by its name, or by the one that means the same where the feed says so.
    fn claim<R: RecordReader>(&self, reader: &mut R, path: &FieldPath) -> Result<Option<usize>, DecodeError> {
        let Schema::Named(fields) = self.schema else { return Ok(reader.claim(&path.text, &path.steps)) };
        if self.mapping.names == NameMatch::Exact {
            return Ok(reader.claim(&path.text, &path.steps));
        }
        let wanted = normalized(&path.text);
        let mut alike = fields.iter().map(|field| &field.name).filter(|name| normalized(name) == wanted);
        match (alike.next(), alike.next()) {
            (None, _) => Ok(reader.claim(&path.text, &path.steps)),
            (Some(name), None) => Ok(reader.claim(name, std::slice::from_ref(name))),
            (Some(one), Some(two)) => Err(self.misfit(format!(
                "fields {} and {} both mean {:?} (header_match = \"normalized\"); rename one, or match exactly",
                shown(one),
                shown(two),
                path.text
            ))),
        }
    }

    /// A column under the rules for all of them.
    fn plain_cell<R: RecordReader>(&self, origin: Origin, column: Column) -> Result<Cell<'a>, DecodeError> {
        let taking = fit::taking(self.decoding.feed, R::TYPING);
        let name = column.name.clone();
        Cell::new(origin, column, (&self.mapping.rules, taking), &self.mapping.timezone)
            .map_err(|detail| self.unfit(&name, &detail))
    }

    /// The column for fields that nobody claimed.
    fn rescue<R: RecordReader>(&self, cells: &[Cell<'_>]) -> Result<Cell<'a>, DecodeError> {
        let column =
            fit::rescue(self.mapping, self.shape).map_err(|detail| self.unfit(&self.mapping.rescue_column, &detail))?;
        let unclaimed = match self.schema {
            Schema::Named(_) | Schema::Open => Unclaimed::Named,
            Schema::Positions(fields) => Unclaimed::positions(*fields, 0, |slot| {
                cells.iter().any(|cell| matches!(cell.origin, Origin::Slot(other) if other == slot))
            }),
        };
        self.plain_cell::<R>(Origin::Rescue(unclaimed), column.clone())
    }

    /// Its name, where there is one: no field is looked for under it.
    fn rescue_column(&self) -> Option<&'a str> {
        (self.mapping.unknown == Unknown::Rescue).then_some(self.mapping.rescue_column.as_str())
    }

    fn column(&self, name: &str) -> Result<Column, DecodeError> {
        self.shape.column(name).cloned().ok_or_else(|| {
            let table = &self.shape.table;
            DecodeError::Target(format!("the feed maps a column {name:?}, which table {table} does not have"))
        })
    }

    /// Columns that must have a value and get none from anywhere.
    fn refuse_unfilled(&self, cells: &[Cell<'_>]) -> Result<(), DecodeError> {
        let is_required = self.mapping.columns.is_empty() && self.mapping.rules.required;
        let is_missing = |column: &&Column| {
            let is_filled = cells.iter().any(|cell| cell.column.name == column.name);
            !is_filled && !column.has_default && (is_required || !column.nullable)
        };
        let Some(column) = self.shape.columns.iter().find(is_missing) else { return Ok(()) };
        let why = if column.nullable { "is required by the feed" } else { "is NOT NULL without a default" };
        let told = format!("column {:?} {why} and no field fills it", column.name);
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

    /// The mapping does not fit the table: no object is to blame.
    fn unfit(&self, column: &str, detail: &str) -> DecodeError {
        DecodeError::Target(format!("column {column:?} of {}: {detail}", self.shape.table))
    }

    fn what_there_is(&self) -> String {
        match (self.schema, self.decoding.feed.format) {
            (Schema::Named(fields), Format::Csv) => format!("the header does not have; it has {}", listed(fields)),
            (Schema::Named(fields), _) => format!("the object does not have; it has {}", listed(fields)),
            (Schema::Positions(fields), _) => {
                format!("a file without header does not have; it has {}", counted(*fields))
            }
            (Schema::Open, _) => "no record can have".to_owned(),
        }
    }
}

/// The last position that a mapping names.
fn last_position(mapping: &Mapping) -> usize {
    let position = |map: &ColumnMap| match map.source {
        Source::Position(position) => position,
        Source::Field(_) | Source::Constant(_) | Source::Meta(_) => 0,
    };
    mapping.columns.iter().map(position).max().unwrap_or(0)
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

/// Fields that nobody claimed, where the object says which it has; answers where each record must be looked at.
pub(super) fn unknown<R: RecordReader>(
    feed: &Feed,
    schema: &Schema,
    reader: &R,
) -> Result<Option<Unclaimed>, DecodeError> {
    let policy = policy(feed);
    match schema {
        // Of other policies their number was looked at when the mapping was settled. A gap between positions is meant.
        Schema::Positions(fields) => {
            let mapped = feed.routes.iter().map(|route| &route.mapping);
            let known = mapped.filter(|mapping| !mapping.columns.is_empty()).map(last_position).max();
            let known = known.filter(|known| policy == Unknown::Reject && known < fields);
            Ok(known.map(|known| Unclaimed::positions(*fields, known, |_slot| false)))
        }
        Schema::Open => Ok((!matches!(policy, Unknown::Ignore | Unknown::Rescue)).then_some(Unclaimed::Named)),
        Schema::Named(_) => {
            let mut names = Vec::new();
            reader.unclaimed(&mut |name, _| names.push(name.to_owned()));
            match (policy, names.first()) {
                (_, None) | (Unknown::Ignore | Unknown::Rescue, _) => Ok(None),
                // A column is added once there is a value, which says its type.
                (Unknown::Reject | Unknown::Add, Some(_)) => Ok(Some(Unclaimed::Named)),
                (Unknown::Quarantine, Some(name)) => Err(refused(feed, name)),
            }
        }
    }
}

/// Fields of one record that have a value and that nobody claimed.
pub(super) fn unknown_in_record<R: RecordReader>(
    feed: &Feed,
    watched: &Unclaimed,
    reader: &R,
) -> Result<Option<BadRecord>, DecodeError> {
    let Some(mapping) = feed.routes.first().map(|route| &route.mapping) else { return Ok(None) };
    let mut columns = Vec::new();
    watched.visit(reader, &mapping.rules, &mut |name, value| {
        let kind = match value {
            Value::Absent | Value::Null => return,
            Value::Text(_) => "text",
            Value::Number(_) => "numeric",
            Value::Bool(_) => "boolean",
            Value::Bytes(_) => "bytea",
            Value::Nested(_) => "jsonb",
        };
        columns.push(NewColumn { name: name.to_owned(), kind });
    });
    let Some(NewColumn { name, .. }) = columns.first() else { return Ok(None) };
    match mapping.unknown {
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
fn in_table_order(shape: &Shape, fields: usize, rescue: Option<&str>) -> Result<Vec<Column>, DecodeError> {
    let all = shape.columns.iter().filter(|column| Some(column.name.as_str()) != rescue);
    let (all, plain): (Vec<Column>, Vec<Column>) =
        (all.clone().cloned().collect(), all.filter(|column| !column.has_default).cloned().collect());
    if all.len() == fields {
        Ok(all)
    } else if plain.len() == fields {
        Ok(plain)
    } else {
        Err(DecodeError::Header(format!(
            "the first record has {}, table {} has {} columns; write [feeds.NAME.columns], or is the \
             delimiter wrong?",
            counted(fields),
            shape.table,
            all.len()
        )))
    }
}
